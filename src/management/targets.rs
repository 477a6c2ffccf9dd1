//! Which nodes a change goes to: those the request names, else those that have the model, else `management.default_target`.

use std::sync::Arc;

use crate::config::DefaultTarget;
use crate::dialect::{Call, Mount, Operation};
use crate::error::{Fault, Kind};
use crate::fleet::{Health, Node, NodeId, Snapshot};
use crate::model::ModelKey;
use crate::profile::Needs;
use crate::text::percent_decoded;

/// Most node names that a refusal lists.
const NAMED_MAX: usize = 20;
/// When a client shall ask again for a node that is down.
const RETRY_AFTER_S: u32 = 10;

/// What a request says about where it wants to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Aim {
    /// `?node=a,b`.
    Named(Vec<String>),
    /// `…/{index}`, Open WebUI's number of a node.
    Index(usize),
    /// Nothing.
    Unsaid,
}

/// How far a change reaches when the request names no node.
#[derive(Debug, Clone, Copy)]
pub enum Reach<'a> {
    /// What `management.default_target` says.
    Default(&'a DefaultTarget),
    /// Every node that has the model.
    Holders(&'a ModelKey),
    /// The first node that has the model.
    FirstHolder(&'a ModelKey),
    /// Every node that has the model in memory.
    Loaded(&'a ModelKey),
}

/// A node that is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Who it is.
    pub node: NodeId,
    /// Its name.
    pub name: String,
    /// How it spells the model, when it is known to have it.
    pub spelled: Option<Arc<str>>,
}

/// A node that would be asked if it could be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// Its name.
    pub node: String,
    /// Why it is not asked, such as `it is down: …`.
    pub why: String,
}

/// The nodes that are asked, in the order of the configuration. Empty only where nothing is to be done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Targets {
    /// Each of them once.
    pub nodes: Vec<Target>,
    /// Told in the answer.
    pub skipped: Vec<Skipped>,
}

impl Aim {
    /// Reads it from a call and its query.
    ///
    /// # Errors
    /// 400 when `?node=` names nothing, when the query says anything else, or when the request names nodes in both ways.
    pub fn of(call: &Call, query: Option<&str>) -> Result<Aim, Fault> {
        let named = names_in(query)?;
        match (named, call.node_index) {
            (None, None) => Ok(Aim::Unsaid),
            (None, Some(index)) => Ok(Aim::Index(index)),
            (Some(_), Some(_)) => Err(Fault::malformed(
                "ambiguous_node",
                "the request names a node by index and by `?node=`; use one of them",
            )),
            (Some(names), None) if names.is_empty() => Err(Fault::malformed(
                "no_node",
                "`?node=` names no node; write one or more names with commas between",
            )),
            (Some(names), None) => Ok(Aim::Named(names)),
        }
    }
}

/// The nodes that a query names, in one list or in several; `None` when it is empty. A word that means nothing here is refused, or a
/// slip of the pen would change every node.
fn names_in(query: Option<&str>) -> Result<Option<Vec<String>>, Fault> {
    let mut named = None;
    let pairs = query.into_iter().flat_map(|query| query.split('&'));
    for pair in pairs.filter(|pair| !pair.is_empty()) {
        let (key, list) = pair.split_once('=').unwrap_or((pair, ""));
        if percent_decoded(key) != "node" {
            let key: String = key.chars().take(64).collect();
            let message = format!(
                "`?{key}` means nothing here; only `?node=` does, such as `?node=gpu-1,gpu-2`"
            );
            return Err(Fault::malformed("unknown_parameter", message));
        }
        let list = percent_decoded(list);
        let names = list.split(',').map(str::trim);
        let names = names.filter(|name| !name.is_empty()).map(str::to_owned);
        named.get_or_insert_with(Vec::new).extend(names);
    }
    Ok(named)
}

/// The nodes for a change. `operation` is what a node's type must serve.
///
/// # Errors
/// 404 for a node or a model that there is not, 501 when no node behind the address serves the operation, 503 when a named node,
/// or every node that is meant, cannot be asked now.
pub fn targets(
    aim: &Aim,
    operation: Operation,
    mount: &Mount,
    reach: Reach<'_>,
    view: &Snapshot,
) -> Result<Targets, Fault> {
    let insisted = match aim {
        Aim::Unsaid => None,
        Aim::Index(index) => Some(vec![by_index(*index, view)?]),
        Aim::Named(names) => Some(by_names(names, view)?),
    };
    let insisted = match (insisted, reach) {
        (None, Reach::Default(DefaultTarget::Node(name))) => {
            Some(by_names(std::slice::from_ref(name), view)?)
        }
        (insisted, _) => insisted,
    };
    match insisted {
        Some(nodes) => named(nodes, operation, mount, reach.model(), view),
        None => reached(operation, mount, reach, view),
    }
}

impl<'a> Reach<'a> {
    pub(super) fn model(self) -> Option<&'a ModelKey> {
        match self {
            Reach::Default(_) => None,
            Reach::Holders(key) | Reach::FirstHolder(key) | Reach::Loaded(key) => Some(key),
        }
    }
}

/// Each node that the request insists on must be able to do it now; half of what was asked for would be a surprise.
fn named(
    nodes: Vec<&Node>,
    operation: Operation,
    mount: &Mount,
    model: Option<&ModelKey>,
    view: &Snapshot,
) -> Result<Targets, Fault> {
    let mut targets = Targets::default();
    for node in nodes {
        let name = &node.config.name;
        if !serves(node, operation, mount) {
            let message = format!(
                "node `{name}` is of type {} and can't do this, or is not behind this address; name another",
                node.config.profile.name
            );
            return Err(Fault::refused(501, "not_implemented", message));
        }
        if let Some(why) = away(node) {
            return Err(unavailable(format!("node `{name}` can't be asked: {why}")));
        }
        if targets.nodes.iter().all(|known| known.node != node.id) {
            targets.nodes.push(target(node, model, view));
        }
    }
    Ok(targets)
}

fn reached(
    operation: Operation,
    mount: &Mount,
    reach: Reach<'_>,
    view: &Snapshot,
) -> Result<Targets, Fault> {
    let able: Vec<&Node> = view
        .nodes
        .iter()
        .filter(|node| serves(node, operation, mount))
        .collect();
    if able.is_empty() {
        let message = "no node behind this address can do this; it takes one of type ollama";
        return Err(Fault::refused(501, "not_implemented", message));
    }
    let holders = |key: &ModelKey| view.holders(key).unwrap_or_default();
    let has = |node: &Node, key: &ModelKey| holders(key).iter().any(|it| it.node == node.id);
    let mut meant = able;
    match reach {
        Reach::Default(_) => {}
        Reach::Holders(key) | Reach::FirstHolder(key) => meant.retain(|node| has(node, key)),
        Reach::Loaded(key) => {
            meant.retain(|node| has(node, key));
            if !meant.is_empty() && !meant.iter().any(|node| is_loaded(node, key, view)) {
                return Ok(Targets::default()); // nothing is to be unloaded
            }
            meant.retain(|node| is_loaded(node, key, view));
        }
    }
    if let (true, Some(key)) = (meant.is_empty(), reach.model()) {
        let message = format!("model '{}' not found", key.as_str());
        return Err(Fault::new(Kind::UnknownModel, message));
    }
    let mut targets = Targets::default();
    for node in meant {
        match away(node) {
            None => targets.nodes.push(target(node, reach.model(), view)),
            Some(why) => targets.skipped.push(Skipped {
                node: node.config.name.clone(),
                why,
            }),
        }
    }
    if targets.nodes.is_empty() {
        let reasons: Vec<String> = targets
            .skipped
            .iter()
            .take(NAMED_MAX)
            .map(|it| format!("{}: {}", it.node, it.why))
            .collect();
        let message = format!("no node can be asked now ({})", reasons.join("; "));
        return Err(unavailable(message));
    }
    if matches!(
        reach,
        Reach::FirstHolder(_) | Reach::Default(DefaultTarget::First)
    ) {
        targets.nodes.truncate(1);
        targets.skipped.clear();
    }
    Ok(targets)
}

fn target(node: &Node, model: Option<&ModelKey>, view: &Snapshot) -> Target {
    let holders = model.and_then(|key| view.holders(key)).unwrap_or_default();
    let holder = holders.iter().find(|holder| holder.node == node.id);
    Target {
        node: node.id,
        name: node.config.name.clone(),
        spelled: holder.map(|holder| Arc::clone(&holder.spelled)),
    }
}

fn is_loaded(node: &Node, key: &ModelKey, view: &Snapshot) -> bool {
    let holders = view.holders(key).unwrap_or_default();
    holders.iter().any(|it| it.node == node.id && it.warm)
}

fn serves(node: &Node, operation: Operation, mount: &Mount) -> bool {
    node.is_on(mount) && node.can_serve(operation, Needs::default())
}

/// Why a node can't be asked now. One that the operator drains can: it takes no new requests, but may be filled meanwhile.
fn away(node: &Node) -> Option<String> {
    match &node.health {
        Health::Down { why, .. } => Some(format!("it is down: {why}")),
        _ if node.addr.is_none() => Some("its host name is not resolved yet".to_owned()),
        _ => None,
    }
}

fn by_index(index: usize, view: &Snapshot) -> Result<&Node, Fault> {
    view.nodes.get(index).ok_or_else(|| {
        let message = format!(
            "there is no node {index}: this fleet has {}, counted from 0",
            view.nodes.len()
        );
        Fault::refused(404, "unknown_node", message)
    })
}

fn by_names<'a>(names: &[String], view: &'a Snapshot) -> Result<Vec<&'a Node>, Fault> {
    let find = |name: &String| {
        view.named(name).ok_or_else(|| {
            let known = view.nodes.iter().map(|node| node.config.name.as_str());
            let known: Vec<&str> = known.take(NAMED_MAX).collect();
            let name: String = name.chars().take(64).collect();
            let message = format!("no node is named `{name}`; there are {}", known.join(", "));
            Fault::refused(404, "unknown_node", message)
        })
    };
    names.iter().map(find).collect()
}

fn unavailable(message: String) -> Fault {
    let kind = Kind::Unavailable {
        retry_after_s: RETRY_AFTER_S,
    };
    Fault::new(kind, message + "; try again when it is back")
}

#[cfg(test)]
mod tests;
