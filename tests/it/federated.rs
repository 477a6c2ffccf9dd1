//! The fleet as one big Ollama: what is answered from the catalogue, without asking a node.

use arriero::demo;
use arriero::fleet::Health;
use serde_json::Value;

use crate::support::client::Raw;
use crate::support::{herd, within};

fn herd_of_two() -> Vec<demo::NodeBuilder> {
    vec![
        demo::Node::builder()
            .version("0.24.0")
            .loaded("llama3")
            .model("qwen3:8b"),
        demo::Node::builder()
            .version("0.33.0")
            .model("llama3")
            .model("gemma3"),
    ]
}

fn names(list: &Value, key: &str, name: &str) -> Vec<String> {
    let mut names: Vec<String> = list[key]
        .as_array()
        .expect("a list")
        .iter()
        .map(|entry| entry[name].as_str().expect("a name").to_owned())
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn the_lists_are_the_union_of_the_nodes() {
    let herd = herd(herd_of_two(), "").await;
    let tags = herd.get("/api/tags").await.is(200).json();
    assert_eq!(
        names(&tags, "models", "name"),
        ["gemma3:latest", "llama3:latest", "qwen3:8b"]
    );
    assert_eq!(
        names(&tags, "models", "model"),
        ["gemma3:latest", "llama3:latest", "qwen3:8b"]
    );
    let llama = tags["models"]
        .as_array()
        .unwrap()
        .iter()
        .find(|entry| entry["name"] == "llama3:latest")
        .unwrap();
    assert_eq!(
        llama["urls"],
        serde_json::json!([0, 1]),
        "which nodes have it, as Open WebUI lists it"
    );
    assert!(
        llama["digest"]
            .as_str()
            .is_some_and(|digest| digest.len() == 64)
    );

    let models = herd.get("/v1/models").await.is(200).json();
    assert_eq!(models["object"], "list");
    assert_eq!(
        names(&models, "data", "id"),
        ["gemma3:latest", "llama3:latest", "qwen3:8b"]
    );
    assert_eq!(
        herd.get("/v1/models/llama3").await.is(200).json()["id"],
        "llama3"
    );
    let missing = herd.get("/v1/models/lama3").await.is(404).json();
    assert!(
        missing["error"]["message"]
            .as_str()
            .is_some_and(|text| text.contains("did you mean `llama3")),
        "{missing}"
    );

    let ps = herd.get("/api/ps").await.is(200).json();
    assert_eq!(names(&ps, "models", "name"), ["llama3:latest"]);
    assert_eq!(
        herd.get("/api/version").await.is(200).json()["version"],
        "0.24.0",
        "the lowest"
    );
    assert_eq!(herd.get("/").await.is(200).text(), "Ollama is running");
    for path in [
        "/ollama/api/tags",
        "/olla/models",
        "/openai/v1/models",
        "/olla/openai/v1/models",
    ] {
        herd.get(path).await.is(200);
    }
}

#[tokio::test]
async fn heads_are_answered_where_ollama_answers_them() {
    let herd = herd(herd_of_two(), "").await;
    for (path, status) in [
        ("/", 200),
        ("/api/version", 200),
        ("/api/tags", 200),
        ("/api/ps", 405),
        ("/v1/models", 405),
    ] {
        let mut raw = Raw::open(herd.addr()).await;
        raw.send(format!("HEAD {path} HTTP/1.1\r\nhost: g\r\n\r\n"))
            .await;
        assert_eq!(raw.reply_to_head().await.status, status, "{path}");
        // No body came with it: the next answer on the connection is read right.
        raw.send("GET / HTTP/1.1\r\nhost: g\r\n\r\n").await;
        assert_eq!(raw.reply().await.text(), "Ollama is running", "{path}");
    }
}

#[tokio::test]
async fn lists_are_still_answered_when_every_node_is_dead() {
    let herd = herd(herd_of_two(), "").await;
    herd.nodes.iter().for_each(demo::Node::kill);
    herd.eventually("all nodes down", |view| {
        view.nodes.iter().all(|node| node.health.is_down())
    })
    .await;
    let tags = herd.get("/api/tags").await.is(200).json();
    assert_eq!(names(&tags, "models", "name").len(), 3);
    let reply = herd
        .post("/api/chat", r#"{"model":"llama3","messages":[]}"#)
        .await
        .is(503);
    assert!(reply.header("retry-after").is_some());
    herd.admin("/internal/ready").await.is(503);
}

#[tokio::test]
async fn an_unknown_model_is_404_in_every_dialect_with_names_that_come_close() {
    let herd = herd(herd_of_two(), "").await;
    let chat = r#"{"model":"lama3","max_tokens":4,"messages":[{"role":"user","content":"hi"}]}"#;
    let native = herd.post("/api/chat", chat).await.is(404).json();
    assert!(
        native["error"]
            .as_str()
            .is_some_and(|text| text.starts_with("model \"lama3\" not found")),
        "{native}"
    );
    let openai = herd.post("/v1/chat/completions", chat).await.is(404).json();
    assert_eq!(openai["error"]["code"], "model_not_found");
    assert!(
        openai["error"]["message"]
            .as_str()
            .is_some_and(|text| text.contains("llama3:latest")),
        "{openai}"
    );
    let anthropic = herd.post("/v1/messages", chat).await.is(404).json();
    assert_eq!(
        (&anthropic["type"], &anthropic["error"]["type"]),
        (&"error".into(), &"not_found_error".into())
    );
}

#[tokio::test]
async fn a_model_that_a_node_gets_behind_our_back_is_found() {
    let herd = herd(herd_of_two(), "").await;
    herd.nodes[1].install("phi4");
    herd.eventually("phi4 in the catalogue", |view| {
        view.model_names().any(|name| name == "phi4:latest")
    })
    .await;
    herd.post(
        "/api/chat",
        r#"{"model":"phi4","messages":[{"role":"user","content":"hi"}]}"#,
    )
    .await
    .is(200);
}

#[tokio::test]
async fn a_call_with_a_node_index_goes_to_that_node_on_the_streaming_path() {
    let herd = herd(herd_of_two(), "").await;
    for (index, version) in [(0, "0.24.0"), (1, "0.33.0")] {
        let reply = herd
            .get(&format!("/ollama/api/version/{index}"))
            .await
            .is(200);
        assert_eq!(reply.json()["version"], version);
        assert_eq!(
            reply.header("x-arriero-node"),
            Some(format!("gpu-{index}").as_str())
        );
        let tags = herd.get(&format!("/api/tags/{index}")).await.is(200).json();
        assert_eq!(tags["models"].as_array().expect("models").len(), 2);
    }
    herd.get("/api/version/7").await.is(404);
    herd.is_idle().await;
}

#[tokio::test]
async fn a_listing_by_index_is_no_proof_of_a_node_on_trial() {
    let node = || demo::Node::builder().loaded("llama3").tokens(1);
    let herd = herd(vec![node(), node()], "").await;
    herd.nodes[0].fault(arriero::demo::Fault::RstBeforeHead);
    let chat = r#"{"model":"llama3","messages":[{"role":"user","content":"hi"}],"stream":false}"#;
    within("the node to be ejected", async {
        let down = || {
            herd.gateway.gateway.fleet().view().nodes[0]
                .health
                .is_down()
        };
        while !down() {
            herd.post("/api/chat", chat).await.is(200);
        }
    })
    .await;
    let is_on_trial = |view: &arriero::fleet::Snapshot| view.nodes[0].health == Health::Trial;
    herd.eventually("the node on trial", is_on_trial).await;
    herd.get("/api/tags/0").await.is(200);
    assert!(is_on_trial(&herd.gateway.gateway.fleet().view()));
    herd.is_idle().await;
}
