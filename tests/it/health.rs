//! Why a node is not asked, what brings it back, and how much ejection a fleet bears.

use std::time::Duration;

use arriero::demo::{self, Fault};
use arriero::fleet::{Health, State};
use arriero::gateway::local::LocalGateway;

use crate::support::client::Reply;
use crate::support::herd::{herd_of, parse};
use crate::support::{Herd, within};

use self::keyed::Keyed;

mod ejection;
mod keyed;
mod returning;

const CHAT: &str = r#"{"model":"llama3","messages":[{"role":"user","content":"hi"}]}"#;

fn llama() -> demo::NodeBuilder {
    demo::Node::builder().loaded("llama3").tokens(3).slots(8)
}

/// A herd whose gpu-0 is always asked first.
async fn pair(yaml: &str) -> Herd {
    herd_of(vec![(llama(), "priority: 200"), (llama(), "")], yaml).await
}

/// Waits until a node is in a state, as the metrics tell it.
async fn until_state(herd: &Herd, node: usize, state: State) {
    let series = series(node, state);
    herd.until_metric(&series, |is| is == 1.0).await;
}

fn series(node: usize, state: State) -> String {
    let state = state.as_str();
    format!("arriero_upstream_state{{node=\"gpu-{node}\",state=\"{state}\"}}")
}

fn state(herd: &Herd, node: usize) -> State {
    herd.gateway.gateway.fleet().view().nodes[node].state()
}

async fn chat(herd: &Herd) -> Reply {
    herd.post("/v1/chat/completions", CHAT).await
}

/// The node that served, at its first attempt.
async fn served_by(herd: &Herd) -> String {
    let reply = chat(herd).await.is(200);
    assert_eq!(reply.header("x-arriero-attempts"), Some("1"));
    reply.header("x-arriero-node").expect("a node").to_owned()
}

#[tokio::test]
async fn a_wrong_key_is_a_state_of_its_own_until_it_is_corrected() {
    for status in [401, 403] {
        let herd = pair("").await;
        herd.nodes[0].probe_status(Some(status), None);
        until_state(&herd, 0, State::ConfigError).await;
        let health = "arriero_upstream_health{node=\"gpu-0\"}";
        assert_eq!(herd.metric(health).await, 0.0);
        assert_eq!(herd.metric(&series(0, State::Healthy)).await, 0.0);
        for _ in 0..3 {
            assert_eq!(served_by(&herd).await, "gpu-1");
        }
        assert_eq!(herd.served(0).len(), 0, "no request reached it");

        herd.nodes[1].probe_status(Some(status), None);
        until_state(&herd, 1, State::ConfigError).await;
        let refused = chat(&herd).await.is(503);
        assert!(
            refused.text().contains("gpu-1 is misconfigured"),
            "{}",
            refused.text()
        );

        herd.nodes[0].probe_status(None, None);
        until_state(&herd, 0, State::Healthy).await;
        assert_eq!(served_by(&herd).await, "gpu-0");
    }
}

#[tokio::test]
async fn a_rate_limited_node_is_left_alone_as_long_as_it_says() {
    let herd = pair("").await;
    herd.nodes[0].probe_status(Some(429), Some(3600));
    until_state(&herd, 0, State::RateLimited).await;
    assert_eq!(served_by(&herd).await, "gpu-1");
    let view = herd.gateway.gateway.fleet().view();
    let Health::Down {
        since,
        until: Some(until),
        ..
    } = view.nodes[0].health
    else {
        panic!("{:?}", view.nodes[0].health)
    };
    // As long as the node says, and not longer than ten times `eject_max`.
    assert_eq!(until - since, Duration::from_secs(20));

    herd.nodes[1].probe_status(Some(429), Some(1));
    until_state(&herd, 1, State::RateLimited).await;
    let refused = chat(&herd).await.is(503);
    assert!(
        refused.text().contains("rate limited"),
        "{}",
        refused.text()
    );
    assert_eq!(
        refused.header("retry-after"),
        Some("1"),
        "the first to be back"
    );

    herd.nodes[1].probe_status(None, None);
    until_state(&herd, 1, State::Healthy).await;
    assert_eq!(state(&herd, 0), State::RateLimited);
}

#[tokio::test]
async fn a_probe_that_fails_otherwise_is_plain_offline() {
    let herd = pair("").await;
    herd.nodes[0].probe_status(Some(500), None);
    until_state(&herd, 0, State::Offline).await;
    herd.nodes[0].probe_status(None, None);
    until_state(&herd, 0, State::Healthy).await;
}

/// A keyed server as gpu-0, which is asked first, and a simulated node as gpu-1.
async fn keyed_pair() -> (Keyed, Herd) {
    let keyed = Keyed::start().await;
    let node = llama().start().await.expect("a node");
    let yaml = format!(
        "discovery:\n  health_check: {{ unhealthy_threshold: 2, eject_base: 300ms, eject_max: 2s }}\n  \
         model_discovery: {{ interval: 100ms, loaded_interval: 50ms }}\n  static:\n    endpoints:\n      \
         - {{ url: \"http://{}\", name: gpu-0, type: vllm, priority: 200, check_interval: 200ms, check_timeout: 200ms }}\n      \
         - {{ url: \"{}\", name: gpu-1, type: ollama }}\n",
        keyed.addr,
        node.url()
    );
    let gateway = LocalGateway::start(parse(&yaml)).await.expect("a gateway");
    let nodes = vec![node];
    let herd = Herd { nodes, gateway };
    herd.settled().await;
    (keyed, herd)
}

#[tokio::test]
async fn a_key_that_only_the_listing_asks_for_does_not_make_the_node_come_and_go() {
    let (keyed, herd) = keyed_pair().await;
    assert_eq!(served_by(&herd).await, "gpu-0");
    keyed.list_with(401);
    until_state(&herd, 0, State::ConfigError).await;
    let health = || herd.gateway.gateway.fleet().view().nodes[0].health.clone();
    let before = health();
    // Its health path is well all the while.
    keyed.until_asked("GET /health", 3).await;
    assert_eq!(health(), before);
    assert_eq!(served_by(&herd).await, "gpu-1");
    keyed.list_with(200);
    until_state(&herd, 0, State::Healthy).await;
    assert_eq!(served_by(&herd).await, "gpu-0");
}

#[tokio::test]
async fn a_429_under_traffic_goes_elsewhere_and_gives_the_node_the_pause_it_asks_for() {
    let (keyed, herd) = keyed_pair().await;
    keyed.call_with(429, "");
    for _ in 0..3 {
        let reply = chat(&herd).await.is(200);
        assert_eq!(reply.header("x-arriero-attempts"), Some("2"));
        assert_eq!(state(&herd, 0), State::Healthy, "it did not say how long");
    }
    keyed.call_with(429, "retry-after: 3600\r\n");
    let reply = chat(&herd).await.is(200);
    assert_eq!(reply.header("x-arriero-node"), Some("gpu-1"));
    assert_eq!(state(&herd, 0), State::RateLimited);
    assert_eq!(served_by(&herd).await, "gpu-1");
    // Its probes are well, and do not cut the pause short.
    keyed.until_asked("GET /health", 2).await;
    assert_eq!(state(&herd, 0), State::RateLimited);
}

/// Three Ollamas, a vLLM and a llama.cpp with one model that all have.
async fn mixed() -> Herd {
    let server = |kind| llama().kind(kind);
    let nodes = vec![
        (llama(), ""),
        (llama(), ""),
        (llama(), ""),
        (server(demo::Kind::Vllm), "type: vllm"),
        (server(demo::Kind::OpenAi), "type: llamacpp"),
    ];
    herd_of(nodes, "").await
}

#[tokio::test]
async fn every_kind_of_node_is_told_offline_and_back() {
    let herd = mixed().await;
    let others = 2..5;
    others.clone().for_each(|node| herd.nodes[node].kill());
    for node in others.clone() {
        until_state(&herd, node, State::Offline).await;
    }
    chat(&herd).await.is(200);
    for node in others.clone() {
        herd.nodes[node].probe_status(Some(401), None);
        herd.nodes[node].revive().await.expect("the port is free");
    }
    for node in others.clone() {
        until_state(&herd, node, State::ConfigError).await;
        herd.nodes[node].probe_status(None, None);
    }
    for node in others {
        until_state(&herd, node, State::Healthy).await;
    }
}

#[tokio::test]
async fn a_node_that_comes_back_is_asked_for_its_models_at_once() {
    let node = llama().start().await.expect("a node");
    let yaml = format!(
        "discovery:\n  model_discovery: {{ interval: 24h, loaded_interval: 50ms }}\n  static:\n    endpoints:\n      \
         - {{ url: \"{}\", name: gpu-0, type: ollama, check_interval: 200ms, check_timeout: 200ms }}\n",
        node.url()
    );
    let gateway = LocalGateway::start(parse(&yaml)).await.expect("a gateway");
    let nodes = vec![node];
    let herd = Herd { nodes, gateway };
    herd.settled().await;
    herd.nodes[0].kill();
    until_state(&herd, 0, State::Offline).await;
    herd.nodes[0].uninstall("llama3");
    herd.nodes[0].install("qwen3");
    herd.nodes[0].revive().await.expect("the port is free");
    herd.eventually("its new models", |view| {
        view.model_names().collect::<Vec<_>>() == ["qwen3:latest"]
    })
    .await;
    chat(&herd).await.is(404);
    herd.post("/api/chat", &CHAT.replace("llama3", "qwen3"))
        .await
        .is(200);
}

#[tokio::test]
async fn a_cold_load_is_no_failure_however_many_wait_for_it() {
    let cold = demo::Node::builder()
        .model("llama3")
        .load_delay(Duration::from_secs(3600));
    let nodes = vec![(cold, "priority: 200"), (llama(), "")];
    let herd = herd_of(nodes, "proxy: { response_header_timeout: 300ms }").await;
    let fleet = herd.gateway.gateway.fleet();
    let seen = herd.nodes[0].seen().len();
    let mut waiting = Vec::new();
    for _ in 0..4 {
        waiting.push(herd.begin("/api/chat", CHAT).await);
    }
    for raw in &mut waiting {
        raw.reply().await; // whether a retry is within its budget is not the question
    }
    let silent = "arriero_upstream_errors_total{kind=\"silent\",node=\"gpu-0\"}";
    assert_eq!(herd.metric(silent).await, 1.0, "one load for all of them");
    let failed = "arriero_loads_total{node=\"gpu-0\",outcome=\"failed\"}";
    assert_eq!(herd.metric(failed).await, 1.0);
    let probed = |node: &demo::Node| {
        let later = node.seen().into_iter().skip(seen);
        2 <= later
            .filter(|seen| seen.method == "GET" && seen.path == "/")
            .count()
    };
    within("probes during the load", herd.nodes[0].until(probed)).await;
    let view = fleet.view();
    assert_eq!(view.nodes[0].state(), State::Healthy);
    assert_eq!(view.nodes[0].spared, None, "nobody wanted to eject it");
    herd.is_idle().await;
}

#[tokio::test]
async fn a_probe_that_a_cold_load_leaves_no_time_for_says_nothing() {
    let cold = demo::Node::builder()
        .model("llama3")
        .load_delay(Duration::from_secs(3600));
    let nodes = vec![(cold, "priority: 200"), (llama(), "")];
    let herd = herd_of(nodes, "").await;
    let waiting = herd.begin("/api/chat", CHAT).await;
    herd.nodes[0].until(|node| node.waiting() == 1).await;
    herd.nodes[0].freeze();
    // The other one is the clock: it is as silent, and twice found out.
    for _ in 0..2 {
        herd.nodes[1].freeze();
        until_state(&herd, 1, State::Offline).await;
        assert_eq!(state(&herd, 0), State::Healthy);
        herd.nodes[1].thaw();
        until_state(&herd, 1, State::Healthy).await;
    }
    drop(waiting);
    until_state(&herd, 0, State::Offline).await;
}
