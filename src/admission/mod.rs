//! Who waits and who goes next. Pure: the waiting itself is `gateway::queue`'s.
//!
//! A bounded queue, first come first served per model: a later arrival for the same model never passes an earlier one,
//! while requests for different models do not hold each other up.

mod budget;

pub use budget::RetryBudget;

use std::collections::{HashMap, VecDeque};

use crate::error::{Fault, Kind};
use crate::model::ModelKey;

/// A place in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(u64);

/// Those who wait, in order of arrival per model.
#[derive(Debug)]
pub struct Queue {
    length_max: usize,
    length: usize,
    issued: u64,
    waiting: HashMap<ModelKey, VecDeque<Ticket>>,
}

impl Queue {
    pub fn new(length_max: usize) -> Queue {
        Queue {
            length_max,
            length: 0,
            issued: 0,
            waiting: HashMap::new(),
        }
    }

    pub fn len(&self) -> usize {
        self.length
    }

    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Takes a place at the end.
    ///
    /// # Errors
    /// 503 when the queue is full.
    pub fn enter(&mut self, model: &ModelKey) -> Result<Ticket, Fault> {
        if self.length >= self.length_max {
            let message = format!(
                "every node that has this model is busy and {} requests wait already; try again shortly, add nodes, or raise \
                 proxy.queue.max_length",
                self.length
            );
            return Err(Fault::new(Kind::Unavailable { retry_after_s: 5 }, message));
        }
        self.length += 1;
        self.issued += 1;
        let ticket = Ticket(self.issued);
        self.waiting
            .entry(model.clone())
            .or_default()
            .push_back(ticket);
        Ok(ticket)
    }

    /// Whether nobody for the same model came earlier. A request without a ticket comes after all who wait.
    pub fn is_next(&self, model: &ModelKey, ticket: Option<Ticket>) -> bool {
        self.waiting
            .get(model)
            .and_then(|line| line.front())
            .is_none_or(|first| Some(*first) == ticket)
    }

    /// Gives the place back, whether served or not. A ticket that is not in the queue changes nothing.
    pub fn leave(&mut self, model: &ModelKey, ticket: Ticket) {
        let Some(line) = self.waiting.get_mut(model) else {
            return;
        };
        let Some(at) = line.iter().position(|waiting| *waiting == ticket) else {
            return;
        };
        line.remove(at);
        self.length -= 1;
        if line.is_empty() {
            self.waiting.remove(model);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn model(name: &str) -> ModelKey {
        ModelKey::parse(name).unwrap()
    }

    #[test]
    fn first_come_first_served_per_model() {
        let (llama, qwen) = (model("llama"), model("qwen"));
        let mut queue = Queue::new(10);
        let first = queue.enter(&llama).unwrap();
        let second = queue.enter(&llama).unwrap();
        assert!(queue.is_next(&llama, Some(first)));
        assert!(!queue.is_next(&llama, Some(second)));
        assert!(
            !queue.is_next(&llama, None),
            "a newcomer does not pass those who wait"
        );
        assert!(queue.is_next(&qwen, None), "another model is another line");
        queue.leave(&llama, first);
        assert!(queue.is_next(&llama, Some(second)));
    }

    #[test]
    fn a_full_queue_says_so_with_retry_after() {
        let mut queue = Queue::new(1);
        queue.enter(&model("a")).unwrap();
        let fault = queue.enter(&model("b")).unwrap_err();
        assert_eq!(fault.kind, Kind::Unavailable { retry_after_s: 5 });
    }

    proptest! {
        #[test]
        fn the_length_is_what_was_entered_less_what_left(steps in prop::collection::vec((0..3usize, any::<bool>()), 0..200)) {
            let models = [model("a"), model("b"), model("c")];
            let mut queue = Queue::new(20);
            let mut held: Vec<(usize, Ticket)> = Vec::new();
            for (which, enter) in steps {
                if enter {
                    match queue.enter(&models[which]) {
                        Ok(ticket) => held.push((which, ticket)),
                        Err(_) => prop_assert_eq!(held.len(), 20),
                    }
                } else if let Some((which, ticket)) = held.pop() {
                    queue.leave(&models[which], ticket);
                    queue.leave(&models[which], ticket); // leaving twice changes nothing
                }
                prop_assert_eq!(queue.len(), held.len());
                let fronts = held.iter().filter(|(m, t)| queue.is_next(&models[*m], Some(*t))).count();
                let lines = (0..3).filter(|m| held.iter().any(|(w, _)| w == m)).count();
                prop_assert_eq!(fronts, lines, "exactly one per line is next");
            }
        }
    }
}
