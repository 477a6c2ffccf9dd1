//! An HTTP/2 client with prior knowledge: it shows how each stream ends, and can reset one or drop the whole connection.

use std::net::SocketAddr;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Request};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::within;

/// One connection of many streams. Dropping it closes the socket.
pub(crate) struct H2 {
    requests: SendRequest<Bytes>,
    driver: JoinSet<()>,
}

/// One request and its answer.
pub(crate) struct Stream {
    pub(crate) body: SendStream<Bytes>,
    answer: Option<ResponseFuture>,
    received: Option<RecvStream>,
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
    /// END_STREAM, or why the stream was reset.
    pub(crate) end: Result<(), Reason>,
}

impl Reply {
    #[track_caller]
    pub(crate) fn is(self, status: u16) -> Reply {
        assert_eq!(self.status, status, "{:?} {}", self.headers, self.text);
        assert_eq!(self.end, Ok(()), "{}", self.text);
        self
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }
}

impl H2 {
    pub(crate) async fn open(addr: SocketAddr) -> H2 {
        let socket = within("a connection", TcpStream::connect(addr))
            .await
            .expect("connect");
        socket.set_nodelay(true).expect("nodelay");
        let handshake = within("an HTTP/2 handshake", h2::client::handshake(socket)).await;
        let (requests, connection) = handshake.expect("HTTP/2");
        let mut driver = JoinSet::new();
        driver.spawn(async move {
            let _ = connection.await;
        });
        H2 { requests, driver }
    }

    /// Sends a head; `end` when no body follows.
    pub(crate) async fn begin(
        &self,
        method: &str,
        path: &str,
        length: Option<usize>,
        end: bool,
    ) -> Stream {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("http://localhost{path}"))
            .header("content-type", "application/json");
        if let Some(length) = length {
            request = request.header("content-length", length);
        }
        let request = request.body(()).expect("a request");
        let ready = within("room for a stream", self.requests.clone().ready()).await;
        let (answer, body) = ready
            .expect("an open connection")
            .send_request(request, end)
            .expect("a stream");
        Stream {
            body,
            answer: Some(answer),
            received: None,
        }
    }

    /// Sends a POST with its length and leaves the answer to be read.
    pub(crate) async fn ask(&self, path: &str, body: &str) -> Stream {
        let mut stream = self.begin("POST", path, Some(body.len()), false).await;
        let body = Bytes::copy_from_slice(body.as_bytes());
        stream.send(body, true).await.expect("the body");
        stream
    }

    pub(crate) async fn post(&self, path: &str, body: &str) -> Reply {
        self.ask(path, body).await.reply().await
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        self.begin("GET", path, None, true).await.reply().await
    }

    /// Waits until the other side has closed the connection.
    pub(crate) async fn closed(&mut self) {
        let _ = within("the end of the connection", self.driver.join_next()).await;
    }

    pub(crate) fn is_open(&mut self) -> bool {
        self.driver.try_join_next().is_none()
    }
}

impl Stream {
    /// Sends a piece of the body as the window allows.
    ///
    /// # Errors
    /// Why the other side wants no more of it.
    pub(crate) async fn send(
        &mut self,
        bytes: impl Into<Bytes>,
        end: bool,
    ) -> Result<(), h2::Error> {
        let mut rest = bytes.into();
        while !rest.is_empty() {
            self.body.reserve_capacity(rest.len());
            let room = std::future::poll_fn(|context| self.body.poll_capacity(context));
            let Some(room) = within("room in the window", room).await else {
                return Err(Reason::STREAM_CLOSED.into());
            };
            let piece = rest.split_to(room?.min(rest.len()));
            let last = end && rest.is_empty();
            self.body.send_data(piece, last)?;
        }
        Ok(())
    }

    /// The head of the answer.
    ///
    /// # Errors
    /// Why there is none.
    pub(crate) async fn head(&mut self) -> Result<(u16, HeaderMap), Reason> {
        let answer = self.answer.take().expect("a head is read once");
        let answer = within("a head", answer).await.map_err(reason)?;
        let (head, received) = answer.into_parts();
        self.received = Some(received);
        Ok((head.status.as_u16(), head.headers))
    }

    /// The next bytes of the answer; `None` at END_STREAM.
    ///
    /// # Errors
    /// Why the stream was reset.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, Reason> {
        let received = self.received.as_mut().expect("the head is read first");
        let piece = within("a piece of the answer", received.data()).await;
        let piece = piece.transpose().map_err(reason)?;
        if let Some(piece) = &piece {
            let _ = received.flow_control().release_capacity(piece.len());
        }
        Ok(piece)
    }

    /// The rest of the body, and how it ended.
    pub(crate) async fn rest(&mut self) -> (Vec<u8>, Result<(), Reason>) {
        let mut body = Vec::new();
        loop {
            match self.chunk().await {
                Ok(Some(piece)) => body.extend(piece),
                Ok(None) => return (body, Ok(())),
                Err(reason) => return (body, Err(reason)),
            }
        }
    }

    /// A whole answer.
    pub(crate) async fn reply(&mut self) -> Reply {
        let (status, headers) = self.head().await.expect("a head");
        let (body, end) = self.rest().await;
        let text = String::from_utf8_lossy(&body).into_owned();
        Reply {
            status,
            headers,
            text,
            end,
        }
    }

    /// Leaves this stream and no other.
    pub(crate) fn cancel(mut self) {
        self.body.send_reset(Reason::CANCEL);
    }
}

fn reason(error: h2::Error) -> Reason {
    error
        .reason()
        .unwrap_or_else(|| panic!("the connection broke: {error}"))
}
