//! HTTP/2 clients with prior knowledge: the same promises as over HTTP/1.1, told in HTTP/2's own ways of ending.

mod leaving;

mod limits;

use arriero::demo::{self, Fault};

use crate::streams::{CALLS, TERMINALS};
use crate::support::h2::{H2, Reply};
use crate::support::herd::herd_of;
use crate::support::{Herd, herd};

const H2C: &str = "server: { h2c: true }";
const CHAT: &str = r#"{"model":"llama3","messages":[{"role":"user","content":"hi"}]}"#;
fn llama() -> demo::NodeBuilder {
    demo::Node::builder().loaded("llama3").tokens(6)
}

async fn one() -> Herd {
    herd(vec![llama()], H2C).await
}

/// Whether the connection still serves.
async fn still_serves(herd: &Herd, connection: &H2) {
    herd.nodes[0].resume();
    herd.nodes[0].clear_fault();
    let reply = connection.post("/api/chat", CHAT).await.is(200);
    assert!(reply.text.contains("\"done\":true"), "{}", reply.text);
    herd.is_idle().await;
}

#[tokio::test]
async fn answers_come_whole_and_streamed_in_every_dialect() {
    let herd = one().await;
    let connection = H2::open(herd.addr()).await;
    for (path, body, _) in CALLS {
        let reply = connection.post(path, body).await.is(200);
        assert!(
            TERMINALS
                .iter()
                .any(|terminal| reply.text.contains(terminal)),
            "{path}: {}",
            reply.text
        );
        assert_eq!(reply.headers["x-arriero-node"], "gpu-0", "{path}");
        let whole = match body.contains("\"stream\":true") {
            true => body.replace("\"stream\":true", "\"stream\":false"),
            false => body.replace("{\"model\"", "{\"stream\":false,\"model\""),
        };
        let reply = connection.post(path, &whole).await.is(200);
        assert!(reply.json().is_object(), "{path}: {}", reply.text);
        assert!(
            reply.headers["content-length"] == reply.text.len().to_string().as_str(),
            "{path}: {:?}",
            reply.headers
        );
    }
    let tags = connection.get("/api/tags").await.is(200);
    assert!(tags.text.contains("llama3"), "{}", tags.text);
    herd.is_idle().await;
}

#[tokio::test]
async fn http_1_clients_use_the_same_port() {
    let herd = one().await;
    let connection = H2::open(herd.addr()).await;
    assert!(herd.post("/api/chat", CHAT).await.is(200).complete);
    still_serves(&herd, &connection).await;
    assert!(herd.post("/api/chat", CHAT).await.is(200).complete);
}

#[tokio::test]
async fn large_bodies_reach_the_second_node_intact_after_the_first_refused() {
    let text = "0123456789abcdef".repeat(8 * 1024 * 1024 / 16);
    let body = format!(r#"{{"prompt":"{text}","stream":false,"model":"llama3"}}"#);
    for length in [Some(body.len()), None] {
        let herd = herd_of(vec![(llama(), "priority: 200"), (llama(), "")], H2C).await;
        herd.nodes[0].fault(Fault::busy());
        let connection = H2::open(herd.addr()).await;
        let mut stream = connection
            .begin("POST", "/api/generate", length, false)
            .await;
        stream.send(body.clone(), true).await.expect("the body");
        let reply = stream.reply().await.is(200);
        assert_eq!(reply.headers["x-arriero-attempts"], "2");
        for node in 0..2 {
            let seen = herd.served(node);
            assert!(
                seen.len() == 1 && seen[0].body == body.as_bytes(),
                "gpu-{node} got {} requests",
                seen.len()
            );
        }
        herd.is_idle().await;
    }
}

#[tokio::test]
async fn a_body_longer_than_one_buffer_goes_pingoras_own_way_too() {
    let digest = format!("sha256:{}", "a".repeat(64));
    let yaml = format!("{H2C}\nmanagement: {{ enabled: true }}");
    let herd = herd(vec![llama()], &yaml).await;
    let connection = H2::open(herd.addr()).await;
    let path = format!("/api/blobs/{digest}?node=gpu-0");
    let mut stream = connection.begin("POST", &path, None, false).await;
    stream
        .send(vec![7; 1024 * 1024], true)
        .await
        .expect("the body");
    let reply = stream.reply().await;
    assert_eq!(reply.end, Ok(()), "{reply:?}");
    assert_eq!(herd.served(0)[0].body_bytes, 1024 * 1024, "{reply:?}");
    herd.is_idle().await;
}

fn is_cut(reply: &Reply, what: &str) {
    assert_eq!(reply.status, 200, "{what}: {}", reply.text);
    assert!(
        reply.end.is_err(),
        "{what}: END_STREAM makes a truncated answer look complete: {}",
        reply.text
    );
    assert!(
        !TERMINALS
            .iter()
            .any(|terminal| reply.text.contains(terminal)),
        "{what}: {}",
        reply.text
    );
}

#[tokio::test]
async fn a_truncated_answer_is_told_in_band_and_reset() {
    let faults = [
        Fault::FinAfter { after: 3 },
        Fault::RstAfter { after: 3 },
        Fault::RunnerDies { after: 3 },
        Fault::Stuck { after: 3 },
    ];
    for fault in faults {
        let herd = one().await;
        for (path, body, mark) in CALLS {
            let connection = H2::open(herd.addr()).await;
            herd.nodes[0].fault_times(fault.clone(), 1);
            let what = format!("{fault:?} {path}");
            let reply = connection.post(path, body).await;
            is_cut(&reply, &what);
            assert_eq!(
                reply.text.matches(mark).count(),
                1,
                "{what}: {}",
                reply.text
            );
            // A success between two failures keeps the node up for the next case.
            still_serves(&herd, &connection).await;
        }
    }
}

#[tokio::test]
async fn a_whole_answer_cut_short_is_reset_without_a_word_in_it() {
    let herd = one().await;
    let connection = H2::open(herd.addr()).await;
    herd.nodes[0].fault_times(Fault::ShortLength, 1);
    let body = r#"{"model":"llama3","stream":false,"prompt":"hi"}"#;
    let reply = connection.post("/api/generate", body).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    assert!(reply.end.is_err(), "{}", reply.text);
    assert!(!reply.text.contains("error"), "{}", reply.text);
    still_serves(&herd, &connection).await;
}

#[tokio::test]
async fn twenty_streams_share_one_connection() {
    let herd = herd_of(vec![(llama().slots(20), "slots: 20")], H2C).await;
    herd.nodes[0].pause_after(1);
    let connection = H2::open(herd.addr()).await;
    let mut streams = Vec::new();
    for _ in 0..20 {
        streams.push(connection.ask("/api/chat", CHAT).await);
    }
    herd.nodes[0].until(|node| node.generating() == 20).await;
    assert_eq!(herd.metric("arriero_active_requests").await, 20.0);
    // The admin connection that asks is one of the two.
    assert_eq!(herd.metric("arriero_active_connections").await, 2.0);
    herd.nodes[0].resume();
    for stream in &mut streams {
        let reply = stream.reply().await.is(200);
        assert!(reply.text.contains("\"done\":true"), "{}", reply.text);
    }
    herd.is_idle().await;
    let series = "arriero_http_requests_total{call=\"chat\",code=\"200\",end_by=\"done\"}";
    assert_eq!(herd.metric(series).await, 20.0);
}
