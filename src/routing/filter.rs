//! Which nodes may serve a request, or the fault that says why none may.

use crate::dialect::{Mount, Operation};
use crate::error::{Fault, Kind};
use crate::fleet::{Health, Holder, Node, Snapshot};
use crate::profile::Needs;
use crate::routing::pick::Candidate;
use crate::routing::{Ask, HeadAsk};

/// Most nodes that a fault names; a fleet of hundreds must not become one sentence.
const NAMED_MAX: usize = 3;

/// The nodes that may serve a request for a model; never empty.
pub(super) fn holders<'a>(
    ask: &Ask<'_>,
    view: &'a Snapshot,
) -> Result<Vec<Candidate<'a, &'a Holder>>, Fault> {
    asked_node(ask.node_index, view)?;
    let holders = view.holders(ask.model).unwrap_or_default();
    let holding: Vec<_> = holders
        .iter()
        .filter(|holder| ask.node_index.is_none_or(|index| holder.at == index))
        .map(|holder| Candidate::new(view.node_of(holder), holder, holder.warm))
        .filter(|it| it.node.is_on(ask.mount))
        .collect();
    let what = format!("model \"{}\"", ask.model.as_str());
    if holding.is_empty() {
        return Err(unknown(&what, ask, view));
    }
    let mut able = holding.clone();
    able.retain(|it| can_serve(it.node, ask.operation, ask.needs));
    if able.is_empty() {
        return Err(untranslated(&what, &holding, ask.operation));
    }
    able.retain(|it| !ask.tried.contains(&it.node.id));
    healthy(able, &what, &holding)
}

/// The nodes that may serve a request that names no model; never empty.
pub(super) fn nodes<'a>(
    ask: &HeadAsk<'_>,
    view: &'a Snapshot,
) -> Result<Vec<Candidate<'a, ()>>, Fault> {
    asked_node(ask.node_index, view)?;
    let meant: Vec<_> = meant(view, ask.mount, ask.node_index)
        .map(|node| Candidate::new(node, (), false))
        .collect();
    let mut able = meant.clone();
    able.retain(|it| can_serve(it.node, ask.operation, Needs::default()));
    if able.is_empty() {
        let message = "no node behind this address serves this call; add one of a type that does";
        return Err(Fault::refused(501, "not_implemented", message));
    }
    able.retain(|it| !ask.tried.contains(&it.node.id));
    healthy(able, "this call", &meant)
}

fn asked_node(node_index: Option<usize>, view: &Snapshot) -> Result<(), Fault> {
    match node_index {
        Some(index) if view.nodes.len() <= index => Err(Fault::refused(
            404,
            "unknown_node",
            format!(
                "there is no node {index}: this fleet has {}, counted from 0; leave the index out to let the gateway choose",
                view.nodes.len()
            ),
        )),
        _ => Ok(()),
    }
}

fn can_serve(node: &Node, operation: Operation, needs: Needs) -> bool {
    let profile = &node.config.profile;
    profile.can_serve(operation, node.version.as_deref(), needs)
}

/// The nodes that the address of a call allows, those among them that it insists on.
fn meant<'a>(
    view: &'a Snapshot,
    mount: &Mount,
    node_index: Option<usize>,
) -> impl Iterator<Item = &'a Node> {
    let numbered = view.nodes.iter().enumerate();
    numbered
        .filter(move |(at, node)| node.is_on(mount) && node_index.is_none_or(|index| *at == index))
        .map(|(_, node)| node)
}

/// A node that is up beats one that was never proven; one that is down is never asked.
fn healthy<'a, H: Copy>(
    untried: Vec<Candidate<'a, H>>,
    what: &str,
    all: &[Candidate<'a, H>],
) -> Result<Vec<Candidate<'a, H>>, Fault> {
    for health in [Health::Up, Health::Unknown] {
        let mut fit = untried.clone();
        fit.retain(|it| it.node.health == health && !it.node.draining);
        if !fit.is_empty() {
            return Ok(fit);
        }
    }
    let down: Vec<&Node> = untried.iter().map(|it| it.node).collect();
    if down.is_empty() {
        let names = names(all.iter().map(|it| it.node));
        return Err(unavailable(
            &down,
            format!("every node for {what} was tried and failed ({names}); try again later"),
        ));
    }
    let reasons = some(down.iter().map(|node| state(node)));
    Err(unavailable(
        &down,
        format!("no healthy node for {what} ({reasons}); try again when it is back"),
    ))
}

/// 404, unless a node that has not told its models yet may turn out to have it.
fn unknown(what: &str, ask: &Ask<'_>, view: &Snapshot) -> Fault {
    let meant: Vec<&Node> = meant(view, ask.mount, ask.node_index).collect();
    let silent: Vec<&Node> = meant
        .iter()
        .copied()
        .filter(|node| node.installed.is_none())
        .collect();
    let awaited = silent
        .iter()
        .any(|node| !matches!(node.health, Health::Down { .. }));
    if view.nodes.is_empty() {
        let message = format!("{what} is on no node: none is known yet; try again in a moment");
        return unavailable(&silent, message);
    }
    if !silent.is_empty() && (awaited || silent.len() == meant.len()) {
        let reasons = some(silent.iter().map(|node| state(node)));
        let message =
            format!("{what} is on no node heard so far ({reasons}); try again in a moment");
        return unavailable(&silent, message);
    }
    Fault::new(Kind::UnknownModel, format!("{what} not found"))
}

fn untranslated(what: &str, holding: &[Candidate<'_, &Holder>], operation: Operation) -> Fault {
    let mut types: Vec<&str> = holding
        .iter()
        .map(|it| &*it.node.config.profile.name)
        .collect();
    types.sort_unstable();
    types.dedup();
    let instead = holding.iter().find_map(|it| {
        let profile = &it.node.config.profile;
        let serves = |(other, _): &&(Operation, _)| {
            *other != operation && can_serve(it.node, *other, Needs::default())
        };
        let (_, path) = counterparts(operation).iter().find(serves)?;
        let prefix = profile
            .prefixes
            .first()
            .map_or(&*profile.name, |first| first);
        Some(format!("use {path} or /{prefix}{path} instead"))
    });
    let advice = instead.unwrap_or_else(|| "ask a node of another type".to_owned());
    let types = types.join(", ");
    Fault::refused(
        501,
        "not_implemented",
        format!(
            "{what} is only on nodes of type {types}, which do not serve this call, and translation is not in this version; {advice}"
        ),
    )
}

/// Calls that do the same in another dialect, the most common first.
fn counterparts(operation: Operation) -> &'static [(Operation, &'static str)] {
    match operation {
        Operation::Chat
        | Operation::ChatCompletions
        | Operation::Responses
        | Operation::Messages => &[
            (Operation::ChatCompletions, "/v1/chat/completions"),
            (Operation::Chat, "/api/chat"),
            (Operation::Messages, "/v1/messages"),
            (Operation::Responses, "/v1/responses"),
        ],
        Operation::Generate | Operation::Completions => &[
            (Operation::Completions, "/v1/completions"),
            (Operation::Generate, "/api/generate"),
        ],
        Operation::Embed | Operation::Embeddings | Operation::V1Embeddings => &[
            (Operation::V1Embeddings, "/v1/embeddings"),
            (Operation::Embed, "/api/embed"),
        ],
        Operation::Show => &[(Operation::Model, "/v1/models/{model}")],
        _ => &[],
    }
}

/// 503; the next probe may change it, so that is when to come back.
fn unavailable(nodes: &[&Node], message: String) -> Fault {
    let soonest_s = nodes
        .iter()
        .map(|node| node.config.check_interval.as_secs())
        .min();
    let retry_after_s = u32::try_from(soonest_s.unwrap_or(1).max(1)).unwrap_or(u32::MAX);
    Fault::new(Kind::Unavailable { retry_after_s }, message)
}

/// Why a node cannot be asked.
fn state(node: &Node) -> String {
    let name = &node.config.name;
    match &node.health {
        _ if node.draining => format!("{name} is draining"),
        Health::Down { why, .. } => format!("{name} is down: {why}"),
        Health::Unknown | Health::Up => format!("{name} has not told its models yet"),
    }
}

fn names<'a>(nodes: impl Iterator<Item = &'a Node>) -> String {
    some(nodes.map(|node| node.config.name.clone()))
}

/// The first few of many, and how many more there are.
fn some(all: impl Iterator<Item = String>) -> String {
    let mut all: Vec<String> = all.collect();
    let more = all.len().saturating_sub(NAMED_MAX);
    all.truncate(NAMED_MAX);
    let named = all.join(", ");
    if more == 0 {
        named
    } else {
        format!("{named} and {more} more")
    }
}
