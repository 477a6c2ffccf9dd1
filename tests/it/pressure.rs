//! Clients that take without end or give nothing: what they hold back stays small, and the others notice nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arriero::demo;
use arriero::gateway::local::LocalGateway;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::client::Raw;
use crate::support::herd::parse;
use crate::support::{Herd, herd, spawn};

const CHAT: &str = r#"{"model":"llama3","messages":[{"role":"user","content":"hi"}]}"#;
/// What may be under way at most, in bytes: the buffers of four sockets, not gigabytes.
const AHEAD_BYTES_MAX: usize = 128 * 1024 * 1024;
const FLOOD_BYTES: usize = 8 * 1024 * 1024 * 1024;

/// Answers every GET with a list of one model, and every POST with a flood, counted until it stops.
async fn flood(stream: TcpStream, sent: Arc<AtomicUsize>) {
    let mut stream = stream;
    let mut head = Vec::new();
    while !head.windows(4).any(|four| four == b"\r\n\r\n") {
        if !matches!(stream.read_buf(&mut head).await, Ok(1..)) {
            return;
        }
    }
    let list = r#"{"object":"list","data":[{"id":"llama3","object":"model"}]}"#;
    let answer = match head.starts_with(b"POST") {
        true => format!("content-length: {FLOOD_BYTES}\r\n\r\n"),
        false => format!(
            "connection: close\r\ncontent-length: {}\r\n\r\n{list}",
            list.len()
        ),
    };
    let answer = format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n{answer}");
    if stream.write_all(answer.as_bytes()).await.is_err() || !head.starts_with(b"POST") {
        return;
    }
    let piece = vec![b'a'; 64 * 1024];
    while stream.write_all(&piece).await.is_ok() && sent.load(Ordering::SeqCst) < FLOOD_BYTES {
        sent.fetch_add(piece.len(), Ordering::SeqCst);
    }
}

#[tokio::test]
async fn a_client_that_stops_reading_holds_the_node_back() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let addr = listener.local_addr().expect("an address");
    let sent = Arc::new(AtomicUsize::new(0));
    let counted = sent.clone();
    let node = spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            drop(spawn(flood(stream, counted.clone())));
        }
    });
    let yaml = format!(
        "server: {{ write_timeout: 700ms }}\ndiscovery: {{ static: {{ endpoints: [{{ url: \"http://{addr}\", name: gpu-0, type: openai-compatible }}] }} }}"
    );
    let herd = Herd {
        nodes: Vec::new(),
        gateway: LocalGateway::start(parse(&yaml)).await.expect("a gateway"),
    };
    herd.settled().await;
    let mut raw = herd.begin("/v1/chat/completions", CHAT).await;
    assert_eq!(raw.head().await.expect("a head").0, 200);
    herd.is_idle().await; // the write timeout has ended it; nobody has read
    let ahead = sent.load(Ordering::SeqCst);
    assert!(
        0 < ahead && ahead < AHEAD_BYTES_MAX,
        "{ahead} bytes read ahead"
    );
    node.abort();
}

#[tokio::test]
async fn idle_connections_do_not_disturb_the_others() {
    let herd = herd(
        vec![demo::Node::builder().loaded("llama3").tokens(2)],
        "server: { max_connections: 300 }",
    )
    .await;
    let mut idle = Vec::new();
    for _ in 0..100 {
        idle.push(Raw::open(herd.addr()).await);
    }
    for _ in 0..20 {
        herd.post("/api/chat", CHAT).await.is(200);
    }
    idle[99].send("GET / HTTP/1.1\r\nhost: g\r\n\r\n").await;
    idle[99].reply().await.is(200);
    drop(idle);
    herd.until_metric("arriero_connections", |open| open <= 1.0)
        .await;
}
