//! The client's half of an exchange: its head, its body within limits, what it is told, and whether it is still there.

mod answer;

mod body;

mod check;

mod claim;

pub(super) use answer::{Page, broken, insert, put_ids};
pub(super) use body::{body_as_sent, body_too_slow, too_large, unreadable};

use std::pin::Pin;
use std::time::Duration;

use http::{Method, Version};
use pingora::proxy::Session;

use crate::config::Server;
use crate::error::Fault;
use crate::telemetry::record::Record;

use super::proxy::Context;

/// How long the rest of a refused body is read and thrown away, so that the client gets to read the refusal.
pub(super) const DISCARD_TIMEOUT: Duration = Duration::from_secs(5);
/// Requests on one connection, so that a balancer in front of us can spread connections again.
const REQUESTS_PER_CONNECTION_MAX: u32 = 10_000;

/// One client's request and the answer to it.
pub(super) struct Client<'a> {
    session: &'a mut Session,
}

impl Client<'_> {
    pub(super) fn new(session: &mut Session) -> Client<'_> {
        Client { session }
    }

    /// Puts every timeout on the connection, and notes what the record says of the head.
    ///
    /// While draining no connection is kept, so that its client finds another gateway for its next request.
    pub(super) fn set_limits(&mut self, limits: &Server, draining: bool, ctx: &mut Context) {
        let keepalive = (!draining).then(|| limits.idle_timeout.as_secs().max(1));
        let session = self.session.as_mut();
        session.set_keepalive(keepalive);
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

    /// Runs `work` unless the client leaves meanwhile; then the caller drops it, which frees whatever it held.
    ///
    /// It comes pinned where it stands, because these futures are many kilobytes large and every move would copy them.
    ///
    /// # Errors
    /// `ClientGone`.
    pub(super) async fn unless_gone<T>(
        &mut self,
        work: Pin<&mut impl Future<Output = T>>,
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

    /// Completes the record with what the connection counted.
    pub(super) fn tell(&self, record: &mut Record) {
        record.bytes_in = self.session.as_ref().body_bytes_read() as u64;
        record.bytes_out = self.session.as_ref().body_bytes_sent() as u64;
        if let Some(head) = self.session.response_written() {
            record.status = head.status.as_u16();
        }
    }
}
