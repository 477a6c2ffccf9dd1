//! The table of decisions (`tests/golden/routing/table.txt`) and the laws that hold for every fleet.

use std::collections::HashMap;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::config::Alias;
use crate::fleet::State;
use crate::fleet::fixture::{Herd, herd, operation};
use crate::model::ModelKey;

const TABLE: &str = include_str!("../../tests/golden/routing/table.txt");
const FALLBACKS: [Fallback; 3] = [Fallback::All, Fallback::CompatibleOnly, Fallback::None];
pub(super) const BALANCERS: [(&str, Balancer); 5] = [
    ("adaptive", Balancer::Adaptive),
    ("priority", Balancer::Priority),
    ("round-robin", Balancer::RoundRobin),
    ("least-connections", Balancer::LeastConnections),
    ("random", Balancer::Random),
];

#[test]
fn decisions_are_those_of_the_table() {
    let mut faults = Vec::new();
    for case in TABLE.split("\n# ").skip(1) {
        let (sentence, rest) = case.split_once('\n').unwrap();
        let is_question = |line: &&str| line.starts_with("> ");
        let fleet: Vec<&str> = rest.lines().filter(|line| !is_question(line)).collect();
        let herd = herd(&fleet.join("\n"));
        for line in rest.lines().filter(is_question) {
            let (question, expected) = line[2..].split_once(" => ").unwrap();
            let actual = decide(&herd, question);
            if actual != expected {
                faults.push(format!(
                    "{sentence}\n  > {question}\n  expected {expected}\n  actual   {actual}"
                ));
            }
        }
    }
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n\n"));
}

/// Asks the fleet a question of the table and writes the decision as the table does.
fn decide(herd: &Herd, question: &str) -> String {
    let view = herd.fleet.view();
    let mut words = question.split(' ');
    let model = words.next().unwrap();
    let (mut asked, mut mount, mut node_index) = (Operation::Chat, Mount::All, None);
    let mut needs = Needs::default();
    let (mut tried, mut balancer, mut seed) = (Vec::new(), Balancer::Adaptive, 0);
    let (mut aliases, mut fallback, mut session) = (Vec::new(), Fallback::None, None);
    for word in words {
        match word.split_once('=') {
            None if need(&mut needs, word) => (),
            None => asked = operation(word).unwrap(),
            Some(("tokens", number)) => needs.prompt_tokens = number.parse().unwrap(),
            Some(("on", "openai")) => mount = Mount::OpenAi,
            Some(("on", "vllm")) => mount = Mount::Profile("vllm".into()),
            Some(("on", _)) => mount = Mount::Profile("ollama".into()),
            Some(("index", number)) => node_index = number.parse().ok(),
            Some(("seed", number)) => seed = number.parse().unwrap(),
            Some(("for", targets)) => aliases = vec![alias(model, targets)],
            Some(("or", word)) => {
                fallback = *FALLBACKS.iter().find(|it| it.word() == word).unwrap();
            }
            Some(("by", name)) => balancer = BALANCERS.iter().find(|(n, _)| *n == name).unwrap().1,
            Some((bond @ ("pinned" | "known"), name)) => {
                session = Some(session_at(&view, name, bond == "pinned"));
            }
            Some(("tried", names)) => {
                let nodes = view
                    .nodes
                    .iter()
                    .filter(|node| names.split(',').any(|n| n == node.config.name));
                tried = nodes.map(|node| node.id).collect();
            }
            Some(_) => panic!("unknown word {word}"),
        }
    }
    let tried = tried.as_slice();
    let decision = if model == "-" {
        node_at(node_index.unwrap(), asked, &mount, &view, Instant::now())
            .map(|node| (node, Reason::Only, None))
            .map_err(NoRoute::Refused)
    } else {
        let key = &ModelKey::parse(model).unwrap();
        let ask = Ask {
            needs,
            mount: &mount,
            node_index,
            tried,
            fallback,
            session,
            ..Ask::plain(Wanted::new(key.as_str(), key, &aliases), asked)
        };
        route(&ask, &view, balancer, seed, Instant::now()).map(|route| {
            let other_name = route.spelled.filter(|_| route.is_renamed);
            (route.node, route.reason, other_name)
        })
    };
    written(&view, decision)
}

pub(super) fn session_at(view: &Snapshot, name: &str, pinned: bool) -> Session {
    let node = view.named(name).unwrap().id;
    let tokens = 1000;
    Session {
        idle: Duration::ZERO,
        node,
        tokens,
        pinned,
    }
}

/// Whether the word is a need, which is then noted.
fn need(needs: &mut Needs, word: &str) -> bool {
    let noted = match word {
        "streamed" => &mut needs.stream,
        "images" => &mut needs.images,
        "tools" => &mut needs.tools,
        "thinking" => &mut needs.thinking,
        _ => return false,
    };
    *noted = true;
    true
}

/// A decision with the name that the node is asked for where it is another than the asked one.
fn written(
    view: &Snapshot,
    decision: Result<(NodeId, Reason, Option<Arc<str>>), NoRoute>,
) -> String {
    match decision {
        Ok((node, reason, other_name)) => {
            let other_name = other_name.map_or(String::new(), |name| format!(" as {name}"));
            let node = &view.nodes[node.0].config.name;
            format!("{node} ({}){other_name}", reason.as_str())
        }
        Err(NoRoute::Full(_)) => "full".to_owned(),
        Err(NoRoute::Refused(fault)) => format!("{} {fault}", fault.status()),
    }
}

pub(super) fn alias(name: &str, targets: &str) -> Alias {
    let key = |name: &str| ModelKey::parse(name).unwrap();
    let targets = targets.split(',').map(|name| (name.to_owned(), key(name)));
    Alias::new(name.to_owned(), key(name), targets.collect())
}

/// A chat with one model that any node may serve.
pub(super) fn ask<'a>(model: &'a ModelKey, tried: &'a [NodeId]) -> Ask<'a> {
    let wanted = Wanted::new(model.as_str(), model, &[]);
    Ask {
        tried,
        ..Ask::plain(wanted, Operation::Chat)
    }
}

#[test]
fn the_nodes_own_spelling_is_what_it_will_be_asked_for() {
    let herd = herd("gpu1 up 0/4 LLaMA:latest");
    let model = &ModelKey::parse("llama").unwrap();
    let ask = ask(model, &[]);
    let route = route(
        &ask,
        &herd.fleet.view(),
        Balancer::Adaptive,
        0,
        Instant::now(),
    )
    .unwrap();
    assert_eq!(route.spelled.as_deref(), Some("LLaMA:latest"));
}

#[test]
fn a_refusal_says_when_to_come_back() {
    let model = &ModelKey::parse("llama").unwrap();
    let ask = ask(model, &[]);
    for (fleet, later_s, expected) in [
        // The next probe, which every `check_interval` of 5 s brings.
        ("a down 0/4 llama", 0, 5),
        ("a refused 0/4 llama", 0, 5),
        // The end of the time it stays out, and after that the next probe.
        ("a limited 0/4 llama", 0, 30),
        ("a limited 0/4 llama", 28, 2),
        ("a limited 0/4 llama", 31, 5),
        ("a ejected 0/4 llama", 3, 2),
        // Whichever is back first.
        ("a limited 0/4 llama\nb down 0/4 llama", 0, 5),
        ("a limited 0/4 llama\nb down 0/4 llama", 28, 2),
        // Another node's models do not matter.
        ("a limited 0/4 llama\nb down 0/4 qwen", 0, 30),
    ] {
        let view = herd(fleet).fleet.view();
        let now = Instant::now() + Duration::from_secs(later_s);
        let refused = route(&ask, &view, Balancer::Adaptive, 0, now).unwrap_err();
        let NoRoute::Refused(fault) = refused else {
            panic!("{refused:?}")
        };
        let retry_after_s = expected;
        assert_eq!(
            fault.kind,
            crate::error::Kind::Unavailable { retry_after_s },
            "{fleet} {later_s}"
        );
    }
}

/// A node as text: any health, any load, with or without the model.
pub(super) fn any_node() -> impl Strategy<Value = String> {
    let health = prop::sample::select(vec![
        "up", "up", "trial", "down", "ejected", "unknown", "refused", "limited", "draining",
    ]);
    let slots = (0_u32..6, prop::option::of(1_u32..6));
    let model = prop::sample::select(vec!["llama", "llama*", "llama*", "qwen"]);
    (health, slots, 1_u32..4, 1_u32..4, model).prop_map(
        |(health, (taken, slots), priority, weight, model)| {
            let slots_now = if health == "trial" { Some(1) } else { slots };
            let taken = slots_now.map_or(taken, |slots| taken.min(slots));
            let slots = slots.map_or("auto".to_owned(), |slots| slots.to_string());
            format!("{health} {taken}/{slots} p{priority} w{weight} {model}")
        },
    )
}

/// One that may be at a node that is not there.
pub(super) fn any_session() -> impl Strategy<Value = Option<Session>> {
    let session = (0_usize..7, any::<bool>()).prop_map(|(node, pinned)| Session {
        idle: Duration::ZERO,
        node: NodeId(node),
        tokens: 1000,
        pinned,
    });
    prop::option::of(session)
}

proptest! {
    #[test]
    fn a_route_is_always_one_that_may_serve_and_exists_whenever_one_could(
        nodes in prop::collection::vec(any_node(), 1..6),
        tried in prop::collection::vec(0_usize..6, 0..3),
        balancer in prop::sample::select(BALANCERS.to_vec()),
        session in any_session(),
        seed: u64,
    ) {
        let lines: Vec<String> = nodes.iter().enumerate().map(|(at, node)| format!("n{at} {node}")).collect();
        let herd = herd(&lines.join("\n"));
        let view = herd.fleet.view();
        let tried: Vec<NodeId> = tried.into_iter().map(NodeId).collect();
        let model = &ModelKey::parse("llama").unwrap();
        let ask = Ask { session, ..ask(model, &tried) };
        let has_model = |node: &&crate::fleet::Node| node.models().iter().any(|it| it.key == *model);
        let is_free = |node: &&crate::fleet::Node| match node.state() {
            State::Trial => node.in_flight() == 0,
            _ => node.config.slots.is_none_or(|slots| node.in_flight() < slots),
        };
        let decided = route(&ask, &view, balancer.1, seed, Instant::now());
        prop_assert_eq!(&decided, &route(&ask, &view, balancer.1, seed, Instant::now()), "the same seed decides the same");
        match decided {
            Ok(route) => {
                let node = &view.nodes[route.node.0];
                prop_assert!(has_model(&node) && is_free(&node) && !tried.contains(&node.id));
                prop_assert!(matches!(node.state(), State::Healthy | State::Trial | State::Unknown));
                prop_assert!(herd.fleet.try_lease(node.id, None).is_some());
            }
            Err(_) => {
                let could = view.nodes.iter().filter(has_model).filter(is_free);
                let mut could = could.filter(|node| matches!(node.state(), State::Healthy | State::Trial) && !tried.contains(&node.id));
                prop_assert!(could.next().is_none());
            }
        }
    }

    #[test]
    fn an_alias_never_sends_to_a_later_target_while_a_node_with_an_earlier_one_has_room(
        nodes in prop::collection::vec(any_node(), 1..6),
        balancer in prop::sample::select(BALANCERS.to_vec()),
        session in any_session(),
        seed: u64,
    ) {
        let lines: Vec<String> = nodes.iter().enumerate().map(|(at, node)| format!("n{at} {node}")).collect();
        let herd = herd(&lines.join("\n"));
        let view = herd.fleet.view();
        let (aliases, key) = ([alias("both", "qwen,llama")], ModelKey::parse("both").unwrap());
        let ask = Ask { wanted: Wanted::new("both", &key, &aliases), session, ..ask(&key, &[]) };
        let has = |node: &crate::fleet::Node, name: &str| node.models().iter().any(|it| *it.name == *name);
        let roomy = |node: &&crate::fleet::Node| node.in_flight() < node.config.slots.unwrap_or(u32::MAX);
        let up = || view.nodes.iter().filter(|node| node.state() == State::Healthy);
        if let Ok(route) = route(&ask, &view, balancer.1, seed, Instant::now()) {
            let spelled = route.spelled.unwrap();
            prop_assert!(has(&view.nodes[route.node.0], &spelled));
            let earlier_has_room = up().filter(roomy).any(|node| has(node, "qwen"));
            prop_assert!(!earlier_has_room || *spelled == *"qwen");
        }
    }

    #[test]
    fn round_robin_shares_exactly_by_weight_over_a_cycle(
        weights in prop::collection::vec(1_u32..9, 1..6),
        start in 0_u64..1_000_000,
    ) {
        let lines: Vec<String> = weights.iter().enumerate().map(|(at, weight)| format!("n{at} up 0/4 w{weight} llama")).collect();
        let view = herd(&lines.join("\n")).fleet.view();
        let model = &ModelKey::parse("llama").unwrap();
        let ask = ask(model, &[]);
        let cycle = u64::from(weights.iter().sum::<u32>());
        let mut shares = HashMap::<usize, u32>::new();
        for seed in start * cycle..(start + 1) * cycle {
            *shares.entry(route(&ask, &view, Balancer::RoundRobin, seed, Instant::now()).unwrap().node.0).or_default() += 1;
        }
        let shares: Vec<u32> = (0..weights.len()).map(|at| shares[&at]).collect();
        prop_assert_eq!(shares, weights);
    }
}
