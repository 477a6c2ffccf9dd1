//! The words (`tests/golden/routing/explain.txt`), and that an explanation explains what is decided.

use std::fmt::Write as _;
use std::fs;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::config::Fallback;
use crate::dialect::{Mount, Operation, RunnerOptions};
use crate::fleet::fixture::{Herd, herd, loaded};
use crate::fleet::{NumCtx, Observation, RunnerKey};
use crate::model::ModelKey;
use crate::profile::Needs;
use crate::routing::tests::{BALANCERS, alias, any_node, any_session, ask, session_at};
use crate::routing::{Cost, Reason, Wanted};

const GOLDEN: &str = "tests/golden/routing/explain.txt";

/// A decision, its header where there is one, and a line for each node.
fn told(herd: &Herd, ask: &Ask<'_>, balancer: Balancer) -> String {
    let view = herd.fleet.view();
    let explanation = explain(ask, &view, balancer, 0, Instant::now());
    let mut text = explanation.text(&view) + "\n";
    let num_ctx = ask.runner.num_ctx;
    if let Ok(route) = &explanation.decision {
        let told = route.told(num_ctx, || route.evicted(&view));
        writeln!(text, "X-Arriero-Route: {told}").unwrap();
    }
    for it in &explanation.judged {
        let verdict = &it.verdict;
        let sentence = verdict.text(view.node(it.node).unwrap(), balancer, num_ctx);
        writeln!(text, "- {} {sentence}", verdict.word()).unwrap();
    }
    text
}

/// A name for the case, the fleet, what is done to it, and who is asked for `llama`.
struct Case {
    name: &'static str,
    fleet: &'static str,
    prepare: fn(&mut Herd),
    change: fn(&mut Ask<'_>, &Herd),
    balancer: Balancer,
}

const PLAIN: Case = Case {
    name: "",
    fleet: "",
    prepare: |_| (),
    change: |_, _| (),
    balancer: Balancer::Adaptive,
};

fn cases() -> impl Iterator<Item = Case> {
    let all = [cases_of_states(), cases_of_loads(), cases_of_choices()];
    all.into_iter().flatten()
}

fn cases_of_states() -> Vec<Case> {
    let states = "warm up 1/4 llama*\ncold up 0/4 llama\nlow up 0/4 p50 llama*\nfull up 1/1 llama*\nother up 0/4 qwen\n\
                  nothing heard 0/4\nnew new 0/4 llama\ndown down 0/4 llama\nejected ejected 0/4 llama\nrefused refused 0/4 llama\n\
                  limited limited 0/4 llama\ndraining draining 0/4 llama\nunproven unknown 0/4 llama\nremote up 0/4 llama!\n\
                  tried up 0/4 llama\nseats@hard up 0/4 llama";
    vec![
        Case {
            name: "every state",
            fleet: states,
            change: |ask, _| ask.tried = &[NodeId(14)],
            ..PLAIN
        },
        Case {
            name: "nobody is left",
            fleet: "a down 0/4 llama\nb up 0/4 qwen",
            ..PLAIN
        },
        Case {
            name: "nobody is left, and others may be asked",
            fleet: "a down 0/4 llama\nb up 0/4 qwen\nc up 2/2 qwen",
            change: |ask, _| ask.fallback = Fallback::All,
            ..PLAIN
        },
        Case {
            name: "nobody has it, and others may be asked",
            fleet: "a up 0/4 qwen",
            change: |ask, _| ask.fallback = Fallback::All,
            ..PLAIN
        },
        Case {
            name: "all are full",
            fleet: "a up 1/1 llama*\nb up 2/2 llama",
            ..PLAIN
        },
    ]
}

fn cases_of_loads() -> Vec<Case> {
    vec![
        Case {
            name: "a load that pushes another out",
            fleet: "a up 0/4 llama qwen*",
            prepare: |herd| {
                let uptime = Duration::ZERO;
                let seat = herd.seat(NodeId(0), "llama");
                seat.ledger()
                    .unwrap()
                    .loaded(Duration::from_secs(12), uptime);
                // Each was seen to leave when the other came.
                for name in ["llama*", "qwen*"] {
                    let seen = Observation::Loaded(loaded(&[name]));
                    herd.fleet.observe(NodeId(0), seen, Instant::now());
                }
            },
            change: |ask, _| ask.circumstances.uptime = Duration::from_secs(100),
            ..PLAIN
        },
        Case {
            name: "a load under way",
            fleet: "a up 0/4 llama\nb up 0/4 qwen",
            prepare: |herd| {
                let seat = herd.seat(NodeId(0), "llama");
                seat.asks(RunnerKey::default(), Duration::ZERO);
                let ledger = seat.ledger().unwrap();
                ledger.loaded(Duration::from_secs(20), Duration::ZERO);
                // It is never over, and its seat stays taken.
                std::mem::forget(seat.loading(Duration::ZERO));
                herd.leases.push(seat);
            },
            change: |ask, _| ask.circumstances.uptime = Duration::from_secs(15),
            ..PLAIN
        },
        Case {
            name: "another load is under way",
            fleet: "a up 0/4 llama qwen",
            prepare: |herd| {
                let seat = herd.seat(NodeId(0), "qwen");
                std::mem::forget(seat.loading(Duration::ZERO));
                herd.leases.push(seat);
            },
            ..PLAIN
        },
        Case {
            name: "what would have to leave is in use",
            fleet: "a up 0/4 llama*",
            prepare: |herd| {
                let seat = herd.seat(NodeId(0), "llama");
                seat.asks(with_context(4096), Duration::ZERO);
                herd.leases.push(seat);
            },
            change: |ask, _| ask.runner = with_context(8192),
            ..PLAIN
        },
    ]
}

fn cases_of_choices() -> Vec<Case> {
    vec![
        Case {
            name: "a longer context than asked for",
            fleet: "a up 0/4 llama*",
            prepare: |herd| {
                let seat = herd.seat(NodeId(0), "llama");
                seat.asks(with_context(8192), Duration::ZERO);
            },
            change: |ask, _| ask.runner = with_context(4096),
            ..PLAIN
        },
        Case {
            name: "a conversation goes on",
            fleet: "a up 0/4 llama*\nb up 0/4 llama*",
            change: |ask, herd| {
                ask.needs.prompt_tokens = 1000;
                ask.session = Some(session_at(&herd.fleet.view(), "b", false));
            },
            ..PLAIN
        },
        Case {
            name: "images",
            fleet: "blind up 0/4 llama=completion*\nseeing up 0/4 llama=completion+vision*\nperhaps up 0/4 llama*",
            change: |ask, _| ask.needs.images = true,
            ..PLAIN
        },
        Case {
            name: "a call that not all serve",
            fleet: "a@vllm up 0/4 llama\nb@odd up 0/4 llama\nc up 0/4 llama",
            change: |ask, _| {
                ask.operation = Operation::ChatCompletions;
                ask.needs.stream = true;
                ask.mount = &Mount::OpenAi;
            },
            ..PLAIN
        },
        Case {
            name: "by priority",
            fleet: "a up 0/4 p200 llama\nb up 0/4 llama*",
            balancer: Balancer::Priority,
            ..PLAIN
        },
        Case {
            name: "in turn",
            fleet: "a failing 0/4 llama*\nb up 0/4 llama",
            balancer: Balancer::RoundRobin,
            ..PLAIN
        },
    ]
}

fn with_context(tokens: i64) -> RunnerKey {
    RunnerKey::of(&RunnerOptions {
        num_ctx: Some(tokens),
        ..RunnerOptions::default()
    })
}

#[test]
fn the_words_are_those_of_the_golden_file() {
    let model = ModelKey::parse("llama").unwrap();
    let mut actual = String::new();
    for case in cases() {
        let mut herd = herd(case.fleet);
        (case.prepare)(&mut herd);
        let mut ask = ask(&model, &[]);
        (case.change)(&mut ask, &herd);
        writeln!(
            actual,
            "# {}\n{}",
            case.name,
            told(&herd, &ask, case.balancer)
        )
        .unwrap();
    }
    if std::env::var_os("UPDATE").is_some() {
        fs::write(GOLDEN, &actual).unwrap();
    }
    assert_eq!(actual, fs::read_to_string(GOLDEN).unwrap());
}

#[test]
fn an_earlier_target_of_an_alias_comes_first() {
    let herd = herd("a up 0/4 qwen*\nb up 0/4 llama*\nc up 1/1 qwen* llama*");
    let (aliases, key) = (
        [alias("both", "qwen,llama")],
        ModelKey::parse("both").unwrap(),
    );
    let ask = Ask {
        wanted: Wanted::new("both", &key, &aliases),
        ..ask(&key, &[])
    };
    let explanation = explain(
        &ask,
        &herd.fleet.view(),
        Balancer::Adaptive,
        0,
        Instant::now(),
    );
    let words: Vec<&str> = explanation
        .judged
        .iter()
        .map(|it| it.verdict.word())
        .collect();
    assert_eq!(words, ["weighed", "less_suitable", "full"]);
}

#[test]
fn a_header_holds_nothing_but_visible_ascii() {
    let herd = herd("a up 0/4 llama");
    let route = Route {
        reason: Reason::Cold,
        cost: Some(Cost {
            load_s: 0.2,
            ..Cost::default()
        }),
        ..routed(&herd)
    };
    let told = |name: &str| route.told(None, || Some(name.into())).into_owned();
    assert_eq!(
        told("qwen3:32b"),
        "cold; loads in about 1 s, qwen3:32b makes room"
    );
    assert_eq!(
        told("q\r\nx: é y"),
        "cold; loads in about 1 s, q??x:???y makes room"
    );
    assert!(told(&"x".repeat(5000)).len() < 120);
    assert!(matches!(
        routed(&herd).told(None, || unreachable!()),
        std::borrow::Cow::Borrowed("warm")
    ));
    let unset = Route {
        num_ctx: Some(NumCtx::Unset),
        ..routed(&herd)
    };
    assert_eq!(
        unset.told(Some(2048), || None),
        "warm; num_ctx of the loaded model instead of 2048"
    );
}

fn routed(herd: &Herd) -> Route {
    let model = ModelKey::parse("llama").unwrap();
    let route = super::route(
        &ask(&model, &[]),
        &herd.fleet.view(),
        Balancer::Adaptive,
        0,
        Instant::now(),
    );
    Route {
        reason: Reason::Warm,
        cost: None,
        ..route.unwrap()
    }
}

proptest! {
    #[test]
    fn an_explanation_explains_what_is_decided(
        nodes in prop::collection::vec(any_node(), 1..6),
        tried in prop::collection::vec(0_usize..6, 0..3),
        balancer in prop::sample::select(BALANCERS.to_vec()),
        session in any_session(),
        fallback in prop::sample::select(vec![Fallback::None, Fallback::All]),
        images: bool,
        seed: u64,
    ) {
        let lines: Vec<String> = nodes.iter().enumerate().map(|(at, node)| format!("n{at} {node}")).collect();
        let herd = herd(&lines.join("\n"));
        let (view, now) = (herd.fleet.view(), Instant::now());
        let tried: Vec<NodeId> = tried.into_iter().map(NodeId).collect();
        let model = ModelKey::parse("llama").unwrap();
        let needs = Needs { images, prompt_tokens: 500, ..Needs::default() };
        let ask = Ask { session, fallback, needs, ..ask(&model, &tried) };
        let explanation = explain(&ask, &view, balancer.1, seed, now);
        prop_assert_eq!(&explanation.decision, &super::route(&ask, &view, balancer.1, seed, now));
        let ids = |nodes: &mut dyn Iterator<Item = NodeId>| nodes.collect::<Vec<_>>();
        prop_assert_eq!(ids(&mut explanation.judged.iter().map(|it| it.node)), ids(&mut view.nodes.iter().map(|it| it.id)));
        let costs = explanation.judged.iter().filter_map(|it| match &it.verdict {
            Verdict::Weighed { effort, .. } => Some((it.node, effort.cost)),
            _ => None,
        });
        let costs: Vec<(NodeId, Cost)> = costs.collect();
        let could = |it: &Judged| matches!(it.verdict, Verdict::Weighed { .. } | Verdict::Fit | Verdict::MayHave);
        match &explanation.decision {
            Ok(route) => {
                prop_assert!(explanation.judged.iter().any(|it| it.node == route.node && could(it)));
                let is_pinned = session.is_some_and(|it| it.pinned);
                if let Some(cost) = route.cost.filter(|_| !is_pinned) {
                    let least = costs.iter().map(|(_, cost)| cost.total_s()).fold(f32::MAX, f32::min);
                    prop_assert!(cost.is_near(least));
                    prop_assert!(costs.contains(&(route.node, cost)));
                }
            }
            // Somebody could have it, but waiting is better.
            Err(NoRoute::Full(_)) => prop_assert!(!explanation.judged.iter().any(|it| it.verdict == Verdict::Fit)),
            Err(NoRoute::Refused(_)) => prop_assert!(!explanation.judged.iter().any(could)),
        }
    }
}
