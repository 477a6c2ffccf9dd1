//! The bytes of every fault, as a client sees them.

use super::super::{Fault, Node, Outcome};
use super::client::{Client, End, Got};

const STREAM: &str = r#"{"model":"a","messages":[{"role":"user","content":"x"}]}"#;
const WHOLE: &str = r#"{"model":"a","stream":false,"messages":[{"role":"user","content":"x"}]}"#;

async fn node() -> Node {
    Node::builder().loaded("a").start().await.unwrap()
}

async fn ask(node: &Node, fault: Fault, body: &str) -> Got {
    node.fault_times(fault, 1);
    Client::connect(node.addr())
        .await
        .ask("POST", "/api/chat", Some(body))
        .await
}

#[tokio::test]
async fn cut_streams_end_as_they_should() {
    let node = node().await;
    for (fault, status, chunks, end) in [
        (Fault::FinAfter { after: 3 }, 200, 3, End::Fin),
        (Fault::FinAfter { after: 0 }, 0, 0, End::Fin),
        (Fault::RstAfter { after: 0 }, 0, 0, End::Reset),
        (Fault::FinBeforeHead, 0, 0, End::Fin),
        (Fault::RstBeforeHead, 0, 0, End::Reset),
        (Fault::BadChunk { after: 2 }, 200, 2, End::Broken),
        (Fault::RunnerDies { after: 2 }, 200, 3, End::Clean),
        (Fault::RunnerDies { after: 0 }, 500, 1, End::Clean),
        (Fault::Stuck { after: 2 }, 200, 2, End::Clean),
        (Fault::Garbage, 0, 0, End::Broken),
        (Fault::BadStatusLine, 0, 0, End::Broken),
        (Fault::Status700, 700, 1, End::Clean),
        (Fault::DelayHeaders { ms: 1 }, 200, 13, End::Clean),
        (Fault::SlowRead { bytes: 20, ms: 1 }, 200, 13, End::Clean),
    ] {
        let got = ask(&node, fault.clone(), STREAM).await;
        assert_eq!(
            (got.status, got.chunks.len(), got.end),
            (status, chunks, end),
            "{fault:?}"
        );
        assert_eq!(
            node.seen().last().unwrap().outcome,
            Outcome::Finished,
            "{fault:?}"
        );
    }
    assert_eq!(node.generating(), 0);
}

#[tokio::test]
async fn a_reset_mid_stream_is_a_reset() {
    let node = node().await;
    node.pause_after(2);
    node.fault_times(Fault::RstAfter { after: 3 }, 1);
    let mut client = Client::connect(node.addr()).await;
    client.send("POST", "/api/chat", &[], Some(STREAM)).await;
    // A reset may overtake bytes that were not read, so they are read first.
    client.peek(300).await;
    node.resume();
    let got = client.answer(false).await;
    assert_eq!((got.status, got.end), (200, End::Reset));
}

#[tokio::test]
async fn statuses_on_cue() {
    let node = node().await;
    for (fault, status, text) in [
        (
            Fault::busy(),
            503,
            "server busy, please try again.  maximum pending requests exceeded",
        ),
        (
            Fault::wrong_option(),
            500,
            r#"option \"num_ctx\" must be of type integer"#,
        ),
        (
            Fault::runner_failed(),
            500,
            "model runner has unexpectedly stopped",
        ),
        (Fault::too_many(), 429, "too many requests"),
    ] {
        node.fault_times(fault, 1);
        let mut client = Client::connect(node.addr()).await;
        assert_eq!(
            client.ask("GET", "/api/version", None).await.status,
            200,
            "probes go on"
        );
        let got = client.ask("POST", "/api/chat", Some(STREAM)).await;
        assert_eq!(got.status, status);
        assert!(got.text().contains(text), "{}", got.text());
        // The connection stays, and the fault is used up.
        assert_eq!(
            client.ask("POST", "/api/chat", Some(STREAM)).await.status,
            200
        );
    }
}

#[tokio::test]
async fn lengths_that_lie() {
    let node = node().await;
    let got = ask(&node, Fault::ShortLength, WHOLE).await;
    assert_eq!((got.status, got.end), (200, End::Fin));
    for (fault, extra) in [
        (Fault::LongLength, "0000"),
        (Fault::SecondResponse, "second"),
    ] {
        node.fault_times(fault.clone(), 1);
        let mut client = Client::connect(node.addr()).await;
        let got = client.ask("POST", "/api/chat", Some(WHOLE)).await;
        assert_eq!((got.status, got.end), (200, End::Clean));
        let rest = client.rest().await;
        assert!(!rest.is_empty(), "{fault:?}");
        assert!(
            fault == Fault::LongLength || rest.ends_with(extra),
            "{rest}"
        );
    }
}

#[tokio::test]
async fn silence_ends_when_the_client_leaves() {
    let node = node().await;
    for (fault, bytes) in [
        (Fault::NeverHeaders, 0),
        (Fault::HeadersOnly, 20),
        (Fault::StallAfter { after: 2 }, 300),
    ] {
        node.fault_times(fault.clone(), 1);
        let mut client = Client::connect(node.addr()).await;
        client.send("POST", "/api/chat", &[], Some(STREAM)).await;
        client.peek(bytes).await;
        let index = node.seen().len().max(1);
        node.until(|node| node.seen().last().is_some_and(|s| !s.body.is_empty()))
            .await;
        drop(client);
        node.until(|node| node.seen().last().unwrap().outcome == Outcome::Cancelled)
            .await;
        assert!(index <= node.seen().len());
        assert_eq!(node.generating(), 0, "{fault:?}");
    }
}

#[tokio::test]
async fn a_stale_connection_strikes_its_second_request_only() {
    let node = node().await;
    for (fault, end) in [
        (Fault::StaleConnection, [End::Fin, End::Reset]),
        (Fault::StaleReset, [End::Reset, End::Reset]),
    ] {
        node.fault_times(fault.clone(), 1);
        let mut client = Client::connect(node.addr()).await;
        assert_eq!(
            client.ask("POST", "/api/chat", Some(STREAM)).await.status,
            200
        );
        let got = client.ask("POST", "/api/chat", Some(STREAM)).await;
        assert_eq!(got.status, 0, "{fault:?}");
        // The body that was not read turns the FIN into a reset.
        assert!(end.contains(&got.end), "{fault:?}: {:?}", got.end);
    }
}

#[tokio::test]
async fn early_refusals_leave_the_body_unread() {
    let node = node().await;
    for status in [413, 503] {
        node.fault_times(Fault::EarlyStatus { status }, 1);
        let mut client = Client::connect(node.addr()).await;
        let head = "POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n";
        client.raw(head.as_bytes()).await;
        let got = client.answer(false).await;
        assert_eq!(
            (got.status, got.header("Connection")),
            (status, Some("close"))
        );
        assert!(node.seen().last().unwrap().body.is_empty());
    }
}

#[tokio::test]
async fn odd_but_lawful_answers() {
    let node = node().await;
    let got = ask(&node, Fault::CloseDelimited, STREAM).await;
    assert_eq!((got.status, got.end.clone()), (200, End::Clean));
    assert_eq!(
        (
            got.header("Transfer-Encoding"),
            got.header("Content-Length")
        ),
        (None, None)
    );
    assert_eq!(got.text().lines().count(), 13);
    let got = ask(&node, Fault::ForeignHeaders, STREAM).await;
    for name in ["Server", "Set-Cookie", "Access-Control-Allow-Origin"] {
        assert!(got.header(name).is_some(), "{name}");
    }
    let got = ask(&node, Fault::GiantLine { bytes: 200_000 }, STREAM).await;
    assert_eq!((got.text().len(), got.end.clone()), (200_000, End::Clean));
    assert!(!got.text().contains('\n'));
}

#[tokio::test]
async fn people_set_faults_and_look_over_http() {
    let node = node().await;
    let mut client = Client::connect(node.addr()).await;
    let order = r#"{"fault":"fin_after","after":3,"times":1}"#;
    assert_eq!(
        client.ask("POST", "/demo/fault", Some(order)).await.status,
        204
    );
    assert_eq!(
        client.ask("POST", "/demo/fault", Some("{}")).await.status,
        400
    );
    let got = client.ask("POST", "/api/chat", Some(STREAM)).await;
    assert_eq!((got.chunks.len(), got.end), (3, End::Fin));
    let mut client = Client::connect(node.addr()).await;
    let seen = client.ask("GET", "/demo/seen", None).await.text();
    let seen: serde_json::Value = serde_json::from_str(&seen).unwrap();
    assert_eq!(seen["seen"][2]["path"], "/api/chat");
    assert_eq!(seen["seen"][2]["outcome"], "finished");
}

#[tokio::test]
async fn requests_are_read_however_they_are_framed() {
    let node = node().await;
    let mut client = Client::connect(node.addr()).await;
    let chunked = format!(
        "POST /api/chat HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{}\r\n{:x}\r\n{}\r\n0\r\n\r\n",
        &STREAM[..5],
        STREAM.len() - 5,
        &STREAM[5..]
    );
    // Two requests at once: the second is answered after the first.
    client
        .raw(format!("{chunked}GET /api/version HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes())
        .await;
    assert_eq!(client.answer(false).await.chunks.len(), 13);
    assert_eq!(client.answer(false).await.text(), r#"{"version":"0.33.0"}"#);
    assert_eq!(node.seen()[0].body, STREAM.as_bytes());

    let old = format!(
        "POST /api/chat HTTP/1.0\r\nContent-Length: {}\r\n\r\n{STREAM}",
        STREAM.len()
    );
    let mut client = Client::connect(node.addr()).await;
    client.raw(old.as_bytes()).await;
    let got = client.answer(false).await;
    assert_eq!(
        (got.header("Transfer-Encoding"), got.end.clone()),
        (None, End::Clean)
    );
    assert_eq!(got.text().lines().count(), 13);
    let mut client = Client::connect(node.addr()).await;
    client.raw(b"\x16\x03\x01\r\n\r\n").await;
    assert_eq!(client.answer(false).await.status, 400);
}
