//! How a node is reached and what we show it to be let in: prepared once, used by traffic and probes alike.

mod tls;

pub(super) use tls::tls_failure;

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use base64::Engine as _;
use http::header::{HeaderName, HeaderValue};
use pingora::http::RequestHeader;
use pingora::protocols::tls::CaType;
use pingora::upstreams::peer::HttpPeer;
use pingora::utils::tls::CertKey;

use crate::config::{NodeAuth, NodeConfig};
use crate::dialect::{Call, Operation};
use crate::error::{Fault, Kind};

use super::client::broken;

/// A node's connection settings and the headers that every request to it carries.
#[derive(Debug)]
pub(super) struct NodeAccess {
    /// Whom it reaches.
    pub(super) config: Arc<NodeConfig>,
    tls: bool,
    server_name: String,
    verify: bool,
    /// Trusted for this node in place of the system's.
    authorities: Option<Arc<CaType>>,
    /// Tells them apart in the pool.
    authorities_key: u64,
    /// What we show it of ourselves.
    client: Option<Arc<CertKey>>,
    /// The node's own authority: Ollama refuses a foreign `Host`.
    host: HeaderValue,
    spells_loosely: bool,
    headers: Vec<(HeaderName, HeaderValue)>,
    /// The peer of the address that was used last.
    known: ArcSwapOption<KnownPeer>,
}

type KnownPeer = ((SocketAddr, Timeouts), Arc<HttpPeer>);

/// Marks a connection that must not come from the pool; it goes back to it under the ordinary key.
pub(super) const FRESH: u64 = 1;

/// The ordinary key of connections that these authorities vouch for: never [`FRESH`].
fn pool_key(authorities: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    authorities.hash(&mut hasher);
    hasher.finish() & !FRESH
}

impl NodeAccess {
    /// # Errors
    /// `Internal` when a configured header or key cannot stand in a request, or a certificate cannot be trusted.
    pub(super) fn new(node: Arc<NodeConfig>) -> Result<NodeAccess, Fault> {
        let url = &node.url;
        let host = match (
            url.host.contains(':'),
            url.port == if url.tls { 443 } else { 80 },
        ) {
            (true, _) => format!("[{}]:{}", url.host, url.port),
            (false, true) => url.host.clone(),
            (false, false) => format!("{}:{}", url.host, url.port),
        };
        let written = node
            .headers
            .iter()
            .map(|(name, value)| (name.clone(), value.reveal().clone()));
        let headers = written
            .chain(auth_header(&node.auth))
            .map(|(name, value)| header(&node.name, &name, &value))
            .collect::<Result<_, _>>()?;
        Ok(NodeAccess {
            tls: url.tls,
            server_name: node
                .tls
                .server_name
                .clone()
                .unwrap_or_else(|| url.host.clone()),
            verify: !node.tls.insecure_skip_verify,
            authorities: node
                .tls
                .ca_pem
                .as_deref()
                .map(|pem| tls::authorities(&node.name, pem))
                .transpose()?,
            authorities_key: node.tls.ca_pem.as_deref().map_or(0, pool_key),
            client: node
                .tls
                .client
                .as_ref()
                .map(|written| tls::client(&node.name, written))
                .transpose()?,
            host: HeaderValue::from_str(&host)
                .map_err(|error| unusable(&node.name, "host", &error))?,
            // Behind a prefix of ours it knows none of them.
            spells_loosely: node.profile.models.loose_names && node.prefix_id.is_none(),
            headers,
            known: ArcSwapOption::empty(),
            config: node,
        })
    }

    /// The node's name, for messages, metrics and headers.
    pub(super) fn name(&self) -> &str {
        &self.config.name
    }

    /// The node at an address that was resolved before; `HttpPeer` itself would resolve names by blocking. Built once per
    /// address, since it is asked for on every request.
    pub(super) fn peer(&self, addr: SocketAddr, timeouts: Timeouts) -> Arc<HttpPeer> {
        if let Some(known) = &*self.known.load()
            && known.0 == (addr, timeouts)
        {
            return known.1.clone();
        }
        let peer = Arc::new(self.build_peer(addr, timeouts));
        self.known
            .store(Some(Arc::new(((addr, timeouts), peer.clone()))));
        peer
    }

    /// A peer for one exchange.
    pub(super) fn build_peer(&self, addr: SocketAddr, timeouts: Timeouts) -> HttpPeer {
        let name = if self.tls {
            self.server_name.clone()
        } else {
            String::new()
        };
        let mut peer = HttpPeer::new(addr, self.tls, name);
        peer.options.verify_cert = self.verify;
        peer.options.verify_hostname = self.verify;
        peer.options.ca.clone_from(&self.authorities);
        // A connection that other authorities vouched for is another one; the pool does not see them itself.
        peer.group_key = self.authorities_key;
        peer.client_cert_key.clone_from(&self.client);
        peer.options.connection_timeout = Some(timeouts.connect);
        // With TLS the handshake comes on top.
        peer.options.total_connection_timeout = Some(timeouts.connect * 2);
        peer.options.read_timeout = Some(timeouts.read);
        peer.options.write_timeout = Some(timeouts.read);
        peer
    }

    /// Puts the node's own host, headers and credentials on a request.
    pub(super) fn sign(&self, request: &mut RequestHeader) -> Result<(), Fault> {
        request
            .insert_header(http::header::HOST, self.host.clone())
            .map_err(broken)?;
        for (name, value) in &self.headers {
            request
                .insert_header(name.clone(), value.clone())
                .map_err(broken)?;
        }
        Ok(())
    }

    /// Whether the node itself knows a model by every spelling of its name, as Ollama does.
    pub(super) fn spells_loosely(&self) -> bool {
        self.spells_loosely
    }

    /// Where this node keeps a call.
    pub(super) fn path_of(&self, call: &Call, query: Option<&str>) -> String {
        self.path_at(call.operation, &call.node_path, query)
    }

    /// Where this node keeps what Ollama has at `path`.
    pub(super) fn path_at(&self, operation: Operation, path: &str, query: Option<&str>) -> String {
        let (prefix, path) = (
            self.config.call_prefix(),
            self.config.profile.place(operation, path),
        );
        match query {
            Some(query) => format!("{prefix}{path}?{query}"),
            None => format!("{prefix}{path}"),
        }
    }

    /// A path on this node for our own questions, behind the path of its URL.
    pub(super) fn path(&self, path: &str) -> String {
        format!("{}{path}", self.config.url.base_path)
    }
}

/// How long the parts of an exchange may take on the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Timeouts {
    pub(super) connect: std::time::Duration,
    /// Between two reads or writes.
    pub(super) read: std::time::Duration,
}

fn auth_header(auth: &NodeAuth) -> Option<(String, String)> {
    let authorization = |value: String| Some(("authorization".to_owned(), value));
    match auth {
        NodeAuth::None => None,
        NodeAuth::Bearer(key) => authorization(format!("Bearer {}", key.reveal())),
        NodeAuth::ApiKey { header, key } => Some((header.clone(), key.reveal().clone())),
        NodeAuth::Basic { username, password } => {
            let pair = format!("{username}:{}", password.reveal());
            authorization(format!(
                "Basic {}",
                base64::engine::general_purpose::STANDARD.encode(pair)
            ))
        }
    }
}

fn header(node: &str, name: &str, value: &str) -> Result<(HeaderName, HeaderValue), Fault> {
    let parsed =
        HeaderName::from_bytes(name.as_bytes()).map_err(|error| unusable(node, name, &error))?;
    let mut value = HeaderValue::from_str(value).map_err(|error| unusable(node, name, &error))?;
    value.set_sensitive(true);
    Ok((parsed, value))
}

fn unusable(node: &str, what: &str, error: &dyn std::fmt::Display) -> Fault {
    Fault::new(
        Kind::Internal,
        format!(
            "node `{node}`: its header `{what}` can't be sent: {error}; correct it in the configuration"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Sources};

    #[test]
    fn the_path_of_a_url_stands_before_calls_unless_the_operator_drops_it() {
        // The endpoint, where it is asked for a chat completion, and where for its health.
        let cases = [
            ("url: http://h:1", "/v1/chat/completions?q", "/"),
            ("url: http://h:1/llm", "/llm/v1/chat/completions?q", "/llm/"),
            (
                "url: http://h:1/llm, preserve_path: false",
                "/v1/chat/completions?q",
                "/llm/",
            ),
            (
                "url: http://h:1/engines, type: dmr",
                "/engines/v1/chat/completions?q",
                "/engines/v1/models",
            ),
        ];
        for (endpoint, call, health) in cases {
            let text = format!("endpoints: [ {{ {endpoint} }} ]");
            let config = config::load(&Sources {
                file: Some(("test.yaml", &text)),
                ..Sources::nothing()
            });
            let node = Arc::new(config.unwrap().nodes[0].clone());
            let access = NodeAccess::new(node.clone()).unwrap();
            let path = access.path_at(
                Operation::ChatCompletions,
                "/v1/chat/completions",
                Some("q"),
            );
            assert_eq!(path, call, "{endpoint}");
            assert_eq!(access.path(&node.health_path), health, "{endpoint}");
        }
    }
}
