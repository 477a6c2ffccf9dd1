//! The client's half of an exchange: its head, its body within limits, what it is told, and whether it is still there.

use std::future::Future;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{Method, Version};
use pingora::http::ResponseHeader;
use pingora::proxy::Session;
use pingora::{Error, ErrorType, Result as PingoraResult};
use tokio::time::timeout;

use crate::config::Server;
use crate::dialect::{self, Call, Dialect, Encoding};
use crate::error::{Fault, Kind};
use crate::telemetry::record::{Phase, Record};

use super::proxy::Context;
use super::upstream::Declined;

/// Longest request target, bytes.
const URI_BYTES_MAX: usize = 8 * 1024;
/// Most header fields of a request.
const HEADERS_MAX: usize = 100;
/// Bytes reserved for a body before any of it has come; the rest is reserved once this much is really there.
const BODY_BYTES_TRUSTED: usize = 1024 * 1024;
/// How long the rest of a refused body is read and thrown away, so that the client gets to read the refusal.
const DISCARD_TIMEOUT: Duration = Duration::from_secs(5);
/// How long what was written last of a broken answer has to get out on HTTP/2: a reset discards what is still buffered there.
const LAST_WORDS_TIMEOUT: Duration = Duration::from_millis(100);
/// Requests on one connection, so that a balancer in front of us can spread connections again.
const REQUESTS_PER_CONNECTION_MAX: u32 = 10_000;

/// A whole answer of our own.
pub(super) struct Page {
    pub(super) content_type: &'static str,
    pub(super) body: Bytes,
}

/// One client's request and the answer to it.
pub(super) struct Client<'a> {
    session: &'a mut Session,
}

impl Client<'_> {
    pub(super) fn new(session: &mut Session) -> Client<'_> {
        Client { session }
    }

    /// Puts every timeout on the connection, and notes what the record says of the head.
    pub(super) fn set_limits(&mut self, limits: &Server, ctx: &mut Context) {
        let session = self.session.as_mut();
        session.set_keepalive(Some(limits.idle_timeout.as_secs().max(1)));
        if session.get_keepalive_reuses_remaining().is_none() {
            session.set_keepalive_reuses_remaining(Some(REQUESTS_PER_CONNECTION_MAX));
        }
        session.set_read_timeout(Some(limits.body_timeout));
        session.set_write_timeout(Some(limits.write_timeout));
        session.set_total_drain_timeout(Some(DISCARD_TIMEOUT));
        ctx.record.client = session
            .client_addr()
            .and_then(|addr| addr.as_inet().copied());
        ctx.record.method = session.req_header().method.to_string();
        ctx.record.path = session.req_header().uri.path().to_owned();
    }

    pub(super) fn method(&self) -> &Method {
        &self.session.req_header().method
    }

    pub(super) fn path(&self) -> &str {
        self.session.req_header().uri.path()
    }

    pub(super) fn uri(&self) -> &http::Uri {
        &self.session.req_header().uri
    }

    pub(super) fn query(&self) -> Option<&str> {
        self.session.req_header().uri.query()
    }

    pub(super) fn headers(&self) -> &http::HeaderMap {
        &self.session.req_header().headers
    }

    fn version(&self) -> Version {
        self.session.req_header().version
    }

    /// Refuses heads that are too large or whose framing two servers could read differently.
    ///
    /// # Errors
    /// 400, 414, 417 or 431.
    pub(super) fn check_head(&self, limits: &Server) -> Result<(), Fault> {
        let head = self.session.req_header();
        if head.raw_path().len() > URI_BYTES_MAX {
            let message =
                format!("the request target is longer than {URI_BYTES_MAX} bytes; shorten it");
            return Err(Fault::refused(414, "uri_too_long", message));
        }
        let bytes: usize = head
            .headers
            .iter()
            .map(|(name, value)| name.as_str().len() + value.len() + 4)
            .sum();
        if head.headers.len() > HEADERS_MAX || bytes > limits.header_bytes_max {
            let message = format!(
                "the request has {} header fields of {bytes} bytes; the limits are {HEADERS_MAX} fields and {} bytes \
                 (server.request_limits.max_header_size)",
                head.headers.len(),
                limits.header_bytes_max
            );
            return Err(Fault::refused(431, "headers_too_large", message));
        }
        if head.version == Version::HTTP_11 && !head.headers.contains_key(http::header::HOST) {
            return Err(Fault::malformed(
                "no_host",
                "the request has no Host header, which HTTP/1.1 requires",
            ));
        }
        if let Some(expected) = head.headers.get(http::header::EXPECT)
            && !expected.as_bytes().eq_ignore_ascii_case(b"100-continue")
        {
            return Err(Fault::refused(
                417,
                "unknown_expectation",
                "the only `Expect` we can meet is 100-continue",
            ));
        }
        self.check_framing()
    }

    /// One `Content-Length` or one `Transfer-Encoding: chunked`, never both: anything else is how requests are smuggled.
    fn check_framing(&self) -> Result<(), Fault> {
        let headers = self.headers();
        let ambiguous = |what: &str| {
            Err(Fault::malformed(
                "ambiguous_framing",
                format!("{what}; send one Content-Length or chunked encoding, not more"),
            ))
        };
        let mut lengths = headers.get_all(http::header::CONTENT_LENGTH).iter();
        let length = lengths.next();
        if lengths.next().is_some() || length.is_some_and(|value| value.as_bytes().contains(&b','))
        {
            return ambiguous("the request has more than one Content-Length");
        }
        let mut codings = headers.get_all(http::header::TRANSFER_ENCODING).iter();
        let Some(coding) = codings.next() else {
            return Ok(());
        };
        if codings.next().is_some() || !coding.as_bytes().eq_ignore_ascii_case(b"chunked") {
            return ambiguous("the request has a Transfer-Encoding other than `chunked`");
        }
        // Pingora has dropped a Content-Length beside it from the parsed head; the raw one still tells.
        match self.session.as_ref().as_http1() {
            Some(h1) if names_content_length(&h1.get_headers_raw_bytes()) => {
                ambiguous("the request has both Content-Length and Transfer-Encoding")
            }
            _ => Ok(()),
        }
    }

    /// The encoding of the body, from its header.
    ///
    /// # Errors
    /// 415 for an encoding we cannot decode.
    pub(super) fn encoding(&self, call: &Call) -> Result<Encoding, Fault> {
        let value = self.headers().get(http::header::CONTENT_ENCODING);
        let value = value.map(|value| value.to_str().unwrap_or("?"));
        dialect::encoding(value, call.node_path.starts_with("/v1/"))
    }

    fn content_length(&self) -> Option<usize> {
        let value = self.headers().get(http::header::CONTENT_LENGTH)?;
        value.to_str().ok()?.parse().ok()
    }

    /// Reads the whole body, up to the limit.
    ///
    /// # Errors
    /// 413 at once when the announced length is too large, or when the limit is crossed; 408 when nothing came for
    /// `body_timeout`; `ClientGone`.
    pub(super) async fn read_body(&mut self, limits: &Server) -> Result<Bytes, Fault> {
        let announced = self.content_length();
        if announced.is_some_and(|length| length > limits.body_bytes_max) {
            return Err(too_large(limits.body_bytes_max));
        }
        if self.headers().contains_key(http::header::EXPECT) {
            // We read the body ourselves, so nobody else tells the client to send it.
            self.session
                .as_mut()
                .write_continue_response()
                .await
                .map_err(|_| Fault::client_gone())?;
        }
        let Some(first) = self.read_piece(limits).await? else {
            return Ok(Bytes::new());
        };
        if announced == Some(first.len()) {
            return Ok(first); // the common case: one piece, no copy
        }
        let mut body = BytesMut::with_capacity(
            announced
                .unwrap_or(0)
                .min(BODY_BYTES_TRUSTED)
                .max(first.len()),
        );
        body.extend_from_slice(&first);
        while let Some(piece) = self.read_piece(limits).await? {
            if body.len() + piece.len() > limits.body_bytes_max {
                return Err(too_large(limits.body_bytes_max));
            }
            if let Some(length) = announced
                && body.len() + piece.len() > body.capacity()
            {
                body.reserve(length - body.len());
            }
            body.extend_from_slice(&piece);
        }
        Ok(body.freeze())
    }

    async fn read_piece(&mut self, limits: &Server) -> Result<Option<Bytes>, Fault> {
        let piece = match timeout(
            limits.body_timeout,
            self.session.as_mut().read_request_body(),
        )
        .await
        {
            Ok(Ok(piece)) => piece,
            Ok(Err(error)) if error.etype() == &ErrorType::ReadTimedout => {
                return Err(body_too_slow(limits));
            }
            Ok(Err(error)) if is_gone(&error) => return Err(Fault::client_gone()),
            Ok(Err(error)) => {
                let message = format!(
                    "the request's body breaks HTTP's framing: {}",
                    error.etype().as_str()
                );
                return Err(Fault::malformed("bad_framing", message));
            }
            Err(_) => return Err(body_too_slow(limits)),
        };
        match piece {
            Some(piece) if piece.len() > limits.body_bytes_max => {
                Err(too_large(limits.body_bytes_max))
            }
            piece => Ok(piece),
        }
    }

    /// Reads a body that the call has no use for, so that the connection can be used again.
    pub(super) async fn discard_body(&mut self, limits: &Server) -> Result<(), Fault> {
        if self.session.as_mut().is_body_empty() {
            return Ok(());
        }
        self.read_body(limits).await.map(drop)
    }

    /// Runs `work` unless the client leaves meanwhile; then `work` is dropped, which frees whatever it held.
    ///
    /// # Errors
    /// `ClientGone`.
    pub(super) async fn unless_gone<T>(
        &mut self,
        work: impl Future<Output = T>,
    ) -> Result<T, Fault> {
        tokio::select! {
            biased;
            done = work => Ok(done),
            gone = self.gone() => Err(gone),
        }
    }

    /// Resolves when the client has left: closed, reset, or broke the rules by sending more.
    pub(super) async fn gone(&mut self) -> Fault {
        // Bytes after the body would be a pipelined request, which we do not take: the connection ends either way.
        let _ = self.session.as_mut().read_body_or_idle(true).await;
        Fault::client_gone()
    }

    /// Sends the head of a node's answer, before its first bytes.
    pub(super) async fn write_head(&mut self, mut head: ResponseHeader) -> Result<(), Fault> {
        match self.version() {
            Version::HTTP_11 if !head.headers.contains_key(http::header::CONTENT_LENGTH) => {
                insert(&mut head, "transfer-encoding", "chunked")?;
            }
            // Its body ends where the connection does.
            Version::HTTP_10 => self.session.as_mut().set_keepalive(None),
            _ => (),
        }
        let written = self
            .session
            .write_response_header(Box::new(head), false)
            .await;
        written.map_err(|_| Fault::client_gone())
    }

    /// Sends bytes of an answer. An empty piece with `end` ends it.
    pub(super) async fn write(&mut self, piece: Bytes, end: bool) -> Result<(), Fault> {
        self.session
            .write_response_body(Some(piece), end)
            .await
            .map_err(|error| match error.etype() {
                ErrorType::WriteTimedout => Fault::new(
                    Kind::ClientGone,
                    "the client stopped reading (server.write_timeout)",
                ),
                _ => Fault::client_gone(),
            })
    }

    /// Sends a whole answer of our own.
    pub(super) async fn answer(
        &mut self,
        page: Page,
        call: &Call,
        request_id: &str,
    ) -> Result<(), Fault> {
        let mut head = ResponseHeader::build(200, Some(4)).map_err(broken)?;
        insert(&mut head, "content-type", page.content_type)?;
        insert(&mut head, "content-length", &page.body.len().to_string())?;
        self.add_ids(&mut head, call.dialect, request_id)?;
        self.finish(head, page.body).await
    }

    /// Sends an admin page.
    pub(super) async fn answer_admin(&mut self, page: crate::admin::Page) -> Result<(), Fault> {
        let mut head = ResponseHeader::build(page.status, Some(3)).map_err(broken)?;
        insert(&mut head, "content-type", page.content_type)?;
        insert(&mut head, "content-length", &page.body.len().to_string())?;
        insert(&mut head, "cache-control", "no-store")?;
        self.finish(head, page.body.into()).await
    }

    /// Passes on what a node said when it would not serve.
    pub(super) async fn answer_declined(
        &mut self,
        declined: Declined,
        record: &Record,
    ) -> Result<(), Fault> {
        let mut head = declined.head;
        insert(
            &mut head,
            "content-length",
            &declined.body.len().to_string(),
        )?;
        if matches!(declined.status, 429 | 503)
            && !head.headers.contains_key(http::header::RETRY_AFTER)
        {
            insert(&mut head, "retry-after", "5")?;
        }
        insert(
            &mut head,
            "x-arriero-attempts",
            &record.attempts.to_string(),
        )?;
        self.finish(head, declined.body).await
    }

    async fn finish(&mut self, head: ResponseHeader, body: Bytes) -> Result<(), Fault> {
        let is_head = self.method() == Method::HEAD;
        let written = self
            .session
            .write_response_header(Box::new(head), is_head)
            .await;
        written.map_err(|_| Fault::client_gone())?;
        if is_head {
            return Ok(());
        }
        self.write(body, true).await
    }

    fn add_ids(
        &self,
        head: &mut ResponseHeader,
        dialect: Dialect,
        request_id: &str,
    ) -> Result<(), Fault> {
        if dialect == Dialect::Anthropic {
            insert(head, "request-id", request_id)?; // the name Anthropic's SDK reads
        }
        insert(head, "x-request-id", request_id)
    }

    /// Tells the client in its dialect why it gets no answer. After the first byte nothing can be told any more: the
    /// connection is broken off instead, so that no truncated answer looks complete.
    ///
    /// Returns what `request_filter` returns.
    pub(super) async fn refuse(
        &mut self,
        dialect: Dialect,
        fault: &Fault,
        request_id: &str,
    ) -> PingoraResult<bool> {
        if fault.kind == Kind::ClientGone || self.session.response_written().is_some() {
            if fault.kind != Kind::ClientGone && self.session.as_ref().is_http2() {
                let _ = timeout(LAST_WORDS_TIMEOUT, self.gone()).await;
            }
            return Err(
                Error::explain(ErrorType::ConnectionClosed, fault.message.clone()).into_down(),
            );
        }
        let refusal = dialect.refusal(fault, request_id);
        let mut head = ResponseHeader::build(refusal.status, Some(6))?;
        for (name, value) in &refusal.headers {
            head.insert_header(*name, value.as_str())?;
        }
        head.insert_header("content-length", refusal.body.len())?;
        let _ = self.add_ids(&mut head, dialect, request_id);
        if self.session.as_mut().is_body_done() {
            self.finish(head, refusal.body.into())
                .await
                .map_err(|fault| lost(&fault))?;
            return Ok(true);
        }
        // The rest of the body is not wanted, but a client that still writes it would miss our answer if we just closed.
        self.session.as_mut().set_keepalive(None);
        self.finish(head, refusal.body.into())
            .await
            .map_err(|fault| lost(&fault))?;
        let _ = self.session.as_mut().drain_request_body().await;
        Ok(true)
    }

    /// Completes the record with what the connection counted.
    pub(super) fn tell(&self, record: &mut Record) {
        record.bytes_in = self.session.as_ref().body_bytes_read() as u64;
        record.bytes_out = self.session.as_ref().body_bytes_sent() as u64;
        if let Some(head) = self.session.response_written() {
            record.status = head.status.as_u16();
        }
        if record.phase == Phase::Head && record.status == 200 {
            record.phase = Phase::Stream;
        }
    }
}

/// Whether the raw head names a Content-Length.
fn names_content_length(raw: &[u8]) -> bool {
    raw.split(|byte| *byte == b'\n').any(|line| {
        line.get(..15)
            .is_some_and(|name| name.eq_ignore_ascii_case(b"content-length:"))
    })
}

fn is_gone(error: &Error) -> bool {
    use ErrorType::{ConnectionClosed, ReadError, WriteError};
    matches!(error.etype(), ConnectionClosed | ReadError | WriteError)
}

fn body_too_slow(limits: &Server) -> Fault {
    let message = format!(
        "no byte of the request's body came for {} s; send it without pauses or raise server.body_timeout",
        limits.body_timeout.as_secs_f32()
    );
    Fault::refused(408, "body_timeout", message)
}

fn too_large(bytes_max: usize) -> Fault {
    let message = format!(
        "the request's body is larger than {bytes_max} bytes; shrink it (images are the usual cause) or raise \
         server.request_limits.max_body_size"
    );
    Fault::refused(413, "body_too_large", message)
}

/// The body as a node gets it: decoded, since nodes other than Ollama would not know the encoding.
pub(super) fn body_as_sent(
    body: Bytes,
    encoding: Encoding,
    bytes_max: usize,
) -> Result<Bytes, Fault> {
    match encoding {
        Encoding::Identity => Ok(body),
        Encoding::Zstd => dialect::decode_zstd(&body, bytes_max).map(Bytes::from),
    }
}

pub(super) fn insert(
    head: &mut ResponseHeader,
    name: &'static str,
    value: &str,
) -> Result<(), Fault> {
    head.insert_header(name, value).map_err(broken)
}

/// A header that cannot be built is our mistake.
pub(super) fn broken(error: Box<Error>) -> Fault {
    Fault::new(
        Kind::Internal,
        format!("an HTTP head can't be built: {error}"),
    )
}

fn lost(fault: &Fault) -> Box<Error> {
    Error::explain(ErrorType::WriteError, fault.message.clone()).into_down()
}
