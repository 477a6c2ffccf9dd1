//! A limit on everything: sizes, times, connections; and framing that two servers could read differently is refused.

use std::time::Duration;

use arriero::demo;

use crate::support::client::{Raw, request};
use crate::support::{Herd, herd, within};

const CHAT: &str = r#"{"model":"llama3","messages":[{"role":"user","content":"hi"}]}"#;

async fn one(yaml: &str) -> Herd {
    herd(vec![demo::Node::builder().loaded("llama3").tokens(2)], yaml).await
}

#[tokio::test]
async fn sizes_have_limits() {
    let herd =
        one("server: { request_limits: { max_body_size: 64KiB, max_header_size: 8KiB } }").await;
    let many = "x-a: 1\r\n".repeat(101);
    let cases = [
        ("a long target", format!("GET /{} HTTP/1.1\r\nhost: g\r\n\r\n", "a".repeat(9000)), 414),
        ("large headers", format!("GET / HTTP/1.1\r\nhost: g\r\nx: {}\r\n\r\n", "a".repeat(9000)), 431),
        ("many headers", format!("GET / HTTP/1.1\r\nhost: g\r\n{many}\r\n"), 431),
        ("a large body, announced", "POST /api/chat HTTP/1.1\r\nhost: g\r\ncontent-length: 65537\r\n\r\n".into(), 413),
        (
            "a large body, announced, before 100 Continue",
            "POST /api/chat HTTP/1.1\r\nhost: g\r\nexpect: 100-continue\r\ncontent-length: 65537\r\n\r\n".into(),
            413,
        ),
        ("an expectation", "POST /api/chat HTTP/1.1\r\nhost: g\r\nexpect: 200-ok\r\ncontent-length: 2\r\n\r\n{}".into(), 417),
    ];
    for (what, bytes, status) in cases {
        let mut raw = Raw::open(herd.addr()).await;
        raw.send_what_goes(bytes).await;
        let reply = raw.reply().await;
        assert_eq!(reply.status, status, "{what}: {}", reply.text());
        assert!(reply.json()["error"].is_string(), "{what}");
    }
    let mut raw = Raw::open(herd.addr()).await;
    raw.send("POST /api/chat HTTP/1.1\r\nhost: g\r\ntransfer-encoding: chunked\r\n\r\n")
        .await;
    for _ in 0..3 {
        raw.send_what_goes(format!("{:x}\r\n{}\r\n", 40_000, "a".repeat(40_000)))
            .await;
    }
    raw.send_what_goes("0\r\n\r\n").await;
    raw.reply().await.is(413);
    let fits = format!(r#"{{"model":"llama3","prompt":"{}"}}"#, "a".repeat(60_000));
    herd.post("/api/generate", &fits).await.is(200);
    herd.is_idle().await;
}

#[tokio::test]
async fn ambiguous_framing_is_refused_and_no_node_hears_of_it() {
    let herd = one("").await;
    let cl = CHAT.len();
    let cases = [
        ("CL and TE", format!("POST /api/chat HTTP/1.1\r\nhost: g\r\ncontent-length: {cl}\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n")),
        ("TE and CL", format!("POST /api/chat HTTP/1.1\r\nhost: g\r\ntransfer-encoding: chunked\r\nContent-Length: {cl}\r\n\r\n0\r\n\r\n")),
        ("TE twice", "POST /api/chat HTTP/1.1\r\nhost: g\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n".into()),
        ("TE list", "POST /api/chat HTTP/1.1\r\nhost: g\r\ntransfer-encoding: identity, chunked\r\n\r\n0\r\n\r\n".into()),
        ("TE xchunked", "POST /api/chat HTTP/1.1\r\nhost: g\r\ntransfer-encoding: xchunked\r\n\r\n0\r\n\r\n".into()),
        ("TE in 1.0", "POST /api/chat HTTP/1.0\r\nhost: g\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n".into()),
        ("CL twice", format!("POST /api/chat HTTP/1.1\r\nhost: g\r\ncontent-length: {cl}\r\ncontent-length: {cl}\r\n\r\n{CHAT}")),
        ("CL list", format!("POST /api/chat HTTP/1.1\r\nhost: g\r\ncontent-length: {cl}, {cl}\r\n\r\n{CHAT}")),
        ("CL signed", format!("POST /api/chat HTTP/1.1\r\nhost: g\r\ncontent-length: +{cl}\r\n\r\n{CHAT}")),
        ("no Host", format!("POST /api/chat HTTP/1.1\r\ncontent-length: {cl}\r\n\r\n{CHAT}")),
        ("two Hosts", format!("POST /api/chat HTTP/1.1\r\nhost: a\r\nhost: b\r\ncontent-length: {cl}\r\n\r\n{CHAT}")),
        ("obs-fold", format!("POST /api/chat HTTP/1.1\r\nhost: g\r\nx: 1\r\n  2\r\ncontent-length: {cl}\r\n\r\n{CHAT}")),
        ("space before colon", format!("POST /api/chat HTTP/1.1\r\nhost: g\r\ncontent-length : {cl}\r\n\r\n{CHAT}")),
        ("bad chunk", "POST /api/chat HTTP/1.1\r\nhost: g\r\ntransfer-encoding: chunked\r\n\r\n0x2\r\n{}\r\n0\r\n\r\n".into()),
    ];
    for (what, bytes) in cases {
        let mut raw = Raw::open(herd.addr()).await;
        raw.send_what_goes(bytes).await;
        let (status, _) = raw
            .head()
            .await
            .unwrap_or_else(|| panic!("{what}: closed without an answer"));
        assert_eq!(status, 400, "{what}");
    }
    assert_eq!(herd.served(0).len(), 0);
    herd.is_idle().await;
}

#[tokio::test]
async fn a_head_that_trickles_is_closed_at_its_total_deadline() {
    let herd = one("server: { read_header_timeout: 700ms }").await;
    let mut silent = Raw::open(herd.addr()).await;
    let mut trickling = Raw::open(herd.addr()).await;
    trickling.send("GET / HTTP/1.1\r\nhost: g\r\n").await;
    let trickle = async {
        // Each line comes well within any gap limit; only the total can end this.
        loop {
            trickling.send_what_goes("x: 1\r\n").await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::select! {
        () = async { assert!(silent.is_closed().await) } => (),
        () = trickle => (),
    }
    assert!(trickling.is_closed().await);
    assert_eq!(
        herd.metric("arriero_connections_rejected_total{reason=\"header_timeout\"}")
            .await,
        2.0
    );
    let slow = herd.post("/api/chat", CHAT).await;
    slow.is(200);
}

#[tokio::test]
async fn a_body_that_stalls_is_408_and_reached_no_node() {
    let herd = one("server: { body_timeout: 300ms }").await;
    let mut raw = Raw::open(herd.addr()).await;
    raw.send("POST /api/chat HTTP/1.1\r\nhost: g\r\ncontent-length: 100\r\n\r\n{\"model\":")
        .await;
    let reply = raw.reply().await.is(408);
    assert!(reply.text().contains("body_timeout"), "{}", reply.text());
    assert_eq!(herd.served(0).len(), 0);
    herd.is_idle().await;
}

#[tokio::test]
async fn an_idle_connection_is_closed_after_idle_timeout() {
    let herd = one("server: { idle_timeout: 1s, read_header_timeout: 500ms }").await;
    let mut raw = Raw::open(herd.addr()).await;
    raw.send(request("POST", "/api/chat", CHAT)).await;
    raw.reply().await.is(200);
    assert!(raw.is_closed().await);
}

#[tokio::test]
async fn connections_have_a_limit_and_give_their_place_back() {
    let herd = one("server: { max_connections: 3 }").await;
    let mut held = Vec::new();
    for _ in 0..3 {
        let mut raw = Raw::open(herd.addr()).await;
        raw.send("GET / HTTP/1.1\r\nhost: g\r\n\r\n").await;
        raw.reply().await.is(200);
        held.push(raw);
    }
    let mut refused = Raw::open(herd.addr()).await;
    refused
        .send_what_goes("GET / HTTP/1.1\r\nhost: g\r\n\r\n")
        .await;
    assert!(refused.head().await.is_none(), "the fourth is closed");
    drop(held);
    within("a free place", async {
        loop {
            let mut raw = Raw::open(herd.addr()).await;
            raw.send_what_goes("GET / HTTP/1.1\r\nhost: g\r\n\r\n")
                .await;
            if raw.head().await.is_some() {
                break;
            }
        }
    })
    .await;
    assert!(
        herd.metric("arriero_connections_rejected_total{reason=\"too_many\"}")
            .await
            >= 1.0
    );
}

#[tokio::test]
async fn a_client_that_stops_reading_is_cut_and_the_node_freed() {
    let node = demo::Node::builder().loaded("llama3");
    let herd = herd(vec![node], "server: { write_timeout: 500ms }").await;
    herd.nodes[0].fault_times(
        demo::Fault::GiantLine {
            bytes: 256 * 1024 * 1024,
        },
        1,
    );
    let raw = herd.begin("/api/chat", CHAT).await; // and never reads
    within(
        "the node to be freed",
        herd.nodes[0].until(|node| {
            node.seen()
                .iter()
                .any(|seen| seen.method == "POST" && seen.outcome == demo::Outcome::Cancelled)
        }),
    )
    .await;
    herd.is_idle().await;
    drop(raw);
}
