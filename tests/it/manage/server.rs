//! A small HTTP server that answers what a test tells it to: a place to download from, a node that lies.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use arriero::gateway::local::LocalGateway;

use crate::support::herd::parse;
use crate::support::{Herd, spawn};

/// What is said to one request.
pub(super) enum Answer {
    Whole(u16, Vec<(&'static str, String)>, Vec<u8>),
    /// 200, and then the same bytes for ever.
    Endless(&'static str),
    /// Said at once, before the body is read, which nobody does; the connection stays.
    Early(u16, &'static str),
    /// 200 and a length, and then half of it.
    Half(Vec<u8>),
}

impl Answer {
    pub(super) fn ok(body: impl Into<Vec<u8>>) -> Answer {
        Answer::Whole(200, Vec::new(), body.into())
    }

    pub(super) fn to(location: impl Into<String>) -> Answer {
        Answer::Whole(302, vec![("location", location.into())], Vec::new())
    }
}

/// Dropping it ends it.
pub(super) struct Server {
    pub(super) addr: SocketAddr,
    task: JoinHandle<()>,
}

impl Server {
    /// `answer` is given the method and the path with its query.
    pub(super) async fn start(
        answer: impl Fn(&str, &str) -> Answer + Send + Sync + 'static,
    ) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let addr = listener.local_addr().expect("an address");
        let answer = Arc::new(answer);
        let task = spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let answer = answer.clone();
                spawn(async move {
                    // Whoever leaves early is no concern of ours.
                    let _ = serve(stream, &*answer).await;
                });
            }
        });
        Server { addr, task }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A gateway over one node, `liar`, of a test's own making, which answers the questions of probes as an Ollama without models would.
/// `read_timeout` is that of `proxy`.
pub(super) async fn over(
    read_timeout: &str,
    answer: impl Fn(&str, &str) -> Answer + Send + Sync + 'static,
) -> (Herd, Server) {
    let node = Server::start(move |method, path| match path {
        "/" => Answer::ok("Ollama is running"),
        "/api/tags" | "/api/ps" => Answer::ok("{\"models\":[]}"),
        "/api/version" => Answer::ok("{\"version\":\"0.33.0\"}"),
        _ => answer(method, path),
    })
    .await;
    let config = format!(
        "management: {{ enabled: true }}\nproxy: {{ read_timeout: {read_timeout} }}\ndiscovery:\n  static:\n    endpoints:\n      - \
         {{ url: \"http://{}\", name: liar, type: ollama }}",
        node.addr
    );
    let gateway = LocalGateway::start(parse(&config))
        .await
        .expect("a gateway");
    let herd = Herd {
        nodes: Vec::new(),
        gateway,
    };
    herd.settled().await;
    (herd, node)
}

async fn serve(mut stream: TcpStream, answer: &dyn Answers) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.windows(4).any(|four| four == b"\r\n\r\n") {
        if stream.read_buf(&mut head).await? == 0 {
            return Ok(());
        }
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let mut words = head.split(' ');
    let (method, path) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
    match answer.answer(method, path) {
        Answer::Whole(status, headers, body) => {
            let mut head = format!("HTTP/1.1 {status} X\r\nconnection: close\r\n");
            for (name, value) in headers {
                head += &format!("{name}: {value}\r\n");
            }
            head += &format!("content-length: {}\r\n\r\n", body.len());
            stream.write_all(head.as_bytes()).await?;
            stream.write_all(&body).await?;
        }
        Answer::Endless(said) => {
            stream
                .write_all(b"HTTP/1.1 200 X\r\nconnection: close\r\n\r\n")
                .await?;
            loop {
                stream.write_all(said.as_bytes()).await?;
            }
        }
        Answer::Early(status, said) => {
            let length = said.len();
            let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: {length}\r\n\r\n{said}");
            stream.write_all(answer.as_bytes()).await?;
            std::future::pending::<()>().await;
        }
        Answer::Half(body) => {
            let head = format!("HTTP/1.1 200 X\r\ncontent-length: {}\r\n\r\n", body.len());
            stream.write_all(head.as_bytes()).await?;
            stream.write_all(&body[..body.len() / 2]).await?;
        }
    }
    stream.shutdown().await
}

/// What a test's closure is to the connections.
trait Answers: Send + Sync {
    fn answer(&self, method: &str, path: &str) -> Answer;
}

impl<F: Fn(&str, &str) -> Answer + Send + Sync> Answers for F {
    fn answer(&self, method: &str, path: &str) -> Answer {
        self(method, path)
    }
}
