//! Which models are loaded, or kept in memory, without a request that asks for it: a further copy of what many wait for (`preload`), and
//! what the operator pinned (`pins`). Pure: what there is, who waits and the time are arguments.

mod pins;
mod preload;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use crate::config::{Alias, Placement};
use crate::dialect::{Mount, RunnerOptions};
use crate::fleet::{Holder, NodeId, Snapshot, Traits};
use crate::model::ModelKey;

use self::pins::Pins;
use self::preload::Preloads;

/// Requests that wait for the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Demand {
    /// The models that would do, best first.
    pub models: Vec<ModelKey>,
    /// The load-time options that they ask for.
    pub runner: RunnerOptions,
    /// Whether they want vectors, for which a model is loaded by another call.
    pub embeds: bool,
    /// Which nodes the address of the call allows.
    pub mount: Mount,
    /// How many.
    pub waiting: u32,
}

/// What is so at this moment.
#[derive(Debug, Clone, Copy)]
pub struct Now<'a> {
    /// The nodes.
    pub view: &'a Snapshot,
    /// Who waits, and can be served by any of several nodes.
    pub demands: &'a [Demand],
    /// The configuration in force.
    pub rules: &'a Placement,
    /// Names that stand for others, as [`Alias::find`] takes them.
    pub aliases: &'a [Alias],
    /// The gateway's uptime.
    pub uptime: Duration,
}

/// A model on a node's disk.
#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    /// Where.
    pub node: NodeId,
    /// What clients call it.
    pub model: ModelKey,
    /// The node's own name for it.
    pub spelled: Arc<str>,
    /// What is known of it there.
    pub traits: Arc<Traits>,
}

/// Something to be done now.
#[derive(Debug, Clone, PartialEq)]
pub struct Action {
    /// To which model on which node.
    pub target: Target,
    /// With which load-time options: for a model in memory those it has, so that it is not loaded again.
    pub runner: RunnerOptions,
    /// Whether it is asked for as one that makes vectors.
    pub embeds: bool,
    /// What.
    pub deed: Deed,
}

/// What is to be done to a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    /// Put it into memory, since so many requests have waited for it for so long.
    Load {
        /// How many.
        waiting: u32,
        /// Since they were enough.
        waited: Duration,
    },
    /// Keep it in memory.
    Pin {
        /// Whether it is there, as far as the node told.
        is_loaded: bool,
    },
    /// Keep it no longer than any other model.
    Unpin,
}

impl Deed {
    /// The word in metrics.
    pub fn word(self) -> &'static str {
        match self {
            Deed::Load { .. } => "preload",
            Deed::Pin { .. } => "pin",
            Deed::Unpin => "unpin",
        }
    }
}

/// Decides what is put into memory, and remembers what it decided.
#[derive(Debug, Default)]
pub struct Planner {
    pins: Pins,
    preloads: Preloads,
}

impl Planner {
    /// What is to be done now. To be asked again and again: it notices how long something has been so.
    pub fn plan(&mut self, now: &Now<'_>) -> Vec<Action> {
        // Pins first: what they keep must not leave for a copy of something else.
        let actions = self.pins.plan(now);
        if !actions.is_empty() {
            return actions; // what makes room for them shows later
        }
        let pinned = |target: NodeId, traits: &Traits| self.pins.keep(now.view, target, traits);
        self.preloads.plan(now, pinned)
    }

    /// To be told of each action: it is done, or could not be.
    pub fn ended(&mut self, action: &Action, is_ok: bool) {
        if !matches!(action.deed, Deed::Load { .. }) {
            self.pins.ended(action, is_ok);
        }
    }

    /// Whether nothing is left of former decisions, so that with a configuration that is off it need not be asked.
    pub fn is_idle(&self) -> bool {
        self.pins.is_empty()
    }
}

impl Target {
    fn of(model: &ModelKey, holder: &Holder) -> Target {
        Target {
            node: holder.node,
            model: model.clone(),
            spelled: Arc::clone(&holder.spelled),
            traits: Arc::clone(&holder.traits),
        }
    }
}

/// Whether the gateway can have the model loaded there, as far as the node's type and the model go.
fn can_load(view: &Snapshot, holder: &Holder) -> bool {
    let node = view.node_of(holder);
    node.is_open() && node.loads_on_demand() && !holder.remote
}

/// Whether it is in memory, be it that the node has not told so yet.
fn is_loaded(now: &Now<'_>, holder: &Holder) -> bool {
    now.view.is_loaded(holder) || holder.traits.ledger().is_fresh(now.uptime)
}
