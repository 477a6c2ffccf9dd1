//! Hedged embeddings over real sockets: who is asked twice, who wins, what the loser is told and what it costs.

use arriero::demo::{self, Outcome};
use arriero::fleet::Health;

use crate::support::client::Reply;
use crate::support::herd::herd_of;
use crate::support::{Herd, Raw, within};

const HEDGED: &str = "proxy: { hedge: { embeddings: true, delay: 20ms } }";
const EMBED: &str = r#"{"model":"nomic","input":"hi"}"#;

fn embedder() -> demo::NodeBuilder {
    let node = demo::Node::builder().embedder("nomic").loaded("nomic");
    node.loaded("llama3").tokens(2).slots(8)
}

/// So many nodes, of which an earlier one is asked before a later one; all keep embeddings until they are told to go on.
async fn stuck(count: usize, yaml: &str) -> Herd {
    let keys = ["priority: 300", "priority: 200", "priority: 100"];
    let nodes = keys.into_iter().take(count);
    let herd = herd_of(nodes.map(|keys| (embedder(), keys)).collect(), yaml).await;
    herd.nodes.iter().for_each(|node| node.pause_after(0));
    herd
}

/// Begins an embedding and waits until the first two nodes have it.
async fn asked_of_two(herd: &Herd) -> Raw {
    let raw = herd.begin("/api/embed", EMBED).await;
    for node in &herd.nodes[..2] {
        within("both are asked", node.until(|node| node.paused() == 1)).await;
    }
    raw
}

async fn hedges(herd: &Herd, outcome: &str) -> f64 {
    let series = format!("arriero_hedges_total{{outcome=\"{outcome}\"}}");
    herd.metric(&series).await
}

/// Waits until a node was told to stop with the last request it got.
async fn is_told_to_stop(herd: &Herd, node: usize) {
    let is_cancelled = |node: &demo::Node| {
        let mut seen = node.seen().into_iter().rev();
        let last = seen.find(|seen| seen.method == "POST");
        last.is_some_and(|seen| seen.outcome == Outcome::Cancelled)
    };
    within("the loser's end", herd.nodes[node].until(is_cancelled)).await;
}

async fn has_no_fault(herd: &Herd, node: usize) {
    let view = herd.gateway.gateway.fleet().view();
    assert_eq!(view.nodes[node].health, Health::Up);
    assert!(herd.gateway.gateway.fleet().is_steady(view.nodes[node].id));
    let text = herd.admin("/metrics").await.text();
    let blamed = format!("node=\"gpu-{node}\"");
    let mut errors = text
        .lines()
        .filter(|line| line.starts_with("arriero_upstream_errors_total"));
    assert!(!errors.any(|line| line.contains(&blamed)), "{text}");
}

fn is_from(reply: &Reply, node: &str, attempts: &str) {
    assert_eq!(reply.header("x-arriero-node"), Some(node));
    assert_eq!(reply.header("x-arriero-attempts"), Some(attempts));
}

#[tokio::test]
async fn a_slow_embedding_is_answered_by_a_second_node() {
    let herd = stuck(2, HEDGED).await;
    herd.nodes[1].resume();
    for (path, body) in [
        ("/api/embed", EMBED),
        ("/api/embeddings", r#"{"model":"nomic","prompt":"hi"}"#),
        ("/v1/embeddings", EMBED),
    ] {
        let reply = herd.post(path, body).await.is(200);
        is_from(&reply, "gpu-1", "2");
        is_told_to_stop(&herd, 0).await;
    }
    herd.is_idle().await;
    assert_eq!(hedges(&herd, "won").await, 3.0);
    has_no_fault(&herd, 0).await;
}

#[tokio::test]
async fn whoever_answers_first_wins_and_the_other_is_told_to_stop() {
    let herd = stuck(2, HEDGED).await;
    let mut raw = asked_of_two(&herd).await;
    herd.nodes[0].resume();
    let reply = raw.reply().await.is(200);
    is_from(&reply, "gpu-0", "2");
    is_told_to_stop(&herd, 1).await;
    herd.is_idle().await;
    assert_eq!(hedges(&herd, "lost").await, 1.0);
    has_no_fault(&herd, 1).await;
}

#[tokio::test]
async fn a_client_that_leaves_stops_both_nodes() {
    let herd = stuck(2, HEDGED).await;
    drop(asked_of_two(&herd).await);
    for node in 0..2 {
        is_told_to_stop(&herd, node).await;
    }
    herd.is_idle().await;
    for node in 0..2 {
        has_no_fault(&herd, node).await;
    }
}

#[tokio::test]
async fn one_of_two_may_fail_and_then_both() {
    for (dies, answers, outcome) in [(0, 1, "won"), (1, 0, "lost")] {
        let herd = stuck(2, HEDGED).await;
        let mut raw = asked_of_two(&herd).await;
        herd.nodes[dies].kill();
        let errors =
            format!("arriero_upstream_errors_total{{kind=\"broke_off\",node=\"gpu-{dies}\"}}");
        herd.until_metric(&errors, |count| count == 1.0).await;
        herd.nodes[answers].resume();
        let reply = raw.reply().await.is(200);
        is_from(&reply, &format!("gpu-{answers}"), "2");
        assert_eq!(hedges(&herd, outcome).await, 1.0);
        herd.is_idle().await;
    }
    let herd = stuck(3, HEDGED).await;
    herd.nodes[2].resume();
    let mut raw = asked_of_two(&herd).await;
    herd.nodes[..2].iter().for_each(demo::Node::kill);
    let reply = raw.reply().await.is(200);
    is_from(&reply, "gpu-2", "3");
    assert_eq!(hedges(&herd, "lost").await, 1.0);
    herd.is_idle().await;
}

/// The last embedding is not hedged: it is answered by gpu-0 alone once that goes on.
async fn is_refused(herd: &Herd) {
    let mut raw = herd.begin("/api/embed", EMBED).await;
    herd.until_metric("arriero_hedges_total{outcome=\"refused\"}", |count| {
        count == 1.0
    })
    .await;
    herd.nodes[0].resume();
    is_from(&raw.reply().await.is(200), "gpu-0", "1");
    herd.is_idle().await;
}

#[tokio::test]
async fn hedges_have_a_budget() {
    let yaml = "proxy: { hedge: { embeddings: true, delay: 10ms, budget_percent: 0 } }";
    let herd = stuck(2, yaml).await;
    herd.nodes[1].resume();
    for _ in 0..10 {
        is_from(&herd.post("/api/embed", EMBED).await.is(200), "gpu-1", "2");
    }
    is_refused(&herd).await;
    assert_eq!(herd.served(1).len(), 10);
}

#[tokio::test]
async fn no_second_node_loads_a_model_or_goes_beyond_its_slots_for_a_hedge() {
    let cold = demo::Node::builder().embedder("nomic").slots(8);
    let herd = herd_of(vec![(embedder(), ""), (cold, "")], HEDGED).await;
    herd.nodes[0].pause_after(0);
    is_refused(&herd).await;
    assert_eq!((herd.served(1).len(), herd.nodes[1].loads()), (0, 0));

    let nodes = vec![(embedder(), "priority: 200"), (embedder(), "slots: 1")];
    let herd = herd_of(nodes, HEDGED).await;
    herd.nodes.iter().for_each(|node| node.pause_after(0));
    let mut hedged = asked_of_two(&herd).await;
    is_refused(&herd).await;
    hedged.reply().await.is(200);
    herd.is_idle().await;
    assert_eq!(herd.served(1).len(), 1);
}

#[tokio::test]
async fn nothing_but_embeddings_is_hedged_and_those_only_where_it_is_switched_on() {
    let herd = stuck(2, HEDGED).await;
    let chat = r#"{"model":"llama3","messages":[{"role":"user","content":"hi"}]}"#;
    let mut chat = herd.begin("/api/chat", chat).await;
    herd.nodes[0].until(|node| node.paused() == 1).await;
    herd.nodes[1].resume();
    // This one came later and has been hedged meanwhile.
    is_from(&herd.post("/api/embed", EMBED).await.is(200), "gpu-1", "2");
    herd.nodes[0].resume();
    is_from(&chat.reply().await.is(200), "gpu-0", "1");

    let off = stuck(2, "proxy: { hedge: { delay: 1ms } }").await;
    let mut raw = off.begin("/api/embed", EMBED).await;
    off.nodes[0].until(|node| node.paused() == 1).await;
    off.nodes[0].resume();
    is_from(&raw.reply().await.is(200), "gpu-0", "1");
    assert_eq!(off.served(1).len(), 0);
}
