//! What a node's type decides on the wire: where it is asked, for what, and for how long.

use arriero::demo::{self, Fault, Kind};
use serde_json::json;

use crate::support::herd::{herd_of, starting};
use crate::support::{Herd, herd};

const WHOLE: &str =
    r#"{"model":"llama3","stream":false,"messages":[{"role":"user","content":"hi"}]}"#;

fn llama() -> demo::NodeBuilder {
    demo::Node::builder().loaded("llama3").tokens(2)
}

async fn paths_asked(herd: &Herd) -> Vec<String> {
    herd.is_idle().await;
    herd.served(0).into_iter().map(|seen| seen.path).collect()
}

#[tokio::test]
async fn a_call_goes_where_its_type_keeps_it() {
    let own = "type: lemonade\nhealth_check_url: /v1/models\nmodel_url: /v1/models";
    let herd = herd_of(vec![(llama().kind(Kind::OpenAi), own)], "").await;
    herd.post("/v1/chat/completions?x=1", WHOLE).await;
    for path in ["/v1", "/api/v1"].map(|base| format!("{base}/chat/completions")) {
        herd.post(&format!("/lemonade{path}"), WHOLE).await;
        herd.post(&format!("/olla/lemonade{path}"), WHOLE).await;
    }
    let asked = paths_asked(&herd).await;
    assert_eq!(asked[0], "/api/v1/chat/completions?x=1");
    assert_eq!(asked[1..], ["/api/v1/chat/completions"; 4]);
}

#[tokio::test]
async fn of_several_places_of_a_call_the_client_chooses() {
    let own = "type: docker-model-runner\nhealth_check_url: /v1/models\nmodel_url: /v1/models";
    let herd = herd_of(vec![(llama().kind(Kind::OpenAi), own)], "").await;
    for path in ["/v1", "/engines/v1", "/engines/vllm/v1"] {
        herd.post(&format!("/dmr{path}/chat/completions"), WHOLE)
            .await;
    }
    let [default, same, vllm] = ["/engines/v1", "/engines/v1", "/engines/vllm/v1"];
    let expected = [default, same, vllm].map(|path| format!("{path}/chat/completions"));
    assert_eq!(paths_asked(&herd).await, expected);
}

#[tokio::test]
async fn an_old_node_is_not_asked_for_messages() {
    let herd = herd(vec![llama().version("0.13.5"), llama()], "").await;
    let body = r#"{"model":"llama3","max_tokens":2,"messages":[{"role":"user","content":"hi"}]}"#;
    for _ in 0..4 {
        let reply = herd.post("/v1/messages", body).await.is(200);
        assert_eq!(reply.header("x-arriero-node"), Some("gpu-1"));
    }
    assert!(paths_asked(&herd).await.is_empty());
}

#[tokio::test]
async fn who_has_the_model_but_not_the_call_is_named_with_what_it_lacks() {
    let body = r#"{"model":"llama3","max_tokens":2,"messages":[{"role":"user","content":"hi"}]}"#;
    let old = herd(vec![llama().version("0.13.5")], "").await;
    let refused = old.post("/v1/messages", body).await.is(501).json();
    let told = refused["error"]["message"].as_str().unwrap();
    assert!(
        told.contains("(gpu-0 has version 0.13.5, and the call from 0.14.0 on)")
            && told.ends_with("use /v1/chat/completions or /ollama/v1/chat/completions instead"),
        "{told}"
    );
    let listed = old.get("/anthropic/v1/models").await.is(200).json();
    assert_eq!(listed["data"], json!([]));
}

#[tokio::test]
async fn the_timeout_of_a_type_is_kept() {
    let herd = herd(
        vec![llama(), llama()],
        "characteristics: { timeout: 300ms }",
    )
    .await;
    herd.nodes[0].fault_times(Fault::NeverHeaders, 1);
    // Whichever is asked first, the answer comes from one that answers.
    for _ in 0..2 {
        herd.post("/api/chat", WHOLE).await.is(200);
    }
    let silent = herd
        .metric("arriero_retries_total{reason=\"silent\"}")
        .await;
    assert!((silent - 1.0).abs() < f64::EPSILON, "{silent}");
}

#[tokio::test]
async fn what_the_operator_limits_is_a_limit() {
    let yaml =
        "characteristics: { max_concurrent_requests: 1 }\nproxy: { queue: { max_length: 0 } }";
    let herd = herd(vec![llama()], yaml).await;
    herd.nodes[0].pause_after(1);
    let first = herd.begin("/api/chat", WHOLE).await;
    herd.nodes[0].until(|node| node.paused() == 1).await;
    herd.post("/api/chat", WHOLE).await.is(503);
    herd.nodes[0].resume();
    drop(first);
    herd.is_idle().await;
}

/// The types of a herd's nodes, in order.
fn types(view: &arriero::fleet::Snapshot) -> Vec<String> {
    let nodes = view.nodes.iter();
    nodes
        .map(|node| node.config.profile.name.to_string())
        .collect()
}

#[tokio::test]
async fn a_node_of_unknown_type_is_asked_what_it_is() {
    let kinds = [
        Kind::Ollama,
        Kind::OpenAi,
        Kind::Vllm,
        Kind::LmStudio,
        Kind::SgLang,
    ];
    let nodes = kinds.map(|kind| (llama().kind(kind), "type: auto"));
    let herd = herd_of(nodes.into(), "").await;
    herd.eventually("the types", |view| {
        types(view) == ["ollama", "llamacpp", "vllm", "lm-studio", "sglang"]
    })
    .await;
    herd.settled().await;
    for (at, prefix) in ["ollama", "llamacpp", "vllm", "lmstudio", "sglang"]
        .iter()
        .enumerate()
    {
        let reply = herd
            .post(&format!("/olla/{prefix}/v1/chat/completions"), WHOLE)
            .await
            .is(200);
        assert_eq!(
            reply.header("x-arriero-node"),
            Some(format!("gpu-{at}").as_str())
        );
    }
    let native = herd.post("/api/chat", WHOLE).await.is(200);
    assert_eq!(native.header("x-arriero-node"), Some("gpu-0"));
}

#[tokio::test]
async fn another_server_behind_the_address_is_found_out_when_it_answers() {
    let herd = herd_of(vec![(llama(), "type: auto")], "").await;
    herd.eventually("the type", |view| types(view) == ["ollama"])
        .await;
    let addr = herd.nodes[0].addr();
    herd.nodes[0].kill();
    herd.eventually("down", |view| view.nodes[0].health.is_down())
        .await;
    let _other = llama()
        .kind(Kind::Vllm)
        .start_on(addr)
        .await
        .expect("the port is free");
    herd.eventually("the other type", |view| types(view) == ["vllm"])
        .await;
    herd.settled().await;
    herd.post("/v1/chat/completions", WHOLE).await.is(200);
    herd.post("/api/chat", WHOLE).await.is(501);
}

#[tokio::test]
async fn a_node_with_a_long_list_is_known_for_what_it_is_and_stays_up() {
    let many = |kind| {
        (0..1500).fold(llama().kind(kind), |node, n| {
            node.model(&format!("a-rather-long-model-name-{n}"))
        })
    };
    let nodes = vec![
        (many(Kind::Ollama), "type: auto"),
        (many(Kind::OpenAi), "type: openai-compatible"),
    ];
    let herd = herd_of(nodes, "").await;
    herd.eventually("the types", |view| {
        types(view) == ["ollama", "openai-compatible"]
    })
    .await;
    herd.settled().await;
    let probes = |herd: &Herd, at: usize| herd.nodes[at].seen().len();
    let before = probes(&herd, 1);
    herd.nodes[1]
        .until(|node| before + 3 < node.seen().len())
        .await;
    let view = herd.gateway.gateway.fleet().view();
    assert!(view.nodes.iter().all(|node| node.health.is_up()));
    assert_eq!(types(&view), ["ollama", "openai-compatible"]);
}

#[tokio::test]
async fn a_found_type_brings_its_priority_and_one_that_does_not_suit_stays_unused() {
    let yaml = "characteristics: { default_priority: 7, auth: { types: [api_key] } }";
    let quick = "type: auto\ncheck_interval: 300ms\ncheck_timeout: 300ms";
    let bearer = format!("{quick}\nauth: {{ type: bearer, token: t }}");
    let own = format!("{quick}\npriority: 100");
    let nodes = vec![
        (llama(), quick),
        (llama(), own.as_str()),
        (llama(), bearer.as_str()),
    ];
    let herd = starting(nodes, yaml, |_, _| ()).await;
    herd.eventually("the types", |view| types(view)[..2] == ["ollama", "ollama"])
        .await;
    let view = herd.gateway.gateway.fleet().view();
    let priorities = view.nodes.iter().map(|node| node.config.priority);
    assert_eq!(priorities.collect::<Vec<_>>(), [7, 100, 100]);
    // It is asked again, so the first round of questions has ended.
    let asked = |node: &demo::Node| {
        let seen = node.seen();
        let again = seen.iter().filter(|seen| seen.path == "/api/tags");
        again.count() > 1
    };
    herd.nodes[2].until(asked).await;
    assert_eq!(types(&herd.gateway.gateway.fleet().view())[2], "auto");
}
