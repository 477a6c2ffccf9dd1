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
