//! Before a model counts as unknown the nodes are asked once: together, not too often, and nobody waits for a slow one in vain.

use std::time::Duration;

use arriero::config::Config;
use arriero::demo::{self, Kind, ListingFault};

use crate::support::herd::starting;
use crate::support::{Herd, within};

/// Nodes that tell their models once and never again by themselves, and whose health is not looked at during the test.
async fn herd(nodes: Vec<(demo::NodeBuilder, &str)>, options: &str) -> Herd {
    let yaml = format!("model_registry: {{ routing_strategy: {{ options: {{ {options} }} }} }}");
    let rarely = |_: &[demo::Node], config: &mut Config| {
        config.model_discovery.interval = Duration::from_secs(3600);
    };
    let herd = starting(nodes, &yaml, rarely).await;
    herd.settled().await;
    for node in &herd.nodes {
        // A second look at the memory means that no further listing is due.
        let settled = |node: &demo::Node| {
            let seen = node.seen();
            let last = seen.iter().rposition(|it| is_listing(&it.path));
            let is_ps = |it: &&demo::Seen| it.path == "/api/ps";
            let since = seen.iter().skip(last.unwrap_or(0)).filter(is_ps).count();
            2 <= since || seen.iter().all(|it| it.path != "/api/tags")
        };
        within("a quiet node", node.until(settled)).await;
    }
    herd
}

fn ollama(model: &str) -> demo::NodeBuilder {
    demo::Node::builder().loaded(model).tokens(2)
}

fn pair() -> Vec<(demo::NodeBuilder, &'static str)> {
    let keys = "check_interval: 60s\ncheck_timeout: 60s";
    vec![(ollama("llama3"), keys), (ollama("qwen3"), keys)]
}

fn chat(model: &str) -> String {
    format!(r#"{{"model":"{model}","messages":[{{"role":"user","content":"hi"}}]}}"#)
}

fn is_listing(path: &str) -> bool {
    matches!(path, "/api/tags" | "/v1/models")
}

/// How often each node was asked for its models.
fn listings(herd: &Herd) -> Vec<usize> {
    let of = |node: &demo::Node| node.seen().iter().filter(|it| is_listing(&it.path)).count();
    herd.nodes.iter().map(of).collect()
}

/// Each node was asked just once since then; one that nobody waited for may read its question late.
async fn asked_once(herd: &Herd, before: &[usize]) {
    let once: Vec<usize> = before.iter().map(|count| count + 1).collect();
    within("a question at each node", async {
        while listings(herd) != once {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

fn refreshes(result: &str) -> String {
    format!(r#"arriero_discovery_refreshes_total{{result="{result}"}}"#)
}

#[tokio::test]
async fn a_model_pulled_behind_our_back_is_served_at_once() {
    let herd = herd(pair(), "discovery_timeout: 60s").await;
    herd.nodes[1].install("phi4");
    let reply = herd.post("/api/chat", &chat("phi4")).await.is(200);
    assert_eq!(reply.header("x-arriero-node"), Some("gpu-1"));
    assert_eq!(herd.metric(&refreshes("found")).await, 1.0);
    herd.post("/api/chat", &chat("phi4")).await.is(200);
    assert_eq!(
        herd.metric(&refreshes("found")).await,
        1.0,
        "once is enough"
    );
    herd.is_idle().await;
}

#[tokio::test]
async fn switched_off_nobody_is_asked() {
    let herd = herd(pair(), "discovery_refresh_on_miss: false").await;
    let before = listings(&herd);
    herd.nodes[1].install("phi4");
    herd.post("/api/chat", &chat("phi4")).await.is(404);
    assert_eq!(listings(&herd), before);
}

#[tokio::test]
async fn misses_at_the_same_time_share_one_round() {
    let herd = herd(pair(), "discovery_timeout: 60s").await;
    let before = listings(&herd);
    herd.nodes.iter().for_each(demo::Node::freeze);
    herd.nodes[1].install("phi4");
    let mut waiting = Vec::new();
    for _ in 0..50 {
        waiting.push(herd.begin("/api/chat", &chat("phi4")).await);
    }
    let lifecycle = herd.gateway.gateway.lifecycle().clone();
    within("50 misses", async {
        while lifecycle.in_flight() < 50 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    herd.nodes.iter().for_each(demo::Node::thaw);
    for mut raw in waiting {
        let reply = raw.reply().await.is(200);
        assert_eq!(reply.header("x-arriero-node"), Some("gpu-1"));
    }
    asked_once(&herd, &before).await;
    assert!(herd.metric(&refreshes("found")).await >= 1.0);
    herd.is_idle().await;
}

#[tokio::test]
async fn a_flood_of_made_up_names_is_limited() {
    let herd = herd(pair(), "discovery_timeout: 60s").await;
    let before = listings(&herd);
    for number in 0..30 {
        let refused = herd
            .post("/api/chat", &chat(&format!("made-up-{number}")))
            .await
            .is(404);
        assert!(refused.text().contains("not found"), "{}", refused.text());
    }
    let (rounds, limited) = (
        herd.metric(&refreshes("miss")).await,
        herd.metric(&refreshes("limited")).await,
    );
    assert_eq!(rounds + limited, 30.0);
    assert!(limited > 0.0, "30 requests in a row do not take 30 s");
    let asked: Vec<usize> = before.iter().map(|count| count + rounds as usize).collect();
    assert_eq!(listings(&herd), asked);
}

#[tokio::test]
async fn a_slow_node_delays_nobody_whose_model_another_node_has() {
    // Longer than the test's patience: whoever waited for the slow node would fail it.
    let herd = herd(pair(), "discovery_timeout: 1h").await;
    herd.nodes[0].listing_fault(Some(ListingFault::Never));
    herd.nodes[1].install("phi4");
    herd.post("/api/chat", &chat("phi4")).await.is(200);
    herd.is_idle().await;
}

#[tokio::test]
async fn a_silent_node_costs_no_more_than_the_timeout() {
    let herd = herd(pair(), "discovery_timeout: 50ms").await;
    herd.nodes[0].listing_fault(Some(ListingFault::Never));
    herd.post("/api/chat", &chat("ghost")).await.is(404);
    assert_eq!(herd.metric(&refreshes("miss")).await, 1.0);
}

#[tokio::test]
async fn a_client_that_leaves_takes_no_others_round_away() {
    let herd = herd(pair(), "discovery_timeout: 60s").await;
    let before = listings(&herd);
    herd.nodes.iter().for_each(demo::Node::freeze);
    let first = herd.begin("/api/chat", &chat("phi4")).await;
    let lifecycle = herd.gateway.gateway.lifecycle().clone();
    let in_flight = async |count: usize| {
        within("requests in flight", async {
            while lifecycle.in_flight() != count {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    };
    in_flight(1).await;
    let mut second = herd.begin("/api/chat", &chat("phi4")).await;
    in_flight(2).await;
    first.reset();
    in_flight(1).await;
    herd.nodes[1].install("phi4");
    herd.nodes.iter().for_each(demo::Node::thaw);
    second.reply().await.is(200);
    asked_once(&herd, &before).await;
    herd.is_idle().await;
}

#[tokio::test]
async fn only_nodes_that_the_address_allows_are_asked() {
    let mut nodes = pair();
    let vllm = demo::Node::builder()
        .kind(Kind::Vllm)
        .model("opt")
        .tokens(2);
    nodes.push((vllm, "type: vllm\ncheck_interval: 60s\ncheck_timeout: 60s"));
    let herd = herd(nodes, "discovery_timeout: 60s").await;
    let before = listings(&herd);
    herd.nodes[2].install("new");
    let reply = herd
        .post("/vllm/v1/chat/completions", &chat("new"))
        .await
        .is(200);
    assert_eq!(reply.header("x-arriero-node"), Some("gpu-2"));
    assert_eq!(listings(&herd), [before[0], before[1], before[2] + 1]);
}
