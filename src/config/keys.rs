//! Names of keys: environment variables, keys of later versions, Olla's keys that have another name here, and the nearest known key.

use std::collections::{BTreeMap, BTreeSet};

use super::ENV_PREFIX;
use super::problem::{Place, Problem};
use super::schema::Form;
use super::text::nearest;

/// Keys of the design that this version does not have. A path stands for everything below it.
const LATER: &[&str] = &[
    "server.tls",
    "server.rate_limits",
    "server.cors",
    "admin.write",
    "models",
    "translation",
    "auth.keys_file",
    "auth.jwt",
    "auth.forward_user_headers",
    "auth.bypass_model_access_control",
    "pipelines",
    "shared_state",
    "dashboard",
];

/// Keys of Olla's files that do nothing there or are named otherwise here, and what to do about them.
const OLLA: &[(&str, &str)] = &[
    (
        "server.read_timeout",
        "use `server.read_header_timeout` for the head and `server.body_timeout` for the body",
    ),
    ("server.request_logging", "use `logging.access_log`"),
    ("proxy.engine", "remove it: there is one engine"),
    (
        "proxy.profile",
        "remove it: streams and whole answers are told apart by themselves",
    ),
    (
        "proxy.profile_filter",
        "remove it: all node types are always known",
    ),
    (
        "proxy.stream_buffer_size",
        "remove it: bytes are passed on as they come",
    ),
    (
        "proxy.connection_keep_alive",
        "remove it: connections to nodes are kept and reused by themselves",
    ),
    (
        "proxy.tls_handshake_timeout",
        "use `proxy.connection_timeout`, which covers the handshake",
    ),
    (
        "proxy.max_retries",
        "use `proxy.retry.max_attempts`, which counts the first attempt too",
    ),
    (
        "proxy.retry_backoff",
        "remove it: a retry goes to another node and need not wait",
    ),
    (
        "proxy.retry.enabled",
        "remove it; `proxy.retry.max_attempts: 1` turns retries off",
    ),
    (
        "proxy.retry.on_connection_failure",
        "remove it: a node that cannot be reached is always failed over",
    ),
    (
        "discovery.refresh_interval",
        "use `discovery.model_discovery.interval`",
    ),
    (
        "discovery.health_check.initial_delay",
        "remove it: nodes are probed at once",
    ),
    (
        "discovery.model_discovery.enabled",
        "remove it: without the list of models nothing could be routed",
    ),
    (
        "discovery.model_discovery.concurrent_workers",
        "remove it: every node is asked on its own",
    ),
    (
        "discovery.model_discovery.retry_attempts",
        "remove it: the next round asks again",
    ),
    (
        "discovery.model_discovery.retry_backoff",
        "remove it: the next round asks again",
    ),
    (
        "model_registry.unification.cleanup_interval",
        "remove it: a model leaves the catalogue when its `stale_threshold` is over, not at the next cleaning",
    ),
    (
        "translators",
        "remove it: a call goes to nodes that speak its dialect",
    ),
    (
        "logging.output",
        "remove it: the log goes to standard error, where the supervisor collects it",
    ),
    (
        "engineering",
        "remove it: `/metrics` on the admin listener tells memory and more",
    ),
];

/// Keys of Olla's profiles that do nothing, there or here, and what to do about them.
const PROFILE: &[(&str, &str)] = &[
    (
        "features",
        "remove it: what a node can do is told by `api.paths` and `models.capability_patterns`",
    ),
    (
        "security",
        "remove it: credentials stand in an endpoint's `auth` and `headers`",
    ),
    (
        "performance",
        "remove it; `characteristics` and `resources` say how nodes are treated",
    ),
    (
        "deployment",
        "remove it: how a server is started is not the gateway's business",
    ),
    (
        "olla_integration",
        "remove it: `api` and `routing` say how the type is reached",
    ),
    (
        "api.metrics_path",
        "remove it: nodes' own metrics are not read",
    ),
    (
        "api.stats_path",
        "remove it: nodes' own figures are not read",
    ),
    (
        "api.props_path",
        "remove it: nodes' own properties are not read",
    ),
    (
        "api.slots_path",
        "remove it: an endpoint's `slots` says how much a node does at once",
    ),
    (
        "detection.response_headers",
        "use `detection.headers`, which means the headers of answers",
    ),
];

/// The variable that overrides a key: `server.port` is `ARRIERO_SERVER_PORT`.
pub(super) fn variable(path: &str) -> String {
    format!(
        "{ENV_PREFIX}{}",
        path.replace('.', "_").to_ascii_uppercase()
    )
}

/// Kubernetes puts `ARRIERO_PORT=tcp://…` and its like into every pod beside a Service named `arriero`; they are no settings.
pub(super) fn is_service_link(name: &str, value: &str) -> bool {
    let rest = name.strip_prefix(ENV_PREFIX).unwrap_or(name);
    let padded = format!("_{rest}_");
    let service = padded.contains("_SERVICE_HOST_") || padded.contains("_SERVICE_PORT_");
    let numbered = padded.split_once("_PORT_").is_some_and(|(_, tail)| {
        let mut words = tail.split('_');
        let number = words
            .next()
            .is_some_and(|word| !word.is_empty() && word.bytes().all(|b| b.is_ascii_digit()));
        number && matches!(words.next(), Some("TCP" | "UDP" | "SCTP"))
    });
    let address = ["tcp://", "udp://", "sctp://"]
        .iter()
        .any(|scheme| value.starts_with(scheme));
    service || numbered || (address && padded.ends_with("_PORT_"))
}

/// What to do about a key of Olla's that is not one of ours, as a sentence that begins with `use` or `remove it`.
pub(super) fn olla(path: &str) -> Option<&'static str> {
    let found = OLLA.iter().find(|(olla, _)| *olla == path);
    found.map(|(_, advice)| *advice)
}

/// Whether a key belongs to the design and not to this version.
pub(super) fn is_later(path: &str) -> bool {
    covers(LATER.iter().copied(), path).is_some()
}

/// What to say about a key nobody reads.
pub(super) fn unknown(path: &str, place: Place, known: &BTreeMap<String, Form>) -> Problem {
    let shown = path.replace("[]", "");
    if is_later(path) {
        return Problem::new(place, format!("`{shown}` is not in this version yet"))
            .hint("remove it for now; docs/configuration.md lists the keys of this version");
    }
    if let Some(advice) = olla(path) {
        return Problem::new(
            place,
            format!("`{shown}` is a key of Olla that does nothing here"),
        )
        .hint(advice);
    }
    unlisted(path, place, known)
}

/// What to say about a key of a profile that nobody reads.
pub(super) fn unknown_in_profile(
    path: &str,
    place: Place,
    known: &BTreeMap<String, Form>,
) -> Problem {
    match PROFILE.iter().find(|(olla, _)| *olla == path) {
        Some((_, advice)) => Problem::new(
            place,
            format!("`{path}` is a key of Olla's profiles that does nothing"),
        )
        .hint(*advice),
        None => unlisted(path, place, known),
    }
}

fn unlisted(path: &str, place: Place, known: &BTreeMap<String, Form>) -> Problem {
    let (section, key) = path.rsplit_once('.').unwrap_or(("", path));
    let message = if section.is_empty() {
        format!("unknown key `{key}`")
    } else {
        format!("unknown key `{key}` in `{}`", section.replace("[]", ""))
    };
    let problem = Problem::new(place, message);
    let split = |path: &str| {
        let (section, key) = path.rsplit_once('.').unwrap_or(("", path));
        (section.to_owned(), key.to_owned())
    };
    let pairs: Vec<(String, String)> = known.keys().map(|path| split(path)).collect();
    let siblings: Vec<&str> = pairs
        .iter()
        .filter(|(of, _)| of == section)
        .map(|(_, key)| key.as_str())
        .collect();
    if let Some(near) = nearest(key, siblings.iter().copied()) {
        return problem.hint(format!("did you mean `{near}`?"));
    }
    if let Some((home, _)) = pairs
        .iter()
        .find(|(of, other)| other == key && of != section)
    {
        let home = if home.is_empty() {
            "the top level".to_owned()
        } else {
            format!("`{}`", home.replace("[]", ""))
        };
        return problem.hint(format!("`{key}` belongs to {home}"));
    }
    let all: Vec<String> = siblings.iter().map(|key| format!("`{key}`")).collect();
    if all.is_empty() {
        problem
    } else {
        problem.hint(format!("its keys are {}", all.join(", ")))
    }
}

fn covers<'k>(mut paths: impl Iterator<Item = &'k str>, path: &str) -> Option<&'k str> {
    paths.find(|prefix| {
        path.strip_prefix(prefix)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    })
}

/// What to say about an `ARRIERO_…` variable that names no key.
pub(super) fn unknown_variable(name: &str, known: &BTreeSet<String>) -> Problem {
    let of_later = LATER.iter().find(|path| {
        let prefix = variable(path);
        name.strip_prefix(&prefix)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('_'))
    });
    if let Some(path) = of_later {
        return Problem::new(
            Place::Nowhere,
            format!("environment variable `{name}`: `{path}` is not in this version yet"),
        )
        .hint("unset it");
    }
    let problem = Problem::new(
        Place::Nowhere,
        format!("environment variable `{name}` names no key"),
    );
    match nearest(name, known.iter().map(String::as_str)) {
        Some(near) => problem.hint(format!("did you mean `{near}`?")),
        None => problem.hint("unset it; a key's variable is `ARRIERO_` and its path in capitals, such as `ARRIERO_SERVER_PORT`"),
    }
}

#[cfg(test)]
pub(super) fn not_read_here() -> impl Iterator<Item = &'static str> {
    LATER
        .iter()
        .copied()
        .chain(OLLA.iter().map(|(path, _)| *path))
}
