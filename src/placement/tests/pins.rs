//! What is pinned where, and when no longer.

use super::*;

#[test]
fn a_pinned_model_is_asked_for_when_it_is_not_there_and_not_all_the_time() {
    let herd = herd("a up 0/1 llama\nb up 0/1 llama qwen*");
    let rules = pinning("llama", &["a"], 1);
    let mut planner = Planner::default();
    let first = look(&mut planner, &herd, &rules, &[], 0);
    assert_eq!(told(&herd, &first), ["pin llama a"]);
    assert_eq!(first[0].deed, Deed::Pin { is_loaded: false });
    assert_eq!(look(&mut planner, &herd, &rules, &[], 40), [], "under way");
    planner.ended(&first[0], true);
    holds(&herd, 0, &["llama*"]);
    assert_eq!(look(&mut planner, &herd, &rules, &[], 41), []);
    // It left: not before `hold` is over.
    holds(&herd, 0, &[]);
    assert_eq!(look(&mut planner, &herd, &rules, &[], 29), []);
    let again = look(&mut planner, &herd, &rules, &[], 42);
    assert_eq!(told(&herd, &again), ["pin llama a"]);
    planner.ended(&again[0], false);
    assert_eq!(look(&mut planner, &herd, &rules, &[], 71), []);
    let retried = look(&mut planner, &herd, &rules, &[], 72);
    assert_eq!(told(&herd, &retried), ["pin llama a"]);
    planner.ended(&retried[0], true);
    holds(&herd, 0, &["llama*"]);
    // A node that was away may have been restarted.
    let broken = || Observation::Probe(Err("gone".to_owned()));
    (0..2).for_each(|_| herd.fleet.observe(NodeId(0), broken(), Instant::now()));
    assert_eq!(look(&mut planner, &herd, &rules, &[], 73), []);
    let probe = Observation::Probe(Ok(()));
    herd.fleet.observe(NodeId(0), probe, Instant::now());
    let back = look(&mut planner, &herd, &rules, &[], 74);
    assert_eq!(told(&herd, &back), ["pin llama a"]);
}

#[test]
fn a_pin_that_is_taken_out_ends_once() {
    let herd = herd("a up 0/1 llama*\nb up 0/1 qwen");
    let mut planner = Planner::default();
    let first = look(&mut planner, &herd, &pinning("llama", &[], 1), &[], 0);
    assert_eq!(first[0].deed, Deed::Pin { is_loaded: true });
    let off = Placement {
        preload: false,
        ..rules()
    };
    assert_eq!(look(&mut planner, &herd, &off, &[], 1), [], "under way");
    planner.ended(&first[0], true);
    let last = look(&mut planner, &herd, &off, &[], 2);
    assert_eq!(told(&herd, &last), ["unpin llama a"]);
    assert!(!planner.is_idle());
    assert_eq!(look(&mut planner, &herd, &off, &[], 3), []);
    planner.ended(&last[0], false);
    assert!(planner.is_idle());
    assert_eq!(look(&mut planner, &herd, &off, &[], 60), []);
    // What is not in memory needs no word.
    let cold = pinning("qwen", &[], 1);
    let pinned = look(&mut planner, &herd, &cold, &[], 61);
    planner.ended(&pinned[0], true);
    assert_eq!(look(&mut planner, &herd, &off, &[], 100), []);
    assert!(planner.is_idle());
}

#[test]
fn copies_of_a_pinned_model_stay_where_they_are_and_move_when_their_node_fails() {
    let text = "a up 0/1 llama qwen*\nb up 0/1 llama*\nc up 0/1 p200 llama";
    for (nodes, copies, expected) in [
        (&[][..], 1, &["pin llama b"][..]),
        (&[], 2, &["pin llama b", "pin llama c"]),
        (&["a", "c"], 1, &["pin llama c"]),
        (&["a", "c"], 2, &["pin llama c", "pin llama a"]),
        (&["elsewhere"], 1, &[]),
        (&[], 9, &["pin llama b", "pin llama c", "pin llama a"]),
    ] {
        let herd = herd(text);
        let rules = pinning("llama", nodes, copies);
        let mut planner = Planner::default();
        let actions = look(&mut planner, &herd, &rules, &[], 0);
        assert_eq!(told(&herd, &actions), expected, "{nodes:?} {copies}");
    }
    let herd = herd(text);
    let rules = pinning("llama", &[], 1);
    let mut planner = Planner::default();
    let first = look(&mut planner, &herd, &rules, &[], 0);
    planner.ended(&first[0], false);
    let next = look(&mut planner, &herd, &rules, &[], 1);
    assert_eq!(told(&herd, &next), ["pin llama c"]);
    planner.ended(&next[0], true);
    holds(&herd, 2, &["llama*"]);
    // It stays there although the other could do it again.
    assert_eq!(look(&mut planner, &herd, &rules, &[], 60), []);
}

#[test]
fn a_pin_takes_the_runner_that_there_is() {
    let herd = herd("a up 0/1 llama* nomic=embedding");
    let started = |num_ctx, num_batch| {
        let options = RunnerOptions {
            num_ctx,
            num_batch,
            ..RunnerOptions::default()
        };
        let lease = herd.seat(NodeId(0), "llama");
        lease.asks(RunnerKey::of(&options), Duration::ZERO);
    };
    let rules = pinning("llama", &[], 1);
    started(Some(8192), None);
    let pin = look(&mut Planner::default(), &herd, &rules, &[], 9).remove(0);
    assert_eq!(pin.runner.num_ctx, Some(8192));
    assert!(!pin.embeds);
    started(None, Some(64));
    assert_eq!(
        look(&mut Planner::default(), &herd, &rules, &[], 9),
        [],
        "nobody can say it again"
    );
    let vectors = pinning("nomic", &[], 1);
    assert!(look(&mut Planner::default(), &herd, &vectors, &[], 9)[0].embeds);
}
