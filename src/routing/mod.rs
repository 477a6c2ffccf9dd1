//! Which node: `route()` = filter → score → pick. Pure: no clock, no lock, no log.
//!
//! A route is advice from a snapshot and may be wrong by a moment; `Fleet::try_lease` may not.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::affinity::Session;
use crate::config::{Balancer, Fallback};
use crate::dialect::{Mount, Operation};
use crate::error::Fault;
use crate::fleet::{NodeId, NumCtx, RunnerKey, Snapshot, Traits};
use crate::profile::Needs;

mod wanted;
pub use wanted::Wanted;

mod fallback;
mod filter;
mod fit;
mod pick;
mod some;

mod adaptive;

mod cost;
pub use cost::{Cost, Effort, Presence, harm_s};

mod explain;
pub use explain::{Explanation, Judged, Verdict, explain};

mod olla;
pub use olla::OllaWords;

/// What a request whose body names a model needs of a node.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    /// The asked model, or what the asked alias stands for.
    pub wanted: Wanted<'a>,
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
    /// Who may be asked when nobody who is known to have the model can be.
    pub fallback: Fallback,
    /// The load-time options it asks for.
    pub runner: RunnerKey,
    /// Whether it may be given another context than it asks for, when that saves a load: the operator allows it, and its body can say it.
    pub may_take_larger_context: bool,
    /// What its conversation is known by; `None` when it has none.
    pub affinity: Option<u64>,
    /// Who served its conversation before.
    pub session: Option<Session>,
    /// What is so at this moment.
    pub circumstances: Circumstances,
}

/// Under what circumstances a node is looked for.
#[derive(Debug, Clone, Copy, Default)]
pub struct Circumstances {
    /// The gateway's uptime.
    pub uptime: Duration,
    /// How long the request has waited.
    pub waited: Duration,
    /// How many wait for the same, itself included.
    pub line: u32,
    /// Whether a node may load a model for it: who needs none goes first.
    pub may_swap: bool,
}

impl<'a> Ask<'a> {
    /// For what is wanted, with nothing special about it: any node may be asked that can serve the operation, at uptime 0, with nobody
    /// else waiting.
    pub fn plain(wanted: Wanted<'a>, operation: Operation) -> Ask<'a> {
        Ask {
            wanted,
            operation,
            needs: Needs::default(),
            mount: &Mount::All,
            node_index: None,
            tried: &[],
            fallback: Fallback::None,
            runner: RunnerKey::default(),
            may_take_larger_context: true,
            affinity: None,
            session: None,
            circumstances: Circumstances {
                line: 1,
                may_swap: true,
                ..Circumstances::default()
            },
        }
    }

    /// Whether nothing but the name of one model says which nodes are meant.
    pub fn is_plain(&self) -> bool {
        *self.mount == Mount::All && self.node_index.is_none() && !self.wanted.is_alias()
    }
}

/// The decision.
#[derive(Debug, Clone, PartialEq)]
pub struct Route {
    /// Whom to ask; a lease must still be had.
    pub node: NodeId,
    /// The model's name as that node spells it; `None` leaves the client's word, for want of better knowledge.
    pub spelled: Option<Arc<str>>,
    /// Whether that is another name than the asked one, and not just another spelling of it.
    pub is_renamed: bool,
    /// Which of [`Wanted::models`] the node has; `None` when nobody knows whether it has any.
    pub place: Option<usize>,
    /// Whether the node has the model in memory, which decides how long its first byte may take.
    pub warm: bool,
    /// Whether another request's load of just this runner is under way.
    pub joins: bool,
    /// What the request has to say of its context so that no load is needed; `None` leaves the client's word.
    pub num_ctx: Option<NumCtx>,
    /// What it costs there, as far as that was weighed.
    pub cost: Option<Cost>,
    /// The model that is likely to leave the node's memory for it.
    pub evicts: Option<Arc<Traits>>,
    /// What the model can do and needs there, and its seats; `None` when nobody knows whether the node has it.
    pub traits: Option<Arc<Traits>>,
    /// For logs, metrics and `X-Arriero-Route`.
    pub reason: Reason,
}

impl Route {
    /// The runner that there is when a request that asked for this one has been served.
    pub fn runner(&self, asked: RunnerKey) -> RunnerKey {
        let num_ctx = match self.num_ctx {
            Some(num_ctx) => num_ctx.tokens(),
            None => asked.num_ctx,
        };
        RunnerKey { num_ctx, ..asked }
    }
}

/// Why this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The model is in its memory.
    Warm,
    /// The model has to be loaded.
    Cold,
    /// The model is being loaded there for somebody else.
    Joins,
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
    /// It answered this conversation last.
    Sticky,
    /// Nobody who is known to have the model could be asked, so somebody was who may have it.
    Fallback(Lack),
}

/// Why nobody who is known to have a model can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lack {
    /// Nobody is known to have it.
    Unknown,
    /// Those who have it are down or draining.
    Unavailable,
}

impl Reason {
    /// The word in `X-Arriero-Route`, in logs and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Warm => "warm",
            Reason::Cold => "cold",
            Reason::Joins => "loading",
            Reason::Only => "only",
            Reason::Priority => "priority",
            Reason::RoundRobin => "round_robin",
            Reason::LeastConnections => "least_connections",
            Reason::Random => "random",
            Reason::Sticky => "sticky",
            Reason::Fallback(_) => "fallback",
        }
    }
}

/// Why there is no route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoRoute {
    /// Nodes could serve it but none has a free slot, or one that would be wise to take: wait.
    Full(Wait),
    /// Waiting would not help.
    Refused(Fault),
}

/// What a request waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wait {
    /// A model in use that would have to make room for its own. Whoever has waited for too long may have it retired
    /// ([`Ledger::retire`](crate::fleet::Ledger::retire)).
    pub in_use: Option<Arc<Traits>>,
}

/// Names the node for a request. `seed` is a counter for `round-robin`, any number for the others; `now` only tells a refused client
/// when to come back.
///
/// # Errors
/// [`NoRoute::Full`] when every node that could serve it is full; else a fault, unless the ask's fallback admits a node: 404 when no
/// node has the model, 501 when those that have it do not speak the dialect, 400 when it holds an image and they all say that the
/// model takes none, 503 when they are down, were tried, or have not told their models yet.
pub fn route(
    ask: &Ask<'_>,
    view: &Snapshot,
    balancer: Balancer,
    seed: u64,
    now: Instant,
) -> Result<Route, NoRoute> {
    let candidates = match filter::holders(ask, view, now) {
        Ok(candidates) => candidates,
        Err(none) => return fallback::route(ask, view, balancer, seed, none),
    };
    let choice = pick::choose(ask, &candidates, balancer, seed).map_err(NoRoute::Full)?;
    let (chosen, weighed) = (choice.candidate, choice.weighed);
    let warm = match &weighed {
        Some(effort) => effort.presence == Presence::Loaded,
        None => chosen.holder.warm,
    };
    let num_ctx = match &weighed {
        Some(effort) => effort.num_ctx,
        None => cost::num_ctx(ask, chosen.node, chosen.holder),
    };
    Ok(Route {
        node: chosen.node.id,
        spelled: Some(Arc::clone(&chosen.holder.spelled)),
        is_renamed: ask.wanted.is_renamed(chosen.rank()),
        place: Some(chosen.rank()),
        warm,
        joins: weighed
            .as_ref()
            .is_some_and(|effort| effort.presence == Presence::Loading),
        num_ctx,
        cost: weighed.as_ref().map(|effort| effort.cost),
        evicts: weighed.and_then(|effort| effort.evicts),
        traits: Some(Arc::clone(&chosen.holder.traits)),
        reason: choice.reason,
    })
}

/// Why no node that is known to have what is asked for can be asked, as far as asking the nodes for their models again may
/// change it; `None` when one can, or when something else is in the way.
pub fn lack(ask: &Ask<'_>, view: &Snapshot, now: Instant) -> Option<Lack> {
    filter::holders(ask, view, now).err()?.lack
}

/// The node that a client insists on by its place in the configuration, counted from 0. A lease must still be had.
///
/// # Errors
/// 404 when there is no such node, 501 when it does not serve the operation behind this address, 503 when it is not in service.
pub fn node_at(
    index: usize,
    operation: Operation,
    mount: &Mount,
    view: &Snapshot,
    now: Instant,
) -> Result<NodeId, Fault> {
    filter::node_at(index, operation, mount, view, now).map(|node| node.id)
}

#[cfg(test)]
mod tests;
