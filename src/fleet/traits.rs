//! What a model can do and needs on one node, worked out once, when the node lists it or the node's settings change.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::config::NodeConfig;
use crate::fleet::listing::Installed;
use crate::fleet::unify::About;
use crate::model::ModelKey;
use crate::profile::{Demand, Limit};

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
    /// Requests it may have at once on this node; `None` leaves that to the node's slots.
    pub limit: Option<Limit>,
    seats: Arc<Seats>,
}

/// Requests in flight for one model on one node. They outlive the listings that tell of the model.
#[derive(Debug)]
pub(super) struct Seats {
    /// The node's own name for it, comparable.
    model: ModelKey,
    in_flight: AtomicU32,
}

/// One request for a model on a node, counted until it is dropped.
#[derive(Debug)]
pub(super) struct Seat(Arc<Seats>);

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
    /// Of a model of this node; `seats` are those of the same model in the listing before.
    pub(super) fn of(node: &NodeConfig, model: &Installed, seats: Option<Arc<Seats>>) -> Traits {
        let about = &model.about;
        let size = Some(&*about.size_word).filter(|word| !word.is_empty());
        let quantization = Some(&*about.quantization_word).filter(|word| !word.is_empty());
        let demand = node.profile.needs_of(&model.name, size, quantization);
        // A written number of slots is the operator's word for the node; what we assumed of its models is none.
        let limit = demand.max_concurrent;
        let limit = limit.filter(|limit| limit.hard || node.slots.is_none());
        let free = || {
            let model = model.key.clone();
            let in_flight = AtomicU32::new(0);
            Arc::new(Seats { model, in_flight })
        };
        Traits {
            abilities: Abilities::of(about),
            context_max: about.context_max,
            demand,
            limit,
            seats: seats.unwrap_or_else(free),
        }
    }

    /// Requests under way for this model on this node, from the decision to send on.
    pub fn in_flight(&self) -> u32 {
        self.seats.in_flight.load(Ordering::Relaxed)
    }

    /// Takes a seat, unless a limit that must be kept is reached.
    pub(super) fn take_seat(&self) -> Option<Seat> {
        let hard = self.limit.filter(|limit| limit.hard);
        let max = hard.map_or(u32::MAX, |limit| limit.requests);
        let taken = |in_flight: u32| (in_flight < max).then(|| in_flight + 1);
        let in_flight = &self.seats.in_flight;
        let before = in_flight.fetch_update(Ordering::AcqRel, Ordering::Relaxed, taken);
        before.ok().map(|_| Seat(Arc::clone(&self.seats)))
    }

    /// For the next listing that has the model.
    pub(super) fn seats(&self) -> (&ModelKey, &Arc<Seats>) {
        (&self.seats.model, &self.seats)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The same model on the same node: what is counted together is one.
impl PartialEq for Traits {
    fn eq(&self, other: &Traits) -> bool {
        Arc::ptr_eq(&self.seats, &other.seats)
    }
}

impl Eq for Traits {}
