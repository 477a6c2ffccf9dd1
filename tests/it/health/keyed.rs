//! A server as vLLM whose health path is always well while its listing and its calls answer with any status.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use crate::support::{spawn, within};

/// Such a server; it ends with the test.
pub(super) struct Keyed {
    pub(super) addr: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    answers: Mutex<Answers>,
    /// The first two words of every request.
    asked: Mutex<Vec<String>>,
    changed: Notify,
}

struct Answers {
    listing: u16,
    calls: u16,
    headers: &'static str,
}

impl Default for Answers {
    fn default() -> Answers {
        Answers {
            listing: 200,
            calls: 200,
            headers: "",
        }
    }
}

impl Keyed {
    pub(super) async fn start() -> Keyed {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let addr = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared::default());
        let state = shared.clone();
        drop(spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                drop(spawn(serve(socket, state.clone())));
            }
        }));
        Keyed { addr, shared }
    }

    /// The status of every listing from now on.
    pub(super) fn list_with(&self, status: u16) {
        self.shared.answers.lock().expect("no panic").listing = status;
    }

    /// The status of every call from now on, and whole lines of its head.
    pub(super) fn call_with(&self, status: u16, headers: &'static str) {
        let mut answers = self.shared.answers.lock().expect("no panic");
        (answers.calls, answers.headers) = (status, headers);
    }

    /// Waits for so many more requests of this kind.
    pub(super) async fn until_asked(&self, what: &str, times: usize) {
        let count = || {
            let asked = self.shared.asked.lock().expect("no panic");
            asked.iter().filter(|line| *line == what).count()
        };
        let enough = count() + times;
        within(what, async {
            loop {
                let changed = self.shared.changed.notified();
                if enough <= count() {
                    return;
                }
                changed.await;
            }
        })
        .await;
    }
}

async fn serve(mut socket: TcpStream, shared: Arc<Shared>) {
    let Some(line) = request_line(&mut socket).await else {
        return;
    };
    let (status, headers, body) = {
        let answers = shared.answers.lock().expect("no panic");
        match line.as_str() {
            "GET /health" => (200, "", "{}"),
            "GET /v1/models" => (
                answers.listing,
                "",
                r#"{"object":"list","data":[{"id":"llama3","object":"model"}]}"#,
            ),
            _ => (
                answers.calls,
                answers.headers,
                r#"{"id":"1","object":"chat.completion","model":"llama3","choices":[{"index":0,"message":{"role":"assistant","content":"hi"},"finish_reason":"stop"}]}"#,
            ),
        }
    };
    let head = format!(
        "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\n{headers}connection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let _ = socket.write_all((head + body).as_bytes()).await;
    shared.asked.lock().expect("no panic").push(line);
    shared.changed.notify_waiters();
}

/// Reads a whole request, or the kernel would answer with a reset; returns its method and path.
async fn request_line(socket: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    loop {
        if socket.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
        let text = String::from_utf8_lossy(&bytes).to_ascii_lowercase();
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let length = head.split_once("content-length: ");
        let length = length.and_then(|(_, rest)| rest.lines().next()?.parse().ok());
        if length.unwrap_or(0) <= body.len() {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            let mut words = text.split(' ');
            return Some(format!("{} {}", words.next()?, words.next()?));
        }
    }
}
