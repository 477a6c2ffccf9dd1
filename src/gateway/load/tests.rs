//! Who joins a load, and when one is given up.

use super::*;
use crate::routing::Reason;

fn key(model: &str, num_ctx: i64) -> Key {
    let num_ctx = Some(num_ctx);
    Key {
        node: NodeId(0),
        model: model.into(),
        options: RunnerOptions {
            num_ctx,
            ..RunnerOptions::default()
        },
    }
}

/// A load under way, and who began it.
fn begun(loads: &Loads, key: &Key) -> (Arc<Job>, Awaited) {
    let mut begun = None;
    let awaited = loads.join(key, |job| begun = Some(job));
    (begun.expect("there was none"), awaited)
}

#[test]
fn the_same_is_joined_as_long_as_it_lives() {
    let loads = Loads::default();
    let (job, first) = begun(&loads, &key("a", 1));
    let second = loads.join(&key("a", 1), |_| panic!("there is one"));
    assert!(!loads.give_up(&key("a", 1), &job, false));
    drop(first);
    assert!(!loads.give_up(&key("a", 1), &job, false));
    drop(second);
    assert!(loads.give_up(&key("a", 1), &job, false));
    begun(&loads, &key("a", 1));
    // A task that broke off leaves nothing that could be joined.
    begun(&loads, &key("a", 1));
}

#[test]
fn who_was_placed_keeps_what_is_under_way_there_until_it_has_decided() {
    let loads = Loads::default();
    let (job, _) = begun(&loads, &key("a", 1));
    let route = |node, model: &str, warm| Route {
        node: NodeId(node),
        spelled: Some(model.into()),
        is_renamed: false,
        place: Some(0),
        warm,
        traits: None,
        reason: Reason::Only,
        joins: false,
        num_ctx: None,
        cost: None,
        evicts: None,
    };
    for (route, kept) in [
        (route(0, "a", false), 1),
        (route(0, "a", true), 0),
        (route(1, "a", false), 0),
        (route(0, "b", false), 0),
    ] {
        let under_way = loads.under_way(&route);
        assert_eq!((under_way.len(), job.end.receiver_count()), (kept, kept));
    }
}

#[test]
fn the_queue_keeps_one_load_of_a_model_and_no_more() {
    let loads = Loads::default();
    let (narrow, wide, other) = (key("a", 1), key("a", 2), key("b", 2));
    let (first, _) = begun(&loads, &narrow);
    let (_other, _) = begun(&loads, &other);
    assert!(!loads.give_up(&narrow, &first, true));
    let (second, _) = begun(&loads, &wide);
    assert!(loads.give_up(&narrow, &first, true));
    assert!(!loads.give_up(&wide, &second, true));
    let (third, _) = begun(&loads, &narrow);
    third.end.send_replace(Some(End::Loaded));
    assert!(!loads.give_up(&wide, &second, true), "that one is over");
}

#[tokio::test]
async fn a_task_that_broke_off_is_told() {
    let loads = Loads::default();
    let (job, awaited) = begun(&loads, &key("a", 1));
    drop(job);
    let failed = awaited.end(Dialect::Ollama).await.expect_err("no end");
    assert_eq!(failed.fault.kind, Kind::Internal);
}
