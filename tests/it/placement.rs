//! Models in memory ahead of requests: a second copy for a deep queue, and pins that outlast a node's restart.

use arriero::demo;
use serde_json::Value;

use crate::support::client::Raw;
use crate::support::herd::{herd_of, parse};
use crate::support::{Herd, herd, post};

const CHAT: &str = r#"{"model":"llama3","messages":[{"role":"user","content":"hi"}]}"#;
const PINNED: &str = "placement: { hold: 50ms, pinned: [{ model: llama3, nodes: [gpu-0] }] }";

fn cold() -> demo::NodeBuilder {
    demo::Node::builder().model("llama3").tokens(3).slots(8)
}

async fn until_placed(herd: &Herd, action: &str, count: f64) {
    let series = format!("arriero_placements_total{{action=\"{action}\",outcome=\"done\"}}");
    herd.until_metric(&series, |done| count <= done).await;
}

/// What a node was asked to load and keep, as `keep_alive` says.
fn kept(herd: &Herd, node: usize) -> Vec<Value> {
    let asked = herd.asked_to_load(node);
    let bodies = asked.iter().map(|seen| {
        let body: Value = serde_json::from_slice(&seen.body).expect("JSON");
        assert_eq!(body["model"], "llama3:latest");
        body["keep_alive"].clone()
    });
    bodies.collect()
}

/// Begins a stream that holds its slot until the node is resumed.
async fn occupy(herd: &Herd, node: usize, body: &str) -> Raw {
    herd.nodes[node].pause_after(1);
    let mut raw = herd.begin("/api/chat", body).await;
    assert_eq!(raw.head().await.expect("a head").0, 200);
    raw
}

/// gpu-0 serves llama3 and is full; gpu-1 has it on disk, has room for it, and is full with another model. Three more wait for it.
async fn crowd(yaml: &str) -> (Herd, [Raw; 2], Vec<Raw>) {
    let other = cold().loaded("qwen3").loaded("phi3");
    let nodes = vec![(cold().loaded("llama3"), "slots: 1"), (other, "slots: 1")];
    let herd = herd_of(nodes, yaml).await;
    let loaded =
        |count: usize| move |view: &arriero::fleet::Snapshot| view.nodes[1].loaded.len() == count;
    herd.eventually("two models in memory", loaded(2)).await;
    let unload = r#"{"model":"phi3","keep_alive":0}"#;
    post(herd.nodes[1].addr(), "/api/generate", unload)
        .await
        .is(200);
    herd.eventually("room for one more", loaded(1)).await;
    let full = [
        occupy(&herd, 0, CHAT).await,
        occupy(&herd, 1, &CHAT.replace("llama3", "qwen3")).await,
    ];
    let mut waiting = Vec::new();
    for _ in 0..3 {
        waiting.push(herd.begin("/api/chat", CHAT).await);
    }
    herd.until_metric("arriero_queue_depth", |depth| depth == 3.0)
        .await;
    (herd, full, waiting)
}

/// How those who wait are routed when gpu-1 alone has its slot back.
async fn routes(herd: &Herd, waiting: Vec<Raw>) -> Vec<String> {
    herd.nodes[1].resume();
    let mut routes = Vec::new();
    for mut raw in waiting {
        let reply = raw.reply().await.is(200);
        assert_eq!(reply.header("x-arriero-node"), Some("gpu-1"));
        routes.push(reply.route().expect("a reason").to_owned());
    }
    routes
}

#[tokio::test]
async fn a_second_copy_is_loaded_for_a_deep_queue_and_serves_it() {
    let yaml = "placement: { preload: true, queue_depth: 3, sustained: 20ms, hold: 1m }";
    let (herd, full, waiting) = crowd(yaml).await;
    until_placed(&herd, "preload", 1.0).await;
    assert_eq!(
        kept(&herd, 1),
        [Value::Null],
        "it leaves memory as any other"
    );
    herd.eventually("the node to tell", |view| view.nodes[1].loaded.len() == 2)
        .await;
    let routes = routes(&herd, waiting).await;
    assert!(!routes.iter().any(|route| route == "cold"), "{routes:?}");
    assert_eq!(herd.asked_to_load(1).len(), 1);
    herd.nodes[0].resume();
    drop(full);
    herd.is_idle().await;
}

#[tokio::test]
async fn without_it_the_first_who_gets_the_slot_waits_for_the_load() {
    let yaml = "placement: { queue_depth: 1, sustained: 20ms, hold: 50ms }";
    let (herd, full, waiting) = crowd(yaml).await;
    let routes = routes(&herd, waiting).await;
    assert!(routes.iter().any(|route| route == "cold"), "{routes:?}");
    let none = "arriero_placements_total{action=\"preload\",outcome=\"done\"}";
    assert_eq!(herd.metric(none).await, 0.0);
    herd.nodes[0].resume();
    drop(full);
    herd.is_idle().await;
}

#[tokio::test]
async fn a_pinned_model_is_kept_in_memory_after_a_restart_too() {
    let herd = herd(vec![cold(), cold()], PINNED).await;
    until_placed(&herd, "pin", 1.0).await;
    assert_eq!(kept(&herd, 0), [Value::Null, Value::from(-1)]);
    assert_eq!(herd.nodes[0].loads(), 1);
    herd.nodes[0].kill();
    herd.eventually("the node to be down", |view| view.nodes[0].health.is_down())
        .await;
    let before = "arriero_placements_total{action=\"pin\",outcome=\"done\"}";
    let before = herd.metric(before).await;
    herd.nodes[0].revive().await.expect("the same port");
    until_placed(&herd, "pin", before + 1.0).await;
    assert_eq!(kept(&herd, 0).last(), Some(&Value::from(-1)));
    assert_eq!(herd.nodes[0].loads(), 2);
    assert!(herd.asked_to_load(1).is_empty());
    let reply = herd.post("/api/chat", CHAT).await.is(200);
    assert_eq!(reply.header("x-arriero-node"), Some("gpu-0"));
}

#[tokio::test]
async fn a_pin_that_is_taken_out_ends() {
    let herd = herd(vec![cold()], PINNED).await;
    until_placed(&herd, "pin", 1.0).await;
    let url = herd.nodes[0].url();
    let reload = |placement: &str| {
        let text = format!(
            "{placement}\ndiscovery:\n  model_discovery: {{ interval: 1s, loaded_interval: 50ms, timeout: 2s }}\n  static:\n    \
             endpoints:\n      - {{ url: \"{url}\", name: gpu-0, check_interval: 1s, check_timeout: 1s }}\n"
        );
        let done = herd.gateway.gateway.reload(parse(&text));
        done.expect("a good configuration");
    };
    reload("");
    until_placed(&herd, "unpin", 1.0).await;
    assert_eq!(kept(&herd, 0).last(), Some(&Value::from("5m")));
    assert_eq!(herd.nodes[0].loads(), 1, "it was not loaded again for that");
    reload(&PINNED.replace("model: llama3", "model: chat").replace(
        "placement:",
        "model_aliases: { chat: [absent, llama3] }\nplacement:",
    ));
    until_placed(&herd, "pin", 2.0).await;
    assert_eq!(kept(&herd, 0).last(), Some(&Value::from(-1)));
    assert_eq!(herd.nodes[0].loads(), 1);
}
