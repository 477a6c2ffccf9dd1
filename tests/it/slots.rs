//! Placing over real sockets: balancers, tiers that spill, the queue.

use std::collections::BTreeMap;

use arriero::demo;

use crate::support::herd::{herd_of, shared};
use crate::support::{Herd, herd, spawn, within};

const CHAT: &str = r#"{"model":"llama3","messages":[{"role":"user","content":"hi"}]}"#;

fn llama() -> demo::NodeBuilder {
    demo::Node::builder().loaded("llama3").tokens(2).slots(8)
}

/// How many of `count` requests, one after another, each node served.
async fn shares(herd: &Herd, count: usize) -> Vec<usize> {
    for _ in 0..count {
        herd.post("/api/chat", CHAT).await.is(200);
    }
    (0..herd.nodes.len())
        .map(|node| herd.served(node).len())
        .collect()
}

#[tokio::test]
async fn round_robin_shares_by_weight() {
    let nodes = vec![
        (llama(), "weight: 2"),
        (llama(), "weight: 1"),
        (llama(), "weight: 1"),
    ];
    let herd = herd_of(nodes, "proxy: { load_balancer: round-robin }").await;
    assert_eq!(shares(&herd, 40).await, [20, 10, 10]);
}

#[tokio::test]
async fn round_robin_gives_every_node_its_share_of_what_takes_turns() {
    let node = || llama().embedder("nomic");
    let herd = herd(
        vec![node(), node()],
        "proxy: { load_balancer: round-robin }",
    )
    .await;
    for _ in 0..6 {
        herd.post("/api/chat", CHAT).await.is(200);
        herd.post("/api/embed", r#"{"model":"nomic","input":"hi"}"#)
            .await
            .is(200);
        let shown = herd.post("/api/show", r#"{"model":"llama3"}"#).await;
        shown.is(200);
        herd.post("/api/generate", r#"{"model":"llama3","prompt":"hi"}"#)
            .await
            .is(200);
    }
    herd.is_idle().await;
    for node in 0..2 {
        for path in ["/api/chat", "/api/embed", "/api/show", "/api/generate"] {
            let served = herd.served(node);
            let count = served.iter().filter(|seen| seen.path == path).count();
            assert_eq!(count, 3, "{path} at gpu-{node}");
        }
    }
}

#[tokio::test]
async fn adaptive_and_least_connections_spread_what_comes_one_by_one() {
    for balancer in ["adaptive", "least-connections"] {
        let herd = herd(
            vec![llama(), llama(), llama()],
            &format!("proxy: {{ load_balancer: {balancer} }}"),
        )
        .await;
        assert_eq!(shares(&herd, 30).await, [10, 10, 10], "{balancer}");
    }
}

#[tokio::test]
async fn random_uses_every_node() {
    let herd = herd(vec![llama(), llama()], "proxy: { load_balancer: random }").await;
    let shares = shares(&herd, 60).await;
    assert!(shares.iter().all(|share| *share > 5), "{shares:?}");
}

#[tokio::test]
async fn priority_keeps_to_the_highest_tier() {
    let herd = herd_of(
        vec![(llama(), "priority: 10"), (llama(), "priority: 90")],
        "proxy: { load_balancer: priority }",
    )
    .await;
    assert_eq!(shares(&herd, 10).await, [0, 10]);
}

#[tokio::test]
async fn a_warm_node_is_preferred_to_a_cold_one() {
    let cold = demo::Node::builder().model("llama3").tokens(2);
    let herd = herd(vec![cold, llama()], "").await;
    assert_eq!(shares(&herd, 6).await, [0, 6]);
    let reply = herd.post("/api/chat", CHAT).await;
    assert_eq!(reply.header("x-arriero-route"), Some("warm"));
}

#[tokio::test]
async fn a_full_tier_spills_into_the_next() {
    let herd = herd_of(
        vec![
            (llama(), "priority: 90\nslots: 2"),
            (llama(), "priority: 10\nslots: 2"),
        ],
        "",
    )
    .await;
    herd.nodes.iter().for_each(|node| node.pause_after(1));
    let mut streams = Vec::new();
    for _ in 0..4 {
        let mut raw = herd.begin("/api/chat", CHAT).await;
        assert_eq!(raw.head().await.expect("a head").0, 200);
        streams.push(raw);
    }
    assert_eq!((herd.served(0).len(), herd.served(1).len()), (2, 2));
    herd.nodes.iter().for_each(demo::Node::resume);
    for mut raw in streams {
        assert!(raw.rest().await.1);
    }
    herd.is_idle().await;
}

#[tokio::test]
async fn what_finds_no_slot_waits_and_is_served_in_order_of_arrival() {
    let herd = herd_of(vec![(llama(), "slots: 1")], "").await;
    herd.nodes[0].pause_after(1);
    let mut first = herd.begin("/api/chat", CHAT).await;
    assert_eq!(first.head().await.expect("a head").0, 200);
    let mut waiting = Vec::new();
    for n in 0..4 {
        let body = CHAT.replace("hi", &format!("request {n}"));
        waiting.push(herd.begin("/api/chat", &body).await);
        herd.until_metric("arriero_queue_depth", |depth| depth == f64::from(n + 1))
            .await;
    }
    assert_eq!(
        herd.served(0).len(),
        1,
        "the node has one slot and gets one request"
    );
    herd.nodes[0].resume();
    assert!(first.rest().await.1);
    for raw in &mut waiting {
        let reply = raw.reply().await.is(200);
        assert!(reply.header("x-arriero-queue-ms").is_some());
    }
    let order: Vec<String> = herd
        .served(0)
        .iter()
        .skip(1)
        .map(|seen| String::from_utf8_lossy(&seen.body).into_owned())
        .collect();
    for (n, body) in order.iter().enumerate() {
        assert!(body.contains(&format!("request {n}")), "{order:?}");
    }
    herd.is_idle().await;
    assert_eq!(herd.metric("arriero_queue_depth").await, 0.0);
}

#[tokio::test]
async fn a_full_queue_and_a_long_wait_are_503_with_retry_after() {
    let herd = herd_of(
        vec![(llama(), "slots: 1")],
        "proxy: { queue: { max_length: 1, max_wait: 400ms } }",
    )
    .await;
    herd.nodes[0].pause_after(1);
    let mut first = herd.begin("/api/chat", CHAT).await;
    assert_eq!(first.head().await.expect("a head").0, 200);
    let mut second = herd.begin("/api/chat", CHAT).await;
    herd.until_metric("arriero_queue_depth", |depth| depth == 1.0)
        .await;
    let full = herd.post("/api/chat", CHAT).await.is(503);
    assert!(
        full.header("retry-after").is_some() && full.text().contains("max_length"),
        "{}",
        full.text()
    );
    let late = second.reply().await.is(503);
    assert!(
        late.header("retry-after").is_some() && late.text().contains("max_wait"),
        "{}",
        late.text()
    );
    herd.nodes[0].resume();
    assert!(first.rest().await.1);
    herd.is_idle().await;
}

#[tokio::test]
async fn a_hundred_at_once_never_exceed_the_slots() {
    let herd = shared(
        herd_of(
            vec![
                (llama().slots(100), "slots: 3"),
                (llama().slots(100), "slots: 2"),
            ],
            "",
        )
        .await,
    );
    let watch = {
        let herd = herd.clone();
        spawn(async move {
            let mut peak = BTreeMap::new();
            loop {
                for (at, node) in herd.nodes.iter().enumerate() {
                    let now = node.generating() + node.waiting();
                    let peak: &mut usize = peak.entry(at).or_default();
                    *peak = now.max(*peak);
                    assert!(now <= [3, 2][at], "gpu-{at} has {now} requests");
                }
                tokio::task::yield_now().await;
                if herd.served(0).len() + herd.served(1).len() == 100
                    && herd.nodes.iter().all(|node| node.generating() == 0)
                {
                    break peak;
                }
            }
        })
    };
    let all = (0..100).map(|_| {
        let herd = herd.clone();
        spawn(async move { herd.post("/api/chat", CHAT).await.is(200).complete })
    });
    for done in all.collect::<Vec<_>>() {
        assert!(within("a reply", done).await.expect("no panic"));
    }
    within("the watch", watch)
        .await
        .expect("never more than the slots");
    herd.is_idle().await;
}
