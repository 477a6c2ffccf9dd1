//! Admin pages: `(path, &View, …) → Page`. Pure: changes nothing, opens nothing.

mod action;
mod endpoint;
pub mod explain;
mod human;
mod models;
mod page;
mod process;
mod query;
mod status;
mod usage;

pub use action::{Action, action, is_foreign};
pub use human::Now;
pub use page::Page;
pub use process::ProcessFiles;

use crate::affinity::Figures;
use crate::config::{Alias, StickySessions};
use crate::fleet::Snapshot;
use crate::model::ModelKey;
use crate::telemetry::stats::Stats;
use crate::text::percent_decoded;

use query::Query;

/// What the pages are made from.
pub struct State<'a> {
    /// The fleet that every page describes; one snapshot, so that a page does not contradict itself.
    pub view: &'a Snapshot,
    /// Names that stand for others, as the configuration has them.
    pub aliases: &'a [Alias],
    /// Whether SIGTERM has come: readiness then says no.
    pub draining: bool,
    /// The moment the page speaks of.
    pub now: Now,
    /// The gateway itself, looked at only when asked for.
    pub about: &'a dyn Fn() -> About,
    /// Rendered only when asked for.
    pub metrics: &'a dyn Fn() -> Vec<u8>,
    /// By what conversations are known.
    pub sticky: &'a StickySessions,
    /// What became of their sessions, counted only when asked for.
    pub sessions: &'a dyn Fn() -> Figures,
    /// What became of the requests.
    pub stats: &'a Stats,
    /// Read only when asked for.
    pub process: &'a dyn Fn() -> ProcessFiles,
}

/// The gateway as the pages tell of it.
#[derive(Debug, Clone, Default)]
pub struct About {
    /// Such as `0.1.0`.
    pub version: &'static str,
    /// What it was built from; `none` when the build did not say.
    pub commit: &'static str,
    /// When it was built; empty when the build did not say.
    pub build_date: &'static str,
    /// Such as `linux/x86_64`.
    pub platform: String,
    /// When it started, Unix milliseconds.
    pub started_ms: u64,
    /// The word of `proxy.load_balancer`.
    pub balancer: &'static str,
    /// Node types that can be configured.
    pub backends: Vec<String>,
    /// Open connections of clients and operators.
    pub connections: u64,
    /// Requests in work.
    pub requests: u64,
    /// Processors of the machine.
    pub cpus: usize,
    /// Worker threads of the data listener.
    pub threads: usize,
    /// The process's number.
    pub pid: u32,
}

/// Whether a path belongs to the admin pages.
pub fn is_admin_path(path: &str) -> bool {
    matches!(path, "/metrics" | "/version") || path.starts_with("/internal/")
}

/// Whether a page answers everybody: probes come without a key and by address.
pub fn is_open(path: &str) -> bool {
    matches!(path, "/internal/health" | "/internal/ready")
}

/// The DNS-rebinding guard: a browser page of another name may not read us under that name.
///
/// `host` is the request's `Host`; addresses are always allowed, since a rebound name is a name.
pub fn host_is_allowed(host: Option<&str>, allowed: &[String]) -> bool {
    let Some(host) = host else { return true }; // HTTP/1.0 tools; browsers always send one
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(""),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name.parse::<std::net::IpAddr>().is_ok()
        || allowed.iter().any(|known| known.eq_ignore_ascii_case(name))
}

const NO_PAGE: &str = "no such admin page; there are /internal/health, ready, status, status/endpoints, status/models, \
                       stats/models, stats/translators, stats/sticky, process, explain?model=, and /metrics and /version";

/// The page at a path.
pub fn page(method: &str, path: &str, query: Option<&str>, state: &State<'_>) -> Page {
    if !matches!(method, "GET" | "HEAD") {
        return Page::wrong_method("GET, HEAD", "admin pages are read with GET");
    }
    let query = Query(query);
    match path {
        "/internal/health" => Page::text(200, "ok"),
        "/internal/ready" => ready(query, state),
        "/metrics" | "/internal/metrics" => {
            let prometheus = "text/plain; version=0.0.4; charset=utf-8";
            Page::of(200, prometheus, (state.metrics)())
        }
        "/internal/status" => Page::polled(&status::overview(state)),
        "/internal/status/endpoints" => Page::polled(&status::all_endpoints(state)),
        "/internal/status/models" => Page::polled(&models::page(state, query)),
        "/internal/stats/models" => Page::json(&usage::models(state, query)),
        "/internal/stats/translators" => Page::json(&usage::translators(state)),
        "/internal/stats/sticky" => Page::json(&usage::sticky(state)),
        "/internal/process" => Page::json(&process::page(state, &(state.process)())),
        "/version" => Page::json(&process::version(&(state.about)())),
        _ => Page::refused(404, NO_PAGE),
    }
}

/// Ready means: it can serve. `?model=x` asks for one model.
fn ready(query: Query<'_>, state: &State<'_>) -> Page {
    if state.draining {
        return Page::text(503, "draining");
    }
    let model = query.value("model");
    let ready = match model {
        None => state.view.is_ready(),
        Some(name) => {
            let key = ModelKey::parse_any(&percent_decoded(name)).ok();
            key.is_some_and(|key| can_serve(&key, state))
        }
    };
    match (ready, model) {
        (true, _) => Page::text(200, "ready"),
        (false, None) => Page::text(503, "no healthy node"),
        (false, Some(_)) => Page::text(503, "no healthy node has this model"),
    }
}

/// Whether a node that takes requests has the model, or one of those that an alias of that name stands for.
fn can_serve(name: &ModelKey, state: &State<'_>) -> bool {
    let alias = Alias::find(state.aliases, name);
    let models = alias.map_or(std::slice::from_ref(name), |alias| &alias.models);
    let mut holders = models
        .iter()
        .flat_map(|model| state.view.holders(model).unwrap_or_default());
    holders.any(|holder| state.view.node_of(holder).is_open())
}

#[cfg(test)]
mod tests;
