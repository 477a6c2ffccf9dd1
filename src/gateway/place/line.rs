//! Who stands in line with whom.

use crate::dialect::{Mount, Operation};
use crate::fleet::{NodeId, RunnerKey};
use crate::model::ModelKey;
use crate::profile::Needs;
use crate::routing::Ask;

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
