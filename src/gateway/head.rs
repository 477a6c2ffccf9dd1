//! Header discipline: which headers cross the gateway, in which direction. One table each way.

use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};

/// Hop-by-hop: they speak of one connection, never of the message.
const HOP_BY_HOP: &[&str] = &[
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Never reach a node: ours to set (framing, Host), the client's secrets, what a browser says of its page, and what a
/// client could forge to look like somebody else.
const NOT_TO_NODES: &[&str] = &[
    "host",
    "content-length",
    "expect",
    // Nodes answer uncompressed, so that the meter can read along.
    "accept-encoding",
    "origin",
    "referer",
    "authorization",
    "x-api-key",
    "api-key",
    "cookie",
    "forwarded",
    "via",
    "x-real-ip",
    "true-client-ip",
    "cf-connecting-ip",
    "x-client-ip",
    "x-request-id",
    "access-control-request-method",
    "access-control-request-headers",
    "access-control-request-private-network",
];
const NOT_TO_NODES_PREFIX: &[&str] = &[
    "proxy-",
    "sec-",
    "x-forwarded-",
    "x-openwebui-user-",
    "x-arriero-",
    "x-olla-",
    "x-envoy-",
];

/// Never reach a client: what would speak for the node in the gateway's place.
const NOT_TO_CLIENTS: &[&str] = &[
    "content-length",
    "server",
    "set-cookie",
    "x-powered-by",
    "alt-svc",
    "strict-transport-security",
    "www-authenticate",
    "via",
    "x-request-id",
    "request-id",
];
const NOT_TO_CLIENTS_PREFIX: &[&str] = &["access-control-", "x-arriero-", "x-olla-"];

/// Whether a client's header may reach a node.
pub(super) fn reaches_node(name: &HeaderName) -> bool {
    let name = name.as_str();
    // With an underscore a name can pass for another one at a server that folds `_` to `-`.
    !(name.contains('_')
        || listed(name, HOP_BY_HOP, &[])
        || listed(name, NOT_TO_NODES, NOT_TO_NODES_PREFIX))
}

/// Whether a node's header may reach a client.
pub(super) fn reaches_client(name: &HeaderName) -> bool {
    let name = name.as_str();
    !(listed(name, HOP_BY_HOP, &[]) || listed(name, NOT_TO_CLIENTS, NOT_TO_CLIENTS_PREFIX))
}

fn listed(name: &str, names: &[&str], prefixes: &[&str]) -> bool {
    names.contains(&name) || prefixes.iter().any(|prefix| name.starts_with(prefix))
}

/// The headers that may cross in a direction: those that `reaches` lets through and that the message itself does not declare
/// hop-by-hop.
pub(super) fn crossing(
    headers: &HeaderMap,
    reaches: fn(&HeaderName) -> bool,
) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
    let nominated = nominated(headers);
    headers
        .iter()
        .filter(move |(name, _)| reaches(name) && !nominated.iter().any(|n| n == name.as_str()))
}

/// Header names that the message's `Connection` header declares hop-by-hop, lower case.
fn nominated(headers: &HeaderMap) -> Vec<String> {
    let values = headers.get_all(http::header::CONNECTION).iter();
    values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|token| token.trim().to_ascii_lowercase())
        .filter(|token| !token.is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_crosses_towards_a_node() {
        let cases = [
            ("content-type", true),
            ("user-agent", true),
            ("accept", true),
            ("anthropic-version", true),
            ("anthropic-beta", true),
            ("openai-beta", true),
            ("x-stainless-lang", true),
            ("x-openwebui-chat-id", true),
            ("traceparent", true),
            ("authorization", false),
            ("x-api-key", false),
            ("cookie", false),
            ("origin", false),
            ("referer", false),
            ("host", false),
            ("x-forwarded-for", false),
            ("x-forwarded-anything", false),
            ("x_forwarded_for", false),
            ("forwarded", false),
            ("x-real-ip", false),
            ("x-openwebui-user-id", false),
            ("x-openwebui-user-jwt", false),
            ("x-task", true),
            ("x-arriero-priority", false),
            ("proxy-authorization", false),
            ("transfer-encoding", false),
            ("upgrade", false),
            ("te", false),
            ("expect", false),
            ("accept-encoding", false),
        ];
        for (name, expected) in cases {
            assert_eq!(
                reaches_node(&HeaderName::from_static(name)),
                expected,
                "{name}"
            );
        }
    }

    #[test]
    fn what_crosses_towards_a_client() {
        let cases = [
            ("content-type", true),
            ("date", true),
            ("cache-control", true),
            ("retry-after", true),
            ("openai-processing-ms", true),
            ("server", false),
            ("set-cookie", false),
            ("access-control-allow-origin", false),
            ("access-control-expose-headers", false),
            ("connection", false),
            ("transfer-encoding", false),
            ("content-length", false),
            ("x-arriero-node", false),
            ("strict-transport-security", false),
        ];
        for (name, expected) in cases {
            assert_eq!(
                reaches_client(&HeaderName::from_static(name)),
                expected,
                "{name}"
            );
        }
    }

    #[test]
    fn nominated_names_are_found_in_every_connection_header() {
        let mut headers = HeaderMap::new();
        headers.append("connection", "close, X-Secret".parse().unwrap());
        headers.append("connection", " ,x-other".parse().unwrap());
        assert_eq!(nominated(&headers), ["close", "x-secret", "x-other"]);
    }
}
