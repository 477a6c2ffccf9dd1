//! What a model can do and needs on one node, worked out once, when the node lists it or the node's settings change.

use std::sync::Arc;

use crate::config::NodeConfig;
use crate::fleet::ledger::Ledger;
use crate::fleet::listing::Installed;
use crate::fleet::unify::About;
use crate::profile::{Demand, Limit};

/// Requests at once that a model is expected to take well, until something is known about it.
const SLOTS_ASSUMED: u32 = 4;
/// How fast a model is read from a disk whose speed nobody knows yet, bytes per second.
const DISK_BYTES_PER_S: f32 = 1.5e9;
/// What a load takes however small the model is, seconds.
pub const LOAD_MIN_S: f32 = 0.5;

/// Whether a model can do something, and how we know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ability {
    /// The node's own listing says yes or no.
    Stated(bool),
    /// The listing is silent, but the model's name says yes.
    Named,
    /// Nobody says anything.
    Unknown,
}

/// What a model can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Abilities {
    /// Answers in words.
    pub completion: Ability,
    /// Looks at images.
    pub vision: Ability,
    /// Makes vectors.
    pub embedding: Ability,
    /// Calls tools.
    pub tools: Ability,
    /// Thinks before it answers.
    pub thinking: Ability,
}

/// What is known of a model on one node besides its name.
#[derive(Debug)]
pub struct Traits {
    /// What it can do.
    pub abilities: Abilities,
    /// Longest context, tokens, as listed or else as its name says.
    pub context_max: Option<u64>,
    /// What it needs, by its real size and quantisation.
    pub demand: Demand,
    /// On disk, bytes, as far as the listing says.
    pub size_bytes: Option<u64>,
    /// What bounds the requests it may have at once.
    pub seats: Seats,
    ledger: Arc<Ledger>,
}

/// What bounds the requests that a model may have at once on one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seats {
    /// Nothing but the node's slots, which the operator wrote.
    Unbounded,
    /// So many, since the operator wrote it.
    Written(u32),
    /// What is learned; until then so many.
    Learned(u32),
}

/// One request for a model on a node, counted until it is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    ledger: Arc<Ledger>,
    /// How many were under way when it was taken, itself included.
    pub(super) at_once: u32,
}

impl Ability {
    /// Whether the node itself says that the model cannot.
    pub fn is_denied(self) -> bool {
        self == Ability::Stated(false)
    }

    /// Whether the node or the name says that it can.
    pub fn is_known(self) -> bool {
        matches!(self, Ability::Stated(true) | Ability::Named)
    }

    fn of(about: &About, word: &str) -> Ability {
        match about.states(word) {
            Some(can) => Ability::Stated(can),
            None if about.can(word) => Ability::Named,
            None => Ability::Unknown,
        }
    }
}

impl Abilities {
    fn of(about: &About) -> Abilities {
        Abilities {
            completion: Ability::of(about, "completion"),
            vision: Ability::of(about, "vision"),
            embedding: Ability::of(about, "embedding"),
            tools: Ability::of(about, "tools"),
            thinking: Ability::of(about, "thinking"),
        }
    }
}

impl Traits {
    /// Of a model of this node; `ledger` is that of the same file in the listing before.
    pub(super) fn of(node: &NodeConfig, model: &Installed, ledger: Arc<Ledger>) -> Traits {
        let about = &model.about;
        let size = Some(&*about.size_word).filter(|word| !word.is_empty());
        let quantization = Some(&*about.quantization_word).filter(|word| !word.is_empty());
        let demand = node.profile.needs_of(&model.name, size, quantization);
        Traits {
            abilities: Abilities::of(about),
            context_max: about.context_max,
            demand,
            size_bytes: about.size_bytes,
            seats: Seats::of(node, demand.max_concurrent),
            ledger,
        }
    }

    /// What requests have shown of it here.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    pub(super) fn shared_ledger(&self) -> &Arc<Ledger> {
        &self.ledger
    }

    /// Requests it may have at once here now; `None` leaves that to the node's slots.
    pub fn slots(&self) -> Option<u32> {
        match self.seats {
            Seats::Unbounded => None,
            Seats::Written(most) => Some(most),
            Seats::Learned(assumed) => Some(self.ledger.slots(assumed)),
        }
    }

    /// Slots that are assumed of it while nothing is learned.
    pub(super) fn slots_assumed(&self) -> u32 {
        match self.seats {
            Seats::Written(slots) | Seats::Learned(slots) => slots,
            Seats::Unbounded => SLOTS_ASSUMED,
        }
    }

    /// How long it takes to load here, seconds: as seen, or by its size, or as its type says.
    pub fn load_s(&self) -> f32 {
        let seen = self.ledger.load_s().map(|seen| seen.max(LOAD_MIN_S));
        seen.unwrap_or_else(|| {
            let by_size = |bytes: u64| LOAD_MIN_S + bytes as f32 / DISK_BYTES_PER_S;
            let of_type = || self.demand.load_time.as_secs_f32().max(LOAD_MIN_S);
            self.size_bytes.map_or_else(of_type, by_size)
        })
    }

    /// Takes a seat, unless all are taken.
    pub(super) fn take_seat(&self) -> Option<Seat> {
        let at_once = self.ledger.enter(self.slots().unwrap_or(u32::MAX))?;
        Some(Seat {
            ledger: Arc::clone(&self.ledger),
            at_once,
        })
    }
}

impl Seats {
    /// A written number of slots is the operator's word for the node; what is assumed of its models is none.
    fn of(node: &NodeConfig, of_model: Option<Limit>) -> Seats {
        match of_model {
            Some(limit) if limit.hard => Seats::Written(limit.requests),
            _ if node.slots.is_some() => Seats::Unbounded,
            Some(limit) => Seats::Learned(limit.requests),
            None => {
                let of_type = node.profile.characteristics.max_concurrent;
                Seats::Learned(of_type.map_or(SLOTS_ASSUMED, |limit| limit.requests))
            }
        }
    }
}

impl Seat {
    pub(super) fn ledger(&self) -> &Arc<Ledger> {
        &self.ledger
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.ledger.leave();
    }
}

/// The same file on the same node: what is counted together is one.
impl PartialEq for Traits {
    fn eq(&self, other: &Traits) -> bool {
        Arc::ptr_eq(&self.ledger, &other.ledger)
    }
}

impl Eq for Traits {}
