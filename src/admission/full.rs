//! What one look through the queue has found out already.

use std::collections::HashSet;

use super::queue::LineId;

/// Lines of which nobody can be placed in this look: slots are only taken in it, never given back.
#[derive(Default)]
pub(super) struct Full {
    without_swap: HashSet<LineId>,
    at_all: HashSet<LineId>,
}

impl Full {
    pub(super) fn has(&self, line: LineId, may_swap: bool) -> bool {
        let without = !may_swap && self.without_swap.contains(&line);
        without || self.at_all.contains(&line)
    }

    pub(super) fn add(&mut self, line: LineId, may_swap: bool) {
        match may_swap {
            true => self.at_all.insert(line),
            false => self.without_swap.insert(line),
        };
    }
}
