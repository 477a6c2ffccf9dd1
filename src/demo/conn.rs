//! A client's connection: read a request, write bytes of any kind, see the client leave.

use std::io::{self, ErrorKind};
use std::sync::Mutex;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::body::Decoder;
use super::http::{BODY_BYTES_MAX, Head, lock, parse_head};

/// Bytes that a client may send ahead of the answer to its last request.
const AHEAD_BYTES_MAX: usize = 1 << 20;
const READ_BYTES: usize = 16 << 10;

/// A client's connection. All methods take `&self`, so that one task can write and watch the client at once.
pub(super) struct Conn {
    stream: TcpStream,
    /// What came and was not consumed yet.
    ahead: Mutex<BytesMut>,
    frozen: watch::Receiver<bool>,
}

impl Conn {
    pub(super) fn new(stream: TcpStream, frozen: watch::Receiver<bool>) -> Conn {
        Conn {
            stream,
            ahead: Mutex::new(BytesMut::new()),
            frozen,
        }
    }

    /// The next request's head; `None` when the client closed between two requests.
    ///
    /// # Errors
    /// The connection broke or what came is no HTTP.
    pub(super) async fn head(&self) -> io::Result<Option<Head>> {
        loop {
            if let Some(head) = parse_head(&mut lock(&self.ahead))? {
                return Ok(Some(head));
            }
            if self.fill(READ_BYTES).await? == 0 {
                return Ok(None);
            }
        }
    }

    /// The body; `pace` makes the reading slow: so many bytes at a time, then a rest.
    ///
    /// # Errors
    /// The connection ended first, the framing is broken, or the body is larger than 256 MiB.
    pub(super) async fn body(
        &self,
        head: &Head,
        pace: Option<(usize, Duration)>,
    ) -> io::Result<Bytes> {
        let mut body = BytesMut::new();
        let mut decoder = Decoder::new(head, BODY_BYTES_MAX)?;
        self.receive(head, &mut decoder, pace, &mut |bytes| {
            body.extend_from_slice(bytes);
        })
        .await?;
        Ok(body.freeze())
    }

    /// As [`Conn::body`], of a body that nobody keeps: `sink` sees every byte once.
    ///
    /// # Errors
    /// As [`Conn::body`]; how large a body may be is the decoder's to say.
    pub(super) async fn receive(
        &self,
        head: &Head,
        decoder: &mut Decoder,
        pace: Option<(usize, Duration)>,
        sink: &mut (impl FnMut(&[u8]) + Send),
    ) -> io::Result<()> {
        if head.header("expect").is_some() {
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
        }
        while !decoder.take(&mut lock(&self.ahead), sink)? {
            if let Some((_, rest)) = pace {
                tokio::time::sleep(rest).await;
            }
            if self
                .fill(pace.map_or(READ_BYTES, |(bytes, _)| bytes))
                .await?
                == 0
            {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(())
    }

    /// Drops whatever comes until the client closes.
    pub(super) async fn discard(&self) {
        loop {
            lock(&self.ahead).clear();
            if !matches!(self.fill(READ_BYTES).await, Ok(n) if n > 0) {
                return;
            }
        }
    }

    /// Reads at most `bytes_max` bytes more; 0 means that the client closed its side.
    async fn fill(&self, bytes_max: usize) -> io::Result<usize> {
        loop {
            self.thawed().await;
            self.stream.readable().await?;
            self.thawed().await;
            let read = {
                let mut ahead = lock(&self.ahead);
                ahead.reserve(bytes_max);
                self.stream
                    .try_read_buf(&mut (&mut *ahead).limit(bytes_max))
            };
            match read {
                Err(e) if e.kind() == ErrorKind::WouldBlock => {}
                other => return other,
            }
        }
    }

    /// Resolves when the client has left, or closed its sending side, which Ollama takes for leaving too.
    pub(super) async fn gone(&self) {
        loop {
            if AHEAD_BYTES_MAX < lock(&self.ahead).len() {
                // A client that pipelines this much is not watched any further.
                return std::future::pending().await;
            }
            if !matches!(self.fill(READ_BYTES).await, Ok(n) if n > 0) {
                return;
            }
        }
    }

    /// # Errors
    /// The client is gone.
    pub(super) async fn write(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            self.thawed().await;
            match self.stream.try_write(bytes) {
                Ok(n) => bytes = &bytes[n..],
                Err(e) if e.kind() == ErrorKind::WouldBlock => self.stream.writable().await?,
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Makes the close of this connection a reset.
    pub(super) fn reset_on_close(&self) {
        // It fails only for a socket that is gone already.
        let _ = self.stream.set_zero_linger();
    }

    async fn thawed(&self) {
        if *self.frozen.borrow() {
            let mut frozen = self.frozen.clone();
            // An error means that the node is gone; its connections end with it.
            let _ = frozen.wait_for(|f| !f).await;
        }
    }
}
