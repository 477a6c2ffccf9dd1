//! The laws of the catalogue: what is listed is routable, what was gone for too long is forgotten, a reload counts at once.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::mixed::{alias, configs, install, key, mixed, names, rules};
use super::*;
use crate::config::Alias;
use crate::fleet::fixture::{LIMITS, installed, ollama, vllm};
use crate::fleet::{Fleet, NodeId, Observation, Rules};
use crate::glob::{Filter as Globs, Glob};
use crate::model::ModelKey;

/// Models, prefix, what is hidden, and whether it is an Ollama.
type AnyNode = (Vec<String>, Option<String>, Option<String>, bool);

fn any_node() -> impl Strategy<Value = AnyNode> {
    (
        prop::collection::vec("[aAb]{1,2}(:[lx1]{1,2})?", 0..6),
        prop::option::of("[aAb]{1,2}"),
        prop::option::of("[ab]?\\*[abx]?"),
        any::<bool>(),
    )
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
        nodes in prop::collection::vec(any_node(), 1..4),
        aliases in prop::collection::vec(("[abc]{1,2}", "[aAb]{1,2}"), 0..3),
    ) {
        let config = |(at, (_, prefix, exclude, is_ollama)): (usize, &AnyNode)| {
            let mut config = if *is_ollama { ollama(&format!("n{at}")) } else { vllm(&format!("n{at}")) };
            config.prefix_id.clone_from(prefix);
            config.model_filter.exclude = exclude.iter().filter_map(|glob| Glob::new(glob)).collect();
            config.into()
        };
        let fleet = Fleet::new(vec![], LIMITS);
        let mut stands: Vec<Alias> = aliases.iter().map(|(name, target)| alias(name, &[target])).collect();
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
            prop_assert!(routable(&key(name)) || alias.is_some_and(|alias| alias.models.iter().any(routable)));
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
