//! The client's half of HTTP/1.1: one kept-alive connection that hands an answer's body out piece by piece as it arrives.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::Result;

/// Also the longest head, since a head is parsed where it lies.
const BUFFER_BYTES: usize = 16 << 10;
const HEADERS_MAX: usize = 64;

/// A connection to a contender or a node.
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Box<[u8]>,
    /// What has been read and not yet handed out is `buffer[from..to]`.
    from: usize,
    to: usize,
}

enum Body {
    Length(usize),
    Chunked,
}

impl Connection {
    pub(crate) async fn open(addr: SocketAddr) -> Result<Connection> {
        let stream = TcpStream::connect(addr).await?;
        stream.set_nodelay(true)?;
        Ok(Connection {
            stream,
            buffer: vec![0; BUFFER_BYTES].into(),
            from: 0,
            to: 0,
        })
    }

    /// Sends a whole request and gives each piece of the answer's body to `each`; tells the status.
    ///
    /// # Errors
    /// When the connection breaks, or the answer is not HTTP/1.1 with a `Content-Length` or in chunks.
    pub(crate) async fn exchange(
        &mut self,
        request: &[u8],
        mut each: impl FnMut(&[u8]),
    ) -> Result<u16> {
        self.stream.write_all(request).await?;
        let (status, body) = self.head().await?;
        match body {
            Body::Length(length) => self.pass(length, &mut each).await?,
            Body::Chunked => loop {
                let size = self.chunk_size().await?;
                self.pass(size, &mut each).await?;
                self.line_end().await?;
                if size == 0 {
                    break;
                }
            },
        }
        Ok(status)
    }

    async fn head(&mut self) -> Result<(u16, Body)> {
        loop {
            let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
            let mut response = httparse::Response::new(&mut headers);
            let bytes = &self.buffer[self.from..self.to];
            if let httparse::Status::Complete(length) = response.parse(bytes)? {
                let status = response.code.unwrap_or(0);
                let body = body(response.headers)?;
                self.from += length;
                return Ok((status, body));
            }
            self.fill().await?;
        }
    }

    async fn chunk_size(&mut self) -> Result<usize> {
        loop {
            let parsed = httparse::parse_chunk_size(&self.buffer[self.from..self.to])
                .map_err(|_| "the answer has a chunk without a size")?;
            if let httparse::Status::Complete((length, size)) = parsed {
                self.from += length;
                return Ok(usize::try_from(size)?);
            }
            self.fill().await?;
        }
    }

    async fn pass(&mut self, mut left: usize, each: &mut impl FnMut(&[u8])) -> Result<()> {
        while 0 < left {
            if self.from == self.to {
                self.fill().await?;
            }
            let end = self.to.min(self.from.saturating_add(left));
            each(&self.buffer[self.from..end]);
            left -= end - self.from;
            self.from = end;
        }
        Ok(())
    }

    async fn line_end(&mut self) -> Result<()> {
        while self.to - self.from < 2 {
            self.fill().await?;
        }
        if &self.buffer[self.from..self.from + 2] != b"\r\n" {
            return Err("a chunk of the answer does not end where its size says".into());
        }
        self.from += 2;
        Ok(())
    }

    async fn fill(&mut self) -> Result<()> {
        self.buffer.copy_within(self.from..self.to, 0);
        self.to -= self.from;
        self.from = 0;
        if self.to == self.buffer.len() {
            return Err(format!("the answer's head is longer than {BUFFER_BYTES} bytes").into());
        }
        match self.stream.read(&mut self.buffer[self.to..]).await? {
            0 => Err("the connection ended inside an answer".into()),
            read => {
                self.to += read;
                Ok(())
            }
        }
    }
}

fn body(headers: &[httparse::Header<'_>]) -> Result<Body> {
    let find = |name: &str| headers.iter().find(|h| h.name.eq_ignore_ascii_case(name));
    if find("transfer-encoding").is_some() {
        return Ok(Body::Chunked);
    }
    let length = find("content-length").ok_or("the answer does not say how long it is")?;
    Ok(Body::Length(std::str::from_utf8(length.value)?.parse()?))
}
