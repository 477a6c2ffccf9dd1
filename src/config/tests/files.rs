//! Files that are part of the product: `conf/`, the documentation's keys, and what mistakes are told.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::super::check::load_with_keys;
use super::super::comments::Comments;
use super::*;

#[test]
fn every_file_in_conf_loads() {
    for entry in fs::read_dir(root().join("conf")).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        if let Err(error) = World::default().load(&text) {
            panic!("{}:\n{error}", path.display());
        }
    }
}

/// `Debug` shows everything but secrets, of which defaults have none.
fn shown_without_nodes(config: &Config) -> String {
    format!(
        "{:#?}",
        Config {
            nodes: Vec::new(),
            ..config.clone()
        }
    )
}

#[test]
fn the_commented_example_says_the_defaults() {
    let built_in = World::default().load_nothing().unwrap();
    let example = World::default().load(&conf("arriero.yaml")).unwrap();
    assert_eq!(
        shown_without_nodes(&example),
        shown_without_nodes(&built_in)
    );
    let mut node = example.nodes[0].clone();
    node.name.clone_from(&built_in.nodes[0].name);
    assert_eq!(
        format!("{node:?}"),
        format!("{:?}", built_in.nodes[0]),
        "an endpoint's defaults"
    );
}

#[test]
fn an_empty_file_says_the_defaults() {
    let built_in = World::default().load_nothing().unwrap();
    for text in [
        "",
        "# nothing\n",
        "---\n",
        "server:\nproxy:\n  retry:\n",
        "\u{feff}server: {}\r\n",
    ] {
        let config = World::default().load(text).unwrap();
        assert_eq!(format!("{config:?}"), format!("{built_in:?}"), "{text:?}");
    }
}

#[test]
fn every_key_is_in_the_commented_example_with_a_comment() {
    let text = conf("arriero.yaml");
    let world = World::default();
    let (_, known) = world.sources(Some(("arriero.yaml", &text)), |sources| {
        load_with_keys(sources).unwrap()
    });
    let known: BTreeSet<&str> = known.forms.keys().map(String::as_str).collect();
    let comments = Comments::of(&text);
    let unexplained: Vec<_> = known
        .iter()
        .filter(|path| comments.about(path).is_none())
        .collect();
    assert!(
        unexplained.is_empty(),
        "without a comment in conf/arriero.yaml: {unexplained:?}"
    );
    let unread: Vec<_> = comments
        .paths()
        .filter(|path| !known.contains(path))
        .collect();
    assert!(
        unread.is_empty(),
        "in conf/arriero.yaml and read by nobody: {unread:?}"
    );
    let page = fs::read_to_string(root().join("docs/configuration.md")).unwrap();
    for path in &known {
        let key = path.rsplit('.').next().unwrap();
        assert!(
            page.contains(&format!("`{key}`")),
            "docs/configuration.md does not name `{key}` of {path}"
        );
    }
}

#[test]
fn a_refused_key_is_not_read() {
    let (_, known) = World::default().sources(None, |sources| load_with_keys(sources).unwrap());
    for path in super::super::keys::not_read_here() {
        assert!(
            !known.forms.contains_key(path),
            "{path} is read and said to be refused"
        );
    }
}

/// One mistake or more per folder: `arriero.yaml`, optionally `env` (NAME=value lines), and what the user is told.
#[test]
fn mistakes_are_told_where_and_why() {
    let update = std::env::var_os("UPDATE").is_some();
    let mut folders: Vec<PathBuf> = fs::read_dir(root().join("tests/golden/config"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    folders.sort();
    assert!(20 <= folders.len());
    let mut differ = Vec::new();
    for folder in folders {
        let text = fs::read_to_string(folder.join("arriero.yaml")).unwrap();
        let env = fs::read_to_string(folder.join("env")).unwrap_or_default();
        let pairs: Vec<(&str, &str)> = env
            .lines()
            .filter_map(|line| line.split_once('='))
            .collect();
        let told = match World::with_env(&pairs).load(&text) {
            Ok(_) => "(loads)\n".to_owned(),
            Err(error) => format!("{error}\n"),
        };
        let golden = folder.join("error.txt");
        if update {
            fs::write(&golden, &told).unwrap();
        } else if fs::read_to_string(&golden).unwrap_or_default() != told {
            differ.push(format!("{}:\n{told}", folder.display()));
        }
        assert_ne!(told, "(loads)\n", "{}", folder.display());
    }
    assert!(
        differ.is_empty(),
        "{}\nUPDATE=1 cargo test rewrites",
        differ.join("\n")
    );
}

#[test]
fn the_description_says_everything_in_plain_words() {
    for name in ["mixed", "headless"] {
        let config = World::default()
            .load(&conf(&format!("{name}.yaml")))
            .unwrap();
        let golden = root().join(format!("tests/golden/describe/{name}.txt"));
        let told = describe(&config);
        if std::env::var_os("UPDATE").is_some() {
            fs::write(&golden, &told).unwrap();
        }
        assert_eq!(told, fs::read_to_string(&golden).unwrap_or_default());
    }
}

#[test]
fn long_lines_and_many_mistakes_stay_readable() {
    let long = format!("zebra: {}\n", "x@".repeat(250_000));
    let error = World::default().load(&long).unwrap_err();
    assert!(
        error.starts_with("arriero.yaml:1:1: unknown key `zebra`\n  hint:"),
        "{}",
        error.len()
    );
    let many: String = (0..20_000).map(|index| format!("k{index}: 1\n")).collect();
    let error = World::default().load(&many).unwrap_err();
    assert!(error.ends_with("and 19980 more"), "{error}");
}
