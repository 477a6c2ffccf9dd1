//! Pingora's native streaming path, for requests whose node is known from the head alone: blob uploads of many gigabytes and
//! calls that name their node by index. The body is never held.

use std::sync::Arc;

use pingora::http::{RequestHeader, ResponseHeader};
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorSource, ErrorType, Result};

use crate::config::Proxy;
use crate::dialect::{Call, Operation};
use crate::error::{Fault, Kind};
use crate::fleet::{Lease, NodeId, Observation};
use crate::routing::{self, HeadAsk, HeadRoute, NoRoute, OllaWords};
use crate::telemetry::record::Phase;

use super::client::{Client, unreadable};
use super::credentials::NodeAccess;
use super::failure::{Failed, plain};
use super::head;
use super::proxy::Context;
use super::relay::ServedBy;
use super::upstream::UNRESOLVED;
use super::{Gateway, now};

/// Most node names that a refusal lists.
const NAMED_MAX: usize = 20;

/// A request on its way through Pingora's own machinery.
pub(super) struct Passage {
    call: Call,
    /// The one node that the request insists on.
    node_index: Option<usize>,
    /// Nodes that could not be reached.
    tried: Vec<NodeId>,
    route: HeadRoute,
    access: Arc<NodeAccess>,
    /// What is left of the query for the node.
    query: Option<String>,
    lease: Lease,
}

impl Gateway {
    /// Chooses the node and leaves the rest to Pingora.
    ///
    /// # Errors
    /// 403 for model management that is off, 404 or 503 when there is no such node.
    pub(super) fn open_passage(
        &self,
        client: &Client<'_>,
        call: &Call,
        ctx: &mut Context,
    ) -> Result<(), Fault> {
        if call.operation == Operation::Blob && !ctx.config.management.enabled {
            let message = "model management is off; set management.enabled: true to let clients change the nodes' models";
            return Err(Fault::refused(403, "management_off", message));
        }
        ctx.record.phase = Phase::Queue;
        let wanted = client.query().and_then(node_of_query);
        let node_index = match wanted {
            Some(name) => Some(self.node_index(name)?),
            None => call.node_index,
        };
        let (route, access, lease) =
            self.place_by_head(call, node_index, &[], &ctx.config.proxy)?;
        ctx.record.phase = Phase::Wait;
        ctx.passage = Some(Passage {
            call: call.clone(),
            node_index,
            tried: Vec::new(),
            route,
            access,
            query: client.query().and_then(without_node),
            lease,
        });
        self.note_passage(ctx);
        Ok(())
    }

    fn place_by_head(
        &self,
        call: &Call,
        node_index: Option<usize>,
        tried: &[NodeId],
        proxy: &Proxy,
    ) -> Result<(HeadRoute, Arc<NodeAccess>, Lease), Fault> {
        let ask = HeadAsk {
            operation: call.operation,
            mount: &call.mount,
            node_index,
            tried,
        };
        let view = self.fleet.view();
        let route = routing::route_head(&ask, &view, proxy.balancer, self.next_seed(), now());
        let route = route.map_err(|none| match none {
            NoRoute::Refused(fault) => fault,
            NoRoute::Full => busy(),
        })?;
        let access = self.access(route.node).ok_or_else(busy)?;
        let lease = self.fleet.try_lease(route.node).ok_or_else(busy)?;
        Ok((route, access, lease))
    }

    fn note_passage(&self, ctx: &mut Context) {
        let Some(passage) = &ctx.passage else { return };
        ctx.record
            .asks(passage.access.name(), passage.route.reason.as_str());
    }

    /// The node could not be reached, so nothing of the request has been read: another node may take it, unless this one was
    /// named.
    pub(super) fn reroute(&self, error: &Error, ctx: &mut Context) -> bool {
        let Some(passage) = &mut ctx.passage else {
            return false;
        };
        let node = passage.route.node;
        let name = passage.access.name();
        let failed = Failed::before_sending(name, &plain(error));
        self.count_failure(name, failed.reason);
        self.observe(node, Observation::Traffic(Err(failed.fault.message)));
        passage.tried.push(node);
        if ctx.config.proxy.retry.attempts_max <= passage.tried.len() {
            return false;
        }
        let placed = self.place_by_head(
            &passage.call,
            passage.node_index,
            &passage.tried,
            &ctx.config.proxy,
        );
        let Ok((route, access, lease)) = placed else {
            return false;
        };
        (passage.route, passage.access, passage.lease) = (route, access, lease);
        self.metrics
            .retries
            .with_label_values(&[failed.reason])
            .inc();
        self.note_passage(ctx);
        true
    }

    fn node_index(&self, name: &str) -> Result<usize, Fault> {
        let view = self.fleet.view();
        let mut names = view.nodes.iter().map(|node| node.config.name.as_str());
        names
            .clone()
            .position(|known| known == name)
            .ok_or_else(|| {
                let names: Vec<&str> = names.by_ref().take(NAMED_MAX).collect();
                let message = format!("no node is named `{name}`; there are {}", names.join(", "));
                Fault::refused(404, "unknown_node", message)
            })
    }

    pub(super) fn native_peer(&self, ctx: &Context) -> Result<Box<HttpPeer>> {
        let passage = passage(ctx)?;
        match self.peer(passage.route.node, &passage.access, &ctx.config.proxy) {
            Some(peer) => Ok(Box::new(HttpPeer::clone(&peer))),
            None => Error::e_explain(ErrorType::ConnectNoRoute, UNRESOLVED),
        }
    }

    /// The same header discipline as on our own path; Pingora has dealt with hop-by-hop headers and framing.
    pub(super) fn native_request(&self, request: &mut RequestHeader, ctx: &Context) -> Result<()> {
        let passage = passage(ctx)?;
        let access = &passage.access;
        let names: Vec<_> = request.headers.keys().cloned().collect();
        for name in names {
            let framing = matches!(name.as_str(), "content-length" | "transfer-encoding");
            if !framing && !head::reaches_node(&name) {
                request.remove_header(&name);
            }
        }
        request.set_raw_path(
            access
                .path_of(&passage.call, passage.query.as_deref())
                .as_bytes(),
        )?;
        request.insert_header("x-request-id", ctx.record.request_id.as_str())?;
        access
            .sign(request)
            .map_err(|fault| Error::explain(ErrorType::InternalError, fault.message))
    }

    pub(super) fn native_response(
        &self,
        response: &mut ResponseHeader,
        ctx: &mut Context,
    ) -> Result<()> {
        ctx.record.phase = Phase::Stream;
        ctx.record.first_byte = Some(ctx.elapsed());
        let passage = passage(ctx)?;
        let names: Vec<_> = response.headers.keys().cloned().collect();
        for name in names {
            let framing = matches!(
                name.as_str(),
                "content-length" | "transfer-encoding" | "connection" | "upgrade"
            );
            if !framing && !head::reaches_client(&name) {
                response.remove_header(&name);
            }
        }
        if response.status.as_u16() < 500 {
            self.observe(passage.route.node, Observation::Traffic(Ok(())));
        }
        let served_by = ServedBy {
            access: &passage.access,
            model: None,
            reason: passage.route.reason,
            olla: OllaWords::by_head(passage.route.reason),
        };
        self.mark(response, &passage.call, served_by, ctx)
            .map_err(|fault| Error::explain(ErrorType::InternalError, fault.message))
    }

    /// What an error of Pingora's means to the client; the node's health learns of it.
    pub(super) fn judge_native(&self, error: &Error, ctx: &Context) -> Fault {
        let Some(passage) = &ctx.passage else {
            return match error.esource() {
                ErrorSource::Downstream => Fault::client_gone(),
                _ => Fault::new(
                    Kind::Internal,
                    format!("the gateway failed: {}", plain(error)),
                ),
            };
        };
        if error.esource() == &ErrorSource::Downstream {
            return unreadable(error, &ctx.config.server);
        }
        let name = passage.access.name();
        let message = format!("node `{name}` failed: {}", plain(error));
        // A node that could not be reached has been judged already, when another one was looked for.
        if !passage.tried.contains(&passage.route.node) {
            self.count_failure(name, "native");
            self.observe(
                passage.route.node,
                Observation::Traffic(Err(message.clone())),
            );
        }
        let silent = matches!(
            error.etype(),
            ErrorType::ReadTimedout | ErrorType::WriteTimedout
        );
        Fault::new(
            if silent {
                Kind::NodeSilent
            } else {
                Kind::NodeFailed
            },
            message,
        )
    }
}

fn passage(ctx: &Context) -> Result<&Passage> {
    match &ctx.passage {
        Some(passage) => Ok(passage),
        None => Error::e_explain(
            ErrorType::InternalError,
            "a request reached Pingora's own path without a node",
        ),
    }
}

/// The query without the part that is ours.
fn without_node(query: &str) -> Option<String> {
    let rest: Vec<&str> = query
        .split('&')
        .filter(|pair| !pair.starts_with("node="))
        .collect();
    (!rest.is_empty()).then(|| rest.join("&"))
}

/// The node that a query names: `?node=gpu-1`.
fn node_of_query(query: &str) -> Option<&str> {
    query.split('&').find_map(|pair| pair.strip_prefix("node="))
}

fn busy() -> Fault {
    Fault::new(
        Kind::Unavailable { retry_after_s: 5 },
        "the node has no free slot; try again shortly",
    )
}
