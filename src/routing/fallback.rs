//! Whom to ask when nobody who is known to have a model can be: optimism, as far as the operator allows it.

use std::sync::Arc;

use crate::config::{Balancer, Fallback};
use crate::fleet::{Node, Snapshot, own_name};

use super::filter::{NoHolder, meant};
use super::pick::{Candidate, pick};
use super::{Ask, NoRoute, Reason, Route, Wait};

/// A node that may have what is asked for, or the refusal that stands without one.
pub(super) fn route(
    ask: &Ask<'_>,
    view: &Snapshot,
    balancer: Balancer,
    seed: u64,
    none: NoHolder,
) -> Result<Route, NoRoute> {
    let Some(lack) = none.lack else {
        return Err(NoRoute::Refused(none.fault));
    };
    let candidates = candidates(ask, view);
    if candidates.is_empty() {
        return Err(NoRoute::Refused(none.fault));
    }
    let (chosen, _) =
        pick(&candidates, balancer, seed).ok_or(NoRoute::Full(Wait { in_use: None }))?;
    Ok(Route {
        node: chosen.node.id,
        spelled: (chosen.holder != ask.wanted.name).then(|| Arc::from(chosen.holder)),
        is_renamed: ask.wanted.is_alias(),
        place: None,
        warm: false,
        joins: false,
        num_ctx: None,
        cost: None,
        evicts: None,
        traits: None,
        reason: Reason::Fallback(lack),
    })
}

/// Nodes that may have what is asked for, each with its own name for it.
pub(super) fn candidates<'a>(ask: &Ask<'a>, view: &'a Snapshot) -> Vec<Candidate<'a, &'a str>> {
    // An alias is ours and means nothing to a node.
    let guess = ask.wanted.best_guess();
    let asked = guess.unwrap_or(ask.wanted.name);
    // Who is known to have it was found unfit: it may see no images, or ask another company's server.
    let was_judged = |node: &Node| {
        let holders = ask.wanted.models().iter().filter_map(|it| view.holders(it));
        holders.flatten().any(|holder| holder.node == node.id)
    };
    let mut candidates: Vec<_> = meant(view, ask.mount, ask.node_index)
        .filter(|node| node.is_open() && is_admitted(node, ask.fallback))
        .filter(|node| node.can_serve(ask.operation, ask.needs))
        .filter(|node| !ask.tried.contains(&node.id) && !was_judged(node))
        .filter_map(|node| Some(Candidate::new(node, own_name(&node.config, asked)?)))
        .collect();
    // A prefix that nodes have says that they are meant.
    let by_prefix = |it: &Candidate<'_, &str>| it.holder != asked;
    if candidates.iter().any(by_prefix) {
        candidates.retain(by_prefix);
    }
    candidates
}

fn is_admitted(node: &Node, fallback: Fallback) -> bool {
    match fallback {
        Fallback::All => true,
        Fallback::CompatibleOnly => !node.knows_models(),
        Fallback::None => false,
    }
}
