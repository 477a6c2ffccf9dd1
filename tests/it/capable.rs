//! What a model can do and needs decides where its requests go, how many at once, and how long they may take.

use arriero::demo::{self, Fault};

use crate::support::herd::herd_of;
use crate::support::{Herd, herd};

fn node() -> demo::NodeBuilder {
    demo::Node::builder().tokens(2).slots(8)
}

fn chat(model: &str) -> String {
    format!(r#"{{"model":"{model}","messages":[{{"role":"user","content":"hi"}}]}}"#)
}

fn image_chat(model: &str) -> String {
    chat(model).replace(r#""hi""#, r#""what is this?","images":["QUJD"]"#)
}

/// Who served a request, and as which model.
async fn served_by(herd: &Herd, path: &str, body: &str) -> (String, String) {
    let reply = herd.post(path, body).await.is(200);
    let header = |name| reply.header(name).expect("the header").to_owned();
    (header("x-arriero-node"), header("x-arriero-model"))
}

const SEES: &[&str] = &["completion", "vision"];
const TALKS: &[&str] = &["completion"];

#[tokio::test]
async fn an_image_goes_to_a_model_that_sees_whatever_the_order_of_an_alias() {
    let blind = node().loaded("llama3").capabilities("llama3", TALKS);
    let seeing = node().model("llava").capabilities("llava", SEES);
    let herd = herd(
        vec![blind, seeing],
        "model_aliases: { any: [llama3, llava] }",
    )
    .await;
    let asked = |node: &str, model: &str| (node.to_owned(), model.to_owned());
    for _ in 0..3 {
        let text = served_by(&herd, "/api/chat", &chat("any")).await;
        assert_eq!(text, asked("gpu-0", "llama3:latest"));
        let image = served_by(&herd, "/api/chat", &image_chat("any")).await;
        assert_eq!(image, asked("gpu-1", "llava:latest"));
    }
    let parts = r#"[{"type":"text","text":"?"},{"type":"image_url","image_url":{"url":"data:image/png;base64,QUJD"}}]"#;
    let openai = chat("any").replace(r#""hi""#, parts);
    let image = served_by(&herd, "/v1/chat/completions", &openai).await;
    assert_eq!(image, asked("gpu-1", "llava:latest"));
    herd.is_idle().await;
}

#[tokio::test]
async fn an_image_for_a_model_that_sees_nothing_is_refused_in_the_clients_dialect() {
    let nodes = vec![
        node().loaded("llama3").capabilities("llama3", TALKS),
        node().model("llava").capabilities("llava", SEES),
    ];
    let herd = herd(nodes, "").await;
    let said = "model \"llama3\" does not take images; ask one that does: llava:latest";
    let native = herd.post("/api/chat", &image_chat("llama3")).await.is(400);
    assert_eq!(native.json()["error"], said);
    let openai = chat("llama3").replace(r#""hi""#, r#"[{"type":"image_url","image_url":{}}]"#);
    let openai = herd.post("/v1/chat/completions", &openai).await.is(400);
    let error = &openai.json()["error"];
    assert_eq!(error["message"], said);
    assert_eq!(error["code"], "unsupported_by_model");
    assert_eq!(error["type"], "invalid_request_error");
    let anthropic = r#"{"model":"llama3","max_tokens":2,"messages":[{"role":"user","content":[{"type":"image","source":{}}]}]}"#;
    let anthropic = herd.post("/v1/messages", anthropic).await.is(400);
    assert_eq!(anthropic.json()["error"]["message"], said);
    assert!(herd.served(0).is_empty() && herd.served(1).is_empty());
}

#[tokio::test]
async fn vectors_come_from_embedders_where_there_are_any_and_are_never_refused() {
    let nodes = vec![node().loaded("llama3"), node().embedder("nomic-embed-text")];
    let herd = herd(
        nodes,
        "model_aliases: { any: [llama3, nomic-embed-text], back: [nomic-embed-text, llama3] }",
    )
    .await;
    for (path, body) in [
        ("/api/embed", r#"{"model":"any","input":"x"}"#),
        ("/api/embeddings", r#"{"model":"any","prompt":"x"}"#),
        ("/v1/embeddings", r#"{"model":"any","input":"x"}"#),
    ] {
        assert_eq!(served_by(&herd, path, body).await.0, "gpu-1", "{path}");
    }
    assert_eq!(
        served_by(&herd, "/api/chat", &chat("back")).await.0,
        "gpu-0"
    );
    // Old versions make vectors with any model, so what this node makes of it is its own business.
    herd.post("/api/embed", r#"{"model":"llama3","input":"x"}"#)
        .await;
    assert_eq!(
        herd.served(0).last().expect("it was asked").path,
        "/api/embed"
    );
}

#[tokio::test]
async fn tools_go_where_they_are_not_denied() {
    let nodes = vec![
        node().loaded("llama3").capabilities("llama3", TALKS),
        node()
            .model("llama3")
            .capabilities("llama3", &["completion", "tools"]),
    ];
    let herd = herd(nodes, "").await;
    let tools = r#","tools":[{"type":"function","function":{"name":"f"}}],"messages""#;
    let with_tools = chat("llama3").replace(r#","messages""#, tools);
    for _ in 0..3 {
        assert_eq!(served_by(&herd, "/api/chat", &with_tools).await.0, "gpu-1");
    }
    herd.nodes[1].kill();
    herd.eventually("gpu-1 down", |view| view.nodes[1].health.is_down())
        .await;
    herd.post("/api/chat", &with_tools).await.is(503);
    herd.post("/api/chat", &chat("llama3")).await.is(200);
}

#[tokio::test]
async fn a_long_prompt_goes_where_it_fits() {
    let nodes = vec![
        node().loaded("yi").context("yi", 2048),
        node().model("yi").context("yi", 32_768),
    ];
    let herd = herd(nodes, "").await;
    let long = chat("yi").replace("hi", &"word ".repeat(2000));
    assert_eq!(served_by(&herd, "/api/chat", &long).await.0, "gpu-1");
    // Nobody holds this one, so it goes where any would go: Ollama shortens it.
    let longer = chat("yi").replace("hi", &"word ".repeat(60_000));
    herd.post("/api/chat", &longer).await.is(200);
    herd.nodes[1].kill();
    herd.eventually("gpu-1 down", |view| view.nodes[1].health.is_down())
        .await;
    assert_eq!(served_by(&herd, "/api/chat", &long).await.0, "gpu-0");
}

#[tokio::test]
async fn a_limit_for_models_of_a_size_holds_for_each_model_by_itself() {
    let models = node()
        .details("big", "llama", "7.6B", "Q4_0")
        .details("huge", "llama", "6.7B", "Q4_0")
        .loaded("big")
        .loaded("huge")
        .loaded("llama3");
    let herd = herd(
        vec![models],
        "resources: { model_sizes: [{ patterns: [7b], max_concurrent: 1 }] }",
    )
    .await;
    herd.nodes[0].pause_after(1);
    let mut first = herd.begin("/api/chat", &chat("big")).await;
    assert_eq!(first.head().await.expect("a head").0, 200);
    let mut second = herd.begin("/api/chat", &chat("big")).await;
    herd.until_metric("arriero_queue_depth", |depth| depth == 1.0)
        .await;
    let mut others = Vec::new();
    for model in ["huge", "llama3", "llama3"] {
        let mut other = herd.begin("/api/chat", &chat(model)).await;
        assert_eq!(other.head().await.expect("a head").0, 200, "{model}");
        others.push(other);
    }
    assert_eq!(
        herd.served(0).len(),
        4,
        "the second `big` is not among them"
    );
    herd.nodes[0].resume();
    assert!(first.rest().await.1);
    second.reply().await.is(200);
    drop(others);
    herd.is_idle().await;
    herd.post("/api/chat", &chat("big")).await.is(200);
}

/// Where two requests at once for a model of 70 billion parameters go when two nodes have it, the first of a higher tier.
async fn two_at_once(keys: &str) -> [usize; 2] {
    let large = || {
        node()
            .details("large", "llama", "70.6B", "F16")
            .loaded("large")
    };
    let first = format!("priority: 90\n{keys}");
    let herd = herd_of(vec![(large(), &first), (large(), "priority: 10")], "").await;
    herd.nodes.iter().for_each(|node| node.pause_after(1));
    let mut streams = Vec::new();
    for _ in 0..2 {
        let mut stream = herd.begin("/api/chat", &chat("large")).await;
        assert_eq!(stream.head().await.expect("a head").0, 200);
        streams.push(stream);
    }
    let shares = [0, 1].map(|node| herd.served(node).len());
    herd.nodes.iter().for_each(demo::Node::resume);
    drop(streams);
    herd.is_idle().await;
    shares
}

#[tokio::test]
async fn a_model_that_fills_a_node_spills_at_once_unless_the_operator_gave_the_node_slots() {
    assert_eq!(two_at_once("").await, [1, 1]);
    assert_eq!(two_at_once("slots: 4").await, [2, 0]);
}

#[tokio::test]
async fn a_cold_model_may_take_as_long_as_its_real_size_needs() {
    let models = node()
        .details("big", "llama", "70.6B", "Q4_0")
        .model("big")
        .details("odd", "llama", "", "")
        .model("odd");
    let herd = herd(
        vec![models],
        "proxy: { response_header_timeout: 200ms, retry: { max_attempts: 1 } }",
    )
    .await;
    herd.nodes[0].fault(Fault::DelayHeaders { ms: 600 });
    herd.post("/api/chat", &chat("big")).await.is(200);
    herd.post("/api/chat", &chat("odd")).await.is(504);
}

#[tokio::test]
async fn the_status_page_tells_what_a_model_needs_and_can() {
    let models = node()
        .details("big", "llama", "70.6B", "Q4_0")
        .capabilities("big", SEES)
        .context("big", 4096)
        .model("big");
    let herd = herd(
        vec![models],
        "resources: { model_sizes: [{ patterns: [70b], min_memory_gb: 42, max_concurrent: 3, estimated_load_time_ms: 90000 }] }",
    )
    .await;
    let page = herd
        .admin("/internal/status/models?detailed=true")
        .await
        .json();
    let big = &page["models"][0];
    assert_eq!(
        big["resources"],
        serde_json::json!({
            "memory_gb": 21.0,
            "recommended_memory_gb": 21.0,
            "gpu_memory_gb": 2.0,
            "requires_gpu": false,
            "load_time_s": 90.0,
            "max_concurrent": 3,
            "hard": true
        })
    );
    assert_eq!(big["capabilities"], serde_json::json!(SEES));
    assert_eq!(big["context"], 4096);
}
