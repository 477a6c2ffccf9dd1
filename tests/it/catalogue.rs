//! A mixed fleet as one catalogue, over real sockets: three Ollama servers, vLLM, llama.cpp and LM Studio.

use arriero::demo::{Kind, Node, NodeBuilder};
use serde_json::Value;

use crate::support::herd::{Herd, herd_of};

const RULES: &str = "model_aliases: { Helper: [\"missing\", \"Qwen/Qwen3-8B\", \"llama3.2:3b\"] }";

/// gpu-0 to gpu-2 are Ollama, then vLLM, llama.cpp, LM Studio. gpu-1 has a prefix, gpu-2 another llama3.2 and a model to hide.
fn mixed() -> Vec<(NodeBuilder, &'static str)> {
    let llama = |node: NodeBuilder| {
        node.model("llama3.2:3b")
            .details("llama3.2:3b", "llama", "3.2B", "Q4_K_M")
    };
    vec![
        (llama(Node::builder()).embedder("nomic-embed-text"), ""),
        (
            llama(Node::builder()).model("phi4"),
            "prefix_id: far\nmodel_ids: [\"llama3.2:3b\"]\ntags: [fast]\nconnection_type: external",
        ),
        (
            llama(Node::builder())
                .digest("llama3.2:3b", &"b".repeat(64))
                .model("secret"),
            "model_filter: { exclude: [\"SECRET*\"] }",
        ),
        (
            Node::builder().kind(Kind::Vllm).model("Qwen/Qwen3-8B"),
            "type: vllm",
        ),
        (
            Node::builder()
                .kind(Kind::OpenAi)
                .model("phi-4-Q4_K_M.gguf"),
            "type: llamacpp",
        ),
        (
            Node::builder()
                .kind(Kind::LmStudio)
                .details("gemma-3-12b", "gemma3", "12B", "Q4_0")
                .details("cold-one", "phi3", "3.8B", "Q4_0")
                .loaded("gemma-3-12b")
                .model("cold-one"),
            "type: lm-studio",
        ),
    ]
}

async fn names(herd: &Herd, path: &str, list: &str, field: &str) -> Vec<String> {
    let page = herd.get(path).await.is(200).json();
    let entries = page[list]
        .as_array()
        .unwrap_or_else(|| panic!("{path}: {page}"));
    let mut names: Vec<String> = entries
        .iter()
        .map(|entry| {
            entry[field]
                .as_str()
                .unwrap_or_else(|| panic!("{path}: {entry}"))
                .to_owned()
        })
        .collect();
    names.sort();
    names
}

fn chat(model: &str) -> String {
    format!(r#"{{"model":"{model}","messages":[{{"role":"user","content":"hi"}}],"stream":false}}"#)
}

const ALL: &[&str] = &[
    "Helper",
    "Qwen/Qwen3-8B",
    "cold-one",
    "far.llama3.2:3b",
    "gemma-3-12b",
    "llama3.2:3b",
    "nomic-embed-text:latest",
    "phi-4-Q4_K_M.gguf",
];

/// Path, name of the list, the field that names a model, and the names in order.
const LISTINGS: &[(&str, &str, &str, &[&str])] = &[
    ("/api/tags", "models", "name", ALL),
    ("/api/tags", "models", "model", ALL),
    ("/ollama/api/tags", "models", "name", ALL),
    ("/v1/models", "data", "id", ALL),
    ("/openai/v1/models", "data", "id", ALL),
    ("/olla/proxy/v1/models", "data", "id", ALL),
    ("/olla/models?format=openai", "data", "id", ALL),
    ("/olla/models?format=ollama", "models", "name", ALL),
    ("/olla/models?format=lmstudio&colour=red", "data", "id", ALL),
    (
        "/vllm/v1/models",
        "data",
        "id",
        &["Helper", "Qwen/Qwen3-8B"],
    ),
    (
        "/olla/vllm/v1/models",
        "data",
        "root",
        &["Qwen/Qwen3-8B", "Qwen/Qwen3-8B"],
    ),
    ("/llamacpp/v1/models", "data", "id", &["phi-4-Q4_K_M.gguf"]),
    (
        "/lmstudio/api/v0/models",
        "data",
        "id",
        &["cold-one", "gemma-3-12b"],
    ),
    (
        "/lmstudio/api/v0/models",
        "data",
        "state",
        &["loaded", "not-loaded"],
    ),
    (
        "/olla/lmstudio/api/v1/models",
        "models",
        "key",
        &["cold-one", "gemma-3-12b"],
    ),
    ("/sglang/v1/models", "data", "id", &[]),
    (
        "/olla/ollama/api/tags",
        "models",
        "name",
        &[
            "Helper",
            "far.llama3.2:3b",
            "llama3.2:3b",
            "nomic-embed-text:latest",
        ],
    ),
    (
        "/olla/models?family=llama&format=openai",
        "data",
        "id",
        &["far.llama3.2:3b", "llama3.2:3b"],
    ),
    (
        "/olla/models?endpoint=gpu-4&format=openai",
        "data",
        "id",
        &["phi-4-Q4_K_M.gguf"],
    ),
    (
        "/olla/models?type=embeddings&format=ollama",
        "models",
        "name",
        &["nomic-embed-text:latest"],
    ),
    (
        "/olla/models?available=false&format=openai",
        "data",
        "id",
        &[],
    ),
];

#[tokio::test]
async fn every_listing_tells_the_same_models_in_its_own_shape() {
    let herd = herd_of(mixed(), RULES).await;
    for (path, list, field, expected) in LISTINGS {
        assert_eq!(names(&herd, path, list, field).await, *expected, "{path}");
    }
    let anthropic = herd.get("/anthropic/v1/models").await.is(200).json();
    assert_eq!(anthropic["has_more"], false);
    assert_eq!(anthropic["data"][0]["type"], "model");
    let refused = herd.get("/olla/models?format=native").await.is(400).json();
    let message = refused["error"]["message"].as_str().unwrap_or_default();
    assert!(
        message.contains("native") && message.contains("docker-model-runner"),
        "{refused}"
    );
}

fn entry(page: &Value, name: &str) -> Value {
    let entries = page["models"].as_array().into_iter().flatten();
    let found = entries.into_iter().find(|entry| entry["name"] == name);
    found
        .unwrap_or_else(|| panic!("no {name} in {page}"))
        .clone()
}

#[tokio::test]
async fn entries_tell_where_and_what() {
    let herd = herd_of(mixed(), RULES).await;
    let tags = herd.get("/api/tags").await.is(200).json();
    let far = entry(&tags, "far.llama3.2:3b");
    assert_eq!(
        (&far["model"], &far["connection_type"]),
        (&"far.llama3.2:3b".into(), &"external".into())
    );
    assert_eq!(far["tags"], serde_json::json!([{ "name": "fast" }]));
    assert_eq!(far["urls"], serde_json::json!([1]));
    let llama = entry(&tags, "llama3.2:3b");
    assert_eq!(llama["urls"], serde_json::json!([0, 2]));
    assert_eq!(
        (&llama["tags"], &llama["connection_type"]),
        (&Value::Null, &"local".into())
    );
    assert_eq!(entry(&tags, "Helper")["urls"], serde_json::json!([0, 2, 3]));

    let qwen = herd
        .get("/olla/models/Qwen%2FQwen3-8B")
        .await
        .is(200)
        .json();
    assert_eq!(
        (&qwen["id"], &qwen["family"]),
        (&"Qwen/Qwen3-8B".into(), &"qwen".into())
    );
    assert_eq!(qwen["loaded_endpoints"], serde_json::json!(["gpu-3"]));
    assert_eq!(
        herd.get("/olla/models/Qwen/Qwen3-8B").await.is(200).json()["id"],
        qwen["id"]
    );
    let llama = herd.get("/olla/models/LLAMA3.2:3b").await.is(200).json();
    assert_eq!(
        llama["aliases"].as_array().map(Vec::len),
        Some(2),
        "{llama}"
    );
    herd.get("/olla/models/secret").await.is(404);
    herd.get("/v1/models/far.phi4").await.is(404);
    herd.get("/vllm/v1/models/llama3.2:3b").await.is(404);
    assert_eq!(
        herd.get("/v1/models/helper").await.is(200).json()["id"],
        "helper"
    );
    // Two nodes mean different files by llama3.2.
    herd.until_metric("arriero_model_conflicts", |names| names == 1.0)
        .await;
}

#[tokio::test]
async fn what_is_offered_is_what_is_routed() {
    let rules = "model_aliases: { remote: [\"far.llama3.2:3b\"], Helper: [\"Qwen/Qwen3-8B\"] }";
    let herd = herd_of(mixed(), rules).await;
    for model in ["secret", "far.phi4", "phi4", "far.secret"] {
        herd.post("/api/chat", &chat(model)).await.is(404);
    }
    for (model, own) in [
        ("far.llama3.2:3b", "llama3.2:3b"),
        ("FAR.Llama3.2:3b", "llama3.2:3b"),
    ] {
        let reply = herd.post("/api/chat", &chat(model)).await.is(200);
        assert_eq!(reply.header("x-arriero-node"), Some("gpu-1"));
        assert_eq!(reply.header("x-arriero-model"), Some(own));
    }
    let shown = herd
        .post("/api/show", r#"{"model":"far.llama3.2:3b"}"#)
        .await
        .is(200);
    assert_eq!(shown.header("x-arriero-node"), Some("gpu-1"));
    for seen in herd.served(1) {
        let body = String::from_utf8_lossy(&seen.body).into_owned();
        assert!(body.contains(r#""model":"llama3.2:3b""#), "{body}");
    }
    // What is listed as an alias is routed as one, also under the prefix of its target.
    let reply = herd.post("/api/chat", &chat("remote")).await.is(200);
    assert_eq!(reply.header("x-arriero-node"), Some("gpu-1"));
    herd.post("/v1/chat/completions", &chat("Helper"))
        .await
        .is(200);
    let loaded = |model: &'static str| {
        herd.eventually(model, move |view| {
            let ps = view.ps(&arriero::fleet::Scope::ALL);
            String::from_utf8_lossy(&ps).contains(&format!("\"name\":\"{model}\""))
        })
    };
    loaded("far.llama3.2:3b").await;
    for (model, ready) in [
        ("far.llama3.2%3A3b", 200),
        ("secret", 503),
        ("far.phi4", 503),
    ] {
        herd.admin(&format!("/internal/ready?model={model}"))
            .await
            .is(ready);
    }
    // The raw list of one node stays what that node says.
    let raw = herd.get("/api/tags/1").await.is(200).json();
    assert_eq!(raw["models"].as_array().map(Vec::len), Some(2));
    herd.is_idle().await;
}

#[tokio::test]
async fn a_cold_model_of_lm_studio_warms_up_in_the_catalogue() {
    let herd = herd_of(mixed(), RULES).await;
    herd.post("/v1/chat/completions", &chat("cold-one"))
        .await
        .is(200);
    herd.eventually("cold-one is warm", |view| {
        let key = arriero::model::ModelKey::parse("cold-one").expect("a name");
        view.holders(&key).is_some_and(|holders| holders[0].warm)
    })
    .await;
}

#[tokio::test]
async fn listings_are_answered_when_every_node_is_dead() {
    let herd = herd_of(mixed(), RULES).await;
    for node in &herd.nodes {
        node.kill();
    }
    herd.eventually("all down", |view| {
        view.nodes.iter().all(|node| node.health.is_down())
    })
    .await;
    assert_eq!(names(&herd, "/api/tags", "models", "name").await, ALL);
    assert_eq!(
        names(&herd, "/olla/models?format=vllm", "data", "id").await,
        ALL
    );
    assert_eq!(
        names(
            &herd,
            "/olla/models?available=true&format=openai",
            "data",
            "id"
        )
        .await,
        &[] as &[&str]
    );
    assert_eq!(
        names(&herd, "/llamacpp/v1/models", "data", "id").await,
        ["phi-4-Q4_K_M.gguf"]
    );
    assert_eq!(
        herd.get("/api/ps").await.is(200).json()["models"],
        serde_json::json!([])
    );
    let unified = herd.get("/olla/models").await.is(200).json();
    let states = unified["data"].as_array().into_iter().flatten();
    for state in states.flat_map(|it| {
        it["olla"]["availability"]
            .as_array()
            .cloned()
            .unwrap_or_default()
    }) {
        assert_eq!(state["state"], "offline");
    }
}
