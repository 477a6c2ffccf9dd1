//! A stand-in for `arriero::demo` with its names, until that is merged: delete this file and use `arriero::demo::Node`.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arriero::fleet::Timestamp;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

pub(crate) struct Node {
    addr: SocketAddr,
    _tasks: JoinSet<()>,
}

#[derive(Clone, Default)]
pub(crate) struct NodeBuilder {
    model: String,
    tokens: usize,
    token_delay: Duration,
}

impl Node {
    pub(crate) fn builder() -> NodeBuilder {
        NodeBuilder::default()
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }
}

impl NodeBuilder {
    pub(crate) fn loaded(mut self, model: &str) -> Self {
        self.model = model.to_owned();
        self
    }

    pub(crate) fn slots(self, _slots: usize) -> Self {
        self
    }

    pub(crate) fn tokens(mut self, tokens: usize) -> Self {
        self.tokens = tokens;
        self
    }

    pub(crate) fn token_delay(mut self, delay: Duration) -> Self {
        self.token_delay = delay;
        self
    }

    pub(crate) async fn start(self) -> io::Result<Node> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let addr = listener.local_addr()?;
        let node = Arc::new(self);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let node = Arc::clone(&node);
                connections.spawn(async move { drop(node.serve(stream).await) });
                while connections.try_join_next().is_some() {}
            }
        });
        Ok(Node {
            addr,
            _tasks: tasks,
        })
    }

    async fn serve(&self, mut stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let mut read = Vec::with_capacity(8 << 10);
        loop {
            let (head, length) = loop {
                let mut headers = [httparse::EMPTY_HEADER; 32];
                let mut request = httparse::Request::new(&mut headers);
                let parsed = request.parse(&read).map_err(io::Error::other)?;
                if let httparse::Status::Complete(head) = parsed {
                    let named =
                        |h: &&httparse::Header<'_>| h.name.eq_ignore_ascii_case("content-length");
                    let length = request
                        .headers
                        .iter()
                        .find(named)
                        .map_or("0", |h| std::str::from_utf8(h.value).unwrap_or("0"));
                    break (head, length.parse().map_err(io::Error::other)?);
                }
                if stream.read_buf(&mut read).await? == 0 {
                    return Ok(());
                }
            };
            while read.len() < head + length {
                if stream.read_buf(&mut read).await? == 0 {
                    return Ok(());
                }
            }
            let (head, body) = read.split_at(head);
            self.answer(&mut stream, head, &body[..length]).await?;
            let used = head.len() + length;
            read.drain(..used);
        }
    }

    async fn answer(&self, stream: &mut TcpStream, head: &[u8], body: &[u8]) -> io::Result<()> {
        let model = &self.model;
        let json = if head.starts_with(b"POST /api/chat") {
            if !body.ends_with(b"\"stream\":false}") {
                return self.stream(stream).await;
            }
            line(model, " word word word word", true)
        } else if head.starts_with(b"GET /api/version") {
            "{\"version\":\"0.33.0\"}".to_owned()
        } else if head.starts_with(b"GET /api/") {
            format!(
                "{{\"models\":[{{\"name\":\"{model}:latest\",\"model\":\"{model}:latest\",\"digest\":\"d\"}}]}}"
            )
        } else {
            "Ollama is running".to_owned()
        };
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json; charset=utf-8\r\nContent-Length: {}\r\n\r\n",
            json.len()
        );
        stream.write_all((head + &json).as_bytes()).await
    }

    async fn stream(&self, stream: &mut TcpStream) -> io::Result<()> {
        let mut out = "HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned();
        for token in 0..=self.tokens {
            tokio::time::sleep(self.token_delay).await;
            let line = line(&self.model, " word", token == self.tokens);
            out += &format!("{:x}\r\n{line}\n\r\n", line.len() + 1);
            stream.write_all(out.as_bytes()).await?;
            out.clear();
        }
        stream.write_all(b"0\r\n\r\n").await
    }
}

fn line(model: &str, text: &str, done: bool) -> String {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let nanos = now.subsec_nanos();
    let now = Timestamp {
        unix_s: now.as_secs().cast_signed(),
        nanos,
    };
    let now = now.to_rfc3339();
    let now = now.trim_end_matches('Z');
    format!(
        "{{\"model\":\"{model}\",\"created_at\":\"{now}.{nanos:09}Z\",\"message\":{{\"role\":\"assistant\",\"content\":\"{text}\"}},\"done\":{done}}}"
    )
}
