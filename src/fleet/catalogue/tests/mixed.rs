//! A mixed fleet (three Ollama servers, vLLM, llama.cpp, LM Studio) in every shape.

use super::*;
use crate::config::profiles::builtin;
use crate::config::{Alias, Connection, NodeConfig};
use crate::dialect::{Mount, Operation};
use crate::fleet::fixture::{LIMITS, node, ollama};
use crate::fleet::{Fleet, NodeId, Observation, Rules, listing};
use crate::glob::{Filter as Globs, Glob};
use crate::model::ModelKey;

pub(super) fn key(name: &str) -> ModelKey {
    ModelKey::parse(name).unwrap()
}

pub(super) fn alias(name: &str, targets: &[&str]) -> Alias {
    let targets = targets
        .iter()
        .map(|target| ((*target).to_owned(), key(target)));
    Alias::new(name.to_owned(), key(name), targets.collect())
}

fn of_type(name: &str) -> NodeConfig {
    node(name, builtin().find(name).unwrap())
}

pub(super) fn rules() -> Rules {
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
pub(super) fn configs() -> Vec<NodeConfig> {
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

pub(super) fn install(fleet: &Fleet, node: usize, models: Vec<Installed>) {
    let version = None;
    see(fleet, node, Observation::Installed { models, version });
}

pub(super) fn mixed(rules: Rules) -> Fleet {
    let fleet = Fleet::new(vec![], LIMITS);
    let nodes = configs().into_iter().map(Into::into).collect();
    fleet.reconfigure(nodes, LIMITS, rules, |_| ());
    for (node, file) in ["gpu-0", "gpu-1", "gpu-2"].into_iter().enumerate() {
        install(
            &fleet,
            node,
            listing::whole::tags(&golden(&format!("mixed/{file}.json"))).unwrap(),
        );
    }
    for (node, file) in [(0, "gpu-0"), (2, "gpu-2")] {
        let loaded = listing::ps(&golden(&format!("mixed/{file}-ps.json"))).unwrap();
        see(&fleet, node, Observation::Loaded(loaded));
    }
    for (node, file) in [(3, "vllm"), (4, "llamacpp"), (5, "lmstudio")] {
        let models = listing::whole::v1_models(&golden(&format!("mixed/{file}.json"))).unwrap();
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

pub(super) fn names(body: &Bytes, list: &str, field: &str) -> Vec<String> {
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
    for (query, expected) in [
        ("family=Gemma", "google/gemma-3-12b"),
        ("type=vlm", "llava:13b qwen2-vl-7b-instruct"),
        ("type=llama_cpp", "phi-4-Q4_K_M.gguf"),
        ("endpoint=gpu-2", "llama3.2:3b llava:13b"),
        (
            "capability=embeddings",
            "nomic-embed-text:latest text-embedding-nomic-embed-text-v1.5",
        ),
        ("available=false", "llava:13b"),
        ("include_unavailable=false&endpoint=gpu-2", "llama3.2:3b"),
        ("family=llama&type=embeddings", ""),
    ] {
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        let pairs = pairs.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let (_, filter) = crate::dialect::listing::wanted(pairs).unwrap();
        let page = view.filtered(&Scope::ALL, Format::OpenAi, &filter);
        let mut names = names(&page, "data", "id");
        names.sort();
        assert_eq!(names.join(" "), expected, "{query}");
    }
}

#[test]
fn one_digest_is_one_model_unless_the_rules_say_otherwise() {
    let groups = |unify| {
        let view = mixed(Rules { unify, ..rules() }).view();
        united(&view)
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

fn united(view: &Snapshot) -> Vec<String> {
    let models = view.unified(&Scope::ALL);
    let names = models.iter().map(|model| {
        let names: Vec<&str> = model.lines.iter().map(|line| line.name).collect();
        names.join("+")
    });
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

#[test]
fn a_name_in_conflict_does_not_make_one_model_of_two() {
    let fleet = Fleet::new(vec![], LIMITS);
    let nodes = [ollama("a"), ollama("b"), of_type("vllm")].map(Into::into);
    let rules = Rules {
        aliases: vec![alias("W", &["nobody", "plain", "p"]), alias("x", &["q"])],
        ..Rules::default()
    };
    fleet.reconfigure(nodes.into(), LIMITS, rules, |_| ());
    for (node, body) in [
        (
            0,
            r#"{"models":[{"name":"m","digest":"d1"},{"name":"p","digest":"d1"}]}"#,
        ),
        (
            1,
            r#"{"models":[{"name":"m","digest":"d2"},{"name":"q","digest":"d2"}]}"#,
        ),
    ] {
        install(&fleet, node, listing::whole::tags(body.as_bytes()).unwrap());
    }
    let served = br#"{"data":[{"id":"plain"},{"id":"other"}]}"#;
    install(&fleet, 2, listing::whole::v1_models(served).unwrap());
    let view = fleet.view();
    assert_eq!(united(&view), ["m+p", "other", "plain+W", "q+x"]);
    let detail = view
        .item(&Scope::ALL, Format::Unified, "x", moment())
        .unwrap();
    assert!(
        text(&detail).starts_with(r#"{"id":"q","#),
        "{}",
        text(&detail)
    );
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
