//! What we believe about the nodes: health, models, slots. One `ArcSwap<Snapshot>` with a single writer.
//!
//! Advice is read from a [`Snapshot`], permission is taken by [`Fleet::try_lease`]. Whatever is learned, from probes or from
//! traffic, goes through [`Fleet::observe`] and nowhere else.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use arc_swap::ArcSwap;
use tokio::sync::Notify;

use crate::config::{HealthConfig, NodeConfig};

mod snapshot;
use snapshot::{Counters, Warmth};
pub use snapshot::{Holder, Node, Snapshot};

mod health;
pub use health::{CALM_RUN, Health, Machine};

pub mod listing;
pub use listing::{Installed, Loaded};

mod catalogue;

mod timestamp;
pub use timestamp::Timestamp;

/// A node, by its place in the configuration. Stable while the process lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub usize);

/// Something learned about a node.
#[derive(Debug)]
pub enum Observation {
    /// A health probe ended; the error says why it failed.
    Probe(Result<(), String>),
    /// A request ended; the error says what the node did wrong. A client's mistake is a success of the node.
    Traffic(Result<(), String>),
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
    /// The writer's own state; its lock also orders the publishing of snapshots.
    machines: Mutex<Vec<Machine>>,
    health: HealthConfig,
    slots: Vec<Slots>,
    picks: AtomicU64,
    freed: Arc<Notify>,
}

#[derive(Debug)]
struct Slots {
    counters: Arc<Counters>,
    /// Most leases at once.
    max: u32,
}

impl Fleet {
    /// A fleet of which nothing is known yet; a node's place in `nodes` becomes its [`NodeId`].
    pub fn new(nodes: Vec<NodeConfig>, health: HealthConfig) -> Fleet {
        let nodes: Vec<Node> = nodes
            .into_iter()
            .enumerate()
            .map(|(place, config)| Node {
                id: NodeId(place),
                config: Arc::new(config),
                addr: None,
                health: Health::Unknown,
                version: None,
                installed: None,
                loaded: Arc::default(),
                counters: Arc::default(),
            })
            .collect();
        let slots = nodes.iter().map(|node| Slots {
            counters: Arc::clone(&node.counters),
            max: node.config.slots.unwrap_or(u32::MAX),
        });
        Fleet {
            machines: Mutex::new(nodes.iter().map(|_| Machine::new()).collect()),
            health,
            slots: slots.collect(),
            picks: AtomicU64::new(0),
            freed: Arc::default(),
            snapshot: ArcSwap::from_pointee(Snapshot::new(nodes)),
        }
    }

    /// The fleet as it is now; costs one atomic load.
    pub fn view(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// Takes one of the node's slots, or says no. `auto` nodes never say no.
    pub fn try_lease(&self, node: NodeId) -> Option<Lease> {
        let Slots { counters, max } = self.slots.get(node.0)?;
        let taken = |in_flight: u32| (in_flight < *max).then(|| in_flight + 1);
        let in_flight = &counters.in_flight;
        in_flight
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, taken)
            .ok()?;
        let ordinal = self.picks.fetch_add(1, Ordering::Relaxed) + 1;
        counters.last_picked.fetch_max(ordinal, Ordering::Relaxed);
        Some(Lease {
            node,
            counters: Arc::clone(counters),
            freed: Arc::clone(&self.freed),
        })
    }

    /// Fires whenever a waiter may fare better than before: a lease was given back, or a new snapshot is there.
    ///
    /// Create the `notified()` future before looking for a slot, or the news may pass in between.
    pub fn slot_freed(&self) -> &Notify {
        &self.freed
    }

    /// Learns something about a node. Locks briefly, except for the common case: a success of a node that is well.
    pub fn observe(&self, node: NodeId, seen: Observation, now: Instant) {
        let Some(Slots { counters, .. }) = self.slots.get(node.0) else {
            return;
        };
        let is_success = matches!(seen, Observation::Traffic(Ok(())));
        if is_success && counters.steady.load(Ordering::Relaxed) {
            return;
        }
        let mut machines = self.machines.lock().unwrap_or_else(PoisonError::into_inner);
        let current = self.snapshot.load_full();
        let next = match seen {
            Observation::Probe(result) => {
                let result = result.as_ref().copied().map_err(String::as_str);
                machines[node.0].probed(result, now, &self.health);
                with_health(&current, node, &machines[node.0])
            }
            Observation::Traffic(result) => {
                let result = result.as_ref().copied().map_err(String::as_str);
                machines[node.0].served(result, now, &self.health);
                with_health(&current, node, &machines[node.0])
            }
            Observation::Installed { models, version } => {
                with_installed(&current, node, models, version)
            }
            Observation::Loaded(models) => with_loaded(&current, node, models),
            Observation::Resolved(addr) => with_addr(&current, node, addr),
        };
        counters
            .steady
            .store(machines[node.0].is_steady(), Ordering::Relaxed);
        if let Some(next) = next {
            self.snapshot.store(Arc::new(next));
            self.freed.notify_waiters();
        }
    }
}

fn with_health(current: &Snapshot, id: NodeId, machine: &Machine) -> Option<Snapshot> {
    if current.nodes[id.0].health == *machine.health() {
        return None;
    }
    let mut nodes = current.nodes.clone();
    let node = &mut nodes[id.0];
    node.health = machine.health().clone();
    if matches!(node.health, Health::Down { .. }) && !node.loaded.is_empty() {
        node.loaded = Arc::default();
        return Some(Snapshot::new(nodes));
    }
    Some(current.with_same_models(nodes))
}

fn with_installed(
    current: &Snapshot,
    id: NodeId,
    models: Vec<Installed>,
    version: Option<String>,
) -> Option<Snapshot> {
    let node = &current.nodes[id.0];
    let same_models = node.installed.as_deref() == Some(models.as_slice());
    let same_version = version.is_none() || node.version.as_deref() == version.as_deref();
    if same_models && same_version {
        return None;
    }
    let mut nodes = current.nodes.clone();
    let node = &mut nodes[id.0];
    node.version = version.map(Arc::from).or_else(|| node.version.take());
    if same_models {
        return Some(current.with_same_models(nodes));
    }
    node.installed = Some(models.into());
    Some(Snapshot::new(nodes))
}

fn with_loaded(current: &Snapshot, id: NodeId, models: Vec<Loaded>) -> Option<Snapshot> {
    let before = &current.nodes[id.0];
    if *before.loaded == *models {
        return None;
    }
    let mut nodes = current.nodes.clone();
    nodes[id.0].loaded = models.into();
    // Under traffic every poll brings new expiry times; the index must not be rebuilt for that.
    if Warmth::of(before) == Warmth::of(&nodes[id.0]) {
        return Some(current.with_same_index(nodes));
    }
    Some(Snapshot::new(nodes))
}

fn with_addr(current: &Snapshot, id: NodeId, addr: SocketAddr) -> Option<Snapshot> {
    if current.nodes[id.0].addr == Some(addr) {
        return None;
    }
    let mut nodes = current.nodes.clone();
    nodes[id.0].addr = Some(addr);
    Some(current.with_same_models(nodes))
}

/// Permission to use one slot of a node, given back on drop.
#[derive(Debug)]
pub struct Lease {
    node: NodeId,
    counters: Arc<Counters>,
    freed: Arc<Notify>,
}

impl Lease {
    /// Whose slot it is.
    pub fn node(&self) -> NodeId {
        self.node
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.counters.in_flight.fetch_sub(1, Ordering::AcqRel);
        self.freed.notify_waiters();
    }
}

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod tests;
