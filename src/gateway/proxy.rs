//! Pingora's phases, each a line or two: what they mean stands in `exchange`.

use std::sync::Arc;

use async_trait::async_trait;
use pingora::http::ResponseHeader;
use pingora::proxy::{FailToProxy, ProxyHttp, Session};
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorSource, ErrorType, Result};

use crate::config::Config;
use crate::dialect::{Dialect, Meter};
use crate::error::{Fault, Kind};
use crate::routing::OllaWords;
use crate::telemetry::log;
use crate::telemetry::record::{EndBy, Record};

use super::client::Client;
use super::drain::InFlight;
use super::{Gateway, guard, now, wall_ms};

/// What belongs to one request. Dropping it tells the request's story, so every way out tells it exactly once.
pub struct Context {
    pub(super) gateway: Arc<Gateway>,
    /// What was in force when the request came; a reload meanwhile does not change its rules.
    pub(super) config: Arc<Config>,
    pub(super) record: Record,
    started: std::time::Instant,
    pub(super) dialect: Dialect,
    /// Why no node was found for the model, where Olla's users asked.
    pub(super) rejected: Option<OllaWords>,
    _in_flight: InFlight,
}

impl Drop for Context {
    fn drop(&mut self) {
        self.record.duration = self.started.elapsed();
        if self.record.status == 0 {
            self.record.status = 499; // nobody was answered
        }
        log::access(&self.record, self.config.logging.format);
        self.gateway.stats.record(&self.record, wall_ms());
        self.gateway.metrics.record(&mut self.record);
    }
}

/// The gateway as Pingora sees it.
pub struct Proxy(pub Arc<Gateway>);

#[async_trait]
impl ProxyHttp for Proxy {
    type CTX = Context;

    fn new_ctx(&self) -> Context {
        Context {
            gateway: self.0.clone(),
            config: self.0.config(),
            record: Record::new(self.0.next_request_id()),
            started: now(),
            dialect: Dialect::Ollama,
            rejected: None,
            _in_flight: self.0.lifecycle.enter(),
        }
    }

    async fn early_request_filter(&self, session: &mut Session, ctx: &mut Context) -> Result<()> {
        guard::head_is_here();
        let draining = self.0.lifecycle.is_draining();
        let config = ctx.config.clone();
        Client::new(session).set_limits(&config.server, draining, ctx);
        Ok(())
    }

    async fn request_filter(&self, session: &mut Session, ctx: &mut Context) -> Result<bool> {
        let mut client = Client::new(session);
        match self.0.serve(&mut client, ctx).await {
            Ok(()) => Ok(true),
            Err(fault) => {
                ctx.failed(&fault);
                let olla = ctx.rejected.as_ref();
                client
                    .refuse(ctx.dialect, &fault, &ctx.record.request_id, olla)
                    .await
            }
        }
    }

    async fn upstream_peer(
        &self,
        _session: &mut Session,
        _ctx: &mut Context,
    ) -> Result<Box<HttpPeer>> {
        // `request_filter` answers every request itself (docs/decisions/0007-one-path.md).
        Error::e_explain(
            ErrorType::InternalError,
            "no request goes Pingora's own way",
        )
    }

    async fn fail_to_proxy(
        &self,
        _session: &mut Session,
        _error: &Error,
        ctx: &mut Context,
    ) -> FailToProxy {
        // What `request_filter` failed with has been judged and told already. The connection is given up in any case: what the
        // client sent of its body may still be under way.
        FailToProxy {
            error_code: ctx.record.status,
            can_reuse_downstream: false,
        }
    }

    fn suppress_error_log(&self, _session: &Session, ctx: &Context, error: &Error) -> bool {
        // Our access line says it already, with more facts.
        ctx.record.fault.is_some() || error.esource() == &ErrorSource::Downstream
    }

    async fn logging(&self, session: &mut Session, _error: Option<&Error>, ctx: &mut Context) {
        Client::new(session).tell(&mut ctx.record);
        guard::next_head_may_take(&ctx.config.server);
    }
}

impl Context {
    /// Time since the request's head came.
    pub(super) fn elapsed(&self) -> std::time::Duration {
        self.started.elapsed()
    }

    /// Notes what the meter saw of an answer with this head.
    pub(super) fn tell_stream(
        &mut self,
        meter: &mut Meter,
        first_token: Option<tokio::time::Instant>,
        head: &ResponseHeader,
    ) {
        let header = |name: &str| Some(head.headers.get(name)?.to_str().ok()?.to_owned());
        self.record.usage = meter.usage();
        self.record.sample = meter.take_sample(&header, self.elapsed());
        self.record.extraction_missed = meter.has_missed_values();
        self.record.first_token =
            first_token.map(|at| at.into_std().saturating_duration_since(self.started));
    }

    /// Notes how the request failed; the phase stays where it was.
    pub(super) fn failed(&mut self, fault: &Fault) {
        self.record.end_by = match fault.kind {
            Kind::ClientGone => EndBy::Client,
            Kind::NodeFailed | Kind::NodeSilent => EndBy::Node,
            _ => EndBy::Gateway,
        };
        if self.record.status == 0 {
            self.record.status = fault.status();
        }
        self.record.fault = Some(fault.message.clone());
    }
}
