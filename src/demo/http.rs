//! HTTP/1 by hand, since a node must be able to write what no HTTP library would.

use std::io::{self, ErrorKind};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use bytes::{Buf, BytesMut};

use super::clock;

pub(super) const JSON: &str = "application/json; charset=utf-8";
pub(super) const BARE_JSON: &str = "application/json";
pub(super) const NDJSON: &str = "application/x-ndjson";
pub(super) const SSE: &str = "text/event-stream";
pub(super) const TEXT: &str = "text/plain";

const HEAD_BYTES_MAX: usize = 1 << 20;
const HEADERS_MAX: usize = 128;
pub(super) const BODY_BYTES_MAX: u64 = 256 << 20;

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A request's line and headers.
#[derive(Debug, Clone)]
pub(super) struct Head {
    pub method: String,
    /// With its query, as sent.
    pub target: String,
    pub is_http10: bool,
    pub headers: Vec<(String, String)>,
}

impl Head {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let mut found = self
            .headers
            .iter()
            .filter(|(n, _)| n.eq_ignore_ascii_case(name));
        found.next().map(|(_, v)| v.as_str())
    }

    pub(super) fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// Whether the client wants the connection closed after the answer.
    pub(super) fn closes(&self) -> bool {
        let wish = self.header("connection").unwrap_or_default();
        self.is_http10 || wish.to_ascii_lowercase().contains("close")
    }

    pub(super) fn is_chunked(&self) -> bool {
        self.header("transfer-encoding")
            .is_some_and(|v| v.eq_ignore_ascii_case("chunked"))
    }
}

/// How the end of a body is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    Length(usize),
    Chunked,
    /// The body ends with the connection.
    Close,
    /// Neither length nor body.
    Nothing,
}

/// A whole answer.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    pub status: u16,
    /// `Content-Type` included, `Date` and the framing not.
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
    pub framing: Framing,
}

impl Answer {
    pub(super) fn new(status: u16, content_type: &str, body: String) -> Answer {
        Answer {
            status,
            headers: vec![("Content-Type", content_type.to_owned())],
            framing: Framing::Length(body.len()),
            body: body.into_bytes(),
        }
    }

    /// A status and nothing else.
    pub(super) fn empty(status: u16) -> Answer {
        Answer {
            status,
            headers: Vec::new(),
            framing: Framing::Length(0),
            body: Vec::new(),
        }
    }

    pub(super) fn with(mut self, name: &'static str, value: impl Into<String>) -> Answer {
        self.headers.push((name, value.into()));
        self
    }

    pub(super) fn framed(mut self, framing: Framing) -> Answer {
        self.framing = framing;
        self
    }

    /// All its bytes; a chunked one has a single chunk.
    pub(super) fn bytes(&self, is_head: bool, close: bool) -> Vec<u8> {
        let mut out = head(self.status, &self.headers, self.framing, close);
        if !is_head && self.framing == Framing::Chunked {
            chunk(&mut out, &self.body);
            out.extend_from_slice(b"0\r\n\r\n");
        } else if !is_head {
            out.extend_from_slice(&self.body);
        }
        out
    }
}

/// A status line and headers, in Go's order: by name, then Date, then the framing.
pub(super) fn head(
    status: u16,
    headers: &[(&'static str, String)],
    framing: Framing,
    close: bool,
) -> Vec<u8> {
    let mut sorted: Vec<_> = headers.iter().collect();
    sorted.sort_by_key(|(name, _)| *name);
    let mut out = format!("HTTP/1.1 {status} {}\r\n", reason(status));
    for (name, value) in sorted {
        out.push_str(&format!("{name}: {value}\r\n"));
    }
    out.push_str(&format!(
        "Date: {}\r\n",
        clock::http_date(SystemTime::now())
    ));
    match framing {
        Framing::Length(n) => out.push_str(&format!("Content-Length: {n}\r\n")),
        Framing::Chunked => out.push_str("Transfer-Encoding: chunked\r\n"),
        Framing::Close | Framing::Nothing => {}
    }
    if close || framing == Framing::Close {
        out.push_str("Connection: close\r\n");
    }
    out.push_str("\r\n");
    out.into_bytes()
}

/// Appends one chunk; an empty one would end the body, so it writes nothing.
pub(super) fn chunk(out: &mut Vec<u8>, data: &[u8]) {
    if data.is_empty() {
        return;
    }
    out.extend_from_slice(format!("{:x}\r\n", data.len()).as_bytes());
    out.extend_from_slice(data);
    out.extend_from_slice(b"\r\n");
}

fn reason(status: u16) -> &'static str {
    http::StatusCode::from_u16(status)
        .ok()
        .and_then(|s| s.canonical_reason())
        .unwrap_or("Odd")
}

pub(super) fn invalid(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("bad {what} in a request"))
}

pub(super) fn parse_head(buf: &mut BytesMut) -> io::Result<Option<Head>> {
    let mut slots = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut slots);
    let status = request.parse(buf).map_err(|_| invalid("head"))?;
    let httparse::Status::Complete(len) = status else {
        if HEAD_BYTES_MAX < buf.len() {
            return Err(invalid("head size"));
        }
        return Ok(None);
    };
    let headers = request.headers.iter().map(|h| {
        let value = String::from_utf8_lossy(h.value).into_owned();
        (h.name.to_owned(), value)
    });
    let head = Head {
        method: request.method.unwrap_or_default().to_owned(),
        target: request.path.unwrap_or_default().to_owned(),
        is_http10: request.version == Some(0),
        headers: headers.collect(),
    };
    buf.advance(len);
    Ok(Some(head))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_taken_once_it_is_whole() {
        let wire = b"POST /api/chat?x=1 HTTP/1.0\r\nHost: a\r\nContent-length: 2\r\n\r\n{}";
        let mut buf = BytesMut::from(&wire[..30]);
        assert!(parse_head(&mut buf).unwrap().is_none());
        buf.extend_from_slice(&wire[30..]);
        let head = parse_head(&mut buf).unwrap().unwrap();
        assert_eq!((head.method.as_str(), head.path()), ("POST", "/api/chat"));
        assert!(head.closes());
        assert_eq!(head.header("Content-Length"), Some("2"));
        assert_eq!(&buf[..], b"{}");
        assert!(parse_head(&mut BytesMut::from(&b"\x16\x03\x01\r\n\r\n"[..])).is_err());
    }
}
