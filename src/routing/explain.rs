//! What was decided for a request, and what stood against each node: the same steps as [`route`], watched.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use crate::config::Balancer;
use crate::fleet::{Holder, Node, NodeId, Snapshot, State, Traits};
use crate::routing::{Ask, Effort, NoRoute, Presence, Route, route};

use super::adaptive::{Held, is_in, tier};
use super::cost::{Blocked, Rates, effort};
use super::filter::{self, Step, short_of};
use super::pick::{highest_tier, preferred};
use super::{fallback, fit};

mod words;

/// A decision and its reasons.
#[derive(Debug, Clone)]
pub struct Explanation {
    /// What [`route`] says.
    pub decision: Result<Route, NoRoute>,
    /// One of each node, in the order of the configuration.
    pub judged: Vec<Judged>,
}

/// What was thought of one node.
#[derive(Debug, Clone)]
pub struct Judged {
    /// Who it is.
    pub node: NodeId,
    /// What spoke against it, or what the request costs there.
    pub verdict: Verdict,
    /// The node's own name of what it has of the asked models; `None` when it has none of them.
    pub model: Option<Arc<str>>,
    /// Whether that is in its memory.
    pub warm: bool,
    /// Requests under way with it.
    pub in_flight: u32,
    /// Most it may have; `None` is no limit.
    pub slots: Option<u32>,
}

/// What speaks against a node, or what a request costs there.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// The address of the call, or the index in it, leaves it out.
    NotMeant,
    /// It has none of the models that would do.
    NoModel,
    /// It has not told yet what it has.
    Untold,
    /// It would ask another company's server for the model.
    Remote,
    /// Its type or version does not serve the request as it comes; what it falls short of.
    CannotServe(String),
    /// Its model cannot do what the request needs, as far as the node says; what it lacks.
    Unable(&'static str),
    /// It failed the request already.
    Tried,
    /// It is not in service, or was never proven while others were.
    NotInService(State),
    /// Its requests fail, and not those of others.
    Failing,
    /// It may not have another request now.
    Full {
        /// Requests it has of those that count here.
        in_flight: u32,
        /// Requests it may have of them.
        slots: u32,
        /// Whether only those for the model count.
        of_model: bool,
    },
    /// What another node has suits the request better, or comes first among the targets of the alias.
    LessSuitable,
    /// Its priority is lower than that of a node with room, or it has less room than nodes are assumed to need.
    LowerTier,
    /// It would have to load the model, and loads another.
    LoadsAnother,
    /// It would have to load the model, and what would have to leave for it is in use: the name of that.
    InUse(Arc<str>),
    /// It could serve the request, at this cost.
    Weighed {
        /// What it would have to do.
        effort: Effort,
        /// The name of the model that would leave for it.
        evicts: Option<Arc<str>>,
    },
    /// It could serve the request; the balancer weighs no costs.
    Fit,
    /// Nobody knows whether it has the model, and it may be asked all the same.
    MayHave,
}

/// Says what would become of a request and why, without doing anything about it. Arguments as for [`route`].
pub fn explain(
    ask: &Ask<'_>,
    view: &Snapshot,
    balancer: Balancer,
    seed: u64,
    now: Instant,
) -> Explanation {
    let decision = route(ask, view, balancer, seed, now);
    let mut sieve = Sieve::new(ask, view);
    let mut watch = |step, left: &[Held<'_>]| sieve.pass(step, left);
    match filter::judged_holders(ask, view, now, &mut watch) {
        Ok(candidates) => sieve.weigh(&candidates, balancer),
        Err(none) if none.lack.is_some() => sieve.guess(),
        Err(_) => (),
    }
    if let Ok(route) = &decision {
        sieve.choose(route);
    }
    let judged = view.nodes.iter().map(|node| sieve.judged(node)).collect();
    Explanation { decision, judged }
}

/// Who is left after each step, and what befell the others.
struct Sieve<'a, 'q> {
    ask: &'a Ask<'q>,
    view: &'a Snapshot,
    verdicts: HashMap<NodeId, Verdict>,
    left: HashSet<NodeId>,
    /// What each node has of the asked models, the best of it.
    held: HashMap<NodeId, &'a Holder>,
}

impl<'a, 'q> Sieve<'a, 'q> {
    fn new(ask: &'a Ask<'q>, view: &'a Snapshot) -> Sieve<'a, 'q> {
        let meant: HashSet<NodeId> = filter::meant(view, ask.mount, ask.node_index)
            .map(|node| node.id)
            .collect();
        let verdict = |node: &Node| match (meant.contains(&node.id), node.knows_models()) {
            (false, _) => Verdict::NotMeant,
            (true, true) => Verdict::NoModel,
            (true, false) => Verdict::Untold,
        };
        let mut held = HashMap::new();
        let models = ask.wanted.models().iter();
        for holder in models.flat_map(|model| view.holders(model).unwrap_or_default()) {
            held.entry(holder.node).or_insert(holder);
        }
        Sieve {
            ask,
            view,
            verdicts: view.nodes.iter().map(|it| (it.id, verdict(it))).collect(),
            left: HashSet::new(),
            held,
        }
    }

    /// A step of the filter. A node is out with the last of what it has.
    fn pass(&mut self, step: Step, left: &[Held<'_>]) {
        let left: HashSet<NodeId> = left.iter().map(|it| it.node.id).collect();
        let before = std::mem::replace(&mut self.left, left);
        for id in before {
            if !self.left.contains(&id)
                && let Some(node) = self.view.node(id)
            {
                let verdict = self.dropped(step, node);
                self.verdicts.insert(id, verdict);
            }
        }
    }

    fn dropped(&self, step: Step, node: &Node) -> Verdict {
        match step {
            Step::Has => Verdict::NoModel,
            Step::Local => Verdict::Remote,
            Step::Serves => {
                let shortcoming = node.shortcoming(self.ask.operation, self.ask.needs);
                let short = shortcoming.and_then(|it| short_of(node, it));
                Verdict::CannotServe(short.unwrap_or_else(|| {
                    let (name, kind) = (&node.config.name, &node.config.profile.name);
                    format!("{name} is of type {kind}, which does not serve this call")
                }))
            }
            Step::Able => {
                let models = self.ask.wanted.models().iter();
                let held = models.flat_map(|model| self.view.holders(model).unwrap_or_default());
                let mut held = held.filter(|holder| holder.node == node.id);
                let lacks = held.find_map(|it| fit::lacking(self.ask, &it.traits));
                Verdict::Unable(lacks.unwrap_or("lacks what is needed"))
            }
            Step::Untried => Verdict::Tried,
            Step::Open => Verdict::NotInService(node.state()),
            Step::Sound => Verdict::Failing,
        }
    }

    /// What the balancer thinks of those who may serve the request.
    fn weigh(&mut self, candidates: &[Held<'a>], balancer: Balancer) {
        for it in candidates {
            let verdict = match it.is_free {
                true => Verdict::LessSuitable,
                false => full(it),
            };
            let known = self.verdicts.get(&it.node.id);
            // A node that has several of an alias's models is there once for each.
            if it.is_free || known.is_none_or(|known| *known != Verdict::LessSuitable) {
                self.verdicts.insert(it.node.id, verdict);
            }
        }
        let free = preferred(candidates);
        for it in &free {
            self.verdicts.insert(it.node.id, Verdict::LowerTier);
            self.held.insert(it.node.id, it.holder);
        }
        let weighed: Vec<&Held<'a>> = match balancer {
            Balancer::Adaptive => {
                let tier = tier(&free);
                free.into_iter().filter(|it| is_in(tier, it)).collect()
            }
            Balancer::Priority => highest_tier(&free),
            Balancer::RoundRobin | Balancer::LeastConnections | Balancer::Random => free,
        };
        let rates = Rates::of(candidates);
        for it in weighed {
            let verdict = match balancer {
                Balancer::Adaptive => self.weighed(it, rates),
                _ => Verdict::Fit,
            };
            self.verdicts.insert(it.node.id, verdict);
        }
    }

    fn weighed(&self, it: &Held<'_>, rates: Rates) -> Verdict {
        match effort(self.ask, it.node, it.holder, rates) {
            Ok(effort) => effort_on(it.node, effort),
            Err(Blocked::Loading) => Verdict::LoadsAnother,
            Err(Blocked::InUse(traits)) => {
                let name = name_of(it.node, &traits);
                Verdict::InUse(name.unwrap_or_else(|| "another model".into()))
            }
        }
    }

    /// Nobody who is known to have the model can be asked.
    fn guess(&mut self) {
        for it in fallback::candidates(self.ask, self.view) {
            let verdict = match (it.is_free, it.slots) {
                (false, Some(slots)) => Verdict::Full {
                    in_flight: it.node.in_flight(),
                    slots,
                    of_model: false,
                },
                _ => Verdict::MayHave,
            };
            self.verdicts.insert(it.node.id, verdict);
        }
    }

    /// A session may have made the choice before anything was weighed, and what is live may have changed since.
    fn choose(&mut self, route: &Route) {
        let Some(node) = self.view.node(route.node) else {
            return;
        };
        let verdict = match (route.cost, route.place) {
            (Some(cost), _) => {
                let presence = match (route.warm, route.joins) {
                    (true, _) => Presence::Loaded,
                    (false, true) => Presence::Loading,
                    (false, false) => Presence::Absent,
                };
                let effort = Effort {
                    cost,
                    presence,
                    num_ctx: route.num_ctx,
                    evicts: route.evicts.clone(),
                };
                effort_on(node, effort)
            }
            (None, Some(_)) => Verdict::Fit,
            (None, None) => Verdict::MayHave,
        };
        self.verdicts.insert(route.node, verdict);
    }

    fn judged(&mut self, node: &Node) -> Judged {
        let held = self.held.get(&node.id);
        let verdict = self.verdicts.remove(&node.id);
        Judged {
            node: node.id,
            verdict: verdict.unwrap_or(Verdict::NotMeant),
            model: held.map(|holder| Arc::clone(&holder.spelled)),
            warm: held.is_some_and(|holder| self.view.is_loaded(holder)),
            in_flight: node.in_flight(),
            slots: node.slots(),
        }
    }
}

fn full(it: &Held<'_>) -> Verdict {
    let of_node = (it.node.in_flight(), it.node.slots());
    let ledger = it.holder.traits.ledger();
    let (in_flight, slots, of_model) = match (of_node, it.holder.traits.slots()) {
        ((taken, Some(slots)), _) if slots <= taken => (taken, slots, false),
        (_, Some(seats)) => (ledger.in_flight(), seats, true),
        ((taken, slots), None) => (taken, slots.unwrap_or(taken), false),
    };
    Verdict::Full {
        in_flight,
        slots,
        of_model,
    }
}

fn effort_on(node: &Node, effort: Effort) -> Verdict {
    let evicts = effort.evicts.as_ref().and_then(|it| name_of(node, it));
    Verdict::Weighed { effort, evicts }
}

/// Under which name the node offers what has these traits.
fn name_of(node: &Node, traits: &Arc<Traits>) -> Option<Arc<str>> {
    let mut offered = node.offered().iter();
    let offered = offered.find(|it| it.traits == *traits)?;
    Some(Arc::clone(&offered.name))
}

#[cfg(test)]
mod tests;
