//! Node types: the built-in ones, files over them, and the snippets of Olla's page.

use std::collections::HashSet;

use super::super::profiles::builtin;
use super::*;
use crate::profile::{Evidence, Limit, Listing, detect, questions};

mod found;
mod told;

fn golden(name: &str) -> String {
    fs::read_to_string(root().join("tests/golden/profile").join(name)).unwrap()
}

/// A configuration with these files in its `profiles.dir`.
fn with_files(files: &[(&str, &str)], text: &str) -> Result<Config, String> {
    let mut world = World::default();
    for (name, text) in files {
        let path = format!("/profiles/{name}");
        world.files.insert(path, text.as_bytes().to_vec());
    }
    world.load(&format!("profiles: {{ dir: /profiles }}\n{text}"))
}

fn with_file(text: &str) -> Result<Config, String> {
    with_files(&[("it.yaml", text)], "")
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn every_word_names_one_built_in_type_and_every_prefix_is_a_mount() {
    let profiles = builtin();
    assert_eq!(profiles.iter().len(), 13);
    let mut seen = HashSet::new();
    for profile in profiles.iter() {
        let prefixes = profile.prefixes.iter().map(String::as_str);
        let words: HashSet<&str> = prefixes.chain([&*profile.name]).collect();
        for word in words {
            assert!(seen.insert(word.to_owned()), "`{word}` names two profiles");
            assert_eq!(profiles.find(word), Some(profile), "{word}");
            let mount = profiles.mount(word);
            assert_eq!(mount, (word != "openai").then_some(profile), "{word}");
        }
        let api = profile.api();
        for path in api.paths.iter().chain([&api.health_path, &api.model_path]) {
            assert!(path.starts_with('/'), "{} {path}", profile.name);
        }
        assert!(api.openai_compatible, "{}", profile.name);
        assert_eq!(profile.characteristics.priority, None, "{}", profile.name);
        assert_eq!(profile.characteristics.timeout, None, "{}", profile.name);
    }
}

#[test]
fn ollas_example_of_a_customised_profile_takes_effect() {
    let config = with_file(&golden("olla-customisation.yaml")).unwrap();
    let (ollama, before) = (config.profiles.find("ai").unwrap(), builtin());
    let before = before.find("ollama").unwrap();
    assert_eq!(&*ollama.name, "ollama");
    assert_eq!(config.profiles.mount("ai"), Some(ollama));
    assert_eq!(config.nodes[0].profile, *ollama);
    let slow = ollama.needs_of("llama3:70b", None, None);
    assert_eq!(ollama.cold_timeout(seconds(60), &slow), seconds(600));
    let capabilities: &[(&str, &[&str])] = &[
        ("llava:13b", &["vision"]),
        ("vision-mini", &["vision"]),
        ("llama3.2-vision", &[]),
        ("nomic-embed-text:latest", &["embeddings"]),
        ("Qwen2.5-Coder:7b", &["code"]),
        ("llama3.2", &[]),
    ];
    for (name, expected) in capabilities {
        let said: Vec<&str> = ollama.capabilities(name).collect();
        assert_eq!(said, *expected, "{name}");
    }
    let contexts = [
        ("yi-32k:6b", Some(32768)),
        ("x-16k", Some(16384)),
        ("llama3:8b", Some(8192)),
        ("phi", None),
    ];
    for (name, tokens) in contexts {
        assert_eq!(ollama.context(name), tokens, "{name}");
    }
    // What it does not say is kept: the example names no `api` at all.
    assert_eq!(
        (ollama.api(), ollama.listing),
        (before.api(), before.listing)
    );
    assert_eq!(
        (&ollama.resources, &ollama.detection),
        (&before.resources, &before.detection)
    );
    assert_eq!(config.profiles.iter().len(), before_count());
}

fn before_count() -> usize {
    builtin().iter().len()
}

#[test]
fn ollas_own_ollama_profile_loads() {
    // The keys and values of Olla's file, dead ones included.
    let config = with_file(&golden("olla-ollama.yaml")).unwrap();
    let ollama = config.profiles.find("ollama").unwrap();
    assert_eq!(ollama.characteristics.priority, Some(100));
    assert_eq!(ollama.characteristics.timeout, Some(seconds(300)));
    assert_eq!(ollama.api().paths.len(), 10);
    assert_eq!(ollama.api().health_path, "/");
    let demand = ollama.needs_of("llama3:70b-q4_0", None, None);
    assert!((demand.memory_gb - 20.0).abs() < 1e-9, "{demand:?}");
    assert_eq!(
        demand.max_concurrent,
        Some(Limit {
            requests: 2,
            hard: true
        })
    );
    assert_eq!(ollama.cold_timeout(seconds(60), &demand), seconds(330));
}

#[test]
fn ollas_snippets_for_all_types() {
    let limit = |text: &str, name: &str| {
        let config = World::default().load(text).unwrap();
        let profile = &config.nodes[0].profile;
        profile.needs_of(name, None, None).max_concurrent
    };
    let hard = |requests| {
        Some(Limit {
            requests,
            hard: true,
        })
    };
    let memory = "
resources:
  model_sizes:
    - patterns: [\"7b\"]
      min_memory_gb: 8
      max_concurrent: 1
";
    assert_eq!(limit(memory, "mistral:7b"), hard(1));
    assert_eq!(
        limit(memory, "llama3:70b"),
        Some(Limit {
            requests: 1,
            hard: false
        })
    );
    assert_eq!(
        limit(memory, "llama3:8b"),
        Some(Limit {
            requests: 8,
            hard: false
        })
    );
    for most in [4, 1] {
        let hardware = format!(
            "resources:\n  concurrency_limits:\n    - min_memory_gb: 0\n      max_concurrent: {most}\n"
        );
        for name in ["llama3:70b", "mistral", "phi3:3b"] {
            assert_eq!(limit(&hardware, name), hard(most));
        }
    }
    let config = World::default()
        .load("characteristics:\n  timeout: 10m  # Allow for model loading\n")
        .unwrap();
    for profile in config.profiles.iter() {
        let small = profile.needs_of("m", None, None);
        assert_eq!(
            profile.cold_timeout(seconds(60), &small),
            seconds(600),
            "{}",
            profile.name
        );
    }
}

#[test]
fn a_new_type_is_a_mount_and_a_type() {
    let text = "
name: mine
routing: { prefixes: [mine, my-own] }
api: { paths: [/gpu/v1/chat/completions, /gpu/v1/models, /up], openai_compatible: true }
path_indices: { health: 2 }
characteristics: { default_priority: 7, max_concurrent_requests: 3, auth: { required: true, types: [api_key], default_header: X-Mine } }
";
    let node = "discovery: { static: { endpoints: [{ url: 'http://a/gpu', type: my-own, auth: { type: api_key, key: k } }] } }";
    let config = with_files(
        &[("b.yml", text), ("notes.txt", "x"), (".hidden.yaml", "x")],
        node,
    )
    .unwrap();
    let node = &config.nodes[0];
    assert_eq!(
        config.profiles.mount("mine").map(|it| &*it.name),
        Some("mine")
    );
    assert_eq!(node.url.to_string(), "http://a:80");
    assert_eq!(
        (node.health_path.as_str(), node.model_path.as_str()),
        ("/up", "/gpu/v1/models")
    );
    assert_eq!((node.priority, node.profile.listing), (7, Listing::OpenAi));
    let NodeAuth::ApiKey { header, .. } = &node.auth else {
        panic!("{:?}", node.auth)
    };
    assert_eq!(header, "X-Mine");
    assert_eq!(
        node.profile.characteristics.max_concurrent,
        Some(Limit {
            requests: 3,
            hard: true
        })
    );
    // Its own words come before ours where a node answers as both.
    assert_eq!(
        config.profiles.iter().next().map(|it| &*it.name),
        Some("mine")
    );
}

#[test]
fn later_files_change_earlier_ones() {
    let files = [
        (
            "1.yaml",
            "name: mine\napi: { paths: [/v1/models] }\nmodels: { capability_patterns: { vision: [a], code: [c] } }",
        ),
        (
            "2.yaml",
            "name: mine\nmodels: { capability_patterns: { vision: [\"${WORD:-b}\"] } }\nrequest: { parsing_rules: { chat_completions_path: /api/chat, supports_streaming: false } }",
        ),
    ];
    let config = with_files(&files, "").unwrap();
    let mine = config.profiles.find("mine").unwrap();
    assert_eq!(mine.api().paths, ["/v1/models", "/api/chat"]);
    assert_eq!(mine.characteristics.streaming, Some(false));
    let said = |name| mine.capabilities(name).collect::<Vec<_>>().join(" ");
    assert_eq!(
        (said("a"), said("b"), said("c")),
        (String::new(), "vision".to_owned(), "code".to_owned())
    );
}

#[test]
fn an_endpoints_path_is_not_doubled() {
    let table = [
        (
            "dmr",
            "http://a/engines",
            "http://a:80",
            "/engines/v1/models",
        ),
        (
            "dmr",
            "http://a/x/engines",
            "http://a:80/x",
            "/engines/v1/models",
        ),
        ("dmr", "http://a", "http://a:80", "/engines/v1/models"),
        ("lemonade", "http://a/api", "http://a:80", "/api/v1/models"),
        (
            "openwebui",
            "http://a/ollama/",
            "http://a:80",
            "/ollama/api/tags",
        ),
        ("vllm", "http://a/api", "http://a:80/api", "/v1/models"),
    ];
    for (kind, written, url, model_path) in table {
        let text = |more: &str| {
            format!(
                "discovery: {{ static: {{ endpoints: [{{ url: '{written}', type: {kind}{more} }}] }} }}"
            )
        };
        let node = World::default().load(&text("")).unwrap().nodes.remove(0);
        assert_eq!(
            (node.url.to_string().as_str(), node.model_path.as_str()),
            (url, model_path),
            "{written}"
        );
        // A path that the operator writes is meant behind the URL as written.
        let node = World::default()
            .load(&text(", model_url: /list"))
            .unwrap()
            .nodes
            .remove(0);
        let whole = format!("{}{}", node.url, node.model_path);
        let base = written
            .trim_end_matches('/')
            .replacen("http://a", "http://a:80", 1);
        assert_eq!(whole, format!("{base}/list"));
    }
}

#[test]
fn answers_tell_the_type() {
    let profiles = builtin();
    let asked = questions(&profiles);
    for path in [
        "/v1/models",
        "/api/tags",
        "/api/v0/models",
        "/engines/v1/models",
    ] {
        assert!(asked.contains(&path), "{path}: {asked:?}");
    }
    let table = golden("detect.txt");
    for case in table.split("\n# ").skip(1) {
        let (head, answers) = case.split_once('\n').unwrap();
        let (port, expected) = head.split_once(" => ").unwrap();
        type Answer<'a> = (u16, &'a str, Vec<(String, String)>, &'a str);
        let parsed: Vec<Answer> = answers
            .lines()
            .filter(|line| !line.is_empty())
            .map(|line| {
                let mut parts = line.splitn(4, ' ');
                let mut next = || parts.next().unwrap_or_default();
                let (status, path, header) = (next().parse().unwrap(), next(), next());
                let headers = header
                    .split_once(':')
                    .map(|(name, value)| (name.to_owned(), value.to_owned()));
                (status, path, headers.into_iter().collect(), next())
            })
            .collect();
        let evidence: Vec<Evidence> = parsed
            .iter()
            .map(|(status, path, headers, body)| Evidence {
                path,
                status: *status,
                headers,
                body_start: body.as_bytes(),
            })
            .collect();
        let found = detect(&evidence, port.parse().unwrap(), &profiles);
        assert_eq!(
            found.as_ref().map_or("none", |it| &*it.name),
            expected,
            "{case}"
        );
        assert!(
            parsed.iter().all(|(_, path, ..)| asked.contains(path)),
            "{case}: a path that is not asked for"
        );
    }
}

#[test]
fn a_node_of_unknown_type_serves_nothing_yet() {
    let config = World::default()
        .load("discovery: { static: { endpoints: [{ url: 'http://a', type: auto }] } }")
        .unwrap();
    assert!(config.nodes[0].profile.is_auto());
}

#[test]
fn credentials_are_checked_against_the_type() {
    let profile =
        "name: ollama\ncharacteristics: { auth: { required: true, types: [bearer, basic] } }";
    let load = |auth: &str| {
        let node =
            format!("discovery: {{ static: {{ endpoints: [{{ url: 'http://a'{auth} }}] }} }}");
        with_files(&[("o.yaml", profile)], &node).map(drop)
    };
    assert_eq!(load(", auth: { type: bearer, token: t }"), Ok(()));
    let missing = load("").unwrap_err();
    assert!(
        missing.contains("a node of type `ollama` asks for credentials"),
        "{missing}"
    );
    let other = load(", auth: { type: api_key, key: k }").unwrap_err();
    assert!(
        other.contains("takes no credentials of the type `api_key`\n"),
        "{other}"
    );
    assert!(other.contains("hint: use `bearer` or `basic`"), "{other}");
}
