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

/// The snippets of Olla's page about Ollama that concern its configuration file, and the nodes they mean.
const PAGE: &[(&str, &[&str])] = &[
    ("basic", &["local-ollama http://localhost:11434 100 2s 1s"]),
    (
        "multiple",
        &[
            "ollama-gpu http://gpu-server:11434 100 5s 2s",
            "ollama-backup http://backup-server:11434 75 5s 2s",
            "ollama-dev http://dev-machine:11434 50 5s 2s",
        ],
    ),
    (
        "remote",
        &["ollama-cloud https://ollama.example.com:443 80 10s 5s"],
    ),
    ("unification", &[NO_NODE]),
    (
        "timeouts",
        &["localhost:11434 http://localhost:11434 100 5s 5s"],
    ),
    (
        "gpu-servers",
        &["ollama-gpu http://gpu-server:11434 100 5s 2s"],
    ),
    (
        "cpu-servers",
        &["ollama-cpu http://cpu-server:11434 50 5s 2s"],
    ),
    ("out-of-memory", &[NO_NODE]),
    ("adjust-timeout", &[NO_NODE]),
];

/// The node that there is where none is listed.
const NO_NODE: &str = "127.0.0.1:11434 http://127.0.0.1:11434 100 5s 2s";

fn snippet(name: &str) -> String {
    fs::read_to_string(root().join(format!("tests/golden/olla-page/{name}.yaml"))).unwrap()
}

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
    for (name, expected) in PAGE {
        let text = snippet(name);
        let plain = World::default().load(&text).unwrap();
        let (imported, config) = imported(&text);
        assert_eq!(nodes(&plain), *expected, "{name}");
        assert_eq!(format!("{plain:?}"), format!("{config:?}"), "{name}");
        assert!(imported.notes.is_empty(), "{name}: {:?}", imported.notes);
    }
    let slow = World::default().load(&snippet("timeouts")).unwrap().proxy;
    assert_eq!(
        (slow.response_timeout, slow.connection_timeout),
        (Some(Duration::from_secs(600)), Duration::from_secs(30))
    );
}

#[test]
fn resources_and_characteristics_are_carried_over() {
    let text = "
resources:
  model_sizes:
    - { patterns: [70b, \"7 b\"], min_memory_gb: 40.5, max_concurrent: 1 }
    - { min_memory_gb: 8 }
  quantization: { multipliers: { Q4_K_M: 0.5, f16: 1.0 } }
  defaults: { requires_gpu: False, colour: red }
  concurrency_limits: [{ min_memory_gb: 0, max_concurrent: 2 }]
  timeout_scaling:
characteristics: { timeout: 2m0.5s, auth: { types: [bearer] }, streaming_support: [a, { b: c }] }
";
    let (imported, config) = imported(text);
    let plain = "
resources:
  model_sizes: [{ patterns: [70b, \"7 b\"], min_memory_gb: 40.5, max_concurrent: 1 }]
  quantization: { multipliers: { Q4_K_M: 0.5, f16: 1.0 } }
  defaults: { requires_gpu: false }
  concurrency_limits: [{ min_memory_gb: 0, max_concurrent: 2 }]
characteristics: { timeout: 120500ms, auth: { types: [bearer] } }
";
    let plain = World::default().load(plain).unwrap();
    assert_eq!(format!("{plain:?}"), format!("{config:?}"));
    assert_eq!(
        imported.notes,
        [
            "line 7: `resources.defaults.colour` is left out: neither Olla nor this version knows it",
            "line 10: `characteristics.streaming_support` is left out: it cannot be a list",
            "line 5: an item of `model_sizes` has no `patterns`; it is left out",
        ]
    );
    assert!(imported.lost_nodes.is_empty());
}

/// `endpoints`, the nodes of the result, and those that are missing in it.
const LISTS: &[(&str, &str, &str)] = &[
    (
        "[{ url: 'http://h:1/v1', type: openai }]",
        "h:1 http://h:1 /v1/models",
        "",
    ),
    (
        "[{ url: 'http://h:1/team/v1/', type: vllm, model_url: /list, health_check_url: /v1/up }]",
        "h:1 http://h:1/team /v1/list",
        "",
    ),
    ("[{ url: 'http://v1' }]", "v1:80 http://v1:80 /api/tags", ""),
    ("[{ url: 'ftp://h' }]", DEFAULT, "the node of line 1"),
    ("[{ name: x }]", DEFAULT, "node `x`"),
    ("[{ url: 'http://a:b@h', name: x }]", DEFAULT, "node `x`"),
    (
        "[{ url: 'http://h:1', priority: 5 }, http://bare]",
        "h:1 http://h:1 /api/tags",
        "the node of line 1",
    ),
    (
        "[{ url: 'http://h:1' }, { url: 'http://g:1', type: x, name: 'two words' }]",
        "h:1 http://h:1 /api/tags, g:1 http://g:1 /v1/models",
        "",
    ),
    (
        "{ url: 'http://h:1' }",
        DEFAULT,
        "all in `discovery.static.endpoints`",
    ),
];

/// What serves where no node is left.
const DEFAULT: &str = "127.0.0.1:11434 http://127.0.0.1:11434 /api/tags";

#[test]
fn no_node_vanishes_unsaid() {
    for (list, nodes, lost) in LISTS {
        let (imported, config) = imported(&format!("endpoints: {list}"));
        let shown = |node: &NodeConfig| format!("{} {} {}", node.name, node.url, node.model_path);
        let shown: Vec<String> = config.nodes.iter().map(shown).collect();
        assert_eq!(shown.join(", "), *nodes, "{list}\n{}", imported.yaml);
        assert_eq!(imported.lost_nodes.join(", "), *lost, "{list}");
        let notes = imported.notes.join("\n");
        assert!(
            notes.contains(lost.trim_start_matches("all in ")),
            "{notes}"
        );
        assert_eq!(notes.contains("no node is left"), *nodes == DEFAULT);
    }
    for (more, called) in [("", "h:1"), (", name: x", "x")] {
        let (imported, _) = imported(&format!("endpoints: [{{ url: 'http://h:1/v1'{more} }}]"));
        let comment = format!("# olla: of node `{called}`'s URL `/v1` is left out");
        assert!(imported.yaml.contains(&comment), "{}", imported.yaml);
    }
}

#[test]
fn flags_and_durations_mean_what_they_meant() {
    for (written, meant) in [("False", false), ("FALSE", false), ("True", true)] {
        let (imported, config) =
            imported(&format!("model_registry: {{ enable_unifier: {written} }}"));
        assert_eq!(config.registry.unify, meant, "{}", imported.yaml);
        assert!(imported.notes.is_empty(), "{:?}", imported.notes);
    }
    for (written, prefix) in [
        ("False", ""),
        ("TRUE", "/team"),
        ("no", ""),
        ("[true]", ""),
        ("", ""),
    ] {
        let node = format!("endpoints:\n  - url: http://h:1/team\n    preserve_path: {written}\n");
        let (imported, config) = imported(&node);
        assert_eq!(config.nodes[0].call_prefix(), prefix, "{}", imported.yaml);
        let clear = ["False", "TRUE", ""].contains(&written);
        assert_eq!(imported.notes.is_empty(), clear, "{:?}", imported.notes);
    }
    let text = "endpoints: [{ url: '${URL}' }]";
    let imported_text = import_olla("olla.yaml", text).unwrap().yaml;
    assert!(
        imported_text.contains("preserve_path: false"),
        "{imported_text}"
    );
    for (written, millis) in [("1.5s", 1500), ("1h30m", 5_400_000), ("2m0.5s", 120_500)] {
        let (imported, config) = imported(&format!("proxy: {{ read_timeout: {written} }}"));
        assert_eq!(config.proxy.read_timeout.as_millis(), millis, "{written}");
        assert!(imported.notes.is_empty(), "{:?}", imported.notes);
    }
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
