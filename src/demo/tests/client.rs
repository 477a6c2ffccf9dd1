//! A client that sees every byte: status, headers, chunks as they were cut, and how the answer ended.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    Clean,
    /// FIN before the body was whole.
    Fin,
    Reset,
    /// What came is no HTTP.
    Broken,
}

#[derive(Debug, Clone)]
pub(super) struct Got {
    /// 0 when the connection ended before a status line.
    pub status: u16,
    pub headers: Vec<(String, String)>,
    /// One per HTTP chunk; one for a body with a length.
    pub chunks: Vec<String>,
    pub end: End,
}

impl Got {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(n, _)| n == name);
        found.next().map(|(_, v)| v.as_str())
    }

    pub(super) fn text(&self) -> String {
        self.chunks.concat()
    }
}

pub(super) struct Client {
    stream: TcpStream,
    buf: Vec<u8>,
}

impl Client {
    pub(super) async fn connect(addr: SocketAddr) -> Client {
        Client {
            stream: TcpStream::connect(addr).await.unwrap(),
            buf: Vec::new(),
        }
    }

    pub(super) async fn send(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&str>,
    ) {
        let mut text = format!("{method} {path} HTTP/1.1\r\n");
        if !headers.iter().any(|(n, _)| *n == "Host") {
            text.push_str("Host: localhost:11434\r\n");
        }
        for (name, value) in headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        let body = body.unwrap_or_default();
        if method != "GET" && method != "HEAD" {
            text.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        self.raw(format!("{text}\r\n{body}").as_bytes()).await;
    }

    /// A node may have closed already; the answer tells.
    pub(super) async fn raw(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes).await;
    }

    pub(super) async fn ask(&mut self, method: &str, path: &str, body: Option<&str>) -> Got {
        self.send(method, path, &[], body).await;
        self.answer(method == "HEAD").await
    }

    /// Reads more; the end when there is none.
    async fn more(&mut self) -> Result<(), End> {
        match self.stream.read_buf(&mut self.buf).await {
            Ok(0) => Err(End::Fin),
            Ok(_) => Ok(()),
            Err(_) => Err(End::Reset),
        }
    }

    pub(super) async fn answer(&mut self, is_head: bool) -> Got {
        let mut got = Got {
            status: 0,
            headers: Vec::new(),
            chunks: Vec::new(),
            end: End::Clean,
        };
        if let Err(end) = self.read(&mut got, is_head).await {
            got.end = end;
        }
        got
    }

    async fn read(&mut self, got: &mut Got, is_head: bool) -> Result<(), End> {
        loop {
            let mut slots = [httparse::EMPTY_HEADER; 64];
            let mut response = httparse::Response::new(&mut slots);
            match response.parse(&self.buf) {
                Ok(httparse::Status::Complete(len)) => {
                    got.status = response.code.unwrap_or(0);
                    let pairs = response.headers.iter().map(|h| {
                        (
                            h.name.to_owned(),
                            String::from_utf8_lossy(h.value).into_owned(),
                        )
                    });
                    got.headers = pairs.collect();
                    self.buf.drain(..len);
                    break;
                }
                Ok(httparse::Status::Partial) => self.more().await?,
                Err(_) => return Err(End::Broken),
            }
        }
        if is_head || got.status == 204 {
            return Ok(());
        }
        if got.header("Transfer-Encoding").is_some() {
            return self.chunks(got).await;
        }
        let length = got
            .header("Content-Length")
            .map(|v| v.parse::<usize>().unwrap());
        loop {
            let wanted = length.unwrap_or(usize::MAX);
            if self.buf.len() >= wanted {
                got.chunks.push(self.take(wanted));
                return Ok(());
            }
            if let Err(end) = self.more().await {
                let rest = self.buf.len();
                got.chunks.push(self.take(rest));
                return if length.is_none() && end == End::Fin {
                    Ok(())
                } else {
                    Err(end)
                };
            }
        }
    }

    async fn chunks(&mut self, got: &mut Got) -> Result<(), End> {
        loop {
            match httparse::parse_chunk_size(&self.buf) {
                Ok(httparse::Status::Complete((line, size))) => {
                    let size = size as usize;
                    while self.buf.len() < line + size + 2 {
                        self.more().await?;
                    }
                    self.buf.drain(..line);
                    let chunk = self.take(size);
                    self.buf.drain(..2);
                    if size == 0 {
                        return Ok(());
                    }
                    got.chunks.push(chunk);
                }
                Ok(httparse::Status::Partial) => self.more().await?,
                Err(_) => return Err(End::Broken),
            }
        }
    }

    /// Reads until so many bytes are there, and leaves them.
    pub(super) async fn peek(&mut self, bytes: usize) {
        while self.buf.len() < bytes {
            self.more().await.unwrap();
        }
    }

    fn take(&mut self, bytes: usize) -> String {
        let rest: Vec<u8> = self.buf.drain(..bytes).collect();
        String::from_utf8(rest).unwrap()
    }

    /// What came and was not asked for.
    pub(super) async fn rest(&mut self) -> String {
        while self.more().await.is_ok() {}
        let all = self.buf.len();
        self.take(all)
    }
}
