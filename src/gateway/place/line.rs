//! Who stands in line with whom.

use std::hash::Hash;

use crate::dialect::{Mount, Operation};
use crate::fleet::{NodeId, RunnerKey};
use crate::model::ModelKey;
use crate::profile::Needs;
use crate::routing::Ask;

use crate::gateway::Gateway;

/// Those who share their turns at round robin.
pub(super) fn round(ask: &Ask<'_>) -> impl Hash {
    let wanted = (ask.wanted.models(), ask.operation);
    let allowed = (ask.mount, ask.node_index, ask.tried);
    (wanted, allowed)
}

impl Gateway {
    /// How many wait for a node, and how many of them for just what is asked for here.
    pub(in crate::gateway) fn waiting_for(&self, ask: &Ask<'_>) -> (usize, u32) {
        let line = Line::of(ask);
        self.queued(|queue| {
            let mut lines = queue.lines();
            let same = lines.find(|(other, _)| **other == line);
            (queue.len(), same.map_or(0, |(_, waiting)| waiting))
        })
    }

    /// The turn that a request would get, without taking it.
    pub(in crate::gateway) fn coming_turn(&self, ask: &Ask<'_>) -> u64 {
        self.turns.coming(&round(ask))
    }
}

/// Requests that the same nodes could serve wait in one line. What a request needs beside its model makes a line of its own only where
/// it keeps nodes away: hardly any type lacks tools, and two lines for one slot would overtake each other.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Line {
    models: Box<[ModelKey]>,
    runner: RunnerKey,
    operation: Operation,
    mount: Mount,
    node_index: Option<usize>,
    needs: Needs,
    tried: Vec<NodeId>,
}

impl Line {
    pub(super) fn of(ask: &Ask<'_>) -> Line {
        Line {
            models: ask.wanted.models().into(),
            runner: ask.runner,
            operation: ask.operation,
            mount: ask.mount.clone(),
            node_index: ask.node_index,
            needs: Needs {
                images: ask.needs.images,
                // Of an alias's targets some may have them and others not.
                tools: ask.needs.tools && ask.wanted.is_alias(),
                thinking: ask.needs.thinking && ask.wanted.is_alias(),
                ..Needs::default()
            },
            tried: ask.tried.to_vec(),
        }
    }

    /// The models that would do.
    pub(super) fn models(&self) -> &[ModelKey] {
        &self.models
    }
}
