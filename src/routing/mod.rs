//! Which node: `route()` = filter → score → pick. Pure: no clock, no lock, no log.
//!
//! A route is advice from a snapshot and may be wrong by a moment; `Fleet::try_lease` may not.

use std::sync::Arc;

use crate::config::Balancer;
use crate::dialect::{Mount, Operation};
use crate::error::Fault;
use crate::fleet::{NodeId, Snapshot};
use crate::model::ModelKey;
use crate::profile::Needs;

mod filter;
mod pick;

/// What a request whose body names a model needs of a node.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    /// The asked model, comparable.
    pub model: &'a ModelKey,
    /// What is wanted of it; a node's profile must serve that.
    pub operation: Operation,
    /// What it needs of a node besides the model and the call.
    pub needs: Needs,
    /// Which nodes the address of the call allows.
    pub mount: &'a Mount,
    /// The one node the client insists on.
    pub node_index: Option<usize>,
    /// Nodes that failed this request already.
    pub tried: &'a [NodeId],
}

/// What a request that is routed by its head alone needs of a node.
#[derive(Debug, Clone, Copy)]
pub struct HeadAsk<'a> {
    /// What is wanted; a node's profile must serve it.
    pub operation: Operation,
    /// Which nodes the address of the call allows.
    pub mount: &'a Mount,
    /// The one node the client insists on.
    pub node_index: Option<usize>,
    /// Nodes that failed this request already.
    pub tried: &'a [NodeId],
}

/// The decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Whom to ask; a lease must still be had.
    pub node: NodeId,
    /// The model's name as that node spells it.
    pub spelled: Arc<str>,
    /// Whether the node has the model in memory, which decides how long its first byte may take.
    pub warm: bool,
    /// For logs, metrics and `X-Arriero-Route`.
    pub reason: Reason,
}

/// The decision for a request that names no model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadRoute {
    /// Whom to ask; a lease must still be had.
    pub node: NodeId,
    /// For logs, metrics and `X-Arriero-Route`; never `Warm` or `Cold`.
    pub reason: Reason,
}

/// Why this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The model is in its memory.
    Warm,
    /// The node has room and nobody with room has the model in memory.
    Cold,
    /// No other node could be asked.
    Only,
    /// Chosen in the highest tier with a free slot, or by tier and room when no model is named.
    Priority,
    /// It was its turn.
    RoundRobin,
    /// It had the fewest requests in flight for its weight.
    LeastConnections,
    /// By chance.
    Random,
}

impl Reason {
    /// The word in `X-Arriero-Route`, in logs and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Warm => "warm",
            Reason::Cold => "cold",
            Reason::Only => "only",
            Reason::Priority => "priority",
            Reason::RoundRobin => "round_robin",
            Reason::LeastConnections => "least_connections",
            Reason::Random => "random",
        }
    }
}

/// Why there is no route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoRoute {
    /// Nodes could serve it but none has a free slot: wait for one.
    Full,
    /// Waiting would not help.
    Refused(Fault),
}

/// Names the node for a request. `seed` is a counter for `round-robin`, any number for the others.
///
/// # Errors
/// [`NoRoute::Full`] when every node that could serve it is full; else a fault: 404 when no node has the model, 501 when those that
/// have it do not speak the dialect, 503 when they are down, were tried, or have not told their models yet.
pub fn route(
    ask: &Ask<'_>,
    view: &Snapshot,
    balancer: Balancer,
    seed: u64,
) -> Result<Route, NoRoute> {
    let candidates = filter::holders(ask, view).map_err(NoRoute::Refused)?;
    let (chosen, reason) = pick::pick(&candidates, balancer, seed).ok_or(NoRoute::Full)?;
    Ok(Route {
        node: chosen.node.id,
        spelled: Arc::clone(&chosen.holder.spelled),
        warm: chosen.holder.warm,
        reason,
    })
}

/// Names the node for a request that names no model. `adaptive` goes by tier and by free room, its reason is `priority`.
///
/// # Errors
/// As [`route`]; 501 when no node serves the operation.
pub fn route_head(
    ask: &HeadAsk<'_>,
    view: &Snapshot,
    balancer: Balancer,
    seed: u64,
) -> Result<HeadRoute, NoRoute> {
    let candidates = filter::nodes(ask, view).map_err(NoRoute::Refused)?;
    let (chosen, reason) = pick::pick(&candidates, balancer, seed).ok_or(NoRoute::Full)?;
    let reason = match reason {
        Reason::Warm | Reason::Cold => Reason::Priority,
        reason => reason,
    };
    Ok(HeadRoute {
        node: chosen.node.id,
        reason,
    })
}

#[cfg(test)]
mod tests;
