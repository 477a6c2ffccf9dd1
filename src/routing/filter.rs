//! Which nodes may serve a request, or the fault that says why none may.

use std::collections::HashSet;
use std::fmt::Display;
use std::time::{Duration, Instant};

use crate::dialect::{Mount, Operation};
use crate::error::{Fault, Kind};
use crate::fleet::{Health, Holder, Node, Snapshot, State};
use crate::model;
use crate::profile::{Needs, Shortcoming};
use crate::routing::pick::Candidate;
use crate::routing::some::some;
use crate::routing::{Ask, Lack, fit};

/// What keeps nodes from being candidates, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// It is not meant by the address, or has not what is asked for.
    Has,
    /// It would ask another company's server.
    Local,
    /// It does not serve the request as it comes.
    Serves,
    /// What it has cannot do what the request needs.
    Able,
    /// It failed the request already.
    Untried,
    /// It is not in service, or was never proven while others were.
    Open,
    /// Its requests fail, and not those of others.
    Sound,
}

/// Hears after each step who is left.
pub(super) type Watch<'w, 'a, H> = &'w mut dyn FnMut(Step, &[Candidate<'a, H>]);

/// Why nobody who has what is asked for may serve it.
pub(super) struct NoHolder {
    /// What the knowledge of the nodes lacks, unless something else is in the way.
    pub(super) lack: Option<Lack>,
    pub(super) fault: Fault,
}

impl From<Fault> for NoHolder {
    fn from(fault: Fault) -> NoHolder {
        NoHolder { lack: None, fault }
    }
}

/// The nodes that may serve a request for a model; never empty. A node is there once for each of an alias's models it has.
pub(super) fn holders<'a>(
    ask: &Ask<'_>,
    view: &'a Snapshot,
    now: Instant,
) -> Result<Vec<Candidate<'a, &'a Holder>>, NoHolder> {
    asked_node(ask.node_index, view)?;
    // The common case in one pass; why there is nobody is found out only when there is nobody.
    if ask.tried.is_empty() && !fit::is_choosy(ask) {
        let is_ready = |node: &Node| node.is_open() && node.can_serve(ask.operation, ask.needs);
        let mut ready = Vec::with_capacity(view.nodes.len());
        let local = holding(ask, view, is_ready).filter(|it| !it.holder.remote);
        // Not `extend`: it takes them one by one from a nested iterator, which costs more than finding them.
        local.for_each(|it| ready.push(it));
        if !ready.is_empty() {
            prefer_sound(&mut ready);
            return Ok(ready);
        }
    }
    judged_holders(ask, view, now, &mut |_, _| ())
}

/// As [`holders`], step by step, so that it can be said at which somebody, or the last, was left out.
pub(super) fn judged_holders<'a>(
    ask: &Ask<'_>,
    view: &'a Snapshot,
    now: Instant,
    watch: Watch<'_, 'a, &'a Holder>,
) -> Result<Vec<Candidate<'a, &'a Holder>>, NoHolder> {
    let mut holding: Vec<_> = holding(ask, view, |_| true).collect();
    watch(Step::Has, &holding);
    let has_any = !holding.is_empty();
    // Behind an alias stands the operator's own decision.
    holding.retain(|it| ask.wanted.is_alias() || !it.holder.remote);
    watch(Step::Local, &holding);
    if has_any && holding.is_empty() {
        return Err(model::cloud_refused(ask.wanted.name).into());
    }
    if holding.is_empty() {
        return Err(NoHolder {
            lack: Some(Lack::Unknown),
            fault: unknown(ask, view, now),
        });
    }
    let mut able = holding.clone();
    able.retain(|it| it.node.can_serve(ask.operation, ask.needs));
    watch(Step::Serves, &able);
    if able.is_empty() {
        return Err(unserved(ask, &holding).into());
    }
    let retained = fit::retain_able(ask, view, &mut able);
    watch(Step::Able, &able);
    retained?;
    let is_tried = |it: &Candidate<'_, _>| ask.tried.contains(&it.node.id);
    let was_tried = able.iter().any(is_tried);
    able.retain(|it| !is_tried(it));
    watch(Step::Untried, &able);
    // Another node's "not found" would hide what a node that has the model failed with.
    let lack = (!was_tried).then_some(Lack::Unavailable);
    healthy(able, &ask.wanted, &holding, now, watch).map_err(|fault| NoHolder { lack, fault })
}

/// What the nodes that the address allows have of what is asked for, as far as they are `wanted`.
fn holding<'a, W: Fn(&Node) -> bool + Copy>(
    ask: &Ask<'_>,
    view: &'a Snapshot,
    wanted: W,
) -> impl Iterator<Item = Candidate<'a, &'a Holder>> {
    let models = ask.wanted.models().iter().enumerate();
    models.flat_map(move |(rank, model)| {
        let holders = view.holders(model).unwrap_or_default().iter();
        holders.filter_map(move |holder| {
            let node = view.node_of(holder);
            let is_meant = ask.node_index.is_none_or(|index| holder.at == index);
            (is_meant && node.is_on(ask.mount) && wanted(node)).then(|| {
                let misfit = fit::misfit(ask, &holder.traits);
                Candidate::holding(node, holder, misfit, rank)
            })
        })
    })
}

/// The node at this place, if it may serve a call that names no model.
pub(super) fn node_at<'a>(
    index: usize,
    operation: Operation,
    mount: &Mount,
    view: &'a Snapshot,
    now: Instant,
) -> Result<&'a Node, Fault> {
    asked_node(Some(index), view)?;
    let serves = |node: &&Node| node.can_serve(operation, Needs::default());
    let Some(node) = meant(view, mount, Some(index)).find(serves) else {
        let message = format!(
            "node {index} does not serve this call behind this address; leave the index out to let the gateway choose"
        );
        return Err(Fault::refused(501, "not_implemented", message));
    };
    let it = Candidate::new(node, ());
    healthy(vec![it], &"this call", &[it], now, &mut |_, _| ())?;
    Ok(node)
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

/// The nodes that the address of a call allows, those among them that it insists on.
pub(super) fn meant<'a>(
    view: &'a Snapshot,
    mount: &Mount,
    node_index: Option<usize>,
) -> impl Iterator<Item = &'a Node> {
    let numbered = view.nodes.iter().enumerate();
    numbered
        .filter(move |(at, node)| node.is_on(mount) && node_index.is_none_or(|index| *at == index))
        .map(|(_, node)| node)
}

/// A node whose requests fail stays in service only for want of another. It fails quickly and so looks idle: where there is another, it
/// would draw nearly all requests.
fn prefer_sound<H>(ready: &mut Vec<Candidate<'_, H>>) {
    let is_sound = |it: &Candidate<'_, H>| it.node.spared.is_none();
    if ready.iter().any(is_sound) {
        ready.retain(is_sound);
    }
}

/// A node that is up beats one that was never proven; one that is down is never asked.
fn healthy<'a, H: Copy>(
    untried: Vec<Candidate<'a, H>>,
    what: &dyn Display,
    all: &[Candidate<'a, H>],
    now: Instant,
    watch: Watch<'_, 'a, H>,
) -> Result<Vec<Candidate<'a, H>>, Fault> {
    let is_unproven = |node: &Node| node.state() == State::Unknown;
    for serves in [Node::is_open, is_unproven] {
        let mut fit = untried.clone();
        fit.retain(|it| serves(it.node));
        if !fit.is_empty() {
            watch(Step::Open, &fit);
            prefer_sound(&mut fit);
            watch(Step::Sound, &fit);
            return Ok(fit);
        }
    }
    watch(Step::Open, &[]);
    let down: Vec<&Node> = distinct(untried.iter().map(|it| it.node)).collect();
    if down.is_empty() {
        let names = names(distinct(all.iter().map(|it| it.node)));
        return Err(unavailable(
            &down,
            now,
            format!("every node for {what} was tried and failed ({names}); try again later"),
        ));
    }
    let reasons = some(down.iter().map(|node| state(node)));
    Err(unavailable(
        &down,
        now,
        format!("no healthy node for {what} ({reasons}); try again when it is back"),
    ))
}

/// Each node once, however many of an alias's models it has.
fn distinct<'a>(nodes: impl Iterator<Item = &'a Node>) -> impl Iterator<Item = &'a Node> {
    let mut seen = HashSet::new();
    nodes.filter(move |node| seen.insert(node.id))
}

/// 404, unless a node that has not told its models yet may turn out to have it.
fn unknown(ask: &Ask<'_>, view: &Snapshot, now: Instant) -> Fault {
    let what = &ask.wanted;
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
        return unavailable(&silent, now, message);
    }
    if !silent.is_empty() && (awaited || silent.len() == meant.len()) {
        let reasons = some(silent.iter().map(|node| state(node)));
        let message =
            format!("{what} is on no node heard so far ({reasons}); try again in a moment");
        return unavailable(&silent, now, message);
    }
    let message = match (ask.node_index, ask.mount) {
        (Some(index), _) => {
            let name = meant
                .first()
                .map_or("of another type", |node| &node.config.name);
            format!(
                "{what} not found on node {index} ({name}); leave the index out to let the gateway choose"
            )
        }
        (None, Mount::Profile(name)) => format!("{what} not found on nodes of type {name}"),
        (None, _) if ask.wanted.is_alias() => {
            format!("{what} not found: no node has any of them; `ollama pull` one")
        }
        (None, _) => format!("{what} not found"),
    };
    Fault::new(Kind::UnknownModel, message)
}

/// 501: what is asked for is there, but no node that has it can serve the request as it comes.
fn unserved(ask: &Ask<'_>, holding: &[Candidate<'_, &Holder>]) -> Fault {
    let advice = instead(ask, holding).unwrap_or_else(|| "ask a node of another type".to_owned());
    let nearly = distinct(holding.iter().map(|it| it.node)).filter_map(|node| {
        let shortcoming = node.shortcoming(ask.operation, ask.needs);
        shortcoming.and_then(|it| short_of(node, it))
    });
    let nearly = some(nearly);
    let mut types: Vec<&str> = holding
        .iter()
        .map(|it| &*it.node.config.profile.name)
        .collect();
    types.sort_unstable();
    types.dedup();
    let types = types.join(", ");
    let why = match &*nearly {
        "" => format!("on nodes of type {types}, which do not serve this call"),
        nearly => format!("on nodes that do not serve such a request ({nearly})"),
    };
    let what = &ask.wanted;
    let message = format!("{what} is only {why}, and translation is not in this version; {advice}");
    Fault::refused(501, "not_implemented", message)
}

/// What a node of a type that has the call falls short of.
pub(super) fn short_of(node: &Node, shortcoming: Shortcoming<'_>) -> Option<String> {
    let name = &node.config.name;
    let version = node.version.as_deref().unwrap_or("unknown");
    match shortcoming {
        Shortcoming::Call => None,
        Shortcoming::Streams => Some(format!("{name} has no streams")),
        Shortcoming::TooOld(least) => Some(format!(
            "{name} has version {version}, and the call from {least} on"
        )),
        Shortcoming::Lacks(what) => Some(format!("{name} has the call without {what}")),
    }
}

/// A call that does the same and that a node with the model serves.
fn instead(ask: &Ask<'_>, holding: &[Candidate<'_, &Holder>]) -> Option<String> {
    let operation = ask.operation;
    holding.iter().find_map(|it| {
        let profile = &it.node.config.profile;
        let serves = |(other, _): &&(Operation, _)| {
            *other != operation && it.node.can_serve(*other, Needs::default())
        };
        let (_, path) = counterparts(operation).iter().find(serves)?;
        let prefix = profile
            .prefixes
            .first()
            .map_or(&*profile.name, |first| first);
        Some(format!("use {path} or /{prefix}{path} instead"))
    })
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

/// 503, with the moment when the first of the nodes may be back.
fn unavailable(nodes: &[&Node], now: Instant, message: String) -> Fault {
    let soonest = nodes.iter().map(|node| back_in(node, now)).min();
    // Rounded up: who comes back a moment too early is refused once more.
    let soonest_s = soonest.map_or(1, |pause| pause.as_millis().div_ceil(1000).max(1));
    let retry_after_s = u32::try_from(soonest_s).unwrap_or(u32::MAX);
    Fault::new(Kind::Unavailable { retry_after_s }, message)
}

/// What is left of the time it stays out; else the next probe may bring it back.
fn back_in(node: &Node, now: Instant) -> Duration {
    let left = match node.health {
        Health::Down { until, .. } => until.and_then(|until| until.checked_duration_since(now)),
        _ => None,
    };
    left.unwrap_or(node.config.check_interval)
}

/// Why a node cannot be asked, as far as it is a client's business: what happened to it is told on the admin pages.
fn state(node: &Node) -> String {
    let name = &node.config.name;
    let is = match node.state() {
        State::Draining => return format!("{name} is draining"),
        State::Unknown | State::Healthy | State::Trial => {
            return format!("{name} has not told its models yet");
        }
        State::Offline => "down",
        State::Ejected => "ejected",
        State::ConfigError => "misconfigured",
        State::RateLimited => "rate limited",
    };
    format!("{name} is {is}")
}

fn names<'a>(nodes: impl Iterator<Item = &'a Node>) -> String {
    some(nodes.map(|node| node.config.name.clone()))
}
