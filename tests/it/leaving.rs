//! A client that leaves (close, reset) while queueing, connecting, waiting or streaming frees the node within 100 ms.

use std::time::{Duration, Instant};

use arriero::demo::{self, Outcome};

use crate::support::client::full_listener;
use crate::support::herd::herd_of;
use crate::support::{Herd, Raw, herd, within};

const CHAT: &str = r#"{"model":"llama3","messages":[{"role":"user","content":"hi"}]}"#;
/// The promise. The figure is asserted because it is one; it is two orders of magnitude above what is measured.
const PROMISE: Duration = Duration::from_millis(100);

fn llama() -> demo::NodeBuilder {
    demo::Node::builder().loaded("llama3").tokens(50)
}

/// Ways to leave.
const WAYS: [fn(Raw); 2] = [drop::<Raw>, Raw::reset];

/// Runs `leave`, then measures how long the node holds on.
async fn freed_within_promise(herd: &Herd, what: &str, leave: impl FnOnce()) {
    let left = Instant::now();
    leave();
    within(
        what,
        herd.nodes[0].until(|node| node.generating() == 0 && node.waiting() == 0),
    )
    .await;
    let took = left.elapsed();
    assert!(took < PROMISE, "{what}: the node was freed after {took:?}");
    herd.is_idle().await;
}

#[tokio::test]
async fn while_streaming() {
    for (path, body) in [
        ("/api/chat", CHAT.to_owned()),
        (
            "/v1/chat/completions",
            CHAT.replace("\"model\"", "\"stream\":true,\"model\""),
        ),
        (
            "/v1/messages",
            CHAT.replace("\"model\"", "\"stream\":true,\"max_tokens\":50,\"model\""),
        ),
    ] {
        for leave in WAYS {
            let herd = herd(vec![llama()], "").await;
            herd.nodes[0].pause_after(2);
            let mut raw = herd.begin(path, &body).await;
            assert_eq!(raw.head().await.expect("a head").0, 200);
            raw.chunk().await.expect("a chunk");
            freed_within_promise(&herd, path, || leave(raw)).await;
            assert_eq!(herd.served(0)[0].outcome, Outcome::Cancelled);
            assert_eq!(
                herd.metric("arriero_client_aborts_total{phase=\"stream\"}")
                    .await,
                1.0
            );
            assert!(
                herd.gateway.gateway.fleet().view().nodes[0].health.is_up(),
                "the node is not to blame"
            );
        }
    }
}

#[tokio::test]
async fn while_waiting_for_the_first_byte() {
    for leave in WAYS {
        let herd = herd(vec![llama()], "").await;
        herd.nodes[0].pause_after(0);
        let raw = herd.begin("/api/chat", CHAT).await;
        herd.nodes[0].until(|node| node.generating() == 1).await;
        freed_within_promise(&herd, "waiting", || leave(raw)).await;
        assert_eq!(
            herd.metric("arriero_client_aborts_total{phase=\"wait\"}")
                .await,
            1.0
        );
    }
}

#[tokio::test]
async fn while_the_model_loads() {
    let node = demo::Node::builder()
        .model("llama3")
        .load_delay(Duration::from_secs(3600));
    let herd = herd(vec![node], "").await;
    let raw = herd.begin("/api/chat", CHAT).await;
    herd.nodes[0]
        .until(|node| !node.seen().iter().all(|seen| seen.method != "POST"))
        .await;
    freed_within_promise(&herd, "loading", || drop(raw)).await;
}

#[tokio::test]
async fn while_in_the_nodes_own_invisible_queue() {
    let herd = herd(vec![llama().slots(1)], "").await;
    herd.nodes[0].pause_after(1);
    let first = herd.begin("/api/chat", CHAT).await;
    herd.nodes[0].until(|node| node.generating() == 1).await;
    let second = herd.begin("/api/chat", CHAT).await;
    herd.nodes[0].until(|node| node.waiting() == 1).await;
    let left = Instant::now();
    drop(second);
    herd.nodes[0].until(|node| node.waiting() == 0).await;
    assert!(left.elapsed() < PROMISE);
    freed_within_promise(&herd, "the first", || drop(first)).await;
}

#[tokio::test]
async fn while_queueing_at_the_gateway() {
    for leave in WAYS {
        let herd = herd_of(vec![(llama(), "slots: 1")], "").await;
        herd.nodes[0].pause_after(1);
        let first = herd.begin("/api/chat", CHAT).await;
        herd.nodes[0].until(|node| node.generating() == 1).await;
        let second = herd.begin("/api/chat", CHAT).await;
        herd.until_metric("arriero_queue_depth", |depth| depth == 1.0)
            .await;
        let left = Instant::now();
        leave(second);
        herd.until_metric("arriero_queue_depth", |depth| depth == 0.0)
            .await;
        assert!(
            left.elapsed() < PROMISE,
            "left the queue after {:?}",
            left.elapsed()
        );
        assert_eq!(
            herd.metric("arriero_client_aborts_total{phase=\"queue\"}")
                .await,
            1.0
        );
        herd.nodes[0].resume();
        let mut first = first;
        assert!(first.reply().await.is(200).complete);
        assert_eq!(
            herd.served(0).len(),
            1,
            "the one that left was never sent to a node"
        );
        herd.is_idle().await;
    }
}

#[tokio::test]
async fn while_connecting_to_a_node_that_does_not_answer() {
    let (addr, _wall) = full_listener().await;
    let herd = herd_of(vec![(llama(), "")], "proxy: { connection_timeout: 30s }").await;
    // The node moves behind the wall: its own address stays known, its listener is replaced by the full one.
    herd.gateway.gateway.fleet().observe(
        arriero::fleet::NodeId(0),
        arriero::fleet::Observation::Resolved(addr),
        Instant::now(),
    );
    let raw = herd.begin("/api/chat", CHAT).await;
    herd.eventually("the request holds a slot", |view| {
        view.nodes[0].in_flight() == 1
    })
    .await;
    let left = Instant::now();
    drop(raw);
    herd.eventually("the slot is back", |view| view.nodes[0].in_flight() == 0)
        .await;
    assert!(left.elapsed() < PROMISE, "freed after {:?}", left.elapsed());
}

#[tokio::test]
async fn while_sending_its_body() {
    let herd = herd(vec![llama()], "").await;
    let mut raw = Raw::open(herd.addr()).await;
    raw.send("POST /api/chat HTTP/1.1\r\nhost: g\r\ncontent-length: 1000\r\n\r\n{\"model\":")
        .await;
    drop(raw);
    herd.until_metric("arriero_client_aborts_total{phase=\"body\"}", |count| {
        count == 1.0
    })
    .await;
    assert_eq!(herd.served(0).len(), 0, "no node heard of it");
    herd.is_idle().await;
}
