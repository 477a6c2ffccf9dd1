//! The admin listener: health, readiness, metrics, and who may read them.

use arriero::demo;

use crate::support::client::Raw;
use crate::support::{Herd, herd};

async fn one(yaml: &str) -> Herd {
    herd(vec![demo::Node::builder().loaded("llama3").tokens(2)], yaml).await
}

async fn ask(herd: &Herd, host: &str, path: &str, extra: &str) -> u16 {
    let mut raw = Raw::open(herd.gateway.admin_addr).await;
    raw.send(format!(
        "GET {path} HTTP/1.1\r\nhost: {host}\r\n{extra}\r\n"
    ))
    .await;
    raw.reply().await.status
}

#[tokio::test]
async fn health_and_readiness_tell_the_truth() {
    let herd = one("").await;
    herd.admin("/internal/health").await.is(200);
    herd.admin("/internal/ready").await.is(200);
    herd.admin("/internal/ready?model=llama3").await.is(200);
    herd.admin("/internal/ready?model=llama3%3Alatest")
        .await
        .is(200);
    herd.admin("/internal/ready?model=qwen3").await.is(503);
    herd.admin("/internal/nothing").await.is(404);
    herd.nodes[0].kill();
    herd.eventually("down", |view| view.nodes[0].health.is_down())
        .await;
    herd.admin("/internal/health").await.is(200);
    herd.admin("/internal/ready").await.is(503);
    herd.nodes[0].revive().await.expect("the port is free");
    herd.eventually("up", |view| view.nodes[0].health.is_up())
        .await;
    herd.admin("/internal/ready").await.is(200);
}

#[tokio::test]
async fn foreign_host_names_and_missing_keys_are_refused_but_for_the_probes() {
    let herd = one("admin: { key: secret-admin-key, allowed_hosts: [gw.internal] }").await;
    let key = "authorization: Bearer secret-admin-key\r\n";
    assert_eq!(
        ask(&herd, "evil.example", "/internal/health", "").await,
        200
    );
    assert_eq!(
        ask(&herd, "10.0.0.9:40115", "/internal/ready", "").await,
        200
    );
    assert_eq!(ask(&herd, "evil.example", "/metrics", key).await, 403);
    assert_eq!(ask(&herd, "gw.internal", "/metrics", "").await, 401);
    assert_eq!(
        ask(
            &herd,
            "gw.internal",
            "/metrics",
            "authorization: Bearer wrong\r\n"
        )
        .await,
        401
    );
    assert_eq!(ask(&herd, "gw.internal:40115", "/metrics", key).await, 200);
    assert_eq!(ask(&herd, "127.0.0.1", "/metrics", key).await, 200);
}

#[tokio::test]
async fn metrics_count_what_happened_and_clients_cannot_mint_series() {
    let herd = one("").await;
    let chat = r#"{"model":"llama3","messages":[{"role":"user","content":"hi"}]}"#;
    herd.post("/api/chat", chat).await.is(200);
    herd.post("/api/chat", &chat.replace("llama3", "LLaMA3:latest"))
        .await
        .is(200);
    for n in 0..50 {
        herd.post(
            "/api/chat",
            &chat.replace("llama3", &format!("made-up-{n}")),
        )
        .await
        .is(404);
        herd.get(&format!("/made/up/{n}")).await.is(404);
    }
    let done = "arriero_http_requests_total{call=\"chat\",code=\"200\",end_by=\"done\"}";
    assert_eq!(herd.metric(done).await, 2.0);
    assert_eq!(
        herd.metric("arriero_http_requests_total{call=\"chat\",code=\"404\",end_by=\"gateway\"}")
            .await,
        50.0
    );
    assert_eq!(
        herd.metric("arriero_upstream_health{node=\"gpu-0\"}").await,
        1.0
    );
    assert_eq!(
        herd.metric("arriero_upstream_model_loaded{model=\"llama3:latest\",node=\"gpu-0\"}")
            .await,
        1.0
    );
    assert_eq!(
        herd.metric("arriero_time_to_first_byte_seconds_count{model=\"llama3:latest\"}")
            .await,
        2.0
    );
    assert!(
        herd.metric("arriero_tokens_total{direction=\"out\",model=\"llama3:latest\"}")
            .await
            > 0.0
    );
    let text = herd.admin("/metrics").await.is(200).text();
    assert!(
        !text.contains("made-up") && !text.contains("/made"),
        "{text}"
    );
    assert_eq!(
        text.lines()
            .filter(|line| line.starts_with("# HELP") && !line.contains("arriero_"))
            .count(),
        0
    );
}

#[tokio::test]
async fn what_sits_on_loopback_also_answers_admin_paths_on_the_main_listener() {
    let herd = one("").await;
    herd.get("/internal/health").await.is(200);
    herd.get("/internal/ready").await.is(200);
    herd.get("/metrics").await.is(403); // `Host: gateway` is no allowed name
    let mut raw = Raw::open(herd.addr()).await;
    raw.send("GET /metrics HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
        .await;
    raw.reply().await.is(200);
    // Reading only: a proxy on the machine may stand in front of this listener.
    let mut raw = Raw::open(herd.addr()).await;
    raw.send(
        "POST /internal/nodes/gpu-0/drain HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 0\r\n\r\n",
    )
    .await;
    raw.reply().await.is(403);
}

#[tokio::test]
async fn a_wrong_method_is_told_the_right_ones() {
    let herd = one("").await;
    let main = [herd.addr(), herd.gateway.admin_addr];
    let admin = [herd.gateway.admin_addr];
    let cases: &[(&[_], &str, &str, &str)] = &[
        (&main, "POST", "/internal/status", "GET, HEAD"),
        (&main, "PUT", "/version", "GET, HEAD"),
        (&main, "POST", "/metrics", "GET, HEAD"),
        (&main, "DELETE", "/internal/stats/models", "GET, HEAD"),
        (&main, "DELETE", "/internal/explain", "GET, HEAD, POST"),
        (&admin, "GET", "/internal/reload", "POST"),
        (&admin, "PUT", "/internal/nodes/gpu-0/drain", "POST"),
    ];
    for (listeners, method, path, allow) in cases {
        for addr in *listeners {
            let mut raw = Raw::open(*addr).await;
            raw.send(format!(
                "{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 0\r\n\r\n"
            ))
            .await;
            let reply = raw.reply().await.is(405);
            assert_eq!(reply.header("allow"), Some(*allow), "{method} {path}");
        }
    }
}
