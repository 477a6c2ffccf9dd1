//! The admin listener: health, readiness, metrics, status. The pages are `crate::admin`'s; here is who may read them.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, Response};
use pingora::apps::http_app::ServeHttp;
use pingora::protocols::http::ServerSession;
use subtle::ConstantTimeEq;
use tokio::time::timeout;

use crate::admin::{self, Action, Now, Page, State, explain};
use crate::config::Server;
use crate::error::Fault;
use crate::fleet::{Node, Snapshot};
use crate::telemetry::metrics::Nodes;
use crate::text::percent_decoded;

use super::about::process_files;
use super::client::{DISCARD_TIMEOUT, body_too_slow, too_large, unreadable};
use super::{Gateway, guard, wall_ms};

/// Models in memory that are told of each node: some list thousands and do not say which are.
const LOADED_MAX: usize = 200;

/// Longest body of a request that is asked about: an operator pastes it.
const QUESTION_BYTES_MAX: usize = 1024 * 1024;

/// The admin listener's application.
pub struct AdminApp(pub Arc<Gateway>);

#[async_trait]
impl ServeHttp for AdminApp {
    async fn response(&self, session: &mut ServerSession) -> Response<Vec<u8>> {
        guard::head_is_here();
        let page = self.page(session).await;
        let head = session.req_header();
        let is_head = head.method == http::Method::HEAD;
        guard::next_head_may_take(&self.0.config().server);
        let mut response = Response::builder().status(page.status);
        for (name, value) in page.headers() {
            response = response.header(name, value);
        }
        let body = if is_head { Vec::new() } else { page.body };
        // All parts are ours and valid; an empty answer is better than a panic should that ever change.
        response.body(body).unwrap_or_default()
    }
}

impl AdminApp {
    async fn page(&self, session: &mut ServerSession) -> Page {
        let gateway = &self.0;
        let head = session.req_header();
        let path = head.uri.path();
        let is_question = explain::has_question(head.method.as_str(), path);
        // Who may not ask need not say what.
        let body = match is_question && gateway.refuse_admin(path, &head.headers).is_none() {
            true => match read_question(session, &gateway.config().server).await {
                Ok(body) => body,
                Err(fault) => {
                    session.set_keepalive(None);
                    // A connection that is closed over bytes nobody read is reset, and the refusal lost.
                    let _ = timeout(DISCARD_TIMEOUT, session.drain_request_body()).await;
                    return Page::refused(fault.status(), &fault.message);
                }
            },
            false => Bytes::new(),
        };
        let peer = session.client_addr().and_then(|addr| addr.as_inet());
        let ip = peer.map(|addr| addr.ip());
        let head = session.req_header();
        gateway.admin_page(&Visit {
            method: &head.method,
            uri: &head.uri,
            headers: &head.headers,
            body: &body,
            ip,
        })
    }
}

/// The body of a question, within its limit; it is as patient as the main listener.
async fn read_question(session: &mut ServerSession, limits: &Server) -> Result<Bytes, Fault> {
    let most = question_bytes_max(limits);
    if session
        .req_header()
        .headers
        .contains_key(http::header::EXPECT)
    {
        let invited = session.write_continue_response().await;
        invited.map_err(|_| Fault::client_gone())?;
    }
    let mut body = BytesMut::new();
    loop {
        let read = timeout(limits.body_timeout, session.read_request_body()).await;
        let Ok(read) = read else {
            return Err(body_too_slow(limits));
        };
        let Some(piece) = read.map_err(|error| unreadable(&error, limits))? else {
            return Ok(body.freeze());
        };
        if most < body.len() + piece.len() {
            return Err(too_large(most));
        }
        body.extend_from_slice(&piece);
    }
}

/// Longest body of a request that is asked about, bytes.
pub(super) fn question_bytes_max(limits: &Server) -> usize {
    limits.body_bytes_max.min(QUESTION_BYTES_MAX)
}

/// A request for an admin page.
pub(super) struct Visit<'a> {
    pub(super) method: &'a Method,
    pub(super) uri: &'a http::Uri,
    pub(super) headers: &'a HeaderMap,
    /// Read where the page takes one, else empty.
    pub(super) body: &'a Bytes,
    /// Where it comes from.
    pub(super) ip: Option<IpAddr>,
}

fn text_of<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

impl Gateway {
    /// The page for an admin request, or the refusal.
    pub(super) fn admin_page(&self, visit: &Visit<'_>) -> Page {
        let Visit {
            method,
            uri,
            headers,
            ..
        } = visit;
        if let Some(refusal) = self.refuse_admin(uri.path(), headers) {
            return refusal;
        }
        if let Some(action) = admin::action(uri.path()) {
            return self.act(action, method, headers);
        }
        if explain::is_explain(uri.path()) {
            return self.explain(visit).unwrap_or_else(|refusal| refusal);
        }
        let view = self.fleet.view();
        let metrics = || self.metrics_text(&view);
        let config = self.config();
        let rules = &config.proxy.sticky;
        let state = State {
            view: &view,
            sticky: rules,
            sessions: &|| self.sessions.figures(rules, self.uptime()),
            aliases: &config.aliases,
            draining: self.lifecycle.is_draining(),
            now: Now {
                wall_ms: wall_ms(),
                uptime: self.uptime(),
            },
            about: &|| self.about(),
            metrics: &metrics,
            stats: &self.stats,
            process: &process_files,
        };
        admin::page(method.as_str(), uri.path(), uri.query(), &state)
            .unless_known(text_of(headers, "if-none-match"))
    }

    fn act(&self, action: Action<'_>, method: &Method, headers: &HeaderMap) -> Page {
        if method != Method::POST {
            return Page::wrong_method("POST", "this is done with POST");
        }
        let text = |name| text_of(headers, name);
        if admin::is_foreign(text("origin"), text("sec-fetch-site")) {
            return Page::refused(403, "pages of other sites may not do this");
        }
        match action {
            Action::Reload => match self.origin.get().map(|origin| self.reload_from(origin)) {
                Some(Ok(())) => Page::text(200, "the new configuration is in force"),
                Some(Err(why)) => Page::refused(422, &why),
                None => Page::refused(
                    409,
                    "this gateway was started without a configuration to read again",
                ),
            },
            Action::Drain { node, draining } => self.drain_node(&percent_decoded(node), draining),
        }
    }

    fn drain_node(&self, name: &str, draining: bool) -> Page {
        if !self.fleet.drain(name, draining) {
            return Page::refused(
                404,
                &format!("no node is named `{name}`; GET /internal/status/endpoints lists them"),
            );
        }
        let what = match draining {
            true => "is draining: it gets no new requests, those that are with it go on",
            false => "takes requests again",
        };
        log::info!("node `{name}` {what}, as an operator asked");
        Page::text(200, &format!("node `{name}` {what}"))
    }

    fn refuse_admin(&self, path: &str, headers: &HeaderMap) -> Option<Page> {
        if admin::is_open(path) {
            return None; // probes come from everywhere and learn nothing
        }
        let text = |name| text_of(headers, name);
        let config = &self.config().admin;
        if !admin::host_is_allowed(text("host"), &config.allowed_hosts) {
            return Some(Page::refused(
                403,
                "this Host is not served here; add it to admin.allowed_hosts",
            ));
        }
        let key = config.key.as_ref()?;
        let given = text("authorization")
            .and_then(|value| value.strip_prefix("Bearer "))
            .unwrap_or("");
        let same = bool::from(given.as_bytes().ct_eq(key.reveal().as_bytes()));
        (!same).then(|| {
            Page::refused(
                401,
                "this page needs the admin key: Authorization: Bearer <admin.key>",
            )
        })
    }

    /// The metrics, with the gauges that are only known at the moment of asking.
    fn metrics_text(&self, view: &Snapshot) -> Vec<u8> {
        self.metrics.render(&self.is_gone(), |metrics| {
            metrics.in_flight.set(self.lifecycle.in_flight() as i64);
            let draining = self.lifecycle.is_draining();
            metrics.draining.set(i64::from(draining));
            let conflicts = i64::try_from(view.conflicts().len()).unwrap_or(i64::MAX);
            metrics.model_conflicts.set(conflicts);
            for node in &view.nodes {
                set_gauges(&metrics.nodes, node);
            }
        })
    }
}

impl Gateway {
    /// Whether no node of that name is in service or on its way out, as of now.
    pub(super) fn is_gone(&self) -> impl Fn(&str) -> bool + use<> {
        let view = self.fleet.view();
        let nodes = view.nodes.iter().chain(view.leaving());
        // It is asked of every series.
        let known: HashSet<String> = nodes.map(|node| node.config.name.clone()).collect();
        move |name| !known.contains(name)
    }
}

fn set_gauges(gauges: &Nodes, node: &Node) {
    let name = node.config.name.as_str();
    let (in_flight, is_open) = (i64::from(node.in_flight()), i64::from(node.is_open()));
    gauges.in_flight.with_label_values(&[name]).set(in_flight);
    gauges.health.with_label_values(&[name]).set(is_open);
    let state = node.state().as_str();
    gauges.state.with_label_values(&[name, state]).set(1);
    for model in node.in_memory().take(LOADED_MAX) {
        gauges.loaded.with_label_values(&[name, model]).set(1);
    }
}
