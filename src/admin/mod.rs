//! Admin pages: `(path, &View, …) → Page`. Pure: changes nothing, opens nothing.

mod action;

pub use action::{Action, action, is_foreign};

use crate::config::Alias;
use crate::fleet::Snapshot;
use crate::model::ModelKey;

/// What the pages are made from.
pub struct State<'a> {
    /// The fleet that every page describes; one snapshot, so that a page does not contradict itself.
    pub view: &'a Snapshot,
    /// Names that stand for others, as the configuration has them.
    pub aliases: &'a [Alias],
    /// Whether SIGTERM has come: readiness then says no.
    pub draining: bool,
    /// Rendered only when asked for.
    pub metrics: &'a dyn Fn() -> Vec<u8>,
}

/// One answer of the admin listener.
#[derive(Debug, PartialEq, Eq)]
pub struct Page {
    /// HTTP status.
    pub status: u16,
    /// Value of the `Content-Type` header.
    pub content_type: &'static str,
    /// The whole body; its length becomes `Content-Length`.
    pub body: Vec<u8>,
}

const TEXT: &str = "text/plain; charset=utf-8";

impl Page {
    /// A line for people and probes.
    pub fn text(status: u16, body: &str) -> Page {
        Page {
            status,
            content_type: TEXT,
            body: format!("{body}\n").into_bytes(),
        }
    }

    /// An error for people at a terminal, as JSON like every error.
    pub fn refused(status: u16, message: &str) -> Page {
        let body = serde_json::json!({ "error": message })
            .to_string()
            .into_bytes();
        Page {
            status,
            content_type: "application/json",
            body,
        }
    }
}

/// Whether a path belongs to the admin pages.
pub fn is_admin_path(path: &str) -> bool {
    path == "/metrics" || path.starts_with("/internal/")
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

/// The page at a path.
pub fn page(method: &str, path: &str, query: Option<&str>, state: &State<'_>) -> Page {
    if !matches!(method, "GET" | "HEAD") {
        return Page::refused(405, "admin pages are read with GET");
    }
    match path {
        "/internal/health" => Page::text(200, "ok"),
        "/internal/ready" => ready(query, state),
        "/metrics" | "/internal/metrics" => Page {
            status: 200,
            content_type: "text/plain; version=0.0.4; charset=utf-8",
            body: (state.metrics)(),
        },
        _ => Page::refused(
            404,
            "no such admin page; there are /internal/health, /internal/ready and /metrics",
        ),
    }
}

/// Ready means: it can serve. `?model=x` asks for one model.
fn ready(query: Option<&str>, state: &State<'_>) -> Page {
    if state.draining {
        return Page::text(503, "draining");
    }
    let model = query
        .into_iter()
        .flat_map(|query| query.split('&'))
        .find_map(|pair| pair.strip_prefix("model="));
    let ready = match model {
        None => state.view.is_ready(),
        Some(name) => {
            let key = ModelKey::parse(&percent_decoded(name)).ok();
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

/// `%3A` → `:`; what is not a valid escape stays as it is.
pub fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let escaped = (first == b'%').then(|| after.get(..2)).flatten();
        let value =
            escaped.and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        match value {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_guard_lets_addresses_and_listed_names_in() {
        let allowed = ["localhost".to_owned(), "gw.example".to_owned()];
        let cases = [
            (Some("127.0.0.1:40115"), true),
            (Some("[::1]:40115"), true),
            (Some("10.1.2.3"), true),
            (Some("localhost:40115"), true),
            (Some("LOCALHOST"), true),
            (Some("gw.example:40115"), true),
            (Some("evil.example"), false),
            (Some("localhost.evil.example:40115"), false),
            (Some(""), false),
            (None, true),
        ];
        for (host, expected) in cases {
            assert_eq!(host_is_allowed(host, &allowed), expected, "{host:?}");
        }
    }

    #[test]
    fn percent_escapes_are_read() {
        assert_eq!(percent_decoded("gpt-oss%3A120b"), "gpt-oss:120b");
        assert_eq!(percent_decoded("50%"), "50%");
        assert_eq!(percent_decoded("%zz%3"), "%zz%3");
    }
}
