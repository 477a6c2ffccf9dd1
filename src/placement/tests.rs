//! When a further copy is loaded, and where.

mod laws;
mod pins;

use std::time::Instant;

use super::*;
use crate::config::Pinned;
use crate::fleet::fixture::{Herd, herd, loaded};
use crate::fleet::{Observation, Room, RunnerKey};

fn key(name: &str) -> ModelKey {
    ModelKey::parse(name).unwrap()
}

fn rules() -> Placement {
    Placement {
        preload: true,
        queue_depth: 8,
        sustained: Duration::from_secs(5),
        hold: Duration::from_secs(30),
        copies_max: 2,
        pinned: Vec::new(),
    }
}

fn pinning(name: &str, nodes: &[&str], copies: usize) -> Placement {
    Placement {
        preload: false,
        pinned: vec![Pinned {
            name: name.to_owned(),
            model: key(name),
            nodes: nodes.iter().map(|node| (*node).to_owned()).collect(),
            copies,
        }],
        ..rules()
    }
}

fn demand(models: &[&str], waiting: u32) -> Demand {
    Demand {
        models: models.iter().map(|name| key(name)).collect(),
        runner: RunnerOptions::default(),
        embeds: false,
        mount: Mount::All,
        waiting,
    }
}

fn look(
    planner: &mut Planner,
    herd: &Herd,
    rules: &Placement,
    demands: &[Demand],
    s: u64,
) -> Vec<Action> {
    planner.plan(&Now {
        view: &herd.fleet.view(),
        demands,
        rules,
        aliases: &[],
        uptime: Duration::from_secs(s),
    })
}

fn named(herd: &Herd, action: &Action) -> String {
    let view = herd.fleet.view();
    let node = &view.node(action.target.node).unwrap().config.name;
    format!("{} {} {node}", action.deed.word(), action.target.spelled)
}

fn told(herd: &Herd, actions: &[Action]) -> Vec<String> {
    actions.iter().map(|action| named(herd, action)).collect()
}

/// The node holds these models now.
fn holds(herd: &Herd, node: usize, models: &[&str]) {
    let seen = Observation::Loaded(loaded(models));
    herd.fleet.observe(NodeId(node), seen, Instant::now());
}

/// Somebody used a model at that second of uptime.
fn use_at(herd: &Herd, node: usize, model: &str, s: u64) {
    let lease = herd.seat(NodeId(node), model);
    lease.asks(RunnerKey::default(), Duration::from_secs(s));
}

/// Where another copy of llama goes when ten wait for it from second 0 on, and it is looked at second 5.
fn site(herd: &Herd, rules: &Placement, more: &[Demand]) -> Vec<String> {
    let mut demands = vec![demand(&["llama"], 10)];
    demands.extend_from_slice(more);
    let mut planner = Planner::default();
    let first = look(&mut planner, herd, rules, &demands, 0);
    assert_eq!(told(herd, &first), Vec::<String>::new());
    let second = look(&mut planner, herd, rules, &demands, 5);
    told(herd, &second)
}

#[test]
fn a_copy_is_loaded_when_enough_have_waited_for_long_enough_without_a_break() {
    let herd = herd("a up 1/1 llama^1*\nb up 0/1 llama");
    // What the line is at each second, and when the copy is loaded.
    type Line = &'static [(u64, u32)];
    let cases: [(Line, Option<u64>); 5] = [
        (&[(0, 8), (4, 8), (5, 9), (6, 9)], Some(5)),
        (&[(0, 7), (5, 7), (60, 7)], None),
        (&[(0, 8), (3, 7), (4, 8), (8, 8), (9, 8)], Some(9)),
        (&[(0, 8), (4, 0), (5, 8)], None),
        (&[(0, 8), (100, 8)], Some(100)),
    ];
    for (line, expected) in cases {
        let mut planner = Planner::default();
        let mut found = None;
        for (s, waiting) in line {
            let demands = [demand(&["llama"], *waiting)];
            let actions = look(&mut planner, &herd, &rules(), &demands, *s);
            if let [action] = &actions[..] {
                assert_eq!(named(&herd, action), "preload llama b");
                let since = line.iter().rev().find(|(_, it)| *it < 8);
                let began = since.map_or(0, |(at, _)| at + 1);
                let waited = Duration::from_secs(s - began);
                assert_eq!(
                    action.deed,
                    Deed::Load {
                        waiting: *waiting,
                        waited
                    }
                );
                assert_eq!(found.replace(*s), None, "once within `hold`");
            }
        }
        assert_eq!(found, expected, "{line:?}");
    }
}

#[test]
fn those_who_wait_for_the_same_count_together() {
    let herd = herd("a up 1/1 llama^1*\nb up 0/1 llama");
    let wide = Demand {
        runner: RunnerOptions {
            num_ctx: Some(8192),
            ..RunnerOptions::default()
        },
        ..demand(&["llama"], 4)
    };
    let cases: [(Vec<Demand>, usize); 4] = [
        (vec![demand(&["llama"], 4), demand(&["llama"], 4)], 1),
        // An alias counts for the first of its targets that there is.
        (vec![demand(&["llama"], 4), demand(&["phi", "llama"], 4)], 1),
        (vec![demand(&["llama"], 4), wide], 0),
        (vec![demand(&["phi"], 10)], 0),
    ];
    for (demands, count) in cases {
        let mut planner = Planner::default();
        look(&mut planner, &herd, &rules(), &demands, 0);
        let actions = look(&mut planner, &herd, &rules(), &demands, 5);
        assert_eq!(actions.len(), count, "{demands:?}");
    }
}

#[test]
fn a_copy_goes_where_it_does_least_harm() {
    let cases = [
        // An empty node before one of which nobody knows whether it has room.
        ("b up 0/1 llama qwen*\nc up 0/1 llama", Some("c")),
        ("b up 0/1 llama qwen*", Some("b")),
        ("b up 0/1 qwen", None),
        ("b draining 0/1 llama", None),
        ("b down 0/1 llama", None),
        ("b unknown 0/1 llama", None),
        ("b up 0/1 p50 llama", None),
        ("b up 0/1 p50 llama\nc up 0/1 llama", Some("c")),
        ("b up 0/1 p150 llama\nc up 0/1 llama", Some("b")),
        ("b up 0/1 llama!", None),
        // A full node is just the one that no request could prepare.
        ("b up 1/1 llama", Some("b")),
        ("b up 1/1 llama qwen^1*", None),
        // Two copies are enough.
        ("b up 0/1 llama*\nc up 0/1 llama", None),
    ];
    for (others, expected) in cases {
        let herd = herd(&format!("a up 1/1 llama^1*\n{others}"));
        let expected: Vec<String> = expected
            .map(|node| format!("preload llama {node}"))
            .into_iter()
            .collect();
        assert_eq!(site(&herd, &rules(), &[]), expected, "{others}");
        let off = Placement {
            preload: false,
            ..rules()
        };
        assert!(site(&herd, &off, &[]).is_empty());
    }
    let cold = herd("a up 1/1 llama\nb up 0/1 llama");
    assert!(
        site(&cold, &rules(), &[]).is_empty(),
        "the first copy is loaded by those who wait"
    );
}

#[test]
fn nothing_leaves_for_a_copy_that_somebody_would_miss() {
    let fleet = |others: &str| herd(&format!("a up 1/1 llama^1*\n{others}"));
    let none = Vec::<String>::new();
    let used = fleet("b up 0/1 llama qwen*");
    use_at(&used, 1, "qwen", 1);
    assert_eq!(site(&used, &rules(), &[]), none, "its last copy");

    let spare = fleet("b up 0/1 llama qwen*\nc up 0/1 qwen*");
    use_at(&spare, 1, "qwen", 1);
    assert_eq!(site(&spare, &rules(), &[]), ["preload llama b"]);
    let awaited = [demand(&["qwen"], 1)];
    assert_eq!(site(&spare, &rules(), &awaited), none, "somebody waits");

    // The one that is missed less goes, as long as both can be spared.
    let two = fleet("b up 0/1 llama qwen*\nc up 0/1 llama phi*\nd up 0/1 qwen* phi*");
    for s in 1..4 {
        use_at(&two, 1, "qwen", s);
    }
    use_at(&two, 2, "phi", 4);
    assert_eq!(site(&two, &rules(), &[]), ["preload llama c"]);

    let pinned = fleet("b up 0/1 llama qwen*");
    let pins = Placement {
        preload: true,
        ..pinning("qwen", &["b"], 1)
    };
    let mut planner = Planner::default();
    let demands = [demand(&["llama"], 10)];
    let first = look(&mut planner, &pinned, &pins, &demands, 0);
    assert_eq!(told(&pinned, &first), ["pin qwen b"]);
    for s in [1, 6] {
        assert_eq!(look(&mut planner, &pinned, &pins, &demands, s), []);
    }
}

#[test]
fn a_node_that_loads_or_is_seen_to_have_room() {
    let loading = herd("a up 1/1 llama^1*\nb up 0/2 llama qwen");
    let lease = loading.seat(NodeId(1), "qwen");
    let load = lease.loading(Duration::ZERO);
    assert!(site(&loading, &rules(), &[]).is_empty());
    drop(load);
    assert_eq!(site(&loading, &rules(), &[]), ["preload llama b"]);

    // In use, and so the last to be asked to go; but there is room for two.
    let roomy = herd("a up 1/1 llama^1*\nb up 1/1 llama phi* qwen^1*");
    holds(&roomy, 1, &["qwen*"]);
    assert_eq!(
        roomy.fleet.view().nodes[1].room(0),
        Room::Fits,
        "it held two"
    );
    assert_eq!(site(&roomy, &rules(), &[]), ["preload llama b"]);
}

#[test]
fn after_a_decision_the_model_and_the_node_rest() {
    let herd = herd(
        "a up 1/1 llama^1* qwen*\nb up 0/1 llama qwen\nc up 0/1 llama qwen\nd up 0/1 p50 llama",
    );
    let rules = Placement {
        copies_max: 9,
        ..rules()
    };
    let demands = [demand(&["llama"], 12), demand(&["qwen"], 10)];
    let mut planner = Planner::default();
    let mut done = Vec::new();
    for s in 0..70 {
        let actions = look(&mut planner, &herd, &rules, &demands, s);
        done.extend(told(&herd, &actions).into_iter().map(|it| (s, it)));
    }
    let seconds: Vec<u64> = done.iter().map(|(s, _)| *s).collect();
    assert_eq!(seconds, [5, 5, 35, 35, 65, 65], "{done:?}");
    for pair in done.chunks(2) {
        let last = |at: usize| pair[at].1.rsplit(' ').next().map(str::to_owned);
        assert_ne!(last(0), last(1), "not both on one node");
    }
}

#[test]
fn of_two_copies_one_may_leave_at_a_time() {
    let herd = herd("a up 2/2 llama^1* phi^1*\nb up 0/1 llama phi qwen*\nc up 0/1 llama phi qwen*");
    use_at(&herd, 1, "qwen", 1);
    let demands = [demand(&["llama"], 10), demand(&["phi"], 9)];
    let mut planner = Planner::default();
    let mut count = 0;
    for s in 0..30 {
        count += look(&mut planner, &herd, &rules(), &demands, s).len();
    }
    assert_eq!(count, 1, "the other copy of qwen is the last one by now");
}
