//! A raw HTTP/1.1 client: it sends exactly the bytes it is given and sees exactly how an answer ends.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::within;

/// One connection.
pub(crate) struct Raw {
    stream: TcpStream,
    buffer: Vec<u8>,
    chunked: bool,
    left: Option<usize>,
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// Whether the body ended as HTTP says it must: last chunk, or Content-Length reached.
    pub(crate) complete: bool,
}

impl Reply {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    #[track_caller]
    /// The word of `X-Arriero-Route`, without what it says besides.
    pub(crate) fn route(&self) -> Option<&str> {
        self.header("x-arriero-route")?.split(';').next()
    }

    pub(crate) fn is(self, status: u16) -> Reply {
        assert_eq!(self.status, status, "{:?} {}", self.headers, self.text());
        self
    }
}

/// A POST with a JSON body on a new connection, read to its end.
pub(crate) async fn post(addr: SocketAddr, path: &str, body: &str) -> Reply {
    let mut raw = Raw::open(addr).await;
    raw.send(&request("POST", path, body)).await;
    raw.reply().await
}

/// The bytes of an ordinary request.
pub(crate) fn request(method: &str, path: &str, body: &str) -> String {
    format!(
        "{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

impl Raw {
    pub(crate) async fn open(addr: SocketAddr) -> Raw {
        let stream = within("a connection", TcpStream::connect(addr))
            .await
            .expect("connect");
        stream.set_nodelay(true).expect("nodelay");
        Raw {
            stream,
            buffer: Vec::new(),
            chunked: false,
            left: None,
        }
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        within("a write", self.stream.write_all(bytes.as_ref()))
            .await
            .expect("write");
    }

    /// Sends as far as the other side takes it; a refusal may close the connection before all is written.
    pub(crate) async fn send_what_goes(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = within("a write", self.stream.write_all(bytes.as_ref())).await;
    }

    /// Closes this side; what the other side sends can still be read.
    pub(crate) async fn finish_sending(&mut self) {
        within("a FIN", self.stream.shutdown())
            .await
            .expect("shutdown");
    }

    /// Reads until something new is in the buffer; false at the end of the connection.
    async fn fill(&mut self) -> bool {
        let read = within("an answer", self.stream.read_buf(&mut self.buffer)).await;
        matches!(read, Ok(1..))
    }

    /// The head of an answer; 1xx answers are skipped. `None` when the connection ended instead.
    pub(crate) async fn head(&mut self) -> Option<(u16, Vec<(String, String)>)> {
        loop {
            let end = loop {
                match self.buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                    Some(at) => break at + 4,
                    None if self.fill().await => (),
                    None => return None,
                }
            };
            let head: Vec<u8> = self.buffer.drain(..end).collect();
            let head = String::from_utf8(head).expect("an ASCII head");
            let mut lines = head.trim_end().lines();
            let status: u16 = lines.next()?.split(' ').nth(1)?.parse().expect("a status");
            let headers: Vec<(String, String)> = lines
                .filter_map(|line| line.split_once(':'))
                .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
                .collect();
            if status >= 200 {
                let find = |wanted: &str| {
                    headers
                        .iter()
                        .find(|(name, _)| name == wanted)
                        .map(|(_, value)| value.clone())
                };
                self.chunked = find("transfer-encoding").is_some();
                self.left = find("content-length").map(|value| value.parse().expect("a length"));
                return Some((status, headers));
            }
        }
    }

    /// Waits for `100 Continue`.
    pub(crate) async fn continues(&mut self) {
        const LINE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
        while self.buffer.len() < LINE.len() {
            assert!(self.fill().await, "closed instead of 100 Continue");
        }
        assert!(
            self.buffer.starts_with(LINE),
            "{}",
            String::from_utf8_lossy(&self.buffer)
        );
        self.buffer.drain(..LINE.len());
    }

    /// The next bytes of the body: `Ok(None)` at its proper end, `Err(())` when it was broken off.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Vec<u8>>, ()> {
        if self.chunked {
            self.chunk_of_chunked().await
        } else {
            self.chunk_of_plain().await
        }
    }

    async fn chunk_of_chunked(&mut self) -> Result<Option<Vec<u8>>, ()> {
        let end = loop {
            match self.buffer.windows(2).position(|two| two == b"\r\n") {
                Some(at) => break at,
                None if self.fill().await => (),
                None => return Err(()),
            }
        };
        let size = std::str::from_utf8(&self.buffer[..end]).expect("a chunk size");
        let size = usize::from_str_radix(size, 16).expect("a hexadecimal chunk size");
        while self.buffer.len() < end + 2 + size + 2 {
            if !self.fill().await {
                return Err(());
            }
        }
        let chunk: Vec<u8> = self.buffer.drain(..end + 2 + size + 2).collect();
        Ok((size > 0).then(|| chunk[end + 2..end + 2 + size].to_vec()))
    }

    async fn chunk_of_plain(&mut self) -> Result<Option<Vec<u8>>, ()> {
        if self.left == Some(0) {
            return Ok(None);
        }
        if self.buffer.is_empty() && !self.fill().await {
            return if self.left.is_none() {
                Ok(None)
            } else {
                Err(())
            };
        }
        let take = self.buffer.len().min(self.left.unwrap_or(usize::MAX));
        self.left = self.left.map(|left| left - take);
        Ok(Some(self.buffer.drain(..take).collect()))
    }

    /// The rest of the body, and whether it ended properly.
    pub(crate) async fn rest(&mut self) -> (Vec<u8>, bool) {
        let mut body = Vec::new();
        loop {
            match self.chunk().await {
                Ok(Some(chunk)) => body.extend(chunk),
                Ok(None) => return (body, true),
                Err(()) => return (body, false),
            }
        }
    }

    /// A whole answer.
    pub(crate) async fn reply(&mut self) -> Reply {
        let (status, headers) = self
            .head()
            .await
            .expect("an answer, not a closed connection");
        let (body, complete) = self.rest().await;
        Reply {
            status,
            headers,
            body,
            complete,
        }
    }

    /// The answer to a HEAD: no body whatever Content-Length says.
    pub(crate) async fn reply_to_head(&mut self) -> Reply {
        let (status, headers) = self.head().await.expect("an answer");
        Reply {
            status,
            headers,
            body: Vec::new(),
            complete: true,
        }
    }

    /// Whether the other side closes without another byte.
    pub(crate) async fn is_closed(&mut self) -> bool {
        self.buffer.is_empty() && !self.fill().await
    }

    /// Leaves with a TCP reset instead of a FIN.
    pub(crate) fn reset(self) {
        self.stream.set_zero_linger().expect("linger");
    }
}

/// A listener whose accept queue is full: the kernel completes no further handshake, so a connection hangs as towards a dead
/// host, for as long as the second value lives.
pub(crate) async fn full_listener() -> (SocketAddr, (TcpListener, Vec<TcpStream>)) {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket
        .bind("127.0.0.1:0".parse().expect("an address"))
        .expect("bind");
    let listener = socket.listen(1).expect("listen");
    let addr = listener.local_addr().expect("an address");
    let mut wall = Vec::new();
    for _ in 0..8 {
        let knock = TcpStream::connect(addr);
        match tokio::time::timeout(std::time::Duration::from_millis(200), knock).await {
            Ok(Ok(stream)) => wall.push(stream),
            _ => break,
        }
    }
    (addr, (listener, wall))
}
