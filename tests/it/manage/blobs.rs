//! Blobs: to all nodes at once, and only where they are missing.

use std::fmt::Write as _;

use arriero::demo::Fault;
use sha2::{Digest, Sha256};

use super::server::{Answer, over};
use super::{ON, call, ends, has, node, three};
use crate::support::client::{Raw, Reply, request};
use crate::support::{Herd, herd, within};

fn digest_of(bytes: &[u8]) -> String {
    let mut text = "sha256:".to_owned();
    for byte in Sha256::digest(bytes) {
        write!(text, "{byte:02x}").expect("text");
    }
    text
}

async fn look(herd: &Herd, path: &str) -> u16 {
    let mut raw = Raw::open(herd.addr()).await;
    raw.send(request("HEAD", path, "")).await;
    raw.reply_to_head().await.status
}

async fn upload(herd: &Herd, path: &str, body: &[u8], chunked: bool) -> Reply {
    let mut raw = Raw::open(herd.addr()).await;
    let framing = match chunked {
        true => "transfer-encoding: chunked".to_owned(),
        false => format!("content-length: {}", body.len()),
    };
    raw.send(format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\n{framing}\r\n\r\n"
    ))
    .await;
    for piece in body.chunks(100_000) {
        match chunked {
            true => {
                raw.send_what_goes(format!("{:x}\r\n", piece.len())).await;
                raw.send_what_goes(piece).await;
                raw.send_what_goes("\r\n").await;
            }
            false => raw.send_what_goes(piece).await,
        }
    }
    if chunked {
        raw.send_what_goes("0\r\n\r\n").await;
    }
    raw.reply().await
}

fn uploads(herd: &Herd, node: usize) -> Vec<u64> {
    let seen = herd.served(node);
    let blobs = seen
        .iter()
        .filter(|seen| seen.path.starts_with("/api/blobs/"));
    blobs.map(|seen| seen.body_bytes).collect()
}

#[tokio::test]
async fn a_blob_reaches_all_nodes_and_a_model_is_made_of_it() {
    for chunked in [false, true] {
        let herd = three().await;
        let body: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
        let digest = digest_of(&body);
        let path = format!("/api/blobs/{digest}");
        assert_eq!(look(&herd, &path).await, 404);
        upload(&herd, &path, &body, chunked).await.is(201);
        assert_eq!(look(&herd, &path).await, 200);
        for node in 0..3 {
            assert_eq!(
                herd.nodes[node].blob_bytes(&digest),
                Some(body.len() as u64)
            );
        }
        let create = format!("{{\"model\":\"made\",\"files\":{{\"x.gguf\":\"{digest}\"}}}}");
        let created = call(&herd, "POST", "/api/create", &create).await.is(200);
        assert!(
            created.text().ends_with("{\"status\":\"success\"}\n"),
            "{}",
            created.text()
        );
        assert!((0..3).all(|node| has(&herd, node, "made:latest")));
        // Nodes that have it are not bothered again.
        upload(&herd, &path, &body, chunked).await.is(200);
        assert_eq!(uploads(&herd, 1), [body.len() as u64]);
        herd.is_idle().await;
    }
}

#[tokio::test]
async fn a_blob_goes_only_where_it_is_missing() {
    let herd = three().await;
    let (body, path) = (
        b"a model".as_slice(),
        format!("/api/blobs/{}", digest_of(b"a model")),
    );
    upload(&herd, &format!("{path}?node=gpu-1"), body, false)
        .await
        .is(201);
    assert_eq!(look(&herd, &format!("{path}?node=gpu-1")).await, 200);
    assert_eq!(look(&herd, &path).await, 404, "two nodes lack it");
    upload(&herd, &path, body, false).await.is(201);
    assert_eq!([uploads(&herd, 0).len(), uploads(&herd, 1).len()], [1, 1]);
    herd.is_idle().await;
}

#[tokio::test]
async fn another_digest_is_the_clients_mistake_and_one_node_that_fails_is_named() {
    let herd = three().await;
    let path = format!("/api/blobs/{}", digest_of(b"something else"));
    let wrong = upload(&herd, &path, b"a model", true).await.is(400);
    assert!(wrong.text().contains("digest mismatch"), "{}", wrong.text());

    herd.nodes[2].fault(Fault::Status {
        status: 500,
        body: "{\"error\":\"no space left on device\"}".into(),
    });
    let path = format!("/api/blobs/{}", digest_of(b"another model"));
    let partial = upload(&herd, &path, b"another model", false).await.is(502);
    let text = partial.text();
    assert!(
        text.contains("failed on gpu-2: no space left on device; it is on gpu-0, gpu-1"),
        "{text}"
    );
    herd.is_idle().await;
}

#[tokio::test]
async fn a_node_that_stops_reading_is_dropped_and_the_rest_goes_on() {
    let quick = "management: { enabled: true }\nproxy: { read_timeout: 300ms }";
    let herd = herd(vec![node(), node()], quick).await;
    herd.nodes[1].fault(Fault::SlowRead {
        bytes: 1,
        ms: 60_000,
    });
    // More than the buffers between two processes take.
    let body = vec![7u8; 32 << 20];
    let digest = digest_of(&body);
    let path = format!("/api/blobs/{digest}");
    let partial = upload(&herd, &path, &body, false).await.is(502);
    let text = partial.text();
    assert!(
        text.contains("failed on gpu-1: it stalled") && text.contains("it is on gpu-0"),
        "{text}"
    );
    assert_eq!(herd.nodes[0].blob_bytes(&digest), Some(body.len() as u64));
    herd.is_idle().await;
}

#[tokio::test]
async fn a_client_that_leaves_an_upload_leaves_nothing() {
    let herd = herd(vec![node(), node()], ON).await;
    let digest = digest_of(b"never");
    let mut raw = Raw::open(herd.addr()).await;
    raw.send(format!(
        "POST /api/blobs/{digest} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000000\r\n\r\nstart"
    ))
    .await;
    for node in 0..2 {
        let begun = herd.nodes[node].until(|node| {
            let is_upload = |seen: &arriero::demo::Seen| seen.method == "POST";
            node.seen().iter().any(is_upload)
        });
        within("the upload at the node", begun).await;
    }
    drop(raw);
    herd.is_idle().await;
    for node in 0..2 {
        let left = herd.nodes[node].until(|node| {
            let seen = node.seen();
            let upload = seen.iter().find(|seen| seen.method == "POST");
            upload.is_some_and(|seen| seen.outcome == arriero::demo::Outcome::Cancelled)
        });
        within("the node to be let go", left).await;
        assert_eq!(herd.nodes[node].blob_bytes(&digest), None);
    }
    assert_eq!(ends(&herd).await, ["blob left 1"]);
}

#[tokio::test]
async fn an_answer_that_comes_before_the_end_is_told_as_the_nodes_own() {
    let (herd, _node) = over("300ms", |method, _| match method {
        "HEAD" => Answer::Whole(404, Vec::new(), Vec::new()),
        _ => Answer::Early(413, r#"{"error":"that is too much for me"}"#),
    })
    .await;
    // More than the buffers between two processes take, for nobody reads it.
    let body = vec![7u8; 32 << 20];
    let path = format!("/api/blobs/{}", digest_of(&body));
    let refused = upload(&herd, &path, &body, true).await.is(413);
    let text = refused.text();
    assert!(text.contains("that is too much for me"), "{text}");
    assert_eq!(ends(&herd).await, ["blob failed 1"]);
    herd.is_idle().await;
}

#[tokio::test]
async fn an_early_answer_is_noticed_while_the_client_still_sends() {
    let (herd, _node) = over("1h", |method, _| match method {
        "HEAD" => Answer::Whole(404, Vec::new(), Vec::new()),
        _ => Answer::Early(413, r#"{"error":"that is too much for me"}"#),
    })
    .await;
    let path = format!("/api/blobs/{}", digest_of(b"never"));
    let mut raw = Raw::open(herd.addr()).await;
    raw.send(format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000000000\r\n\r\n"
    ))
    .await;
    let (status, _) = within("an answer before the end", async {
        loop {
            raw.send_what_goes([7u8; 1000]).await;
            tokio::select! {
                biased;
                head = raw.head() => break head,
                () = tokio::task::yield_now() => (),
            }
        }
    })
    .await
    .expect("a head");
    assert_eq!(status, 413);
    drop(raw);
    herd.is_idle().await;
}
