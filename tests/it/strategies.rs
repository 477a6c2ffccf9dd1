//! What becomes of a request whose model nobody healthy is known to have: the three strategies and their fallbacks.

use std::time::Duration;

use arriero::demo::{self, Kind, ListingFault};

use crate::support::Herd;
use crate::support::herd::starting;

fn ollama(model: &str) -> demo::NodeBuilder {
    demo::Node::builder().loaded(model).tokens(2)
}

fn strategy(word: &str, fallback: &str, refresh: bool) -> String {
    format!(
        "model_registry: {{ routing_strategy: {{ type: {word}, options: {{ fallback_behavior: {fallback}, \
         discovery_timeout: 60s, discovery_refresh_on_miss: {refresh} }} }} }}"
    )
}

/// Five nodes that tell their models once and never again by themselves.
async fn mixed(yaml: &str) -> Herd {
    let other = |kind| demo::Node::builder().kind(kind).tokens(2);
    let nodes = vec![
        (ollama("llama3"), ""),
        (ollama("qwen3"), ""),
        (ollama("phi4"), ""),
        (other(Kind::Vllm).model("opt"), "type: vllm"),
        (other(Kind::OpenAi).model("gguf"), "type: llamacpp"),
    ];
    let rarely = |_: &[demo::Node], config: &mut arriero::config::Config| {
        config.model_discovery.interval = Duration::from_secs(3600);
    };
    let herd = starting(nodes, yaml, rarely).await;
    herd.settled().await;
    herd
}

fn chat(model: &str) -> String {
    format!(r#"{{"model":"{model}","messages":[{{"role":"user","content":"hi"}}]}}"#)
}

/// Status, the word of `X-Arriero-Route`, and Olla's strategy, decision and reason of an answer; `-` where there is none.
async fn outcome(herd: &Herd, model: &str) -> String {
    let reply = herd.post("/olla/proxy/api/chat", &chat(model)).await;
    let names = [
        "x-olla-routing-strategy",
        "x-olla-routing-decision",
        "x-olla-routing-reason",
    ];
    let words = names.map(|name| reply.header(name).unwrap_or("-").to_owned());
    let route = reply.route().unwrap_or("-");
    format!("{} {route} {}", reply.status, words.join(" "))
}

/// Strategy, fallback, whether nodes are asked again; then what becomes of a model that was pulled behind our back (`new`), of one
/// whose known node is down while others have got it behind our back (`phi4`), of one that nobody has, and of one that is where
/// we know it.
const TABLE: &str = "\
strict all as-known
  new => 404 - strict rejected model_not_found
  phi4 => 503 - strict rejected model_unavailable
  ghost => 404 - strict rejected model_not_found
  llama3 => 200 known strict routed model_found
optimistic all as-known
  new => 200 fallback optimistic fallback model_not_found_fallback
  phi4 => 200 fallback optimistic fallback all_healthy_fallback
  ghost => 404 fallback optimistic fallback model_not_found_fallback
  llama3 => 200 known optimistic routed model_found
optimistic none as-known
  new => 404 - optimistic rejected model_unavailable_no_fallback
  phi4 => 503 - optimistic rejected model_unavailable_no_fallback
  ghost => 404 - optimistic rejected model_unavailable_no_fallback
  llama3 => 200 known optimistic routed model_found
optimistic compatible_only as-known
  new => 404 - optimistic rejected model_unavailable_compatible_only
  phi4 => 503 - optimistic rejected model_unavailable_compatible_only
  ghost => 404 - optimistic rejected model_unavailable_compatible_only
  llama3 => 200 known optimistic routed model_found
discovery all as-known
  new => 200 fallback discovery fallback model_not_found_fallback
  phi4 => 200 fallback discovery fallback all_healthy_fallback
  ghost => 404 fallback discovery fallback model_not_found_fallback
  llama3 => 200 known discovery routed model_found_no_refresh
discovery all refresh
  new => 200 known discovery routed model_found
  phi4 => 200 known discovery routed model_found
  ghost => 404 fallback discovery fallback all_healthy_after_discovery
  llama3 => 200 known discovery routed model_found
strict none refresh
  new => 200 known strict routed model_found
  phi4 => 200 known strict routed model_found
  ghost => 404 - strict rejected model_not_found
  llama3 => 200 known strict routed model_found
";

#[tokio::test]
async fn each_strategy_does_what_its_rows_say() {
    let mut herd = None;
    for row in TABLE.lines() {
        let Some((model, expected)) = row.split_once(" => ") else {
            herd = Some(herd_of_row(row).await);
            continue;
        };
        let herd = herd.as_ref().expect("a strategy before its rows");
        // Which of two nodes told first, and which has the model in memory, is not the point.
        let mut actual = outcome(herd, model.trim()).await;
        for reason in ["only", "warm", "cold"] {
            actual = actual.replace(&format!("200 {reason} "), "200 known ");
        }
        assert_eq!(actual, expected, "{model}");
    }
}

async fn herd_of_row(row: &str) -> Herd {
    let words: Vec<&str> = row.split(' ').collect();
    let [word, fallback, refresh] = words[..] else {
        panic!("{row}")
    };
    let herd = mixed(&strategy(word, fallback, refresh == "refresh")).await;
    herd.nodes[2].kill();
    herd.eventually("gpu-2 down", |view| view.nodes[2].health.is_down())
        .await;
    for node in [0, 1] {
        herd.nodes[node].install("new");
        herd.nodes[node].install("phi4");
    }
    herd
}

#[tokio::test]
async fn optimism_guesses_no_name_that_a_node_does_not_offer() {
    let nodes = vec![
        (
            ollama("llama3"),
            r#"model_filter: { exclude: ["secret*"] }"#,
        ),
        (ollama("qwen3"), "prefix_id: big"),
    ];
    let rarely = |_: &[demo::Node], config: &mut arriero::config::Config| {
        config.model_discovery.interval = Duration::from_secs(3600);
    };
    let herd = starting(nodes, &strategy("optimistic", "all", false), rarely).await;
    herd.settled().await;
    herd.nodes[0].install("secret");
    herd.nodes[1].install("secret");
    herd.nodes[1].install("new");
    let fallback = "fallback optimistic fallback model_not_found_fallback";
    let rejected = "- optimistic rejected model_unavailable_no_fallback";
    for (asked, expected) in [
        ("secret", format!("404 {rejected}")),
        ("Big.secret", format!("200 {fallback}")),
        ("big.new", format!("200 {fallback}")),
        // Only the node without a prefix can be meant, and that one has no such model.
        ("new", format!("404 {fallback}")),
    ] {
        assert_eq!(outcome(&herd, asked).await, expected, "{asked}");
    }
}

#[tokio::test]
async fn discovery_asks_the_nodes_when_those_that_have_the_model_are_down() {
    let herd = mixed(&strategy("discovery", "none", true)).await;
    herd.nodes[2].kill();
    herd.eventually("gpu-2 down", |view| view.nodes[2].health.is_down())
        .await;
    herd.nodes[1].install("phi4");
    let reply = herd.post("/api/chat", &chat("phi4")).await.is(200);
    assert_eq!(reply.header("x-arriero-node"), Some("gpu-1"));

    let herd = mixed(&strategy("strict", "none", true)).await;
    herd.nodes[2].kill();
    herd.eventually("gpu-2 down", |view| view.nodes[2].health.is_down())
        .await;
    herd.nodes[1].install("phi4");
    herd.post("/api/chat", &chat("phi4")).await.is(503);
}

#[tokio::test]
async fn a_fallback_keeps_to_the_mount_and_to_what_nodes_serve() {
    let herd = mixed(&strategy("optimistic", "all", false)).await;
    for (path, node) in [
        ("/vllm/v1/chat/completions", "gpu-3"),
        ("/olla/llamacpp/v1/chat/completions", "gpu-4"),
        ("/api/chat/1", "gpu-1"),
    ] {
        let reply = herd.post(path, &chat("ghost")).await.is(404);
        assert_eq!(reply.header("x-arriero-node"), Some(node), "{path}");
        assert_eq!(reply.header("x-arriero-model"), Some("ghost"));
    }
    let body = String::from_utf8(herd.served(3)[0].body.to_vec()).unwrap();
    assert_eq!(body, chat("ghost"), "as the client wrote it");
}

#[tokio::test]
async fn compatible_nodes_are_those_that_have_not_told_their_models() {
    let nodes = vec![(ollama("llama3"), ""), (ollama("new"), "")];
    let yaml = strategy("optimistic", "compatible_only", false);
    let silent = |nodes: &[demo::Node], config: &mut arriero::config::Config| {
        nodes[1].listing_fault(Some(ListingFault::Never));
        config.model_discovery.timeout = Duration::from_secs(60);
    };
    let herd = starting(nodes, &yaml, silent).await;
    herd.eventually("both up, one heard", |view| {
        view.nodes.iter().all(|node| node.health.is_up()) && view.nodes[0].knows_models()
    })
    .await;
    let reply = herd.post("/api/chat", &chat("new")).await.is(200);
    assert_eq!(reply.header("x-arriero-node"), Some("gpu-1"));
    assert_eq!(reply.route(), Some("fallback"));
    let reply = herd.post("/api/chat", &chat("llama3")).await.is(200);
    assert_eq!(reply.header("x-arriero-node"), Some("gpu-0"));
}

#[tokio::test]
async fn every_call_that_names_a_model_goes_to_a_node_that_has_it() {
    let herd = mixed("").await;
    let calls = [
        ("/api/show", r#"{"model":"qwen3"}"#),
        ("/api/embed", r#"{"model":"qwen3","input":"x"}"#),
        ("/api/embeddings", r#"{"model":"qwen3","prompt":"x"}"#),
        ("/v1/embeddings", r#"{"model":"qwen3","input":"x"}"#),
        ("/v1/responses", r#"{"model":"qwen3","input":"x"}"#),
        ("/olla/ollama/api/embed", r#"{"model":"qwen3","input":"x"}"#),
        (
            "/olla/ollama/v1/responses",
            r#"{"model":"qwen3","input":"x"}"#,
        ),
    ];
    for round in 1..=3 {
        for (at, (path, body)) in calls.iter().enumerate() {
            let reply = herd.post(path, body).await;
            assert_ne!(reply.status, 404, "{path}");
            assert_eq!(reply.header("x-arriero-node"), Some("gpu-1"), "{path}");
            let so_far = (round - 1) * calls.len() + at + 1;
            assert_eq!(herd.served(1).len(), so_far, "{path}");
        }
    }
    for other in [0, 2, 3, 4] {
        assert!(herd.served(other).is_empty(), "gpu-{other}");
    }
}

#[tokio::test]
async fn an_index_names_the_node_on_every_path_that_takes_one() {
    let herd = mixed("").await;
    let calls = [
        ("/api/chat", 1, chat("qwen3")),
        (
            "/api/generate",
            1,
            r#"{"model":"qwen3","prompt":"x"}"#.to_owned(),
        ),
        (
            "/api/embed",
            1,
            r#"{"model":"qwen3","input":"x"}"#.to_owned(),
        ),
        (
            "/api/embeddings",
            1,
            r#"{"model":"qwen3","prompt":"x"}"#.to_owned(),
        ),
        ("/v1/chat/completions", 3, chat("opt")),
        (
            "/v1/completions",
            4,
            r#"{"model":"gguf","prompt":"x"}"#.to_owned(),
        ),
    ];
    for (path, node, body) in &calls {
        for mount in ["", "/ollama"] {
            let reply = herd.post(&format!("{mount}{path}/{node}"), body).await;
            assert_eq!(
                reply.header("x-arriero-node"),
                Some(format!("gpu-{node}").as_str()),
                "{path}"
            );
            let missed = herd.post(&format!("{mount}{path}/0"), body).await.is(404);
            assert!(
                missed.text().contains("not found on node 0 (gpu-0)"),
                "{path}: {}",
                missed.text()
            );
            herd.post(&format!("{mount}{path}/9"), body).await.is(404);
        }
    }
    assert!(herd.served(0).is_empty());
    for (path, node) in [
        ("/api/version", 1),
        ("/api/tags", 2),
        ("/v1/models", 1),
        ("/v1/models", 3),
        ("/v1/models", 4),
    ] {
        let reply = herd.get(&format!("{path}/{node}")).await.is(200);
        assert_eq!(
            reply.header("x-arriero-node"),
            Some(format!("gpu-{node}").as_str()),
            "{path}"
        );
        herd.get(&format!("{path}/9")).await.is(404);
    }
}
