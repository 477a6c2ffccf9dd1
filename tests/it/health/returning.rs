//! A node that comes back is not flooded by everybody who waited for it.

use arriero::demo::Outcome;

use super::*;
use crate::support::Raw;
use crate::support::herd::starting;

/// Requests that are with the node, and those that it has answered.
fn under_way(node: &demo::Node, earlier: usize) -> (usize, usize) {
    let seen = node
        .seen()
        .into_iter()
        .filter(|seen| seen.path == "/api/chat");
    let outcomes: Vec<Outcome> = seen.skip(earlier).map(|seen| seen.outcome).collect();
    let count = |wanted| outcomes.iter().filter(|is| **is == wanted).count();
    (count(Outcome::Running), count(Outcome::Finished))
}

async fn chats(herd: &Herd, count: usize) -> Vec<Raw> {
    let mut begun = Vec::new();
    for _ in 0..count {
        begun.push(herd.begin("/api/chat", CHAT).await);
    }
    begun
}

#[tokio::test]
async fn a_node_that_comes_back_gets_one_request_more_with_every_success() {
    let nodes = vec![
        (llama().slots(100), "priority: 200\nslots: 100"),
        (llama().slots(100), "slots: 1"),
    ];
    let herd = starting(nodes, "", |_, config| {
        // A calm time would prove the node too, and nobody knows how long this test takes.
        config.health.eject_max = Duration::from_secs(3600);
    })
    .await;
    herd.settled().await;
    // One that has never been away gets all at once.
    herd.nodes[0].pause_after(1);
    let mut waiting = chats(&herd, 12).await;
    within(
        "12 at once",
        herd.nodes[0].until(|node| node.paused() == 12),
    )
    .await;
    herd.nodes[0].resume();
    for raw in &mut waiting {
        raw.reply().await.is(200);
    }

    herd.nodes[0].kill();
    until_state(&herd, 0, State::Offline).await;
    for node in &herd.nodes {
        node.pause_after(1);
    }
    let mut waiting = chats(&herd, 40).await;
    herd.until_metric("arriero_queue_depth", |depth| depth == 39.0)
        .await;
    herd.nodes[0].revive().await.expect("the port is free");
    within(
        "its first request",
        herd.nodes[0].until(|node| node.paused() == 1),
    )
    .await;
    assert_eq!(herd.metric("arriero_queue_depth").await, 38.0);
    assert_eq!(state(&herd, 0), State::Healthy);
    let with_it = herd.gateway.gateway.fleet().view().nodes[0].in_flight();
    assert_eq!(with_it, 1, "the others wait rather than flood it");

    let answered_all = |node: &demo::Node| {
        let (running, answered) = under_way(node, 12);
        assert!(
            running <= 1 + answered,
            "{running} after {answered} answers"
        );
        answered == 39
    };
    herd.nodes[0].resume();
    within("all that waited", herd.nodes[0].until(answered_all)).await;
    herd.nodes[1].resume();
    for raw in &mut waiting {
        raw.reply().await.is(200);
    }
    herd.is_idle().await;
    let slots = herd.gateway.gateway.fleet().view().nodes[0].slots();
    assert_eq!(slots, Some(100), "it is proven");
}
