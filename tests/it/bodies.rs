//! What a body must be to be let through, in each dialect's own words when it is not.

use arriero::demo;

use crate::support::client::Raw;
use crate::support::{Herd, herd};

async fn one() -> Herd {
    herd(
        vec![
            demo::Node::builder()
                .loaded("llama3")
                .loaded("other")
                .tokens(2),
        ],
        "",
    )
    .await
}

/// Bodies that no call takes.
const BROKEN: &[(&str, &[u8])] = &[
    ("two models", br#"{"model":"llama3","model":"other"}"#),
    ("case", br#"{"model":"llama3","MODEL":"other"}"#),
    ("escaped", br#"{"model":"llama3","\u006dodel":"other"}"#),
    (
        "long s",
        b"{\"model\":\"llama3\",\"me\xc5\xbfsages\":[],\"messages\":[]}",
    ),
    ("name and model", br#"{"model":"llama3","name":"other"}"#),
    ("BOM", b"\xef\xbb\xbf{\"model\":\"llama3\"}"),
    ("trailing", br#"{"model":"llama3"}{"model":"other"}"#),
    ("UTF-8", b"{\"model\":\"llama3\",\"prompt\":\"\xff\xfe\"}"),
    ("surrogate", br#"{"model":"llama3","prompt":"\ud800"}"#),
    ("truncated", br#"{"model":"llama3","#),
    ("empty", b""),
    ("no object", b"[]"),
    ("no model", b"{}"),
    ("null model", br#"{"model":null}"#),
    ("number", br#"{"model":7}"#),
    ("bad name", br#"{"model":"a?b"}"#),
    ("stream", br#"{"model":"llama3","stream":"yes"}"#),
];

#[tokio::test]
async fn ambiguous_and_broken_bodies_are_400_and_reach_no_node() {
    let herd = one().await;
    let deep = format!(
        r#"{{"model":"llama3","x":{}{}}}"#,
        "[".repeat(200),
        "]".repeat(200)
    );
    let all = BROKEN.iter().copied().chain([("depth", deep.as_bytes())]);
    for (what, body) in all {
        for path in ["/api/chat", "/v1/chat/completions", "/v1/messages"] {
            if what == "name and model" && path != "/api/chat" {
                continue; // `name` means nothing there
            }
            let mut raw = Raw::open(herd.addr()).await;
            raw.send(format!(
                "POST {path} HTTP/1.1\r\nhost: g\r\ncontent-length: {}\r\n\r\n",
                body.len()
            ))
            .await;
            raw.send(body).await;
            let reply = raw.reply().await;
            assert_eq!(reply.status, 400, "{what} {path}: {}", reply.text());
            let json = reply.json();
            let message = if path == "/api/chat" {
                &json["error"]
            } else {
                &json["error"]["message"]
            };
            assert!(
                message.as_str().is_some_and(|text| text.len() > 10),
                "{what} {path}: {json}"
            );
        }
    }
    assert_eq!(herd.served(0).len(), 0);
    herd.is_idle().await;
}

#[tokio::test]
async fn the_name_that_the_command_line_sends_is_the_model() {
    let herd = one().await;
    for body in [
        r#"{"name":"llama3","model":""}"#,
        r#"{"name":"llama3"}"#,
        r#"{"name":"llama3","model":"llama3"}"#,
    ] {
        herd.post("/api/show", body).await.is(200);
        assert_eq!(
            herd.served(0).pop().expect("a request").body,
            body.as_bytes()
        );
    }
}

#[tokio::test]
async fn zstd_is_decoded_on_v1_under_the_limit_and_nothing_else_is() {
    let herd = herd(
        vec![demo::Node::builder().loaded("llama3").tokens(2)],
        "server: { request_limits: { max_body_size: 1MiB } }",
    )
    .await;
    let body = r#"{"model":"llama3","messages":[{"role":"user","content":"hi"}]}"#;
    let send = async |path: &str, encoding: &str, body: &[u8]| {
        let mut raw = Raw::open(herd.addr()).await;
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: g\r\ncontent-encoding: {encoding}\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        raw.send(head).await;
        raw.send(body).await;
        raw.reply().await
    };
    let packed = zstd::encode_all(body.as_bytes(), 3).expect("zstd");
    send("/v1/chat/completions", "zstd", &packed).await.is(200);
    let seen = herd.served(0).pop().expect("a request");
    assert_eq!(seen.body, body.as_bytes());
    assert!(
        !seen
            .headers
            .iter()
            .any(|(name, _)| name.eq_ignore_ascii_case("content-encoding"))
    );

    send("/v1/chat/completions", "identity", body.as_bytes())
        .await
        .is(200);
    send("/v1/chat/completions", "gzip", body.as_bytes())
        .await
        .is(415);
    send("/v1/chat/completions", "zstd, gzip", &packed)
        .await
        .is(415);
    send("/api/chat", "zstd", &packed).await.is(415);
    send("/v1/chat/completions", "zstd", &packed[..packed.len() / 2])
        .await
        .is(400);
    let bomb = zstd::encode_all(&vec![b' '; 256 * 1024 * 1024][..], 19).expect("zstd");
    send("/v1/chat/completions", "zstd", &bomb).await.is(413);
}

#[tokio::test]
async fn calls_that_are_not_served_say_why_in_their_dialect() {
    let herd = one().await;
    let cases = [
        ("/api/pull", 403),
        ("/api/push", 403),
        ("/api/create", 403),
        ("/api/copy", 403),
        ("/v1/messages/count_tokens", 501),
        ("/api/me", 403),
        ("/api/signout", 403),
        ("/api/experimental/web_search", 403),
        ("/api/nothing", 404),
        ("/v1/nothing", 404),
        ("/api/chat/", 404),
        ("/api/../api/chat", 404),
        ("/api%2fchat", 404),
        ("/api/tags", 405),
    ];
    let body = r#"{"model":"llama3","max_tokens":1,"messages":[]}"#;
    for (path, status) in cases {
        let reply = herd.post(path, body).await;
        assert_eq!(reply.status, status, "{path}: {}", reply.text());
        let error = &reply.json()["error"];
        assert_eq!(
            error.is_string(),
            !path.starts_with("/v1"),
            "{path}: {error}"
        );
        assert_eq!(reply.header("allow").is_some(), status == 405, "{path}");
    }
    let cloud = r#"{"model":"gpt-oss:120b-cloud","messages":[]}"#;
    herd.post("/api/chat", cloud).await.is(403);
    assert_eq!(herd.served(0).len(), 0);
}

#[tokio::test]
async fn a_blob_streams_through_only_where_management_is_on() {
    let digest = format!("sha256:{}", "ab".repeat(32));
    let path = format!("/api/blobs/{digest}?node=gpu-0");
    let off = one().await;
    let refused = off.post(&path, "blob").await.is(403);
    assert!(
        refused.text().contains("management.enabled"),
        "{}",
        refused.text()
    );

    let on = herd(
        vec![demo::Node::builder(), demo::Node::builder()],
        "management: { enabled: true }",
    )
    .await;
    let blob = vec![7u8; 8 * 1024 * 1024];
    let mut raw = Raw::open(on.addr()).await;
    raw.send(format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n"
    ))
    .await;
    for piece in blob.chunks(65_536) {
        raw.send(format!("{:x}\r\n", piece.len())).await;
        raw.send(piece).await;
        raw.send("\r\n").await;
    }
    raw.send("0\r\n\r\n").await;
    let reply = raw.reply().await;
    assert_eq!(reply.status, 400, "{}", reply.text()); // the digest does not match
    let seen = on.served(0).pop().expect("the named node got it");
    assert_eq!(seen.path, format!("/api/blobs/{digest}"));
    assert_eq!(seen.body_bytes, blob.len() as u64);
    assert!(reply.text().contains("failed on gpu-0: digest mismatch"));
    on.post(&format!("/api/blobs/{digest}?node=gpu-9"), "x")
        .await
        .is(404);
    on.is_idle().await;
}
