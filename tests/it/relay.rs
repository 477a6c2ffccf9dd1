//! What crosses the gateway: the client's bytes to the node, the node's bytes to the client, and which headers.

use arriero::demo;

use crate::support::client::{Raw, request};
use crate::support::herd::herd_of;
use crate::support::{Herd, herd, post};

fn llama() -> demo::NodeBuilder {
    demo::Node::builder()
        .loaded("llama3")
        .embedder("nomic-embed-text")
        .tokens(4)
}

const CHAT: &str = r#"{"model":"llama3","messages":[{"role":"user","content":"hi"}]}"#;

/// Every call that a node serves, with a body for it.
const CALLS: &[(&str, &str)] = &[
    ("/api/chat", CHAT),
    (
        "/api/chat",
        r#"{"model":"llama3","messages":[{"role":"user","content":"hi"}],"stream":false}"#,
    ),
    ("/api/generate", r#"{"model":"llama3","prompt":"hi"}"#),
    (
        "/api/embed",
        r#"{"model":"nomic-embed-text","input":["a","b"]}"#,
    ),
    (
        "/api/embeddings",
        r#"{"model":"nomic-embed-text","prompt":"a"}"#,
    ),
    ("/api/show", r#"{"model":"llama3"}"#),
    ("/v1/chat/completions", CHAT),
    (
        "/v1/chat/completions",
        r#"{"model":"llama3","messages":[{"role":"user","content":"hi"}],"stream":true}"#,
    ),
    (
        "/v1/completions",
        r#"{"model":"llama3","prompt":"hi","stream":true}"#,
    ),
    (
        "/v1/embeddings",
        r#"{"model":"nomic-embed-text","input":"a"}"#,
    ),
    (
        "/v1/messages",
        r#"{"model":"llama3","max_tokens":5,"messages":[{"role":"user","content":"hi"}]}"#,
    ),
    (
        "/v1/messages",
        r#"{"model":"llama3","max_tokens":5,"stream":true,"messages":[{"role":"user","content":"hi"}]}"#,
    ),
    ("/v1/responses", r#"{"model":"llama3","input":"hi"}"#),
];

/// Digits and spellings of the answer that differ from call to call are taken out.
fn steady(text: &str) -> String {
    let mut value = String::new();
    for line in text.lines() {
        let mut line = line.to_owned();
        for key in [
            "created_at",
            "total_duration",
            "load_duration",
            "prompt_eval_duration",
            "eval_duration",
            "created",
            "completed_at",
            "id",
        ] {
            let mut from = 0;
            while let Some(at) = line[from..]
                .find(&format!("\"{key}\":"))
                .map(|at| from + at)
            {
                from = at + key.len() + 3;
                let end = line[from..]
                    .find([',', '}'])
                    .map_or(line.len(), |n| from + n);
                line.replace_range(from..end, "_");
            }
        }
        value += &line;
        value.push('\n');
    }
    value
}

#[tokio::test]
async fn every_call_passes_through_as_the_node_answers_it() {
    let herd = herd(vec![llama()], "").await;
    for &(path, body) in CALLS {
        let direct = post(herd.nodes[0].addr(), path, body).await;
        let through = herd.post(path, body).await;
        assert_eq!(through.status, direct.status, "{path}");
        assert_eq!(
            through.header("content-type"),
            direct.header("content-type"),
            "{path}"
        );
        assert_eq!(
            through.header("transfer-encoding"),
            direct.header("transfer-encoding"),
            "{path}"
        );
        assert_eq!(steady(&through.text()), steady(&direct.text()), "{path}");
        assert!(through.complete, "{path}");
        let seen = herd.served(0).pop().expect("the node got it");
        assert_eq!(
            String::from_utf8_lossy(&seen.body),
            body,
            "{path}: the client's bytes, untouched"
        );
    }
    herd.is_idle().await;
}

#[tokio::test]
async fn every_mount_reaches_the_same_calls() {
    let herd = herd(vec![llama()], "").await;
    for path in [
        "/api/chat",
        "//api/chat",
        "/ollama/api/chat",
        "/olla/ollama/api/chat",
        "/olla/proxy/api/chat",
        "/ollama/api/chat/0",
    ] {
        let reply = herd.post(path, CHAT).await.is(200);
        assert!(reply.text().contains("\"done\":true"), "{path}");
        assert_eq!(
            reply.header("x-olla-endpoint").is_some(),
            path.starts_with("/olla/"),
            "{path}"
        );
    }
    for path in [
        "/v1/chat/completions",
        "/openai/v1/chat/completions",
        "/olla/openai/v1/chat/completions",
        "/ollama/v1/chat/completions",
    ] {
        herd.post(path, CHAT).await.is(200);
    }
    let message =
        r#"{"model":"llama3","max_tokens":5,"messages":[{"role":"user","content":"hi"}]}"#;
    for path in [
        "/v1/messages",
        "/anthropic/v1/messages",
        "/olla/anthropic/v1/messages",
    ] {
        herd.post(path, message).await.is(200);
    }
}

#[tokio::test]
async fn the_answer_tells_who_gave_it_and_why() {
    let herd = herd(vec![llama()], "").await;
    let reply = herd.post("/api/chat", CHAT).await.is(200);
    assert_eq!(reply.header("x-arriero-node"), Some("gpu-0"));
    assert_eq!(reply.header("x-arriero-model"), Some("llama3:latest"));
    assert_eq!(reply.header("x-arriero-attempts"), Some("1"));
    assert_eq!(reply.header("x-arriero-mode"), Some("passthrough"));
    assert_eq!(reply.header("x-arriero-queue-ms"), Some("0"));
    assert!(
        reply
            .header("x-arriero-route")
            .is_some_and(|reason| !reason.is_empty())
    );
    assert!(
        reply
            .header("x-request-id")
            .is_some_and(|id| id.len() == 24)
    );
    let seen = herd.served(0).pop().expect("a request");
    let sent = seen
        .headers
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case("x-request-id"));
    assert_eq!(
        sent.map(|(_, id)| id.as_str()),
        reply.header("x-request-id"),
        "one id for both logs"
    );
}

#[tokio::test]
async fn secrets_and_forged_headers_do_not_reach_a_node() {
    let herd = herd_of(
        vec![(
            llama(),
            "headers: { x-cluster: blue }\nauth: { type: bearer, token: node-key }",
        )],
        "",
    )
    .await;
    let mut raw = Raw::open(herd.addr()).await;
    raw.send(format!(
        "POST /api/chat HTTP/1.1\r\nHost: gateway.example\r\nOrigin: https://evil.example\r\nReferer: https://evil.example/\r\n\
         Authorization: Bearer client-key\r\nX-Api-Key: client-key\r\nCookie: a=b\r\nX-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Host: x\r\n\
         Forwarded: for=1.2.3.4\r\nX-Real-IP: 1.2.3.4\r\nX-OpenWebUI-User-Id: root\r\nX_Forwarded_For: 1.2.3.4\r\nX-Request-Id: forged-id\r\n\
         Connection: keep-alive, X-Nominated\r\nX-Nominated: 1\r\nTE: trailers\r\nAccept-Encoding: gzip\r\nX-Arriero-Node: gpu-9\r\n\
         User-Agent: curl/8\r\nAccept: */*\r\nX-Custom: kept\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{CHAT}",
        CHAT.len()
    ))
    .await;
    raw.reply().await.is(200);
    let seen = herd.served(0).pop().expect("a request");
    let get = |wanted: &str| {
        let found = seen
            .headers
            .iter()
            .filter(|(name, _)| name.eq_ignore_ascii_case(wanted))
            .map(|(_, value)| value.clone());
        found.collect::<Vec<_>>()
    };
    let mut names: Vec<String> = seen
        .headers
        .iter()
        .map(|(name, _)| name.to_ascii_lowercase())
        .collect();
    names.sort();
    assert_eq!(
        names,
        [
            "accept",
            "authorization",
            "content-length",
            "content-type",
            "host",
            "user-agent",
            "x-cluster",
            "x-custom",
            "x-request-id"
        ]
    );
    assert_eq!(get("host"), [herd.nodes[0].addr().to_string()]);
    assert_eq!(get("authorization"), ["Bearer node-key"]);
    assert_eq!(get("content-type"), ["application/json"]);
    assert_ne!(get("x-request-id"), ["forged-id"]);
}

#[tokio::test]
async fn what_speaks_for_the_node_does_not_reach_a_client() {
    let herd = herd(vec![llama()], "").await;
    herd.nodes[0].fault_times(demo::Fault::ForeignHeaders, 1);
    let reply = herd.post("/api/chat", CHAT).await.is(200);
    for name in [
        "server",
        "set-cookie",
        "access-control-allow-origin",
        "access-control-allow-credentials",
    ] {
        assert_eq!(reply.header(name), None, "{name}");
    }
}

#[tokio::test]
async fn a_body_of_five_megabytes_with_the_model_last_arrives_whole() {
    let seeing = llama().capabilities("llama3", &["completion", "vision"]);
    let herd = herd(vec![seeing], "").await;
    let image = "QUJD".repeat(5 * 1024 * 1024 / 4);
    let body = format!(
        r#"{{"messages":[{{"role":"user","content":"hi","images":["{image}"]}}],"stream":false,"model":"llama3"}}"#
    );
    herd.post("/api/chat", &body).await.is(200);
    assert_eq!(
        herd.served(0).pop().expect("a request").body,
        body.as_bytes()
    );

    let mut raw = Raw::open(herd.addr()).await;
    raw.send("POST /api/chat HTTP/1.1\r\nhost: g\r\ntransfer-encoding: chunked\r\n\r\n")
        .await;
    for piece in body.as_bytes().chunks(70_001) {
        raw.send(format!("{:x}\r\n", piece.len())).await;
        raw.send(piece).await;
        raw.send("\r\n").await;
    }
    raw.send("0\r\n\r\n").await;
    raw.reply().await.is(200);
    assert_eq!(
        herd.served(0).pop().expect("a request").body,
        body.as_bytes()
    );
}

#[tokio::test]
async fn one_connection_serves_many_requests() {
    let herd = herd(vec![llama()], "").await;
    let mut raw = Raw::open(herd.addr()).await;
    for _ in 0..20 {
        raw.send(request("POST", "/api/chat", CHAT)).await;
        assert!(raw.reply().await.is(200).complete);
        raw.send("GET /api/version HTTP/1.1\r\nhost: g\r\n\r\n")
            .await;
        raw.reply().await.is(200);
        raw.send(request("POST", "/api/chat", "{}")).await;
        raw.reply().await.is(400);
    }
    herd.is_idle().await;
}

#[tokio::test]
async fn expect_100_continue_is_answered_before_the_body_is_sent() {
    let herd = herd(vec![llama()], "").await;
    let mut raw = Raw::open(herd.addr()).await;
    let head = format!(
        "POST /api/chat HTTP/1.1\r\nhost: g\r\nexpect: 100-continue\r\ncontent-length: {}\r\n\r\n",
        CHAT.len()
    );
    raw.send(head).await;
    raw.continues().await;
    raw.send(CHAT).await;
    raw.reply().await.is(200);
}

#[tokio::test]
async fn an_http_1_0_client_gets_a_close_delimited_stream() {
    let herd = herd(vec![llama()], "").await;
    let mut raw = Raw::open(herd.addr()).await;
    raw.send(format!(
        "POST /api/chat HTTP/1.0\r\ncontent-length: {}\r\n\r\n{CHAT}",
        CHAT.len()
    ))
    .await;
    let reply = raw.reply().await.is(200);
    assert_eq!(reply.header("transfer-encoding"), None);
    assert!(reply.text().ends_with("}\n") && reply.text().contains("\"done\":true"));
}

#[tokio::test]
async fn a_node_of_another_type_gets_its_own_spelling_of_the_model() {
    let vllm = demo::Node::builder()
        .kind(demo::Kind::OpenAi)
        .loaded("Qwen/Qwen2.5-7B");
    let herd = herd_of(vec![(vllm, "type: vllm")], "").await;
    let body =
        r#"{ "messages":[{"role":"user","content":"hi"}], "model" : "qwen/qwen2.5-7b", "x": 1.0 }"#;
    herd.post("/v1/chat/completions", body).await.is(200);
    let seen: Vec<_> = herd.served(0);
    assert_eq!(
        String::from_utf8_lossy(&seen[0].body),
        r#"{ "messages":[{"role":"user","content":"hi"}], "model" : "Qwen/Qwen2.5-7B", "x": 1.0 }"#
    );
}

#[tokio::test]
async fn plain_curl_works_though_it_says_the_body_is_a_form() {
    let herd: Herd = herd(vec![llama()], "").await;
    let mut raw = Raw::open(herd.addr()).await;
    raw.send(format!(
        "POST /api/generate HTTP/1.1\r\nHost: g\r\nUser-Agent: curl/7.88.1\r\nAccept: */*\r\nContent-Length: 33\r\n\
         Content-Type: application/x-www-form-urlencoded\r\n\r\n{}",
        r#"{"model":"llama3", "prompt":"hi"}"#
    ))
    .await;
    raw.reply().await.is(200);
}
