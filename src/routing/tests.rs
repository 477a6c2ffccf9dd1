//! The table of decisions (`tests/golden/routing/table.txt`) and the laws that hold for every fleet.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::fleet::Health;
use crate::fleet::fixture::{Herd, herd, operation};

const TABLE: &str = include_str!("../../tests/golden/routing/table.txt");
const BALANCERS: [(&str, Balancer); 5] = [
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
    for word in words {
        match word.split_once('=') {
            None if word == "streamed" => needs.stream = true,
            None => asked = operation(word).unwrap(),
            Some(("on", "openai")) => mount = Mount::OpenAi,
            Some(("on", "vllm")) => mount = Mount::Profile("vllm".into()),
            Some(("on", _)) => mount = Mount::Profile("ollama".into()),
            Some(("index", number)) => node_index = number.parse().ok(),
            Some(("seed", number)) => seed = number.parse().unwrap(),
            Some(("by", name)) => balancer = BALANCERS.iter().find(|(n, _)| *n == name).unwrap().1,
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
        let ask = HeadAsk {
            operation: asked,
            mount: &mount,
            node_index,
            tried,
        };
        route_head(&ask, &view, balancer, seed).map(|route| (route.node, route.reason))
    } else {
        let model = &ModelKey::parse(model).unwrap();
        let ask = Ask {
            model,
            operation: asked,
            needs,
            mount: &mount,
            node_index,
            tried,
        };
        route(&ask, &view, balancer, seed).map(|route| (route.node, route.reason))
    };
    match decision {
        Ok((node, reason)) => format!("{} ({})", view.nodes[node.0].config.name, reason.as_str()),
        Err(NoRoute::Full) => "full".to_owned(),
        Err(NoRoute::Refused(fault)) => format!("{} {fault}", fault.status()),
    }
}

#[test]
fn the_nodes_own_spelling_is_what_it_will_be_asked_for() {
    let herd = herd("gpu1 up 0/4 LLaMA:latest");
    let model = &ModelKey::parse("llama").unwrap();
    let ask = Ask {
        model,
        operation: Operation::Chat,
        needs: Needs::default(),
        mount: &Mount::All,
        node_index: None,
        tried: &[],
    };
    let route = route(&ask, &herd.fleet.view(), Balancer::Adaptive, 0).unwrap();
    assert_eq!(&*route.spelled, "LLaMA:latest");
}

#[test]
fn a_refusal_says_when_to_come_back() {
    let herd = herd("gpu1 down 0/4 llama");
    let model = &ModelKey::parse("llama").unwrap();
    let ask = Ask {
        model,
        operation: Operation::Chat,
        needs: Needs::default(),
        mount: &Mount::All,
        node_index: None,
        tried: &[],
    };
    let refused = route(&ask, &herd.fleet.view(), Balancer::Adaptive, 0).unwrap_err();
    let NoRoute::Refused(fault) = refused else {
        panic!("{refused:?}")
    };
    assert_eq!(
        fault.kind,
        crate::error::Kind::Unavailable { retry_after_s: 5 }
    );
}

/// A node as text: any health, any load, with or without the model.
fn any_node() -> impl Strategy<Value = String> {
    let health = prop::sample::select(vec!["up", "up", "down", "ejected", "unknown"]);
    let slots = (0_u32..6, prop::option::of(1_u32..6));
    let model = prop::sample::select(vec!["llama", "llama*", "llama*", "qwen"]);
    (health, slots, 1_u32..4, 1_u32..4, model).prop_map(
        |(health, (taken, slots), priority, weight, model)| {
            let taken = slots.map_or(taken, |slots| taken.min(slots));
            let slots = slots.map_or("auto".to_owned(), |slots| slots.to_string());
            format!("{health} {taken}/{slots} p{priority} w{weight} {model}")
        },
    )
}

proptest! {
    #[test]
    fn a_route_is_always_one_that_may_serve_and_exists_whenever_one_could(
        nodes in prop::collection::vec(any_node(), 1..6),
        tried in prop::collection::vec(0_usize..6, 0..3),
        balancer in prop::sample::select(BALANCERS.to_vec()),
        seed: u64,
    ) {
        let lines: Vec<String> = nodes.iter().enumerate().map(|(at, node)| format!("n{at} {node}")).collect();
        let herd = herd(&lines.join("\n"));
        let view = herd.fleet.view();
        let tried: Vec<NodeId> = tried.into_iter().map(NodeId).collect();
        let model = &ModelKey::parse("llama").unwrap();
        let ask = Ask { model, operation: Operation::Chat, needs: Needs::default(), mount: &Mount::All, node_index: None, tried: &tried };
        let has_model = |node: &&crate::fleet::Node| node.models().iter().any(|it| it.key == *model);
        let is_free = |node: &&crate::fleet::Node| node.config.slots.is_none_or(|slots| node.in_flight() < slots);
        match route(&ask, &view, balancer.1, seed) {
            Ok(route) => {
                let node = &view.nodes[route.node.0];
                prop_assert!(has_model(&node) && is_free(&node) && !tried.contains(&node.id));
                prop_assert!(matches!(node.health, Health::Up | Health::Unknown));
                prop_assert!(herd.fleet.try_lease(node.id).is_some());
            }
            Err(_) => {
                let could = view.nodes.iter().filter(has_model).filter(is_free);
                let mut could = could.filter(|node| node.health == Health::Up && !tried.contains(&node.id));
                prop_assert!(could.next().is_none());
            }
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
        let ask = Ask { model, operation: Operation::Chat, needs: Needs::default(), mount: &Mount::All, node_index: None, tried: &[] };
        let cycle = u64::from(weights.iter().sum::<u32>());
        let mut shares = HashMap::<usize, u32>::new();
        for seed in start * cycle..(start + 1) * cycle {
            *shares.entry(route(&ask, &view, Balancer::RoundRobin, seed).unwrap().node.0).or_default() += 1;
        }
        let shares: Vec<u32> = (0..weights.len()).map(|at| shares[&at]).collect();
        prop_assert_eq!(shares, weights);
    }
}
