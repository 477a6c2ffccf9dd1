//! What operators are told about profiles: their mistakes, and the page with the keys.

use proptest::prelude::*;

use super::super::super::profiles::{Author, read_with_keys};
use super::*;

/// One mistake or more per file, and what the operator is told.
#[test]
fn mistakes_in_profiles_are_told_where_and_why() {
    let folder = root().join("tests/golden/profile/mistakes");
    let mut names: Vec<String> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".yaml"))
        .collect();
    names.sort();
    assert!(10 <= names.len(), "{names:?}");
    for name in names {
        let text = fs::read_to_string(folder.join(&name)).unwrap();
        let told = format!("{}\n", with_file(&text).map(|_| "(loads)").unwrap_err());
        let expected = folder.join(name.replace(".yaml", ".txt"));
        if std::env::var_os("UPDATE").is_some() {
            fs::write(&expected, &told).unwrap();
        }
        assert_eq!(
            told,
            fs::read_to_string(&expected).unwrap_or_default(),
            "{name}"
        );
    }
}

#[test]
fn mistakes_of_all_files_are_told_at_once() {
    let files = [
        ("a.yaml", "name: ollama\nfeatures: {}\n"),
        ("b.yaml", "name: [\n"),
    ];
    let error = with_files(&files, "zebra: 1\n").unwrap_err();
    for part in [
        "arriero.yaml:2:1: unknown key `zebra`",
        "/profiles/a.yaml:2:1: `features`",
        "/profiles/b.yaml:",
    ] {
        assert!(error.contains(part), "{error}");
    }
    let nowhere = World::default()
        .load("profiles: { dir: /nowhere }")
        .unwrap_err();
    assert!(
        nowhere.starts_with(
            "arriero.yaml:1:18: `profiles.dir`: `/nowhere` cannot be read: No such file"
        ),
        "{nowhere}"
    );
    let wrong = World::default()
        .load(
            "resources: { model_sizes: [{ max_concurrent: 0 }] }\ncharacteristics: { timout: 1s }",
        )
        .unwrap_err();
    for part in [
        "has no `patterns`",
        "`resources.model_sizes.max_concurrent`: `0` is out of range",
        "did you mean `timeout`?",
    ] {
        assert!(wrong.contains(part), "{wrong}");
    }
}

#[test]
fn every_key_of_a_profile_is_documented() {
    // This one has all lists, so the keys of their items are looked for, too.
    let file = golden("olla-ollama.yaml");
    let (_, keys) = read_with_keys(("it.yaml", &file), &|_| None, &[], Author::Operator).unwrap();
    let page = fs::read_to_string(root().join("docs/profiles.md")).unwrap();
    assert!(50 < keys.forms.len(), "{keys:?}");
    for path in keys.forms.into_keys() {
        let word = path.rsplit('.').next().unwrap();
        let named = [
            format!("`{word}`"),
            format!("`{word}:"),
            format!("`{{ {word}:"),
        ];
        assert!(
            named.iter().any(|it| page.contains(it)),
            "docs/profiles.md does not name {path}"
        );
    }
}

#[test]
fn what_a_type_does_not_name_is_where_its_listing_is() {
    let find = |file: &str| {
        let config = with_file(file).unwrap();
        let name = file.lines().next().unwrap().trim_start_matches("name: ");
        Arc::clone(config.profiles.find(name).unwrap())
    };
    let told = |file: &str| {
        let profile = find(file);
        let version = profile.api().version.clone();
        let version = version.map(|it| (it.path, it.field, it.is_ollamas));
        let (path, field, is_ollamas) = version.unwrap_or_default();
        let loaded = profile.loaded_path().unwrap_or_default();
        format!("{loaded} {path} {field} {is_ollamas}")
    };
    for (file, expected) in [
        (
            "name: box\napi: { paths: [/box/api/chat], model_discovery_path: /box/api/tags }\nrequest: { response_format: ollama }",
            "/box/api/ps /box/api/version version false",
        ),
        (
            "name: box\napi: { paths: [/a/api/tags, /b/api/ps, /b/api/version], ollama_version: true }\nrequest: { response_format: ollama }",
            "/b/api/ps /b/api/version version true",
        ),
        ("name: ollama\n", "/api/ps /api/version version true"),
        (
            "name: openwebui\n",
            "/ollama/api/ps /ollama/api/version version true",
        ),
        (
            "name: box\napi: { paths: [/v1/models], version_path: /about, version_field: release }",
            " /about release false",
        ),
        ("name: box\napi: { paths: [/v1/models] }", "   false"),
        ("name: llamacpp\n", " /props build_info false"),
    ] {
        assert_eq!(told(file), expected, "{file}");
    }
    assert!(find("name: ollama\n").models.loose_names);
    assert!(!find("name: openwebui\n").models.loose_names);
}

proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(line in 0usize..60, text in "( ){0,4}(- |[a-z_]{1,9}: )?(\\[|\\{|[0-9.]{1,20}|[a-z*/\\-]{1,6}|\\PC{0,4})") {
        let file = golden("olla-ollama.yaml");
        let mut lines: Vec<&str> = file.lines().collect();
        let at = line.min(lines.len() - 1);
        lines[at] = &text;
        let told = with_file(&lines.join("\n"));
        if let Err(told) = told {
            prop_assert!(told.contains("/profiles/it.yaml"), "{told}");
        }
    }
}
