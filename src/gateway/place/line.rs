//! Who stands in line with whom.

use std::hash::Hash;

use crate::dialect::{Mount, Operation, RunnerOptions};
use crate::fleet::NodeId;
use crate::gateway::Gateway;
use crate::gateway::load::loads_by;
use crate::model::ModelKey;
use crate::placement::Demand;
use crate::profile::Needs;
use crate::routing::Ask;

/// Those who share their turns at round robin.
pub(super) fn round(ask: &Ask<'_>) -> impl Hash {
    let wanted = (ask.wanted.models(), ask.operation);
    let allowed = (ask.mount, ask.node_index, ask.tried);
    (wanted, allowed)
}

/// Requests that the same nodes could serve wait in one line. What a request needs beside its model makes a line of its own only where
/// it keeps nodes away: hardly any type lacks tools, and two lines for one slot would overtake each other.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Line {
    models: Box<[ModelKey]>,
    runner: RunnerOptions,
    operation: Operation,
    mount: Mount,
    node_index: Option<usize>,
    needs: Needs,
    tried: Vec<NodeId>,
}

impl Line {
    /// `options`: those that the ask's runner is of.
    pub(super) fn of(ask: &Ask<'_>, options: &RunnerOptions) -> Line {
        Line {
            models: ask.wanted.models().into(),
            runner: RunnerOptions {
                // What leaves it to the node is one runner with what says nothing.
                num_gpu: ask.runner.num_gpu,
                ..*options
            },
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

    /// What a further copy of a model would serve; `None` where only one node may serve, or nothing has to be loaded.
    fn demand(&self, waiting: u32) -> Option<Demand> {
        if self.node_index.is_some() {
            return None;
        }
        Some(Demand {
            models: self.models.to_vec(),
            runner: self.runner,
            embeds: loads_by(self.operation)? == Operation::Embed,
            mount: self.mount.clone(),
            waiting,
        })
    }

    /// The models that would do.
    pub(super) fn models(&self) -> &[ModelKey] {
        &self.models
    }
}

impl Gateway {
    /// How many wait for a node, and how many of them for just what is asked for here.
    pub(in crate::gateway) fn waiting_for(
        &self,
        ask: &Ask<'_>,
        options: &RunnerOptions,
    ) -> (usize, u32) {
        let line = Line::of(ask, options);
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

    /// Who waits for models that could be loaded on further nodes.
    pub(in crate::gateway) fn demands(&self) -> Vec<Demand> {
        if self.waiting.is_empty() {
            return Vec::new();
        }
        self.queued(|queue| {
            let lines = queue.lines();
            lines
                .filter_map(|(line, waiting)| line.demand(waiting))
                .collect()
        })
    }
}
