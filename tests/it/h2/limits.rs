//! Limits over HTTP/2: refusals that are seen while the body is still under way, and connections that idle or never begin.

use std::time::Duration;

use arriero::demo::{Fault, Outcome};

use super::{CHAT, llama, one, still_serves};
use crate::support::h2::H2;
use crate::support::{Raw, herd, within};

#[tokio::test]
async fn refusals_reach_clients_that_still_send() {
    let yaml = "server: { h2c: true, request_limits: { max_body_size: 256KiB } }";
    let herd = herd(vec![llama()], yaml).await;
    let connection = H2::open(herd.addr()).await;
    let too_large = "a".repeat(1024 * 1024);
    for (length, sends) in [
        (Some(too_large.len()), true),
        (Some(too_large.len()), false),
        (None, true),
    ] {
        let mut stream = connection.begin("POST", "/api/chat", length, false).await;
        if sends {
            stream
                .send(too_large.clone(), true)
                .await
                .expect("the rest is read and thrown away");
        }
        let reply = stream.reply().await.is(413);
        assert!(reply.text.contains("max_body_size"), "{}", reply.text);
        stream.cancel();
        herd.is_idle().await;
    }
    assert_eq!(herd.served(0).len(), 0);
    still_serves(&herd, &connection).await;
}

#[tokio::test]
async fn a_body_that_stalls_or_lies_about_its_length_reaches_no_node() {
    let yaml = "server: { h2c: true, body_timeout: 300ms }";
    let herd = herd(vec![llama()], yaml).await;
    let connection = H2::open(herd.addr()).await;
    let mut stalls = connection
        .begin("POST", "/api/chat", Some(1000), false)
        .await;
    stalls.send("{\"model\":", false).await.expect("a piece");
    let reply = stalls.reply().await.is(408);
    assert!(reply.text.contains("body_timeout"), "{}", reply.text);
    stalls.cancel();
    let mut lies = connection
        .begin("POST", "/api/chat", Some(CHAT.len() - 2), false)
        .await;
    lies.send(CHAT, true).await.expect("a body");
    assert!(lies.head().await.is_err(), "HTTP/2 calls this malformed");
    herd.is_idle().await;
    assert_eq!(herd.served(0).len(), 0);
    still_serves(&herd, &connection).await;
}

#[tokio::test]
async fn a_client_that_opens_no_window_is_cut_and_the_node_freed() {
    let yaml = "server: { h2c: true, write_timeout: 300ms }";
    let herd = herd(vec![llama()], yaml).await;
    let bytes = 64 * 1024 * 1024;
    herd.nodes[0].fault_times(Fault::GiantLine { bytes }, 1);
    let connection = H2::open(herd.addr()).await;
    let mut stream = connection.ask("/api/chat", CHAT).await;
    assert_eq!(stream.head().await.expect("a head").0, 200); // and reads no further
    within(
        "the node to be freed",
        herd.nodes[0].until(|node| {
            let seen = node.seen();
            let mut outcomes = seen.iter().map(|seen| seen.outcome);
            outcomes.any(|outcome| outcome == Outcome::Cancelled)
        }),
    )
    .await;
    herd.is_idle().await;
    assert!(stream.rest().await.1.is_err());
    still_serves(&herd, &connection).await;
}

#[tokio::test]
async fn refusals_speak_the_clients_dialect() {
    let herd = one().await;
    let connection = H2::open(herd.addr()).await;
    let long = format!("/{}", "a".repeat(9000));
    let cases = [
        (long.as_str(), "{}", 414, "/error"),
        ("/api/chat", "{}", 400, "/error"),
        ("/v1/chat/completions", "[]", 400, "/error/message"),
        ("/v1/messages", r#"{"model":7}"#, 400, "/error/message"),
        ("/api/chat", r#"{"model":"nobody"}"#, 404, "/error"),
        (
            "/v1/chat/completions",
            r#"{"model":"nobody"}"#,
            404,
            "/error/message",
        ),
        (
            "/v1/messages",
            r#"{"model":"nobody"}"#,
            404,
            "/error/message",
        ),
        ("/nowhere", "{}", 404, "/error"),
    ];
    for (path, body, status, message) in cases {
        let reply = connection.post(path, body).await.is(status);
        let json = reply.json();
        let message = json.pointer(message).and_then(|message| message.as_str());
        assert!(message.is_some_and(|text| 10 < text.len()), "{path} {json}");
    }
    assert_eq!(herd.served(0).len(), 0);
    still_serves(&herd, &connection).await;
}

#[tokio::test]
async fn an_idle_connection_is_closed_and_a_busy_one_is_not() {
    let yaml = "server: { h2c: true, idle_timeout: 600ms, read_header_timeout: 400ms }";
    let herd = herd(vec![llama()], yaml).await;
    let mut silent = H2::open(herd.addr()).await;
    let mut connection = H2::open(herd.addr()).await;
    herd.nodes[0].pause_after(2);
    let mut stream = connection.ask("/api/chat", CHAT).await;
    assert_eq!(stream.head().await.expect("a head").0, 200);
    stream.chunk().await.expect("a piece");
    // A connection without a stream falls to its limit, so the one with a stream has outlived the same limit.
    silent.closed().await;
    // Long enough for every deadline that could wrongly hit a connection at work: both limits, and the watch's own step.
    tokio::time::sleep(Duration::from_millis(1300)).await;
    assert!(connection.is_open(), "a stream is under way");
    herd.nodes[0].resume();
    assert_eq!(stream.rest().await.1, Ok(()));
    connection.closed().await;
    herd.is_idle().await;
}

#[tokio::test]
async fn a_connection_that_does_not_get_to_its_first_head_is_closed() {
    let herd = herd(
        vec![llama()],
        "server: { h2c: true, read_header_timeout: 300ms }",
    )
    .await;
    let silent = Raw::open(herd.addr()).await;
    let mut started = Raw::open(herd.addr()).await;
    started.send(&b"PRI * HTTP"[..]).await;
    // Shorter than the preface that is looked for, so nobody can tell yet what it is.
    let mut short = Raw::open(herd.addr()).await;
    short.send("GET / HTTP/1.0\r\n\r\n").await;
    for mut connection in [silent, started, short] {
        assert!(connection.is_closed().await);
    }
    let series = "arriero_connections_rejected_total{reason=\"header_timeout\"}";
    assert_eq!(herd.metric(series).await, 3.0);
    let connection = H2::open(herd.addr()).await;
    still_serves(&herd, &connection).await;
}
