//! A request as it goes to a node, built from scratch, and the head of an answer as it goes to a client.

use bytes::Bytes;
use http::{HeaderMap, Method};
use pingora::http::{RequestHeader, ResponseHeader};

use crate::admission::Claim;
use crate::config::{Config, Fallback};
use crate::dialect::{Call, Facts, splice};
use crate::error::Fault;
use crate::fleet::{NodeId, RunnerKey};
use crate::model::ModelKey;
use crate::profile::Needs;
use crate::routing::{Ask, Circumstances, Route, Wanted};
use crate::text::quoted;

use super::client::{Client, broken};
use super::credentials::NodeAccess;
use super::head;
use super::place::Placed;
use super::recall::Recalled;

/// Tokens of an answer whose length nobody knows yet.
const ANSWER_TOKENS: u64 = 256;

/// A request whose body was read and understood: what every attempt starts from.
#[derive(Clone)]
pub(super) struct Asked {
    pub(super) call: Call,
    pub(super) facts: Facts,
    pub(super) key: ModelKey,
    pub(super) body: Bytes,
    pub(super) claim: Claim,
    pub(super) recalled: Recalled,
}

impl Asked {
    /// What it is expected to cost, tokens.
    pub(super) fn expected_tokens(&self) -> u64 {
        self.facts.prompt_tokens() + ANSWER_TOKENS
    }

    /// What it asks for, under the configuration it came under.
    pub(super) fn wanted<'a>(&'a self, config: &'a Config) -> Wanted<'a> {
        Wanted::new(&self.facts.model, &self.key, &config.aliases)
    }

    /// What it needs of a node now that these were tried.
    pub(super) fn ask<'a>(
        &'a self,
        tried: &'a [NodeId],
        config: &'a Config,
        fallback: Fallback,
    ) -> Ask<'a> {
        Ask {
            wanted: self.wanted(config),
            operation: self.call.operation,
            needs: Needs {
                tools: self.facts.tools,
                thinking: self.facts.thinking,
                images: self.facts.images,
                stream: self.facts.stream,
                prompt_tokens: self.facts.prompt_tokens(),
            },
            mount: &self.call.mount,
            node_index: self.call.node_index,
            tried,
            fallback,
            runner: RunnerKey::of(&self.facts.runner),
            may_take_larger_context: config.proxy.larger_context
                && self.facts.num_ctx_at.is_anywhere(),
            affinity: self.facts.affinity,
            session: self.recalled.session,
            circumstances: Circumstances::default(),
        }
    }
}

/// A request for one node.
pub(super) struct Outgoing {
    pub(super) head: RequestHeader,
    pub(super) body: Vec<Bytes>,
    /// Whether the first byte may be expected long before the last.
    pub(super) stream: bool,
}

impl Outgoing {
    /// Only listed headers cross, the framing is ours, and the body is the client's bytes but for the model's name where the
    /// node spells it differently, and for `num_ctx` where the client's own would cost a reload.
    pub(super) fn new(
        client: &Client<'_>,
        asked: &Asked,
        placed: &Placed,
        request_id: &str,
    ) -> Result<Outgoing, Fault> {
        let access = &placed.access;
        let path = access.path_of(&asked.call, client.query());
        let mut head =
            // Servers do not care about the case of names, and keeping it costs a second map.
            RequestHeader::build_no_case(Method::POST, path.as_bytes(), Some(16)).map_err(broken)?;
        for (name, value) in head::crossing(client.headers(), head::reaches_node) {
            if !matches!(name.as_str(), "content-type" | "content-encoding") {
                let copied = head.append_header(name.clone(), value.clone());
                copied.map_err(broken)?;
            }
        }
        let body = pieces(asked, &placed.route, access);
        let length: usize = body.iter().map(Bytes::len).sum();
        let mut put = |name: &'static str, value: &str| head.insert_header(name, value);
        // Bodies are JSON whatever the client said: `curl -d` says it is a form.
        put("Content-Type", "application/json").map_err(broken)?;
        put("Content-Length", &length.to_string()).map_err(broken)?;
        put("X-Request-Id", request_id).map_err(broken)?;
        access.sign(&mut head)?;
        let stream = asked.facts.stream;
        Ok(Outgoing { head, body, stream })
    }
}

/// The body with the node's own name of the model, and the context that the route chose. Ollama compares names loosely and echoes the
/// asked one, so there the client's bytes stay as they are when only the spelling differs.
fn pieces(asked: &Asked, route: &Route, access: &NodeAccess) -> Vec<Bytes> {
    let is_understood =
        |name: &str| *name == *asked.facts.model || (access.spells_loosely() && !route.is_renamed);
    let name = route.spelled.as_ref().filter(|name| !is_understood(name));
    let name = name.map(|name| (asked.facts.model_span.clone(), quoted(name).into()));
    let num_ctx = route.num_ctx.and_then(|num_ctx| {
        let at = &asked.facts.num_ctx_at;
        at.edit(num_ctx.tokens())
    });
    let mut edits: Vec<_> = name.into_iter().chain(num_ctx).collect();
    edits.sort_unstable_by_key(|(span, _)| span.start);
    splice::splice(&asked.body, &edits)
}

/// The head of a node's answer as a client may see it, without its framing.
pub(super) fn client_head(status: u16, headers: &HeaderMap) -> Result<ResponseHeader, Fault> {
    let mut head = ResponseHeader::build_no_case(status, Some(16)).map_err(broken)?;
    for (name, value) in head::crossing(headers, head::reaches_client) {
        let copied = head.append_header(name.clone(), value.clone());
        copied.map_err(broken)?;
    }
    Ok(head)
}
