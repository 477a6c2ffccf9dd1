//! What one request or one node may not do to the others.

use std::time::Duration;

use arriero::demo::{self, Fault};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::client::{Raw, request};
use crate::support::herd::{herd_of, parse};
use crate::support::{herd, spawn, within};

const CHAT: &str = r#"{"model":"llama3","messages":[{"role":"user","content":"hi"}]}"#;

fn llama() -> demo::NodeBuilder {
    demo::Node::builder().loaded("llama3").tokens(2).slots(8)
}

#[tokio::test]
async fn an_answer_without_a_stream_may_take_longer_than_the_first_byte_of_a_stream() {
    let slow = llama().token_delay(Duration::from_millis(400));
    let herd = herd(vec![slow], "proxy: { warm_header_timeout: 300ms }").await;
    let whole = CHAT.replace("\"model\"", "\"stream\":false,\"model\"");
    for _ in 0..3 {
        herd.post("/api/chat", &whole).await.is(200);
    }
    herd.post("/api/chat", CHAT).await.is(504); // a stream has a deadline for its first token
    let view = herd.gateway.gateway.fleet().view();
    assert!(view.nodes[0].health.is_up(), "slow is not sick");
}

#[tokio::test]
async fn one_that_waits_for_a_full_node_does_not_hold_up_those_another_could_serve() {
    let herd = herd_of(vec![(llama(), "slots: 1"), (llama(), "slots: 1")], "").await;
    herd.nodes[0].pause_after(1);
    let mut holds = herd.begin("/api/chat/0", CHAT).await;
    assert_eq!(holds.head().await.expect("a head").0, 200);
    let mut waits = herd.begin("/api/chat/0", CHAT).await;
    herd.until_metric("arriero_queue_depth", |depth| depth == 1.0)
        .await;
    let reply = herd.post("/api/chat", CHAT).await.is(200);
    assert_eq!(reply.header("x-arriero-node"), Some("gpu-1"));
    assert_eq!(reply.header("x-arriero-queue-ms"), Some("0"));
    herd.nodes[0].resume();
    assert!(holds.rest().await.1);
    assert!(waits.reply().await.is(200).complete);
    herd.is_idle().await;
}

#[tokio::test]
async fn a_prompt_that_kills_every_runner_does_not_take_the_fleet_down() {
    let herd = herd(vec![llama(), llama(), llama()], "").await;
    herd.nodes
        .iter()
        .for_each(|node| node.fault(Fault::runner_failed()));
    let reply = herd.post("/api/chat", CHAT).await.is(500);
    assert!(
        reply.text().contains("unexpectedly stopped"),
        "{}",
        reply.text()
    );
    herd.nodes.iter().for_each(demo::Node::clear_fault);
    let view = herd.gateway.gateway.fleet().view();
    assert_eq!(
        view.nodes.iter().filter(|node| node.health.is_up()).count(),
        3
    );
    herd.post("/api/chat", CHAT).await.is(200);
}

#[tokio::test]
async fn a_node_that_refuses_our_key_is_passed_over_and_taken_out() {
    let herd = herd_of(
        vec![(llama(), "priority: 200"), (llama(), "priority: 100")],
        "",
    )
    .await;
    let body = r#"{"error":"unauthorized"}"#.to_owned();
    herd.nodes[0].fault(Fault::Status { status: 401, body });
    for _ in 0..3 {
        let reply = herd.post("/api/chat", CHAT).await.is(200);
        assert_eq!(reply.header("x-arriero-node"), Some("gpu-1"));
    }
    assert!(
        herd.gateway.gateway.fleet().view().nodes[0]
            .health
            .is_down()
    );
    herd.nodes[1].kill();
    herd.eventually("gpu-1 is down", |view| view.nodes[1].health.is_down())
        .await;
    herd.nodes[0].fault(Fault::Status {
        status: 401,
        body: String::new(),
    });
    herd.eventually("gpu-0 is back for its trial", |view| {
        view.nodes[0].health.is_up()
    })
    .await;
    let reply = herd.post("/api/chat", CHAT).await.is(502);
    assert!(
        reply.text().contains("does not accept our key"),
        "{}",
        reply.text()
    );
}

/// A node that answers chats without Content-Length or chunks, and closes: whole or cut, nobody can tell by the framing.
async fn close_delimited(answer: &'static str, content_type: &'static str) -> std::net::SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let addr = listener.local_addr().expect("an address");
    let serve = async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut head = vec![0; 16 * 1024];
            let read = socket.read(&mut head).await.unwrap_or(0);
            let line = String::from_utf8_lossy(&head[..read]).into_owned();
            let reply = if line.starts_with("GET /api/tags") {
                r#"{"models":[{"name":"llama3:latest","model":"llama3:latest","digest":"ab"}]}"#
                    .to_owned()
            } else if line.starts_with("GET") {
                r#"{"models":[],"version":"0.33.0"}"#.to_owned()
            } else {
                let head =
                    format!("HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\n\r\n{answer}");
                let _ = socket.write_all(head.as_bytes()).await;
                continue;
            };
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{reply}",
                reply.len()
            );
            let _ = socket.write_all(head.as_bytes()).await;
        }
    };
    drop(spawn(serve));
    addr
}

#[tokio::test]
async fn an_end_that_nothing_announced_is_trusted_only_if_the_answer_is_whole() {
    let json = "application/json";
    let lines = "application/x-ndjson";
    let cases = [
        (
            r#"{"message":{"content":"all of it"},"done":true}"#,
            json,
            true,
        ),
        (r#"{"message":{"content":"half of"#, json, false),
        ("{\"done\":false}\n{\"done\":true}\n", lines, true),
        ("{\"done\":false}\n", lines, false),
    ];
    for (answer, content_type, whole) in cases {
        let addr = close_delimited(answer, content_type).await;
        let yaml = format!(
            "discovery:\n  model_discovery: {{ loaded_interval: 50ms }}\n  static:\n    endpoints:\n      \
             - {{ url: \"http://{addr}\", type: ollama, check_interval: 1s, check_timeout: 1s }}\n"
        );
        let gateway = arriero::gateway::local::LocalGateway::start(parse(&yaml))
            .await
            .expect("a gateway");
        within("the model to be known", async {
            while !gateway.gateway.fleet().view().nodes[0].knows_models() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
        let mut raw = Raw::open(gateway.addr).await;
        raw.send(request("POST", "/api/chat", CHAT)).await;
        let reply = raw.reply().await.is(200);
        assert_eq!(reply.complete, whole, "{answer}: {}", reply.text());
        assert!(reply.text().starts_with(answer), "{}", reply.text());
    }
}

#[tokio::test]
async fn a_name_with_several_addresses_is_served_at_the_one_that_listens() {
    // `localhost` is ::1 and 127.0.0.1 on most machines; the node listens on one of them only.
    let node = llama().start().await.expect("a node");
    let yaml = format!(
        "discovery:\n  model_discovery: {{ loaded_interval: 50ms }}\n  static:\n    endpoints:\n      \
         - {{ url: \"http://localhost:{}\", type: ollama, check_interval: 1s, check_timeout: 1s }}\n",
        node.addr().port()
    );
    let gateway = arriero::gateway::local::LocalGateway::start(parse(&yaml))
        .await
        .expect("a gateway");
    within("the node to be up", async {
        while !gateway.gateway.fleet().view().nodes[0].health.is_up() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_blob_that_one_node_lacks_is_missing_even_if_another_cannot_be_asked() {
    let nodes = vec![(llama(), "priority: 200"), (llama(), "priority: 100")];
    let herd = herd_of(nodes, "management: { enabled: true }").await;
    herd.nodes[0].kill();
    let digest = "cd".repeat(32);
    let mut raw = Raw::open(herd.addr()).await;
    raw.send(format!(
        "HEAD /api/blobs/sha256:{digest} HTTP/1.1\r\nhost: localhost\r\n\r\n"
    ))
    .await;
    raw.reply_to_head().await.is(404);
    herd.is_idle().await;
}
