//! Models that are kept in memory because the operator said so.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use crate::config::{Alias, Pinned};
use crate::dialect::RunnerOptions;
use crate::fleet::{Holder, NodeId, Room, RunnerKey, Snapshot, Traits};
use crate::model::ModelKey;

use super::{Action, Deed, Now, Target, can_load, is_loaded};

/// What nodes were asked to keep.
#[derive(Debug, Default)]
pub(super) struct Pins(BTreeMap<Key, Pin>);

/// A node, and its own name for a model.
type Key = (NodeId, Arc<str>);

/// A model that a node keeps, or shall keep.
#[derive(Debug, Clone)]
struct Pin {
    model: ModelKey,
    /// When the node was asked last; `None` before, and when it was away since.
    asked: Option<Duration>,
    /// Whether it could not do it then.
    failed: bool,
    /// Whether it has not answered yet: until then it is asked nothing else.
    under_way: bool,
}

/// How much speaks against a node, of those that may keep a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    Keeps,
    New,
    Failed,
}

impl Pins {
    pub(super) fn plan(&mut self, now: &Now<'_>) -> Vec<Action> {
        self.forget(now.view);
        let kept = self.chosen(now);
        let mut actions = Vec::new();
        let mut loads: HashSet<NodeId> = HashSet::new();
        for target in &kept {
            let Some(holder) = held(now.view, target.node, &target.model) else {
                continue;
            };
            let key = (target.node, Arc::clone(&target.spelled));
            let pin = self.0.entry(key).or_insert_with(|| Pin {
                model: target.model.clone(),
                asked: None,
                failed: false,
                under_way: false,
            });
            let is_loaded = is_loaded(now, holder);
            let is_due = pin.is_due(now, is_loaded);
            // A node loads one model after the other, and requests come first.
            let is_free = is_loaded
                || !now.view.node_of(holder).is_loading() && !loads.contains(&target.node);
            let Some(runner) = runner(holder, is_loaded).filter(|_| is_due && is_free) else {
                continue;
            };
            (pin.asked, pin.failed, pin.under_way) = (Some(now.uptime), false, true);
            if !is_loaded {
                loads.insert(target.node);
            }
            actions.push(action(target.clone(), runner, Deed::Pin { is_loaded }));
        }
        actions.extend(self.release(now, &kept));
        actions
    }

    /// A node has answered, or not.
    pub(super) fn ended(&mut self, action: &Action, is_ok: bool) {
        let key = (action.target.node, Arc::clone(&action.target.spelled));
        if action.deed == Deed::Unpin {
            // Once is enough, whatever came of it. If it is wanted again it is pinned anew.
            self.0.remove(&key);
        } else if let Some(pin) = self.0.get_mut(&key) {
            (pin.failed, pin.under_way) = (!is_ok, false);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a model shall stay in a node's memory.
    pub(super) fn keep(&self, view: &Snapshot, node: NodeId, traits: &Traits) -> bool {
        let mut pins = self.0.iter().filter(|((at, _), _)| *at == node);
        pins.any(|(_, pin)| held(view, node, &pin.model).is_some_and(|it| *it.traits == *traits))
    }

    /// What left is forgotten, and of a node that is away it is not known what it keeps.
    fn forget(&mut self, view: &Snapshot) {
        self.0.retain(|(node, spelled), pin| {
            let holder = held(view, *node, &pin.model);
            let Some(holder) = holder.filter(|it| it.spelled == *spelled) else {
                return false;
            };
            if !view.node_of(holder).is_open() {
                (pin.asked, pin.failed) = (None, false);
            }
            true
        });
    }

    /// What shall be kept where.
    fn chosen(&self, now: &Now<'_>) -> Vec<Target> {
        let mut kept: Vec<Target> = Vec::new();
        for pinned in &now.rules.pinned {
            let mut sites = sites(pinned, now);
            sites.sort_by_cached_key(|(rank, model, holder)| {
                let node = now.view.node_of(holder);
                let room = node.room(holder.traits.size_bytes.unwrap_or(0));
                let is_loaded = is_loaded(now, holder);
                (
                    self.standing(holder),
                    *rank,
                    !is_loaded,
                    Reverse(node.config.priority),
                    room != Room::Fits,
                    (node.last_picked(), node.id),
                    (*model).clone(),
                )
            });
            let targets = sites.iter().take(pinned.copies);
            for target in targets.map(|(_, model, holder)| Target::of(model, holder)) {
                let is_twin = |it: &Target| it.node == target.node && it.traits == target.traits;
                if !kept.iter().any(is_twin) {
                    kept.push(target);
                }
            }
        }
        kept
    }

    fn standing(&self, holder: &Holder) -> Standing {
        match self.0.get(&(holder.node, Arc::clone(&holder.spelled))) {
            Some(pin) if pin.failed => Standing::Failed,
            Some(pin) if pin.asked.is_some() => Standing::Keeps,
            _ => Standing::New,
        }
    }

    /// Ends the pins that are not wanted any more.
    fn release(&mut self, now: &Now<'_>, kept: &[Target]) -> Vec<Action> {
        let mut actions = Vec::new();
        self.0.retain(|(node, _), pin| {
            let Some(holder) = held(now.view, *node, &pin.model) else {
                return false;
            };
            // Under whatever name: one file has one runner.
            let is_kept = |it: &Target| it.node == *node && it.traits == holder.traits;
            let is_away = !now.view.node_of(holder).is_open();
            if is_away || pin.under_way || kept.iter().any(is_kept) {
                return true;
            }
            if pin.failed {
                return pin.rests(now); // remembered, or it would be tried again at once
            }
            if !is_loaded(now, holder) {
                return false;
            }
            let Some(runner) = runner(holder, true) else {
                return true; // once it can be told without a reload
            };
            pin.under_way = true;
            let target = Target::of(&pin.model, holder);
            actions.push(action(target, runner, Deed::Unpin));
            true
        });
        actions
    }
}

impl Pin {
    fn is_due(&self, now: &Now<'_>, is_loaded: bool) -> bool {
        let is_lost = !self.rests(now) && (self.failed || !is_loaded);
        !self.under_way && (self.asked.is_none() || is_lost)
    }

    fn rests(&self, now: &Now<'_>) -> bool {
        self.asked
            .is_some_and(|at| now.uptime.saturating_sub(at) < now.rules.hold)
    }
}

/// Nodes that could keep a model: of an alias each the first that it has, with its place among the targets.
fn sites<'a>(pinned: &'a Pinned, now: &Now<'a>) -> Vec<(usize, &'a ModelKey, &'a Holder)> {
    let alias = Alias::find(now.aliases, &pinned.model);
    let models = alias.map_or(std::slice::from_ref(&pinned.model), |alias| &alias.models);
    let mut sites: Vec<(usize, &ModelKey, &Holder)> = Vec::new();
    let mut seen: HashSet<NodeId> = HashSet::new();
    for (rank, model) in models.iter().enumerate() {
        for holder in now.view.holders(model).unwrap_or_default() {
            let name = &now.view.node_of(holder).config.name;
            let is_named = pinned.nodes.is_empty() || pinned.nodes.contains(name);
            if is_named && can_load(now.view, holder) && seen.insert(holder.node) {
                sites.push((rank, model, holder));
            }
        }
    }
    sites
}

fn held<'v>(view: &'v Snapshot, node: NodeId, model: &ModelKey) -> Option<&'v Holder> {
    let mut holders = view.holders(model)?.iter();
    holders.find(|holder| holder.node == node)
}

/// The options under which a node can be asked for a model so that one in memory is not loaded again; `None` when nobody can tell them.
fn runner(holder: &Holder, is_loaded: bool) -> Option<RunnerOptions> {
    let plain = RunnerOptions::default();
    let started = holder.traits.ledger().started().filter(|_| is_loaded);
    let Some(started) = started else {
        return Some(plain);
    };
    let is_known = started.rest == RunnerKey::default().rest;
    is_known.then_some(RunnerOptions {
        num_ctx: started.num_ctx,
        num_gpu: started.num_gpu,
        ..plain
    })
}

fn action(target: Target, runner: RunnerOptions, deed: Deed) -> Action {
    let abilities = &target.traits.abilities;
    let embeds = abilities.embedding.is_known() && !abilities.completion.is_known();
    Action {
        target,
        runner,
        embeds,
        deed,
    }
}
