//! What we believe about the nodes: health, models, slots. One `ArcSwap<Snapshot>` with a single writer.
//!
//! Advice is read from a [`Snapshot`], permission is taken by [`Fleet::try_lease`]. Whatever is learned, from probes or from
//! traffic, goes through [`Fleet::observe`] and nowhere else.

use std::collections::{HashMap, HashSet};
use std::mem::{Discriminant, discriminant};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::sync::{Notify, watch};

use crate::config::{HealthConfig, NodeConfig};

mod index;

mod snapshot;
pub use snapshot::{Holder, Node, Snapshot};

mod lease;
pub use lease::{Lease, Loading};

mod ledger;
pub use ledger::{Ledger, Shown};

mod limiter;

mod memory;
pub use memory::{Resident, Room};

mod runner;
pub use runner::{NumCtx, RunnerFit, RunnerKey};

mod warmth;

mod moments;
pub use moments::{Moments, Probed};

mod health;
pub use health::{CALM_RUN, Cause, Health, Machine, Spared};

mod bounds;

mod state;
pub use state::State;

pub mod listing;
pub use listing::{Installed, Loaded};

mod unify;
pub use unify::{About, Kind, complete};

mod pages;

mod change;
use change::{with_addr, with_health, with_installed, with_loaded};

mod offer;
pub use offer::{Offered, own_name};

mod traits;
pub use traits::{Abilities, Ability, LOAD_MIN_S, Seats, Traits};

mod rules;
pub use rules::Rules;

mod catalogue;
pub use catalogue::{Conflict, Line, Moment, Scope, Unified};

mod timestamp;
pub use timestamp::Timestamp;

/// Who a node is. A reload keeps the id of a node whose name, address and type stay; an id is never given twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub usize);

/// Something learned about a node.
#[derive(Debug)]
pub enum Observation {
    /// A health probe ended; the error says why it failed.
    Probe(Result<(), String>),
    /// A request ended; the error says what the node did wrong, in our words: the node's may repeat the prompt of the one client, and
    /// others read this. A client's mistake is a success of the node.
    Traffic(Result<(), String>),
    /// A probe or a listing was answered 401 or 403; the text says so and what to correct.
    Refused(String),
    /// Anything was answered 429.
    RateLimited {
        /// For people.
        why: String,
        /// How long the node wants to be left alone; `None` when it did not say.
        retry_after: Option<Duration>,
    },
    /// The models on its disk; a version of `None` leaves the known one.
    Installed {
        /// The whole listing: what is not in it is gone.
        models: Vec<Installed>,
        /// As the node wrote it.
        version: Option<String>,
    },
    /// The models in its memory.
    Loaded(Vec<Loaded>),
    /// The address its name stands for.
    Resolved(SocketAddr),
}

/// All nodes, and the only way to change what we believe about them.
#[derive(Debug)]
pub struct Fleet {
    snapshot: ArcSwap<Snapshot>,
    writer: Mutex<Writer>,
    picks: AtomicU64,
    turns: AtomicU64,
    freed: Arc<Notify>,
    /// Counts the changes of who is in the fleet.
    membership: watch::Sender<u64>,
}

/// The writer's own state; its lock also orders the publishing of snapshots.
#[derive(Debug)]
struct Writer {
    machines: HashMap<NodeId, Machine>,
    /// The latest question of each kind that a node has answered.
    answered: HashMap<(NodeId, Discriminant<Observation>), Turn>,
    health: HealthConfig,
    next_id: usize,
    /// Names of the nodes that the operator has taken out of service: whatever comes under such a name stays out.
    drained: HashSet<String>,
}

/// When a node was asked for something, compared with other questions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Turn(u64);

impl Fleet {
    /// A fleet of which nothing is known yet; the first node is `NodeId(0)`, and so on.
    pub fn new(nodes: Vec<NodeConfig>, health: HealthConfig) -> Fleet {
        let fleet = Fleet {
            writer: Mutex::new(Writer {
                machines: HashMap::new(),
                answered: HashMap::new(),
                health,
                next_id: 0,
                drained: HashSet::new(),
            }),
            picks: AtomicU64::new(0),
            turns: AtomicU64::new(0),
            freed: Arc::default(),
            snapshot: ArcSwap::from_pointee(Snapshot::new(Vec::new(), Vec::new(), Arc::default())),
            membership: watch::Sender::new(0),
        };
        let nodes = nodes.into_iter().map(Arc::new).collect();
        fleet.reconfigure(nodes, health, Rules::default(), |_| ());
        fleet
    }

    /// The fleet as it is now; costs one atomic load.
    pub fn view(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// Replaces the nodes. One with the name, address and type of a known one is that one: its health, models and leases stay.
    /// The others come as unknown or leave; requests that are with those that leave are not disturbed.
    ///
    /// `prepare` is called with all nodes and their ids before anybody can be sent to them.
    pub fn reconfigure(
        &self,
        nodes: Vec<Arc<NodeConfig>>,
        health: HealthConfig,
        rules: Rules,
        prepare: impl FnOnce(&[(NodeId, Arc<NodeConfig>)]),
    ) {
        let mut writer = self.write();
        let current = self.snapshot.load_full();
        writer.health = health;
        let nodes: Vec<Node> = nodes
            .into_iter()
            .map(|config| writer.seat(config, &current))
            .collect();
        let members: Vec<_> = nodes
            .iter()
            .map(|node| (node.id, Arc::clone(&node.config)))
            .collect();
        prepare(&members);
        let stays = |node: &&Node| members.iter().any(|(id, _)| *id == node.id);
        let left = current.nodes.iter().filter(|node| !stays(node));
        let leaving = current.leaving().filter(|node| !stays(node)).chain(left);
        let leaving: Vec<Node> = leaving.cloned().collect();
        let ids = nodes.iter().chain(&leaving).map(|node| node.id);
        let ids: HashSet<NodeId> = ids.collect();
        writer.machines.retain(|id, _| ids.contains(id));
        writer.answered.retain(|(id, _), _| ids.contains(id));
        self.publish(Snapshot::new(nodes, leaving, Arc::new(rules)));
        self.membership.send_modify(|changes| *changes += 1);
    }

    /// Tells when nodes came, left, or changed their configuration.
    pub fn membership(&self) -> watch::Receiver<u64> {
        self.membership.subscribe()
    }

    /// Takes a node out of service or back in; requests that are with it are not disturbed. `false` when no node has that name.
    pub fn drain(&self, name: &str, draining: bool) -> bool {
        let mut writer = self.write();
        let current = self.snapshot.load_full();
        let Some(at) = current
            .nodes
            .iter()
            .position(|node| node.config.name == name)
        else {
            return false;
        };
        match draining {
            true => writer.drained.insert(name.to_owned()),
            false => writer.drained.remove(name),
        };
        if current.nodes[at].draining != draining {
            let mut nodes = current.nodes.clone();
            nodes[at].draining = draining;
            self.publish(current.with_same_models(nodes));
        }
        true
    }

    /// Fires whenever a waiter may fare better than before: a lease was given back, or a new snapshot is there.
    ///
    /// Create the `notified()` future before looking for a slot, or the news may pass in between.
    pub fn slot_freed(&self) -> &Notify {
        &self.freed
    }

    /// Whether a success of the node would change nothing, be it because it has left.
    pub fn is_steady(&self, node: NodeId) -> bool {
        let view = self.snapshot.load();
        let steady = |node: &Node| node.counters.steady.load(Ordering::Relaxed);
        view.node(node).is_none_or(steady)
    }

    /// Learns something about a node. Locks briefly, except for the common case: a success of a node that is well.
    pub fn observe(&self, node: NodeId, seen: Observation, now: Instant) {
        if matches!(seen, Observation::Traffic(Ok(()))) && self.is_steady(node) {
            return;
        }
        self.learn(&mut self.write(), node, seen, now);
    }

    /// The moment before a question; for [`Self::observe_in_turn`].
    pub fn turn(&self) -> Turn {
        Turn(self.turns.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// As [`Self::observe`], for what a node was asked for at `turn`. When it has answered a later question of that kind already, this
    /// is what used to be true, and is dropped.
    pub fn observe_in_turn(&self, node: NodeId, seen: Observation, turn: Turn, now: Instant) {
        let mut writer = self.write();
        if self.snapshot.load().place(node).is_none() {
            return; // it left while this was found out
        }
        let answered = writer
            .answered
            .entry((node, discriminant(&seen)))
            .or_default();
        if *answered <= turn {
            *answered = turn;
            self.learn(&mut writer, node, seen, now);
        }
    }

    fn learn(&self, writer: &mut Writer, node: NodeId, seen: Observation, now: Instant) {
        let current = self.snapshot.load_full();
        let Some(at) = current.place(node) else {
            return; // it left while this was found out
        };
        let Writer {
            machines, health, ..
        } = writer;
        let machine = machines.entry(node).or_default();
        let next = match seen {
            Observation::Probe(result) => {
                let result = result.as_ref().copied().map_err(String::as_str);
                machine.probed(result, now, health);
                with_health(&current, at, machine, now)
            }
            Observation::Traffic(result) => {
                let result = result.as_ref().copied().map_err(String::as_str);
                machine.served(result, now, health, || bounds::spare(&current, at, health));
                with_health(&current, at, machine, now)
            }
            Observation::Refused(why) => {
                machine.refused(&why, now);
                with_health(&current, at, machine, now)
            }
            Observation::RateLimited { why, retry_after } => {
                machine.rate_limited(&why, retry_after, now, health);
                with_health(&current, at, machine, now)
            }
            Observation::Installed { models, version } => {
                with_installed(&current, at, models, version)
            }
            Observation::Loaded(models) => with_loaded(&current, at, models),
            Observation::Resolved(addr) => with_addr(&current, at, addr),
        };
        let steady = &current.nodes[at].counters.steady;
        steady.store(machine.is_steady(), Ordering::Relaxed);
        if let Some(next) = next {
            self.publish(next);
        }
    }

    /// Only whoever holds the writer's lock may call it.
    fn publish(&self, next: Snapshot) {
        self.snapshot.store(Arc::new(next));
        self.freed.notify_waiters();
    }

    fn write(&self) -> MutexGuard<'_, Writer> {
        // Every change is built aside and published whole, so a writer that panicked left nothing half done.
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Writer {
    /// The node that a configuration means: a known one as it is, or a new one.
    fn seat(&mut self, config: Arc<NodeConfig>, current: &Snapshot) -> Node {
        let is_same = |node: &&Node| node.config.is_same_node(&config);
        // One that left a moment ago and comes back still has its requests, and what it did is not forgotten.
        let mut known = current.nodes.iter().chain(current.leaving());
        let draining = self.drained.contains(&config.name);
        if let Some(known) = known.find(is_same) {
            let mut node = known.clone();
            node.draining = draining;
            // Who watches a node tells by the pointer whether its settings changed.
            if *node.config != *config {
                node.config = config;
                node.offered = offer::offered(&node.config, node.models(), &node.offered);
            }
            return node;
        }
        let id = NodeId(self.next_id);
        self.next_id += 1;
        Node {
            id,
            config,
            addr: None,
            health: Health::Unknown,
            spared: None,
            at_once_max: None,
            draining,
            version: None,
            installed: None,
            offered: Arc::default(),
            stale: false,
            loaded: Arc::default(),
            residents: Arc::default(),
            counters: Arc::default(),
        }
    }
}

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod tests;
