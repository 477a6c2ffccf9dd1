//! A further copy of a model that many wait for, on a node that can spare the room.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use crate::dialect::{Mount, RunnerOptions};
use crate::fleet::{Holder, Node, NodeId, Resident, Room, Traits};
use crate::model::ModelKey;
use crate::routing::harm_s;

use super::{Action, Deed, Now, Target, can_load, is_loaded};

/// A model that was asked for within this time is in demand: Ollama keeps it for as long by itself.
const DEMAND_RECENT: Duration = Duration::from_secs(300);

/// What was done lately, and for what many wait.
#[derive(Debug, Default)]
pub(super) struct Preloads {
    /// Since when enough have waited for it.
    deep_since: BTreeMap<Group, Duration>,
    /// What is left alone, and since when.
    resting: HashMap<Resting, Duration>,
}

/// Requests that one copy would serve alike.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Group {
    model: ModelKey,
    runner: RunnerOptions,
    embeds: bool,
    mount: Mount,
}

/// What is left alone for a while after a decision.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Resting {
    /// Another copy of it was loaded.
    Model(ModelKey),
    /// Something was loaded there.
    Node(NodeId),
    /// A copy of it was likely to leave.
    Left(ModelKey),
}

/// A node that can take a copy.
struct Site<'a> {
    holder: &'a Holder,
    is_sure: bool,
    /// What those lose whose model may leave, seconds.
    harm_s: f32,
    leaving: Vec<ModelKey>,
}

impl Preloads {
    /// `is_pinned`: whether a model shall stay in a node's memory.
    pub(super) fn plan(
        &mut self,
        now: &Now<'_>,
        is_pinned: impl Fn(NodeId, &Traits) -> bool,
    ) -> Vec<Action> {
        self.resting
            .retain(|_, at| now.uptime.saturating_sub(*at) < now.rules.hold);
        let deep = self.deepen(now);
        let mut actions = Vec::new();
        for (group, waiting) in deep {
            let waited = self.waited(&group, now);
            if waited < now.rules.sustained {
                continue;
            }
            let Some(site) = self.site(&group, now, &is_pinned) else {
                continue;
            };
            let target = Target::of(&group.model, site.holder);
            let left = site.leaving.into_iter().map(Resting::Left);
            let rests = [
                Resting::Model(group.model.clone()),
                Resting::Node(target.node),
            ];
            let rests = rests.into_iter().chain(left);
            self.resting.extend(rests.map(|it| (it, now.uptime)));
            actions.push(Action {
                target,
                runner: group.runner,
                embeds: group.embeds,
                deed: Deed::Load { waiting, waited },
            });
        }
        actions
    }

    /// For what enough wait now, the most wanted first; it is noted since when.
    fn deepen(&mut self, now: &Now<'_>) -> Vec<(Group, u32)> {
        if !now.rules.preload {
            self.deep_since.clear();
            return Vec::new();
        }
        let mut waiting: BTreeMap<Group, u32> = BTreeMap::new();
        for demand in now.demands {
            let is_known = |model: &&ModelKey| now.view.holders(model).is_some();
            let Some(model) = demand.models.iter().find(is_known) else {
                continue;
            };
            let group = Group {
                model: model.clone(),
                runner: demand.runner,
                embeds: demand.embeds,
                mount: demand.mount.clone(),
            };
            let count = waiting.entry(group).or_default();
            *count = count.saturating_add(demand.waiting);
        }
        waiting.retain(|_, count| now.rules.queue_depth <= *count);
        self.deep_since
            .retain(|group, _| waiting.contains_key(group));
        for group in waiting.keys() {
            self.deep_since.entry(group.clone()).or_insert(now.uptime);
        }
        let mut deep: Vec<(Group, u32)> = waiting.into_iter().collect();
        deep.sort_by_key(|(_, count)| Reverse(*count)); // stable, so equals stay in the order of their names
        deep
    }

    fn waited(&self, group: &Group, now: &Now<'_>) -> Duration {
        let since = self.deep_since.get(group).copied();
        since.map_or(Duration::ZERO, |since| now.uptime.saturating_sub(since))
    }

    /// The node that takes the copy; `None` when none may be loaded now.
    fn site<'v>(
        &self,
        group: &Group,
        now: &Now<'v>,
        is_pinned: &impl Fn(NodeId, &Traits) -> bool,
    ) -> Option<Site<'v>> {
        let view = now.view;
        let holders = view.holders(&group.model)?;
        let is_loading = |holder: &Holder| holder.traits.ledger().is_loading();
        let rests = self.rests(Resting::Model(group.model.clone()));
        if rests || holders.iter().any(is_loading) {
            return None;
        }
        let loaded = || holders.iter().filter(|holder| is_loaded(now, holder));
        let copies = u32::try_from(loaded().count()).unwrap_or(u32::MAX);
        if now.rules.copies_max <= copies {
            return None;
        }
        let open = loaded().map(|holder| view.node_of(holder));
        let open = open.filter(|node| node.is_open());
        // Without a copy it is left to those who wait: their own request has the model loaded.
        let tier = open.map(|node| node.config.priority).min()?;
        let sites = holders.iter().filter_map(|holder| {
            let node = view.node_of(holder);
            let is_calm = !node.is_loading() && node.at_once_max.is_none();
            let rests = self.rests(Resting::Node(node.id));
            let suits = can_load(view, holder) && node.is_on(&group.mount) && is_calm && !rests;
            let is_fine = suits && tier <= node.config.priority && !is_loaded(now, holder);
            is_fine.then(|| self.room(now, node, holder, is_pinned))?
        });
        sites.min_by(|a, b| {
            let by_harm = a.is_sure.cmp(&b.is_sure).reverse();
            by_harm
                .then(a.harm_s.total_cmp(&b.harm_s))
                .then(a.order(now).cmp(&b.order(now)))
        })
    }

    /// What a copy there would cost others; `None` when it must not be loaded there. Which model leaves is the node's own choice, so all
    /// that may have to be ones that can be spared.
    fn room<'v>(
        &self,
        now: &Now<'v>,
        node: &'v Node,
        holder: &'v Holder,
        is_pinned: &impl Fn(NodeId, &Traits) -> bool,
    ) -> Option<Site<'v>> {
        let room = node.room(holder.traits.size_bytes.unwrap_or(0));
        let mut site = Site {
            holder,
            is_sure: room == Room::Fits,
            harm_s: 0.0,
            leaving: Vec::new(),
        };
        if site.is_sure {
            return Some(site);
        }
        for resident in node.residents() {
            let traits = &resident.traits;
            // What is in use or pinned leaves last.
            if is_pinned(node.id, traits) || 0 < traits.ledger().in_flight() {
                continue;
            }
            let (model, harm_s) = self.spared(now, node, resident)?;
            site.leaving.push(model);
            site.harm_s = site.harm_s.max(harm_s);
        }
        (!site.leaving.is_empty()).then_some(site)
    }

    /// What is lost when an unused model leaves a node; `None` when it can't be spared.
    fn spared(&self, now: &Now<'_>, node: &Node, resident: &Resident) -> Option<(ModelKey, f32)> {
        let traits = &resident.traits;
        let mut offered = node.offered().iter();
        let model = &offered.find(|it| it.traits == *traits)?.key;
        let is_awaited = now.demands.iter().any(|it| it.models.contains(model));
        if is_awaited || self.rests(Resting::Left(model.clone())) {
            return None;
        }
        let view = now.view;
        let holders = view.holders(model).unwrap_or_default();
        let elsewhere = |it: &&Holder| it.node != node.id && view.is_loaded(it);
        // A node that loads something may just be making room.
        let stays = |node: &Node| node.is_open() && !node.is_loading();
        let copies = holders.iter().filter(elsewhere);
        let copies = copies.filter(|it| stays(view.node_of(it))).count();
        let used_ms = holders.iter().map(|it| it.traits.ledger().last_used_ms());
        let used_ms = used_ms.max().unwrap_or(0);
        let unused = now.uptime.saturating_sub(Duration::from_millis(used_ms));
        let is_in_demand = 0 < used_ms && unused < DEMAND_RECENT;
        let can_go = 0 < copies || !is_in_demand;
        let copies = u32::try_from(copies).unwrap_or(u32::MAX);
        can_go.then(|| (model.clone(), harm_s(traits, copies, now.uptime)))
    }

    fn rests(&self, what: Resting) -> bool {
        self.resting.contains_key(&what)
    }
}

impl Site<'_> {
    /// The order of those that cost others the same: the higher tier, the faster load, the least busy, the least recently picked.
    fn order(&self, now: &Now<'_>) -> impl Ord + use<> {
        let node = now.view.node_of(self.holder);
        let load_ms = (self.holder.traits.load_s() * 1000.0) as u64;
        let tier = Reverse(node.config.priority);
        (tier, load_ms, node.in_flight(), node.last_picked(), node.id)
    }
}
