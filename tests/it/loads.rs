//! Loads as the gateway's own work: who waits for one, who leaves, and what the node is asked.

use arriero::demo;

use crate::support::herd::{herd_of, shared};
use crate::support::{Herd, Raw, herd, post, spawn, within};

const CHAT: &str = r#"{"model":"llama3","messages":[{"role":"user","content":"hi"}]}"#;

fn cold() -> demo::NodeBuilder {
    demo::Node::builder().model("llama3").tokens(2).slots(8)
}

/// Waits until the node has a load in hand or in line.
async fn until_loading(herd: &Herd, node: usize) {
    let loading = herd.nodes[node].until(|node| 0 < node.waiting());
    within("a load to begin", loading).await;
}

/// Waits until so many requests hold a slot.
async fn until_in_flight(herd: &Herd, count: u32) {
    herd.eventually("requests to be placed", |view| {
        view.nodes[0].in_flight() == count
    })
    .await;
}

async fn loads(herd: &Herd, outcome: &str) -> f64 {
    let series = format!("arriero_loads_total{{node=\"gpu-0\",outcome=\"{outcome}\"}}");
    herd.metric(&series).await
}

async fn until_abandoned(herd: &Herd) {
    let series = "arriero_loads_total{node=\"gpu-0\",outcome=\"abandoned\"}";
    herd.until_metric(series, |count| count == 1.0).await;
}

fn body(seen: &demo::Seen) -> serde_json::Value {
    serde_json::from_slice(&seen.body).expect("JSON")
}

#[tokio::test]
async fn the_node_is_asked_for_the_load_and_then_for_what_the_client_wants() {
    let herd = herd(vec![cold()], "").await;
    let reply = herd.post("/api/chat", CHAT).await.is(200);
    assert_eq!(reply.route(), Some("only"));
    let asked = herd.asked_to_load(0);
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].path, "/api/generate");
    assert_eq!(
        body(&asked[0]),
        serde_json::json!({"model": "llama3:latest", "stream": false})
    );
    assert_eq!(herd.served(0).len(), 1);
    assert_eq!(herd.nodes[0].loads(), 1);
    assert_eq!(loads(&herd, "loaded").await, 1.0);
    let times = "arriero_load_seconds_count{node=\"gpu-0\"}";
    assert_eq!(herd.metric(times).await, 1.0);
    herd.is_idle().await;
}

#[tokio::test]
async fn what_comes_right_after_a_load_finds_the_model_there() {
    // The lists of loaded models come once a day, or when somebody asks for them.
    let node = cold().start().await.expect("a node");
    let yaml = format!(
        "discovery:\n  model_discovery: {{ interval: 24h, loaded_interval: 24h }}\n  static:\n    endpoints:\n      \
         - {{ url: \"{}\", name: gpu-0, type: ollama, check_interval: 1s, check_timeout: 1s }}\n",
        node.url()
    );
    let gateway =
        arriero::gateway::local::LocalGateway::start(crate::support::herd::parse(&yaml)).await;
    let herd = Herd {
        nodes: vec![node],
        gateway: gateway.expect("a gateway"),
    };
    herd.settled().await;
    for _ in 0..5 {
        herd.post("/api/chat", CHAT).await.is(200);
    }
    herd.eventually("a warm model", |view| !view.nodes[0].loaded.is_empty())
        .await;
    herd.post("/api/chat", CHAT).await.is(200);
    assert_eq!(herd.asked_to_load(0).len(), 1, "one load for all of them");
}

#[tokio::test]
async fn who_began_the_load_leaves_and_who_waits_for_it_is_served() {
    let herd = herd(vec![cold()], "").await;
    herd.nodes[0].hold_loads();
    let first = herd.begin("/api/chat", CHAT).await;
    until_loading(&herd, 0).await;
    let mut second = herd.begin("/v1/chat/completions", CHAT).await;
    until_in_flight(&herd, 2).await;
    drop(first);
    until_in_flight(&herd, 1).await;
    herd.nodes[0].release_loads();
    second.reply().await.is(200);
    assert_eq!(herd.nodes[0].loads(), 1);
    assert_eq!(herd.asked_to_load(0).len(), 1);
    assert_eq!(herd.served(0).len(), 1, "the first was never sent");
    assert_eq!(loads(&herd, "loaded").await, 1.0);
    herd.is_idle().await;
}

#[tokio::test]
async fn who_stands_in_the_queue_inherits_the_load() {
    let herd = herd_of(vec![(cold(), "slots: 1")], "").await;
    herd.nodes[0].hold_loads();
    let first = herd.begin("/api/chat", CHAT).await;
    until_loading(&herd, 0).await;
    let mut second = herd.begin("/api/chat", CHAT).await;
    herd.until_metric("arriero_queue_depth", |depth| depth == 1.0)
        .await;
    drop(first);
    herd.until_metric("arriero_queue_depth", |depth| depth == 0.0)
        .await;
    herd.nodes[0].release_loads();
    second.reply().await.is(200);
    assert_eq!(herd.asked_to_load(0).len(), 1, "it was not asked for twice");
    assert_eq!(herd.nodes[0].loads(), 1);
    assert_eq!(loads(&herd, "abandoned").await, 0.0);
    herd.is_idle().await;
}

#[tokio::test]
async fn a_load_ends_with_the_last_who_wants_it() {
    let herd = herd_of(vec![(cold(), "slots: 2")], "").await;
    herd.nodes[0].hold_loads();
    let first = herd.begin("/api/chat", CHAT).await;
    until_loading(&herd, 0).await;
    let second = herd.begin("/api/chat", CHAT).await;
    until_in_flight(&herd, 2).await;
    let third = herd.begin("/api/chat", CHAT).await;
    herd.until_metric("arriero_queue_depth", |depth| depth == 1.0)
        .await;
    drop(third);
    herd.until_metric("arriero_queue_depth", |depth| depth == 0.0)
        .await;
    drop(first);
    until_in_flight(&herd, 1).await;
    assert_eq!(herd.nodes[0].waiting(), 1, "one still waits for it");
    drop(second);
    let aborted = herd.nodes[0].until(|node| node.waiting() == 0);
    within("the load to be aborted", aborted).await;
    herd.is_idle().await;
    until_abandoned(&herd).await;
    assert_eq!(herd.nodes[0].loads(), 0);
    assert!(!herd.gateway.gateway.fleet().view().nodes[0].is_loading());
}

#[tokio::test]
async fn other_options_are_another_load() {
    let herd = herd(vec![cold()], "").await;
    herd.nodes[0].hold_loads();
    let wide = CHAT.replace("{\"model\"", r#"{"options":{"num_ctx":8192},"model""#);
    let mut first = herd.begin("/api/chat", CHAT).await;
    until_loading(&herd, 0).await;
    let mut second = herd.begin("/api/chat", &wide).await;
    // A node loads one model at a time, and reloads none that is in use.
    herd.until_metric("arriero_queue_depth", |depth| depth == 1.0)
        .await;
    herd.nodes[0].release_loads();
    first.reply().await.is(200);
    second.reply().await.is(200);
    let asked = herd.asked_to_load(0);
    assert_eq!(asked.len(), 2);
    assert_eq!(body(&asked[0]).get("options"), None);
    assert_eq!(body(&asked[1])["options"]["num_ctx"], 8192);
    herd.is_idle().await;
}

#[tokio::test]
async fn an_embedder_is_loaded_as_one() {
    for (path, request) in [
        ("/api/embed", r#"{"model":"nomic","input":"hi"}"#),
        ("/api/embeddings", r#"{"model":"nomic","prompt":"hi"}"#),
        ("/v1/embeddings", r#"{"model":"nomic","input":"hi"}"#),
    ] {
        let herd = herd(vec![demo::Node::builder().embedder("nomic")], "").await;
        herd.post(path, request).await.is(200);
        let asked = herd.asked_to_load(0);
        assert_eq!(asked.len(), 1, "{path}");
        assert_eq!(asked[0].path, "/api/embed");
        assert_eq!(
            body(&asked[0]),
            serde_json::json!({"model": "nomic:latest", "input": []})
        );
        assert_eq!((herd.nodes[0].loads(), herd.served(0).len()), (1, 1));
    }
}

#[tokio::test]
async fn a_load_that_fails_is_tried_on_another_node() {
    let nodes = vec![(cold(), "priority: 200"), (cold(), "")];
    let herd = herd_of(nodes, "").await;
    let message = "llama-server process has terminated: exit status 1".to_owned();
    let status = 500;
    herd.nodes[0].fault_times(demo::Fault::Refuse { status, message }, 1);
    let reply = herd.post("/api/chat", CHAT).await.is(200);
    assert_eq!(reply.header("x-arriero-node"), Some("gpu-1"));
    assert_eq!(reply.header("x-arriero-attempts"), Some("2"));
    assert_eq!(herd.asked_to_load(0).len(), 1);
    assert!(herd.served(0).is_empty(), "nothing was sent there");
    assert_eq!(loads(&herd, "failed").await, 1.0);
    let failed = "arriero_upstream_errors_total{kind=\"runner_failed\",node=\"gpu-0\"}";
    assert_eq!(herd.metric(failed).await, 1.0);
    herd.is_idle().await;
}

#[tokio::test]
async fn all_who_wait_hear_in_the_nodes_words_why_a_load_failed() {
    let herd = herd(vec![cold()], "").await;
    let message = "model requires more system memory (9 GiB) than is available".to_owned();
    let status = 500;
    herd.nodes[0].fault(demo::Fault::Refuse { status, message });
    for (path, at) in [
        ("/api/chat", "/error"),
        ("/v1/chat/completions", "/error/message"),
        ("/v1/messages", "/error/message"),
    ] {
        let reply = herd.post(path, CHAT).await.is(500).json();
        let told = reply.pointer(at).and_then(|told| told.as_str());
        assert!(
            told.is_some_and(|told| told.contains("more system memory")),
            "{reply}"
        );
    }
    assert!(herd.served(0).is_empty());
    herd.is_idle().await;
}

#[tokio::test]
async fn a_model_that_is_gone_is_loaded_elsewhere() {
    let nodes = vec![(cold(), "priority: 200"), (cold(), "")];
    let herd = herd_of(nodes, "").await;
    // Its list stays as it was for a second.
    herd.nodes[0].uninstall("llama3");
    let reply = herd.post("/api/chat", CHAT).await.is(200);
    assert_eq!(reply.header("x-arriero-node"), Some("gpu-1"));
    assert!(herd.served(0).is_empty());
    herd.is_idle().await;
}

#[tokio::test]
async fn an_error_that_is_the_clients_reaches_it_from_its_own_request() {
    let herd = herd(vec![demo::Node::builder().embedder("nomic")], "").await;
    let request = r#"{"model":"nomic","prompt":"hi"}"#;
    let reply = herd.post("/api/generate", request).await;
    assert_eq!(reply.status, 400, "{}", reply.text());
    assert_eq!(herd.served(0).len(), 1);
    assert_eq!(loads(&herd, "failed").await, 1.0);
}

#[tokio::test]
async fn what_unloads_loads_nothing_and_what_loads_does() {
    let herd = herd(vec![cold()], "").await;
    let unload = r#"{"model":"llama3","keep_alive":0}"#;
    let reply = herd.post("/api/generate", unload).await.is(200);
    assert_eq!(reply.json()["done_reason"], "unload");
    assert!(herd.asked_to_load(0).is_empty());
    assert_eq!(herd.nodes[0].loads(), 0);
    let load = r#"{"model":"llama3","keep_alive":"10m"}"#;
    let reply = herd.post("/api/generate", load).await.is(200);
    assert_eq!(reply.json()["done_reason"], "load");
    assert_eq!((herd.asked_to_load(0).len(), herd.nodes[0].loads()), (1, 1));
    herd.is_idle().await;
}

#[tokio::test]
async fn nodes_of_other_types_load_for_the_request_itself() {
    let node = demo::Node::builder()
        .kind(demo::Kind::LmStudio)
        .model("llama3");
    let herd = herd_of(vec![(node, "type: lm-studio")], "").await;
    herd.post("/v1/chat/completions", CHAT).await.is(200);
    assert!(herd.asked_to_load(0).is_empty());
}

#[tokio::test]
async fn a_load_under_way_gives_a_warm_request_more_time() {
    let node = cold().loaded("qwen3");
    let herd = herd(vec![node], "proxy: { warm_header_timeout: 100ms }").await;
    herd.nodes[0].hold_loads();
    let qwen = CHAT.replace("llama3", "qwen3");
    let late = || herd.nodes[0].fault_times(demo::Fault::DelayHeaders { ms: 400 }, 1);
    late();
    herd.post("/api/chat", &qwen).await.is(504);
    let loads = herd.begin("/api/chat", CHAT).await;
    until_loading(&herd, 0).await;
    late();
    herd.post("/api/chat", &qwen).await.is(200);
    drop(loads);
    herd.is_idle().await;
}

#[tokio::test]
async fn a_crowd_waits_for_one_load() {
    let herd = shared(herd_of(vec![(cold(), "slots: 64")], "").await);
    herd.nodes[0].hold_loads();
    let mut steady = herd.begin("/api/chat", CHAT).await;
    until_loading(&herd, 0).await;
    let crowd = (0..40).map(|at| {
        let herd = herd.clone();
        spawn(async move {
            let mut raw: Raw = herd.begin("/api/chat", CHAT).await;
            // Every fourth leaves without waiting.
            match at % 4 {
                0 => 0,
                _ => raw.reply().await.is(200).status,
            }
        })
    });
    let crowd: Vec<_> = crowd.collect();
    // Those that stay, and the one that began it.
    herd.eventually("the crowd to be there", |view| {
        31 <= view.nodes[0].in_flight()
    })
    .await;
    herd.nodes[0].release_loads();
    for one in crowd {
        within("an answer", one).await.expect("no refusal");
    }
    steady.reply().await.is(200);
    herd.is_idle().await;
    assert_eq!(herd.nodes[0].loads(), 1);
    assert_eq!(herd.asked_to_load(0).len(), 1);
    // What the node lost behind our back is simply loaded again.
    let unload = r#"{"model":"llama3","keep_alive":0}"#;
    post(herd.nodes[0].addr(), "/api/generate", unload)
        .await
        .is(200);
    herd.post("/api/chat", CHAT).await.is(200);
    assert_eq!(herd.nodes[0].loads(), 2);
}
