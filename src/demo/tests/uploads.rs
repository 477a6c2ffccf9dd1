//! Blobs: hashed, counted and not kept, whatever their framing.

use sha2::{Digest, Sha256};

use super::super::{Fault, Node};
use super::client::{Client, End};

fn digest_of(pieces: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    pieces.iter().for_each(|piece| hash.update(piece));
    let digits: String = hash.finalize().iter().map(|b| format!("{b:02x}")).collect();
    format!("sha256:{digits}")
}

#[tokio::test]
async fn a_chunked_blob_is_hashed_and_not_kept() {
    let node = Node::builder().start().await.unwrap();
    let piece = vec![b'x'; 1 << 20];
    let digest = digest_of(&[&piece[..]; 9]);
    let mut client = Client::connect(node.addr()).await;
    let head = format!(
        "POST /api/blobs/{digest} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    );
    client.raw(head.as_bytes()).await;
    for _ in 0..9 {
        client.raw(b"100000\r\n").await;
        client.raw(&piece).await;
        client.raw(b"\r\n").await;
    }
    client.raw(b"0\r\n\r\n").await;
    assert_eq!(client.answer(false).await.status, 201);
    assert_eq!(node.blob_bytes(&digest), Some(9 << 20));
    let seen = &node.seen()[0];
    assert_eq!((seen.body.len(), seen.body_bytes), (64 << 10, 9 << 20));
    let head = client
        .ask("HEAD", &format!("/api/blobs/{digest}"), None)
        .await;
    assert_eq!(head.status, 200, "over the same connection");
}

#[tokio::test]
async fn an_upload_that_breaks_off_leaves_no_blob() {
    let node = Node::builder().start().await.unwrap();
    let digest = digest_of(&[b"herd"]);
    let mut client = Client::connect(node.addr()).await;
    client
        .raw(format!("POST /api/blobs/{digest} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\nhe").as_bytes())
        .await;
    node.until(|node| node.seen().len() == 1).await;
    drop(client);
    node.until(|node| node.seen()[0].outcome == super::super::Outcome::Cancelled)
        .await;
    assert_eq!(node.blob_bytes(&digest), None);
}

#[tokio::test]
async fn a_blob_that_is_wrong_is_kept_under_its_true_name() {
    let node = Node::builder().start().await.unwrap();
    let mut client = Client::connect(node.addr()).await;
    let claimed = format!("sha256:{}", "0".repeat(64));
    let path = format!("/api/blobs/{claimed}");
    let got = client.ask("POST", &path, Some("herd")).await;
    assert_eq!(got.status, 400);
    assert_eq!(node.blob_bytes(&claimed), None);
    assert_eq!(node.blob_bytes(&digest_of(&[b"herd"])), Some(4));
    assert_eq!(node.blob_bytes("herd"), None);
}

#[tokio::test]
async fn a_large_body_that_nobody_wants_is_answered_before_it_is_whole() {
    let node = Node::builder().start().await.unwrap();
    let digest = digest_of(&[b"herd"]);
    let path = format!("/api/blobs/{digest}");
    let mut client = Client::connect(node.addr()).await;
    assert_eq!(client.ask("POST", &path, Some("herd")).await.status, 201);
    assert_eq!(client.ask("POST", &path, Some("herd")).await.status, 200);
    for (path, more, status) in [
        (path.as_str(), "Content-Length: 4294967296\r\n", 200),
        (
            path.as_str(),
            "Content-Length: 4\r\nExpect: 100-continue\r\n",
            200,
        ),
        ("/api/blobs/foo", "Content-Length: 4294967296\r\n", 400),
    ] {
        let mut client = Client::connect(node.addr()).await;
        let head = format!("POST {path} HTTP/1.1\r\nHost: localhost\r\n{more}\r\nherd");
        client.raw(head.as_bytes()).await;
        let got = client.answer(false).await;
        assert_eq!(
            (got.status, got.end.clone()),
            (status, End::Clean),
            "{head}"
        );
        assert_eq!(got.header("Connection"), Some("close"));
    }
}

#[tokio::test]
async fn faults_strike_uploads_too() {
    let node = Node::builder().start().await.unwrap();
    let path = format!("/api/blobs/{}", digest_of(&[b"herd"]));
    for (fault, status) in [(Fault::busy(), 503), (Fault::RstBeforeHead, 0)] {
        node.fault_times(fault, 1);
        let mut client = Client::connect(node.addr()).await;
        assert_eq!(client.ask("POST", &path, Some("herd")).await.status, status);
    }
    let mut client = Client::connect(node.addr()).await;
    let foreign = [("Origin", "https://elsewhere.example")];
    client.send("POST", &path, &foreign, Some("herd")).await;
    assert_eq!(client.answer(false).await.status, 403);
}
