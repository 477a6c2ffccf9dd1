//! What never happens, whatever comes.

use proptest::prelude::*;

use super::*;

/// A fleet that does what it is told, and makes room as it likes.
#[derive(Debug, Clone)]
struct Step {
    seconds: u64,
    waiting: [u32; 4],
    used: usize,
    victim: usize,
}

const MODELS: [&str; 4] = ["alpha", "beta", "gamma", "delta"];
const NODES: usize = 4;
/// Models that a node of this fleet holds.
const HELD_MAX: usize = 2;

fn step() -> impl Strategy<Value = Step> {
    let waiting = prop::array::uniform4(prop_oneof![Just(0), Just(8), 0..20u32]);
    let counts = (0..16usize, 0..16usize);
    (1..12u64, waiting, counts).prop_map(|(seconds, waiting, (used, victim))| Step {
        seconds,
        waiting,
        used,
        victim,
    })
}

/// Models in a node's memory.
fn memory(herd: &Herd, node: usize) -> Vec<&'static str> {
    let view = herd.fleet.view();
    let is_in = |model: &&str| {
        let holders = view.holders(&key(model)).unwrap().iter();
        holders.clone().any(|it| it.at == node && it.warm)
    };
    MODELS.into_iter().filter(is_in).collect()
}

fn put(herd: &Herd, node: usize, models: &[&str]) {
    let words: Vec<String> = models.iter().map(|model| format!("{model}*")).collect();
    holds(
        herd,
        node,
        &words.iter().map(String::as_str).collect::<Vec<_>>(),
    );
}

proptest! {
    #[test]
    fn what_is_loaded_ahead_harms_nobody(
        held in prop::collection::vec(prop::collection::vec(0..4usize, 0..=HELD_MAX), NODES),
        steps in prop::collection::vec(step(), 1..40),
        on in prop::bool::weighted(0.9),
    ) {
        let lines: Vec<String> = (0..NODES).map(|at| format!("n{at} up 0/4 alpha beta gamma delta")).collect();
        let herd = herd(&lines.join("\n"));
        for (node, models) in held.iter().enumerate() {
            put(&herd, node, &models.iter().map(|at| MODELS[*at]).collect::<Vec<_>>());
        }
        let mut rules = Placement { preload: on, copies_max: 3, ..pinning("alpha", &["n0"], 1) };
        rules.pinned.extend(pinning("beta", &["n0"], 1).pinned);
        let mut planner = Planner::default();
        let (mut s, mut decided) = (0, Vec::<(u64, Target)>::new());
        let mut used_at = [0; 4];
        for step in steps {
            s += step.seconds;
            let (node, model) = (step.used % NODES, step.used / NODES);
            use_at(&herd, node, MODELS[model], s);
            used_at[model] = s;
            let demands: Vec<Demand> = (0..4)
                .filter(|at| 0 < step.waiting[*at])
                .map(|at| demand(&[MODELS[at]], step.waiting[at]))
                .collect();
            for action in look(&mut planner, &herd, &rules, &demands, s) {
                planner.ended(&action, true);
                let Target { node, spelled, .. } = action.target.clone();
                let mut there = memory(&herd, node.0);
                if there.contains(&&*spelled) {
                    continue;
                }
                if let Deed::Load { .. } = action.deed {
                    prop_assert!(on);
                    let view = herd.fleet.view();
                    let holders = view.holders(&action.target.model).unwrap();
                    let copies = holders.iter().filter(|it| it.warm).count();
                    prop_assert!((1..3).contains(&copies));
                    for (at, past) in &decided {
                        let is_near = past.node == node || past.model == action.target.model;
                        prop_assert!(!is_near || 30 <= s - at, "{past:?} {action:?}");
                    }
                    decided.push((s, action.target.clone()));
                }
                let pinned = |model: &str| node == NodeId(0) && ["alpha", "beta"].contains(&model);
                if HELD_MAX <= there.len() {
                    let can_go: Vec<usize> = (0..there.len()).filter(|at| !pinned(there[*at])).collect();
                    prop_assert!(!can_go.is_empty(), "all that it holds is pinned");
                    let gone = there.remove(can_go[step.victim % can_go.len()]);
                    put(&herd, node.0, &there);
                    let at = MODELS.iter().position(|it| *it == gone).unwrap();
                    if let Deed::Load { .. } = action.deed {
                        let left = (0..NODES).any(|node| memory(&herd, node).contains(&gone));
                        let lately = 0 < used_at[at] && s - used_at[at] < 300;
                        prop_assert!(left || !lately, "the last {gone} left");
                        prop_assert_eq!(step.waiting[at], 0);
                    }
                }
                there.push(MODELS.into_iter().find(|it| **it == *spelled).unwrap());
                put(&herd, node.0, &there);
            }
        }
    }
}
