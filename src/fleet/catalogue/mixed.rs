//! A mixed fleet (three Ollama servers, vLLM, llama.cpp, LM Studio) in every shape, and the laws of the catalogue.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::tests::{check, golden, moment};
use super::*;
use crate::config::profiles::builtin;
use crate::config::{Connection, NodeConfig};
use crate::dialect::{Mount, Operation};
use crate::fleet::fixture::{LIMITS, installed, node, ollama, vllm};
use crate::fleet::{Fleet, NodeId, Observation, Rules, Stand, listing};
use crate::glob::{Filter as Globs, Glob};
use crate::model::ModelKey;

fn key(name: &str) -> ModelKey {
    ModelKey::parse(name).unwrap()
}

fn alias(name: &str, targets: &[&str]) -> Stand {
    Stand {
        key: key(name),
        name: name.to_owned(),
        targets: targets.iter().map(|target| key(target)).collect(),
    }
}

fn of_type(name: &str) -> NodeConfig {
    node(name, builtin().find(name).unwrap())
}

fn rules() -> Rules {
    Rules {
        aliases: vec![
            alias(
                "Coder",
                &[
                    "nobody-has-this",
                    "gpu1.qwen2.5-coder:7b",
                    "Qwen/Qwen3-8B-AWQ",
                ],
            ),
            alias("nothing", &["nobody-has-this"]),
            alias("llama3.2:3b", &["llava:13b"]),
        ],
        ..Rules::default()
    }
}

/// gpu-1 has a prefix, tags and is elsewhere; gpu-2 hides a model and has another llama3.2.
fn configs() -> Vec<NodeConfig> {
    let mut far = ollama("gpu-1");
    far.prefix_id = Some("gpu1".to_owned());
    far.tags = vec!["fast".to_owned(), "24 GB".to_owned()];
    far.connection = Connection::External;
    far.model_ids = vec!["llama3.2:3b".to_owned(), "Qwen2.5-Coder:7b".to_owned()];
    let mut shy = ollama("gpu-2");
    shy.model_filter = Globs {
        include: vec![],
        exclude: vec![Glob::new("secret*").unwrap()],
    };
    let others = ["vllm", "llamacpp", "lm-studio"].map(of_type);
    [ollama("gpu-0"), far, shy]
        .into_iter()
        .chain(others)
        .collect()
}

fn see(fleet: &Fleet, node: usize, seen: Observation) {
    fleet.observe(NodeId(node), seen, Instant::now());
}

fn install(fleet: &Fleet, node: usize, models: Vec<Installed>) {
    let version = None;
    see(fleet, node, Observation::Installed { models, version });
}

fn mixed(rules: Rules) -> Fleet {
    let fleet = Fleet::new(vec![], LIMITS);
    let nodes = configs().into_iter().map(Into::into).collect();
    fleet.reconfigure(nodes, LIMITS, rules, |_| ());
    for (node, file) in ["gpu-0", "gpu-1", "gpu-2"].into_iter().enumerate() {
        install(
            &fleet,
            node,
            listing::tags(&golden(&format!("mixed/{file}.json"))).unwrap(),
        );
    }
    for (node, file) in [(0, "gpu-0"), (2, "gpu-2")] {
        let loaded = listing::ps(&golden(&format!("mixed/{file}-ps.json"))).unwrap();
        see(&fleet, node, Observation::Loaded(loaded));
    }
    for (node, file) in [(3, "vllm"), (4, "llamacpp"), (5, "lmstudio")] {
        let models = listing::v1_models(&golden(&format!("mixed/{file}.json"))).unwrap();
        install(&fleet, node, models);
    }
    for node in [0, 1, 3, 4, 5] {
        see(&fleet, node, Observation::Probe(Ok(())));
    }
    fleet
}

fn text(body: &Bytes) -> &str {
    std::str::from_utf8(body).unwrap()
}

fn names(body: &Bytes, list: &str, field: &str) -> Vec<String> {
    let page: serde_json::Value = serde_json::from_slice(body).unwrap();
    let entries = page[list].as_array().unwrap().iter();
    entries
        .map(|entry| entry[field].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn a_mixed_fleet_in_every_shape() {
    let view = mixed(rules()).view();
    for (file, format) in [
        ("unified", Format::Unified),
        ("ollama", Format::Ollama),
        ("openai", Format::OpenAi),
        ("anthropic", Format::Anthropic),
        ("lmstudio-v0", Format::LmStudio),
        ("lmstudio-v1", Format::LmStudioV1),
        ("vllm-shape", Format::Vllm),
        ("sglang", Format::Sglang),
        ("lemonade", Format::Lemonade),
    ] {
        check(
            &format!("mixed/expected-{file}.json"),
            &view.listing(&Scope::ALL, format),
        );
    }
    check("mixed/expected-ps.json", &view.ps(&Scope::ALL));
    let detail = view.item(&Scope::ALL, Format::Unified, "House", moment());
    check("mixed/expected-detail.json", &detail.unwrap());
}

#[test]
fn a_mount_lists_its_own_nodes() {
    let view = mixed(rules()).view();
    let on = |mount: Mount| Scope {
        mount,
        serves: None,
    };
    for (mount, expected) in [
        ("vllm", &["Coder", "Qwen/Qwen3-8B-AWQ"][..]),
        ("llamacpp", &["phi-4-Q4_K_M.gguf"]),
        ("sglang", &[]),
    ] {
        let scope = on(Mount::Profile(mount.into()));
        let mut listed = names(&view.listing(&scope, Format::OpenAi), "data", "id");
        listed.sort();
        assert_eq!(listed, expected, "{mount}");
        for name in expected {
            assert!(view.item(&scope, Format::OpenAi, name, moment()).is_some());
        }
        assert!(
            view.item(&scope, Format::OpenAi, "house", moment())
                .is_none()
        );
        assert_eq!(text(&view.ps(&scope)), r#"{"models":[]}"#);
    }
    let scope = Scope {
        serves: Some(Operation::Messages),
        ..Scope::ALL
    };
    let all = view.listing(&Scope::ALL, Format::Anthropic);
    assert_eq!(
        view.listing(&scope, Format::Anthropic),
        all,
        "all these types speak Messages"
    );
}

#[test]
fn a_filter_leaves_what_fits() {
    let view = mixed(rules()).view();
    let list = |filter: Filter| {
        let mut names = names(
            &view.filtered(&Scope::ALL, Format::OpenAi, &filter),
            "data",
            "id",
        );
        names.sort();
        names.join(" ")
    };
    let some = |word: &str| Some(word.to_owned());
    let none = Filter::default;
    for (filter, expected) in [
        (
            Filter {
                family: some("Gemma"),
                ..none()
            },
            "google/gemma-3-12b",
        ),
        (
            Filter {
                kind: some("vlm"),
                ..none()
            },
            "llava:13b qwen2-vl-7b-instruct",
        ),
        (
            Filter {
                kind: some("llama_cpp"),
                ..none()
            },
            "phi-4-Q4_K_M.gguf",
        ),
        (
            Filter {
                endpoint: some("gpu-2"),
                ..none()
            },
            "llama3.2:3b llava:13b",
        ),
        (
            Filter {
                capability: some("embeddings"),
                ..none()
            },
            "nomic-embed-text:latest text-embedding-nomic-embed-text-v1.5",
        ),
        (
            Filter {
                available: Some(false),
                ..none()
            },
            "llava:13b",
        ),
        (
            Filter {
                available: Some(true),
                endpoint: some("gpu-2"),
                ..none()
            },
            "llama3.2:3b",
        ),
        (
            Filter {
                family: some("llama"),
                kind: some("embeddings"),
                ..none()
            },
            "",
        ),
    ] {
        assert_eq!(list(filter.clone()), expected, "{filter:?}");
    }
}

#[test]
fn one_digest_is_one_model_unless_the_rules_say_otherwise() {
    let groups = |unify| {
        let view = mixed(Rules { unify, ..rules() }).view();
        let mut names: Vec<String> = view
            .unified(&Scope::ALL)
            .iter()
            .map(|model| {
                model
                    .lines
                    .iter()
                    .map(|line| line.name)
                    .collect::<Vec<_>>()
                    .join("+")
            })
            .collect();
        names.sort();
        names
    };
    let united = groups(true);
    assert!(
        united.contains(&"llama3.2:3b+house:latest+gpu1.llama3.2:3b".to_owned()),
        "{united:?}"
    );
    assert!(
        united.contains(&"gpu1.Qwen2.5-Coder:7b+Coder".to_owned()),
        "{united:?}"
    );
    assert_eq!(united.len() + 3, groups(false).len());
}

#[test]
fn nodes_that_mean_different_files_by_one_name_are_a_conflict() {
    let view = mixed(rules()).view();
    let digest = |letter: &str| letter.repeat(64).into();
    let expected = Conflict {
        name: "llama3.2:3b".into(),
        digests: vec![
            (digest("a"), vec!["gpu-0".to_owned()]),
            (digest("b"), vec!["gpu-2".to_owned()]),
        ],
    };
    assert_eq!(view.conflicts(), [expected]);
}

#[test]
fn what_was_gone_for_too_long_is_forgotten_and_comes_back_with_its_node() {
    let fleet = Fleet::new(vec![], LIMITS);
    let rules = Rules {
        stale_threshold: Duration::from_secs(60),
        ..Rules::default()
    };
    fleet.reconfigure(
        vec![ollama("a").into(), vllm("b").into()],
        LIMITS,
        rules,
        |_| (),
    );
    install(&fleet, 0, installed(true, &["llama"]));
    install(&fleet, 1, installed(false, &["qwen"]));
    let start = Instant::now();
    let probe = |result: Result<(), &str>, seconds| {
        let seen = Observation::Probe(result.map_err(str::to_owned));
        fleet.observe(NodeId(0), seen, start + Duration::from_secs(seconds));
        let view = fleet.view();
        let listed = names(&view.listing(&Scope::ALL, Format::Ollama), "models", "name");
        assert_eq!(listed.len(), view.model_names().count());
        assert_eq!(
            listed.contains(&"llama".to_owned()),
            view.holders(&key("llama")).is_some()
        );
        listed.len()
    };
    assert_eq!(probe(Err("refused"), 0), 2);
    assert_eq!(probe(Err("refused"), 1), 2); // down from here on
    assert_eq!(probe(Err("refused"), 60), 2);
    assert_eq!(probe(Err("refused"), 61), 1);
    assert_eq!(probe(Err("refused"), 99), 1);
    assert!(fleet.view().nodes[0].knows_models());
    assert_eq!(probe(Ok(()), 100), 2);
}

#[test]
fn a_reload_changes_what_is_offered_at_once() {
    let fleet = mixed(rules());
    let mut nodes = configs();
    nodes[0].prefix_id = Some("zero".to_owned());
    nodes[2].model_filter = Globs::default();
    let nodes = nodes.into_iter().map(Into::into).collect();
    fleet.reconfigure(nodes, LIMITS, Rules::default(), |_| ());
    let view = fleet.view();
    let listed: Vec<&str> = view.model_names().collect();
    for (name, is_listed) in [
        ("zero.house:latest", true),
        ("house:latest", false),
        ("secret:latest", true),
        ("Coder", false),
    ] {
        assert_eq!(listed.contains(&name), is_listed, "{name} in {listed:?}");
    }
}

proptest! {
    /// Whatever nodes list, filter and prefix: every name is listed once, every listed name is routable, and the other way round.
    #[test]
    fn what_is_listed_is_routable_and_nothing_else(
        nodes in prop::collection::vec((
            prop::collection::vec("[aAb]{1,2}(:[lx1]{1,2})?", 0..6),
            prop::option::of("[aAb]{1,2}"),
            prop::option::of("[ab]?\\*[abx]?"),
            any::<bool>(),
        ), 1..4),
        aliases in prop::collection::vec(("[abc]{1,2}", "[aAb]{1,2}"), 0..3),
    ) {
        let config = |(at, (_, prefix, exclude, is_ollama)): (usize, &(Vec<String>, Option<String>, Option<String>, bool))| {
            let mut config = if *is_ollama { ollama(&format!("n{at}")) } else { vllm(&format!("n{at}")) };
            config.prefix_id.clone_from(prefix);
            config.model_filter.exclude = exclude.iter().filter_map(|glob| Glob::new(glob)).collect();
            config.into()
        };
        let fleet = Fleet::new(vec![], LIMITS);
        let mut stands: Vec<Stand> = aliases.iter().map(|(name, target)| alias(name, &[target])).collect();
        stands.sort_by(|a, b| a.key.cmp(&b.key));
        stands.dedup_by(|a, b| a.key == b.key);
        let rules = Rules { aliases: stands.clone(), ..Rules::default() };
        fleet.reconfigure(nodes.iter().enumerate().map(config).collect(), LIMITS, rules, |_| ());
        for (at, (models, _, _, is_ollama)) in nodes.iter().enumerate() {
            let models: Vec<&str> = models.iter().map(String::as_str).collect();
            install(&fleet, at, installed(*is_ollama, &models));
        }
        let view = fleet.view();
        let listed = names(&view.listing(&Scope::ALL, Format::Ollama), "models", "name");
        prop_assert_eq!(&names(&view.listing(&Scope::ALL, Format::OpenAi), "data", "id"), &listed);
        let keys: HashSet<ModelKey> = listed.iter().map(|name| key(name)).collect();
        prop_assert_eq!(keys.len(), listed.len(), "each once: {:?}", listed);
        for name in &listed {
            let alias = stands.iter().find(|alias| alias.key == key(name));
            let routable = |key: &ModelKey| view.holders(key).is_some();
            prop_assert!(routable(&key(name)) || alias.is_some_and(|alias| alias.targets.iter().any(routable)));
        }
        for (at, node) in view.nodes.iter().enumerate() {
            for model in node.models() {
                let own = node.config.model_filter.admits(&model.name);
                let public = match &node.config.prefix_id {
                    Some(prefix) => format!("{prefix}.{}", model.name),
                    None => model.name.to_string(),
                };
                let here = view.holders(&key(&public)).unwrap_or_default().iter().any(|it| it.at == at && it.spelled == model.name);
                prop_assert_eq!(here, own);
                prop_assert!(!own || keys.contains(&key(&public)));
            }
        }
    }
}
