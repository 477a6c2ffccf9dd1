//! A name that stands for others, over a mixed fleet: each node is asked for what it calls the model.

use arriero::demo::{self, Fault, Kind};
use arriero::fleet::State;
use serde_json::Value;

use crate::support::herd::herd_of;
use crate::support::{Herd, within};

/// `GPT-OSS-120b` under three names on four of five nodes, one of them without a slot to spare.
async fn mixed() -> Herd {
    let ollama = || demo::Node::builder().tokens(2);
    let other = |kind| demo::Node::builder().kind(kind).tokens(2);
    herd_of(
        vec![
            (ollama().model("gpt-oss:120b").loaded("llama3"), "slots: 1"),
            (ollama().model("gpt-oss:120b"), "slots: 1"),
            (ollama().model("phi4").embedder("nomic"), ""),
            (other(Kind::Vllm).model("GPT-oss-120b-MLX"), "type: vllm"),
            (
                other(Kind::OpenAi).model("gguf_gpt_oss_120b.gguf"),
                "type: llamacpp",
            ),
        ],
        r#"
proxy: { retry: { budget_percent: 100 } }
model_aliases:
  GPT-OSS-120b: ["gpt-oss:120b", gpt-oss-120b-mlx, gguf_gpt_oss_120b.gguf]
  embedder: [nomic]
  small: [phi4, llama3]
  none: [qwen3, "mistral:7b"]
  phi4: [llama3]
"#,
    )
    .await
}

fn chat(model: &str) -> String {
    format!(r#"{{"model": "{model}","x-y":1.50,"messages":[{{"role":"user","content":"hi"}}]}}"#)
}

/// What a node was asked for last.
fn last_body(herd: &Herd, node: usize) -> String {
    let seen = herd.served(node).pop().expect("a request");
    String::from_utf8(seen.body.to_vec()).expect("text")
}

#[tokio::test]
async fn each_node_is_asked_for_what_it_calls_the_model() {
    let herd = mixed().await;
    for asked in ["GPT-OSS-120b", "gpt-oss-120b", "gpt-OSS-120B:latest"] {
        let reply = herd
            .post("/v1/chat/completions", &chat(asked))
            .await
            .is(200);
        let node: usize = reply.header("x-arriero-node").unwrap()[4..]
            .parse()
            .unwrap();
        assert!(node < 2, "the first target is on gpu-0 and gpu-1: {node}");
        assert_eq!(reply.header("x-arriero-model"), Some("gpt-oss:120b"));
        assert_eq!(
            last_body(&herd, node),
            chat("gpt-oss:120b"),
            "but for the name byte for byte"
        );
        assert_eq!(
            reply.json()["model"],
            "gpt-oss:120b",
            "the answer says what the node says"
        );
    }
    for (node, spelled) in [(3, "GPT-oss-120b-MLX"), (4, "gguf_gpt_oss_120b.gguf")] {
        let mount = ["", "", "", "/vllm", "/llamacpp"][node];
        let path = format!("{mount}/v1/chat/completions");
        let reply = herd.post(&path, &chat("gpt-oss-120b")).await.is(200);
        assert_eq!(reply.header("x-arriero-model"), Some(spelled));
        assert_eq!(last_body(&herd, node), chat(spelled));
    }
    herd.is_idle().await;
}

#[tokio::test]
async fn a_later_target_takes_over_when_the_earlier_ones_fail_or_are_gone() {
    let herd = mixed().await;
    for node in [0, 1] {
        herd.nodes[node].fault(Fault::RstBeforeHead);
    }
    let reply = herd
        .post("/v1/chat/completions", &chat("gpt-oss-120b"))
        .await
        .is(200);
    let served_by = |reply: &crate::support::client::Reply| {
        reply.header("x-arriero-model").expect("a model").to_owned()
    };
    assert!(
        served_by(&reply).to_lowercase().contains("120b"),
        "{reply:?}"
    );
    assert_eq!(reply.header("x-arriero-attempts"), Some("3"));

    for node in [0, 1] {
        herd.nodes[node].kill();
    }
    herd.eventually("gpu-0 and gpu-1 down", |view| {
        view.nodes
            .iter()
            .take(2)
            .all(|node| node.state() == State::Offline)
    })
    .await;
    let reply = herd
        .post("/v1/chat/completions", &chat("gpt-oss-120b"))
        .await
        .is(200);
    assert_eq!(served_by(&reply), "GPT-oss-120b-MLX");
    herd.nodes[3].kill();
    herd.eventually("gpu-3 down", |view| view.nodes[3].state() == State::Offline)
        .await;
    let reply = herd
        .post("/v1/chat/completions", &chat("gpt-oss-120b"))
        .await
        .is(200);
    assert_eq!(served_by(&reply), "gguf_gpt_oss_120b.gguf");
    herd.nodes[4].kill();
    herd.eventually("gpu-4 down", |view| view.nodes[4].state() == State::Offline)
        .await;
    let refused = herd.post("/api/chat", &chat("gpt-oss-120b")).await.is(503);
    let text = refused.json()["error"].as_str().unwrap().to_owned();
    assert!(
        text.starts_with(
            "no healthy node for model \"gpt-oss-120b\" (an alias for gpt-oss:120b, gpt-oss-120b-mlx, gguf_gpt_oss_120b.gguf)"
        ),
        "{text}"
    );
}

#[tokio::test]
async fn an_alias_works_wherever_a_model_is_named() {
    let herd = mixed().await;
    let calls = [
        ("/api/show", r#"{"model":"Small"}"#, "phi4:latest"),
        (
            "/api/generate",
            r#"{"model":"small","prompt":"x"}"#,
            "phi4:latest",
        ),
        (
            "/api/embed",
            r#"{"model":"embedder","input":"x"}"#,
            "nomic:latest",
        ),
        (
            "/api/embeddings",
            r#"{"model":"embedder","prompt":"x"}"#,
            "nomic:latest",
        ),
        (
            "/v1/embeddings",
            r#"{"model":"EMBEDDER","input":"x"}"#,
            "nomic:latest",
        ),
        (
            "/v1/completions",
            r#"{"model":"small","prompt":"x"}"#,
            "phi4:latest",
        ),
        (
            "/v1/responses",
            r#"{"model":"small","input":"x"}"#,
            "phi4:latest",
        ),
        (
            "/v1/messages",
            r#"{"model":"small","max_tokens":4,"messages":[{"role":"user","content":"x"}]}"#,
            "phi4:latest",
        ),
    ];
    for (path, body, spelled) in calls {
        let reply = herd.post(path, body).await.is(200);
        assert_eq!(reply.header("x-arriero-node"), Some("gpu-2"), "{path}");
        let asked: Value = serde_json::from_str(&last_body(&herd, 2)).unwrap();
        assert_eq!(asked["model"], spelled, "{path}");
    }
    let reply = herd
        .post("/api/show", r#"{"name":"small","model":""}"#)
        .await
        .is(200);
    assert_eq!(
        reply.header("x-arriero-node"),
        Some("gpu-2"),
        "the CLI's way"
    );
    assert_eq!(last_body(&herd, 2), r#"{"name":"phi4:latest","model":""}"#);
}

#[tokio::test]
async fn a_model_that_has_the_aliass_name_comes_first_and_keeps_the_clients_bytes() {
    let herd = mixed().await;
    let reply = herd.post("/api/chat", &chat("PHI4")).await.is(200);
    assert_eq!(reply.header("x-arriero-node"), Some("gpu-2"));
    assert_eq!(
        last_body(&herd, 2),
        chat("PHI4"),
        "Ollama knows the spelling"
    );
    herd.nodes[2].kill();
    herd.eventually("gpu-2 down", |view| view.nodes[2].health.is_down())
        .await;
    let reply = herd.post("/api/chat", &chat("PHI4")).await.is(200);
    assert_eq!(reply.header("x-arriero-model"), Some("llama3:latest"));
}

#[tokio::test]
async fn an_alias_that_nobody_has_is_refused_and_says_what_it_stands_for() {
    let herd = mixed().await;
    let refused = herd.post("/api/chat", &chat("None")).await.is(404);
    assert_eq!(
        refused.json()["error"],
        "model \"None\" (an alias for qwen3, mistral:7b) not found: no node has any of them; `ollama pull` one"
    );
    let refused = herd
        .post("/v1/chat/completions/2", &chat("gpt-oss-120b"))
        .await
        .is(404);
    assert_eq!(
        refused.json()["error"]["message"],
        "model \"gpt-oss-120b\" (an alias for gpt-oss:120b, gpt-oss-120b-mlx, gguf_gpt_oss_120b.gguf) not found on node 2 (gpu-2); leave the index out to let the gateway choose"
    );
    herd.post("/v1/chat/completions/1", &chat("gpt-oss-120b"))
        .await
        .is(200);
    assert!(herd.served(0).is_empty() && herd.served(2).is_empty());
}

#[tokio::test]
async fn operators_see_the_alias_as_what_it_stands_for() {
    let herd = mixed().await;
    herd.post("/api/chat", &chat("small")).await.is(200);
    let tokens = r#"arriero_tokens_total{direction="out",model="phi4:latest"}"#;
    herd.until_metric(tokens, |tokens| tokens > 0.0).await;
    for (model, status) in [
        ("SMALL", 200),
        ("gpt-oss-120b", 200),
        ("none", 503),
        ("phi4", 200),
    ] {
        let path = format!("/internal/ready?model={model}");
        herd.admin(&path).await.is(status);
    }
    let reply = herd
        .post("/olla/proxy/api/chat", &chat("small"))
        .await
        .is(200);
    let words = [
        "model",
        "routing-strategy",
        "routing-decision",
        "routing-reason",
    ]
    .map(|name| {
        reply
            .header(&format!("x-olla-{name}"))
            .unwrap_or_default()
            .to_owned()
    });
    assert_eq!(words, ["small", "alias", "routed", "model_found"]);
}

#[tokio::test]
async fn requests_by_alias_queue_for_its_nodes_and_are_served_in_turn() {
    let herd = mixed().await;
    for node in [0, 1] {
        herd.nodes[node].pause_after(0);
    }
    // Only Ollama nodes speak this dialect, and each has one slot.
    let mut held = Vec::new();
    for _ in 0..2 {
        held.push(herd.begin("/api/chat", &chat("gpt-oss-120b")).await);
    }
    within(
        "both slots taken",
        herd.nodes[0].until(|node| node.paused() == 1),
    )
    .await;
    within(
        "both slots taken",
        herd.nodes[1].until(|node| node.paused() == 1),
    )
    .await;
    let mut waiting = herd.begin("/api/chat", &chat("GPT-OSS-120b")).await;
    herd.until_metric("arriero_queue_depth", |depth| depth == 1.0)
        .await;
    herd.nodes.iter().for_each(demo::Node::resume);
    let reply = within("its turn", waiting.reply()).await.is(200);
    assert_eq!(reply.header("x-arriero-model"), Some("gpt-oss:120b"));
    assert!(reply.header("x-arriero-queue-ms").is_some());
    for mut raw in held {
        raw.reply().await.is(200);
    }
    herd.is_idle().await;
}

#[tokio::test]
async fn names_that_stand_for_others_are_not_counted_as_models() {
    let herd = mixed().await;
    let status = herd.admin("/internal/status/models").await.is(200).json();
    let stats = "/internal/stats/models?include_summary=true";
    let stats = herd.admin(stats).await.is(200).json();
    // gpt-oss:120b, gpt-oss-120b-mlx, gguf_gpt_oss_120b.gguf, llama3, phi4 and nomic.
    assert_eq!(status["total_models"], 6);
    assert_eq!(stats["summary"]["total_models"], 6);
}
