//! Before the first byte another node saves the day; client errors and answers that have begun do not move.

use std::time::Duration;

use arriero::demo::{self, Fault};

use crate::support::herd;
use crate::support::herd::starting;

fn llama() -> demo::NodeBuilder {
    demo::Node::builder().loaded("llama3").tokens(3)
}

const CHAT: &str = r#"{"model":"llama3","messages":[{"role":"user","content":"hi"}]}"#;
fn status(status: u16, body: &str) -> Fault {
    Fault::Status {
        status,
        body: body.to_owned(),
    }
}

/// The first of two nodes is tried first: it has the higher priority.
const FIRST: &str = "priority: 200";

/// A herd whose gpu-0 is always asked first, and gpu-1 next.
async fn pair(yaml: &str) -> crate::support::Herd {
    crate::support::herd::herd_of(vec![(llama(), FIRST), (llama(), "priority: 100")], yaml).await
}

#[tokio::test]
async fn every_failure_before_the_first_byte_goes_to_another_node() {
    let faults = [
        ("reset before the head", Fault::RstBeforeHead),
        ("closed before the head", Fault::FinBeforeHead),
        (
            "a head, then a cut before the first body byte",
            Fault::FinAfter { after: 0 },
        ),
        ("garbage instead of HTTP", Fault::Garbage),
        ("a broken status line", Fault::BadStatusLine),
        ("status 700", Fault::Status700),
        ("busy", Fault::busy()),
        ("rate limit", Fault::too_many()),
        ("bad gateway", status(502, "")),
        ("gateway timeout", status(504, "")),
        ("a dead runner", Fault::runner_failed()),
        (
            "no memory",
            status(
                500,
                r#"{"error":"model requires more system memory (9 GiB) than is available (1 GiB)"}"#,
            ),
        ),
        (
            "early 503 with the body unread",
            Fault::EarlyStatus { status: 503 },
        ),
    ];
    let small = CHAT.to_owned();
    let large = format!(
        r#"{{"messages":[{{"role":"user","content":"{}"}}],"model":"llama3"}}"#,
        "x".repeat(5_000_000)
    );
    for (what, fault) in faults {
        for body in [&small, &large] {
            let herd = pair("").await;
            herd.nodes[0].fault_times(fault.clone(), 1);
            let reply = herd.post("/api/chat", body).await;
            assert_eq!(
                (reply.status, reply.complete),
                (200, true),
                "{what}: {}",
                reply.text()
            );
            assert!(reply.text().contains("\"done\":true"), "{what}");
            assert_eq!(reply.header("x-arriero-node"), Some("gpu-1"), "{what}");
            assert_eq!(reply.header("x-arriero-attempts"), Some("2"), "{what}");
            assert_eq!(herd.served(1).len(), 1, "{what}");
            assert_eq!(
                herd.served(1)[0].body,
                body.as_bytes(),
                "{what}: the whole body again"
            );
            herd.is_idle().await;
        }
    }
}

#[tokio::test]
async fn eight_mebibytes_with_the_model_last_reach_the_second_node_intact() {
    let text = "0123456789abcdef".repeat(8 * 1024 * 1024 / 16);
    let body = format!(r#"{{"prompt":"{text}","stream":false,"model":"llama3"}}"#);
    for refuse in [
        |node: &demo::Node| node.kill(),
        |node: &demo::Node| node.fault(Fault::busy()),
        |node: &demo::Node| node.fault(Fault::EarlyStatus { status: 503 }),
    ] {
        for chunked in [false, true] {
            let herd = pair("").await;
            refuse(&herd.nodes[0]);
            let mut raw = crate::support::Raw::open(herd.addr()).await;
            if chunked {
                raw.send(
                    "POST /api/generate HTTP/1.1\r\nhost: g\r\ntransfer-encoding: chunked\r\n\r\n",
                )
                .await;
                for piece in body.as_bytes().chunks(100_003) {
                    raw.send(format!("{:x}\r\n", piece.len())).await;
                    raw.send(piece).await;
                    raw.send("\r\n").await;
                }
                raw.send("0\r\n\r\n").await;
            } else {
                raw.send(crate::support::client::request(
                    "POST",
                    "/api/generate",
                    &body,
                ))
                .await;
            }
            let reply = raw.reply().await.is(200);
            assert_eq!(reply.header("x-arriero-node"), Some("gpu-1"));
            let seen = herd.served(1).pop().expect("a request");
            assert!(
                seen.body == body.as_bytes(),
                "chunked: {chunked}: not the client's bytes"
            );
        }
    }
}

#[tokio::test]
async fn a_node_that_refuses_connections_costs_nobody_an_error() {
    let herd = pair("").await;
    herd.nodes[0].kill();
    for _ in 0..5 {
        let reply = herd.post("/api/chat", CHAT).await.is(200);
        assert_eq!(reply.header("x-arriero-node"), Some("gpu-1"));
    }
}

#[tokio::test]
async fn a_silent_node_is_given_up_at_the_first_byte_deadline() {
    let herd = pair("proxy: { warm_header_timeout: 300ms, response_header_timeout: 300ms }").await;
    herd.nodes[0].fault_times(Fault::NeverHeaders, 1);
    let reply = herd.post("/api/chat", CHAT).await.is(200);
    assert_eq!(reply.header("x-arriero-node"), Some("gpu-1"));
    assert_eq!(
        herd.metric("arriero_retries_total{reason=\"silent\"}")
            .await,
        1.0
    );
    herd.nodes[0]
        .until(|node| node.generating() == 0 && node.waiting() == 0)
        .await;
}

#[tokio::test]
async fn a_stale_pooled_connection_is_replaced_without_a_second_node() {
    let herd = herd(vec![llama()], "").await;
    herd.post("/api/chat", CHAT).await.is(200);
    herd.nodes[0].fault_times(Fault::StaleReset, 1);
    let reply = herd.post("/api/chat", CHAT).await.is(200);
    assert_eq!(
        reply.header("x-arriero-attempts"),
        Some("1"),
        "the same node, on a fresh connection"
    );
    assert_eq!(reply.text().matches("\"done\":true").count(), 1);
}

#[tokio::test]
async fn a_clients_mistake_stays_with_the_node_that_named_it() {
    let mistakes = [
        (400, r#"{"error":"json: cannot unmarshal"}"#),
        (404, r#"{"error":"no such page"}"#),
        (
            500,
            r#"{"error":"option \"num_ctx\" must be of type integer"}"#,
        ),
        (
            500,
            r#"{"error":"invalid format: \"x\"; expected \"json\" or a valid JSON Schema object"}"#,
        ),
        (
            501,
            r#"{"error":"this server does not support embeddings"}"#,
        ),
    ];
    for (status, text) in mistakes {
        let herd = pair("").await;
        herd.nodes[0].fault_times(self::status(status, text), 1);
        let reply = herd.post("/api/chat", CHAT).await.is(status);
        assert_eq!(reply.text(), text, "as the node said it");
        assert_eq!(herd.served(1).len(), 0, "{text}: no second node was asked");
        assert!(
            herd.gateway.gateway.fleet().view().nodes[0].health.is_up(),
            "{text}: not the node's fault"
        );
    }
}

#[tokio::test]
async fn a_model_that_somebody_took_away_is_asked_of_the_next_node_and_listed_as_it_is() {
    let herd = starting(vec![(llama(), FIRST), (llama(), "")], "", |_, config| {
        config.model_discovery.interval = Duration::from_secs(3600);
    });
    let herd = herd.await;
    herd.settled().await;
    herd.nodes[0].uninstall("llama3");
    let mut refused = 0;
    for _ in 0..6 {
        let reply = herd.post("/api/chat", CHAT).await.is(200);
        assert_eq!(reply.header("x-arriero-node"), Some("gpu-1"));
        refused += usize::from(reply.header("x-arriero-attempts") == Some("2"));
    }
    assert!(
        0 < refused,
        "it must have been asked for this test to tell anything"
    );
    herd.eventually("it was asked again what it has", |view| {
        view.nodes[0].models().is_empty()
    })
    .await;
    assert!(herd.gateway.gateway.fleet().view().nodes[0].health.is_up());

    herd.nodes[1].uninstall("llama3");
    let reply = herd.post("/api/chat", CHAT).await.is(404);
    assert!(reply.text().contains("not found"), "{}", reply.text());
    herd.eventually("the listing is empty", |view| {
        view.nodes[1].models().is_empty()
    })
    .await;
}

#[tokio::test]
async fn who_is_forbidden_here_is_served_by_another_node() {
    let herd = pair("").await;
    let forbidden = status(403, r#"{"error":"not for you"}"#);
    herd.nodes[0].fault(forbidden.clone());
    for _ in 0..6 {
        herd.post("/api/chat", CHAT).await.is(200);
    }
    herd.nodes[1].fault(forbidden);
    let reply = herd.post("/api/chat", CHAT).await.is(403);
    assert!(reply.text().contains("not for you"), "{}", reply.text());
}

#[tokio::test]
async fn when_every_node_declines_the_client_hears_the_last_ones_reason() {
    let herd = pair("").await;
    for node in &herd.nodes {
        node.fault(Fault::busy());
    }
    let reply = herd.post("/api/chat", CHAT).await.is(503);
    assert!(reply.text().contains("server busy"), "{}", reply.text());
    assert!(reply.header("retry-after").is_some());
    assert_eq!(reply.header("x-arriero-attempts"), Some("2"));
    assert!(
        herd.gateway
            .gateway
            .fleet()
            .view()
            .nodes
            .iter()
            .all(|node| node.health.is_up()),
        "busy is not sick"
    );
    herd.is_idle().await;
}

#[tokio::test]
async fn a_page_that_is_not_json_is_told_in_the_clients_dialect_instead() {
    let herd = pair("").await;
    for node in &herd.nodes {
        node.fault(status(503, "<html><h1>503 Service Unavailable</h1></html>"));
    }
    let native = herd.post("/api/chat", CHAT).await.is(502);
    assert!(
        native.json()["error"]
            .as_str()
            .is_some_and(|text| text.contains("503")),
        "{}",
        native.text()
    );
    let openai = herd.post("/v1/chat/completions", CHAT).await.is(502);
    assert_eq!(openai.json()["error"]["code"], "node_failed");
    assert!(openai.header("x-request-id").is_some());
}

#[tokio::test]
async fn attempts_have_a_limit() {
    let nodes = (0..5).map(|_| llama()).collect();
    let herd = herd(nodes, "proxy: { retry: { max_attempts: 3 } }").await;
    herd.nodes
        .iter()
        .for_each(|node| node.fault(Fault::RstBeforeHead));
    let reply = herd.post("/api/chat", CHAT).await.is(502);
    assert!(
        reply.json()["error"]
            .as_str()
            .is_some_and(|text| text.contains("broke off")),
        "{}",
        reply.text()
    );
    let asked: usize = (0..5).map(|node| herd.served(node).len()).sum();
    assert_eq!(asked, 3);
    herd.is_idle().await;
}

#[tokio::test]
async fn failures_under_traffic_take_a_node_out_and_a_trial_brings_it_back() {
    let herd = pair("").await;
    herd.nodes[0].fault_times(Fault::RstBeforeHead, 2);
    herd.post("/api/chat", CHAT).await.is(200);
    herd.post("/api/chat", CHAT).await.is(200);
    assert!(
        herd.gateway.gateway.fleet().view().nodes[0]
            .health
            .is_down(),
        "two failures in a row"
    );
    let reply = herd.post("/api/chat", CHAT).await.is(200);
    assert_eq!(
        reply.header("x-arriero-attempts"),
        Some("1"),
        "not even tried"
    );
    herd.eventually("gpu-0 is back", |view| view.nodes[0].health.is_up())
        .await;
    let reply = herd.post("/api/chat", CHAT).await.is(200);
    assert_eq!(reply.header("x-arriero-node"), Some("gpu-0"));
}
