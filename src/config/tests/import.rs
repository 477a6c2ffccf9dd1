//! Olla's files become ours: what is said is carried over, what cannot be is told, and the result loads.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::super::raw;
use super::*;

fn olla(case: &str) -> String {
    fs::read_to_string(root().join(format!("tests/golden/import/{case}/olla.yaml"))).unwrap()
}

/// All variables that the files mention, and the secret that one of them reads.
fn world() -> World {
    let mut world = World::with_env(&[
        ("VLLM_TOKEN", "t"),
        ("TRACE_HEADER", "t"),
        ("GPU_HOST", "gpu"),
        ("GPU_NAME", "gpu"),
    ]);
    world
        .files
        .insert("/run/secrets/llamacpp".to_owned(), b"k".to_vec());
    world
}

#[track_caller]
fn imported(text: &str) -> (Imported, Config) {
    let imported = import_olla("olla.yaml", text).unwrap();
    match world().load(&imported.yaml) {
        Ok(config) => (imported, config),
        Err(error) => panic!("{error}\n--- imported as\n{}", imported.yaml),
    }
}

#[test]
fn whole_files_are_carried_over_and_what_is_lost_is_told() {
    let mut differ = Vec::new();
    for case in ["everything", "odd"] {
        let (imported, _) = imported(&olla(case));
        let notes: String = imported
            .notes
            .iter()
            .map(|note| format!("{note}\n"))
            .collect();
        for (name, text) in [("arriero.yaml", imported.yaml), ("notes.txt", notes)] {
            let golden = root().join(format!("tests/golden/import/{case}/{name}"));
            if std::env::var_os("UPDATE").is_some() {
                fs::write(&golden, &text).unwrap();
            } else if fs::read_to_string(&golden).unwrap_or_default() != text {
                differ.push(format!("{}:\n{text}", golden.display()));
            }
        }
    }
    assert!(
        differ.is_empty(),
        "{}\nUPDATE=1 cargo test rewrites",
        differ.join("\n")
    );
}

#[test]
fn an_imported_file_means_what_it_meant_in_olla() {
    let (_, config) = imported(&olla("everything"));
    assert_eq!((config.server.port, config.admin.port), (40115, 40116));
    assert!(config.server.host.is_unspecified());
    assert_eq!(config.server.body_bytes_max, 52_428_800);
    assert_eq!(config.proxy.balancer, Balancer::Priority);
    assert_eq!(
        config.proxy.response_timeout,
        Some(Duration::from_secs(600))
    );
    assert_eq!(config.model_discovery.interval, Duration::from_secs(300));
    assert_eq!(config.registry.strategy.word(), "optimistic");
    let most = config.aliases.iter().map(|alias| alias.targets.len()).max();
    assert_eq!(most, Some(3));
    let shown: Vec<String> = config
        .nodes
        .iter()
        .map(|node| {
            format!(
                "{} {} {} {} {} {:?}",
                node.name,
                node.url,
                node.profile.name,
                node.health_path,
                node.model_path,
                node.call_prefix()
            )
        })
        .collect();
    assert_eq!(
        shown,
        [
            "gpu-1 http://192.168.1.10:11434 ollama / /api/tags \"\"",
            "vllm https://vllm.example.org:443/team-a vllm /health /v1/models \"\"",
            "llamacpp http://10.0.0.9:8080 llamacpp /health /v1/models \"\"",
            "homemade http://10.0.0.10:9000 openai-compatible /v1/models /v1/models \"\"",
        ]
    );
    assert!(
        matches!(&config.nodes[3].auth, NodeAuth::Basic { password, .. } if password.reveal() == "p: \"w\" #1")
    );
    let filter = &config.nodes[0].model_filter;
    assert!(filter.admits("llama3") && !filter.admits("llama-embed"));
}

/// The snippets of Olla's page about Ollama that concern its configuration file.
const PAGE: &[(&str, &[&str])] = &[
    (
        "discovery:
  static:
    endpoints:
      - url: \"http://localhost:11434\"
        name: \"local-ollama\"
        type: \"ollama\"
        priority: 100
        model_url: \"/api/tags\"        # optional, profile default: /api/tags
        health_check_url: \"/\"          # optional, profile default: /
        check_interval: 2s             # optional, default: 5s
        check_timeout: 1s              # optional, default: 2s
",
        &["local-ollama http://localhost:11434 100 2s 1s"],
    ),
    (
        "discovery:
  static:
    endpoints:
      # Primary GPU server
      - url: \"http://gpu-server:11434\"
        name: \"ollama-gpu\"
        type: \"ollama\"
        priority: 100
        
      # Secondary server
      - url: \"http://backup-server:11434\"
        name: \"ollama-backup\"
        type: \"ollama\"
        priority: 75
        
      # Development machine
      - url: \"http://dev-machine:11434\"
        name: \"ollama-dev\"
        type: \"ollama\"
        priority: 50
",
        &[
            "ollama-gpu http://gpu-server:11434 100 5s 2s",
            "ollama-backup http://backup-server:11434 75 5s 2s",
            "ollama-dev http://dev-machine:11434 50 5s 2s",
        ],
    ),
    (
        "discovery:
  static:
    endpoints:
      - url: \"https://ollama.example.com\"
        name: \"ollama-cloud\"
        type: \"ollama\"
        priority: 80
        check_interval: 10s
        check_timeout: 5s
",
        &["ollama-cloud https://ollama.example.com:443 80 10s 5s"],
    ),
    (
        "model_registry:
  enable_unifier: true
  unification:
    enabled: true
",
        &["127.0.0.1:11434 http://127.0.0.1:11434 100 5s 2s"],
    ),
    (
        "proxy:
  response_timeout: 600s  # 10 minutes for large models (default)
  connection_timeout: 30s  # Default connection timeout
  
discovery:
  static:
    endpoints:
      - url: \"http://localhost:11434\"
        check_timeout: 5s  # Allow time for health checks
",
        &["localhost:11434 http://localhost:11434 100 5s 5s"],
    ),
    (
        "endpoints:
  - url: \"http://gpu-server:11434\"
    name: \"ollama-gpu\"
    priority: 100  # Prefer GPU
",
        &["ollama-gpu http://gpu-server:11434 100 5s 2s"],
    ),
    (
        "endpoints:
  - url: \"http://cpu-server:11434\"
    name: \"ollama-cpu\"
    priority: 50  # Lower priority
",
        &["ollama-cpu http://cpu-server:11434 50 5s 2s"],
    ),
];

#[test]
fn the_snippets_of_ollas_page_load_as_they_are_and_imported() {
    let nodes = |config: &Config| -> Vec<String> {
        let shown = config.nodes.iter().map(|node| {
            let seconds = [node.check_interval, node.check_timeout].map(|limit| limit.as_secs());
            let [interval, timeout] = seconds;
            format!(
                "{} {} {} {interval}s {timeout}s",
                node.name, node.url, node.priority
            )
        });
        shown.collect()
    };
    for (text, expected) in PAGE {
        let plain = World::default().load(text).unwrap();
        let (imported, config) = imported(text);
        assert_eq!(nodes(&plain), *expected, "{text}");
        assert_eq!(format!("{plain:?}"), format!("{config:?}"), "{text}");
        assert!(imported.notes.is_empty(), "{:?}", imported.notes);
    }
    let slow = World::default().load(PAGE[4].0).unwrap().proxy;
    assert_eq!(
        (slow.response_timeout, slow.connection_timeout),
        (Some(Duration::from_secs(600)), Duration::from_secs(30))
    );
}

#[test]
fn what_is_no_configuration_is_refused() {
    let told = |text: &str| import_olla("olla.yaml", text).unwrap_err().to_string();
    assert!(told("a: [").starts_with("olla.yaml:1:"), "{}", told("a: ["));
    assert!(told("- a").contains("an Olla configuration is a mapping of keys, and this is a list"));
    assert!(imported("").0.notes.is_empty());
}

#[test]
fn a_secret_is_never_in_a_note() {
    let text = "
endpoints:
  - url: http://me:hunter2@gpu:1
  - { url: 'http://a:1', auth: { type: bearer, token: \"hunter2\\n\", key: hunter2 } }
  - { url: 'http://b:1', auth: { type: basic, username: me, password: [hunter2] }, headers: { X: \"hunter2\\u0001\" } }
  - { url: 'http://c:1', auth: { type: bearer, token: \"hunter2${\" } }
  - { url: 'http://d:1', auth: { type: bearer, token: \"x${hunter2 !}\" } }
";
    let (imported, _) = imported(text);
    let said: Vec<&str> = imported
        .yaml
        .lines()
        .filter(|line| line.contains('#'))
        .collect();
    let said = format!("{:?} {said:?}", imported.notes);
    assert!(!said.contains("hunter2"), "{said}");
    assert!(5 <= imported.notes.len(), "{said}");
}

/// Takes lines away from a file: a key whose line goes takes what stands below it along.
fn without(text: &str, gone: &BTreeSet<usize>) -> String {
    let mut out = String::new();
    let mut below: Option<usize> = None;
    for (at, line) in text.lines().enumerate() {
        let indent = line.len() - line.trim_start().len();
        if below.is_some_and(|limit| indent <= limit) {
            below = None;
        }
        if below.is_none() && gone.contains(&at) {
            below = Some(indent);
        }
        if below.is_none() {
            out.push_str(line);
            out.push('\n');
        }
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn any_subset_of_ollas_keys_imports_to_something_that_loads(
        gone in proptest::collection::btree_set(0usize..125, 0..60),
        odd in any::<bool>(),
    ) {
        let text = without(&olla(if odd { "odd" } else { "everything" }), &gone);
        if raw::parse(&text).is_ok_and(|tree| matches!(tree.value, raw::Value::Map(_))) {
            imported(&text);
        }
    }

    #[test]
    fn any_value_imports_to_something_that_loads(
        at in 0usize..125,
        value in "[ -~]{0,8}|\\$\\{[A-Z]?\\}?|[0-9]{1,6}(s|ms|m)?|null|\\[\\]|\\{\\}|\\PC{1,6}",
    ) {
        let whole = olla("everything");
        let text: String = whole
            .lines()
            .enumerate()
            .map(|(index, line)| match line.split_once(": ") {
                Some((key, _)) if index == at => format!("{key}: {value}\n"),
                _ => format!("{line}\n"),
            })
            .collect();
        if let Ok(imported) = import_olla("olla.yaml", &text) {
            // Variables that nobody set and files that are not there are told to whoever starts the gateway, as in Olla.
            if let Err(error) = world().load(&imported.yaml) {
                let elsewhere = |told: &str| told.contains("is not set") || told.contains("cannot read");
                prop_assert!(error.split("\n\n").all(elsewhere), "{}\n{}", error, imported.yaml);
            }
        }
    }
}
