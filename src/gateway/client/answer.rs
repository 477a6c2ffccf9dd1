//! What a client is told: a node's answer, one of our own, or a refusal in its dialect.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Version};
use pingora::http::ResponseHeader;
use pingora::{Error, ErrorType, Result as PingoraResult};
use tokio::time::timeout;

use super::Client;
use crate::dialect::{Call, Dialect};
use crate::error::{Fault, Kind};
use crate::gateway::failure::Declined;
use crate::routing::OllaWords;
use crate::telemetry::record::Record;

/// How long what was written last of a broken answer has to get out on HTTP/2: a reset discards what is still buffered there.
const LAST_WORDS_TIMEOUT: Duration = Duration::from_millis(100);

/// A whole answer of our own.
pub(in crate::gateway) struct Page {
    pub(in crate::gateway) content_type: &'static str,
    pub(in crate::gateway) body: Bytes,
}

impl Client<'_> {
    /// Sends the head of a node's answer, before its first bytes.
    pub(in crate::gateway) async fn write_head(
        &mut self,
        mut head: ResponseHeader,
    ) -> Result<(), Fault> {
        match self.version() {
            Version::HTTP_11 if matches!(head.status.as_u16(), 204 | 304) => (),
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
    pub(in crate::gateway) async fn write(&mut self, piece: Bytes, end: bool) -> Result<(), Fault> {
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
    pub(in crate::gateway) async fn answer(
        &mut self,
        page: Page,
        call: &Call,
        request_id: &str,
    ) -> Result<(), Fault> {
        let mut head = ResponseHeader::build_no_case(200, Some(4)).map_err(broken)?;
        insert(&mut head, "content-type", page.content_type)?;
        insert(&mut head, "content-length", &page.body.len().to_string())?;
        put_ids(&mut head, call.dialect, request_id)?;
        self.finish(head, page.body).await
    }

    /// Sends an admin page.
    pub(in crate::gateway) async fn answer_admin(
        &mut self,
        page: crate::admin::Page,
    ) -> Result<(), Fault> {
        let mut head = ResponseHeader::build_no_case(page.status, Some(4)).map_err(broken)?;
        for (name, value) in page.headers() {
            insert(&mut head, name, &value)?;
        }
        self.finish(head, page.body.into()).await
    }

    /// Passes on what a node said when it would not serve.
    pub(in crate::gateway) async fn answer_declined(
        &mut self,
        declined: Declined,
        dialect: Dialect,
        record: &Record,
    ) -> Result<(), Fault> {
        let mut head = declined.head;
        put_ids(&mut head, dialect, &record.request_id)?;
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

    /// Sends a whole answer; to a `HEAD` only its head.
    pub(in crate::gateway) async fn finish(
        &mut self,
        head: ResponseHeader,
        body: Bytes,
    ) -> Result<(), Fault> {
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

    /// Tells the client in its dialect why it gets no answer. After the first byte nothing can be told any more: the
    /// connection is broken off instead, so that no truncated answer looks complete.
    ///
    /// Returns what `request_filter` returns.
    pub(in crate::gateway) async fn refuse(
        &mut self,
        dialect: Dialect,
        fault: &Fault,
        request_id: &str,
        olla: Option<&OllaWords>,
    ) -> PingoraResult<bool> {
        // A `100 Continue` is no answer yet.
        let answered = self.session.response_written();
        let has_begun = answered.is_some_and(|head| !head.status.is_informational());
        if fault.kind == Kind::ClientGone || has_begun {
            if fault.kind != Kind::ClientGone && self.session.as_ref().is_http2() {
                let _ = timeout(LAST_WORDS_TIMEOUT, self.gone()).await;
            }
            return Err(
                Error::explain(ErrorType::ConnectionClosed, fault.message.clone()).into_down(),
            );
        }
        let refusal = dialect.refusal(fault, request_id);
        let mut head = ResponseHeader::build_no_case(refusal.status, Some(6))?;
        for (name, value) in &refusal.headers {
            head.insert_header(*name, value.as_str())?;
        }
        for (name, value) in olla.into_iter().flat_map(OllaWords::headers) {
            head.insert_header(name, value)?;
        }
        head.insert_header("content-length", refusal.body.len())?;
        let _ = put_ids(&mut head, dialect, request_id);
        // The rest of a body is not wanted, but a client that still writes it would miss our answer if we just closed.
        let is_unread = !self.session.as_mut().is_body_done();
        if is_unread {
            self.session.as_mut().set_keepalive(None);
        }
        self.finish(head, refusal.body.into())
            .await
            .map_err(|fault| lost(&fault))?;
        if is_unread {
            let _ = self.session.as_mut().drain_request_body().await;
        }
        Ok(true)
    }
}

/// Puts the request's id on an answer, under the names that clients look for.
pub(in crate::gateway) fn put_ids(
    head: &mut ResponseHeader,
    dialect: Dialect,
    request_id: &str,
) -> Result<(), Fault> {
    if dialect == Dialect::Anthropic {
        insert(head, "request-id", request_id)?; // the name Anthropic's SDK reads
    }
    insert(head, "x-request-id", request_id)
}

pub(in crate::gateway) fn insert(
    head: &mut ResponseHeader,
    name: &'static str,
    value: &str,
) -> Result<(), Fault> {
    head.insert_header(name, value).map_err(broken)
}

/// A header that cannot be built is our mistake.
pub(in crate::gateway) fn broken(error: Box<Error>) -> Fault {
    Fault::new(
        Kind::Internal,
        format!("an HTTP head can't be built: {error}"),
    )
}

fn lost(fault: &Fault) -> Box<Error> {
    Error::explain(ErrorType::WriteError, fault.message.clone()).into_down()
}
