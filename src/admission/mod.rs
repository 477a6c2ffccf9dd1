//! Who waits and who goes next. Pure: the waiting itself is `gateway::place`'s.
//!
//! A bounded queue of lines, first come first served in each: a later arrival in a line never passes an earlier one, while lines
//! do not hold each other up. Requests stand in one line when the same nodes could serve them (`L` says so).

mod budget;

pub use budget::RetryBudget;

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

use crate::error::{Fault, Kind};

/// A place in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(u64);

/// Those who wait, in order of arrival in each line.
#[derive(Debug)]
pub struct Queue<L> {
    length: usize,
    issued: u64,
    waiting: HashMap<L, VecDeque<Ticket>>,
}

impl<L: Clone + Eq + Hash> Default for Queue<L> {
    fn default() -> Queue<L> {
        Queue::new()
    }
}

impl<L: Clone + Eq + Hash> Queue<L> {
    /// An empty queue.
    pub fn new() -> Queue<L> {
        Queue {
            length: 0,
            issued: 0,
            waiting: HashMap::new(),
        }
    }

    /// Requests that wait, in all lines together.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether nobody waits in any line.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Takes a place at the end, as long as at most `length_max` requests wait in all lines together; 0 lets nobody wait.
    ///
    /// # Errors
    /// 503 when the queue is full.
    pub fn enter(&mut self, line: &L, length_max: usize) -> Result<Ticket, Fault> {
        if self.length >= length_max {
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
            .entry(line.clone())
            .or_default()
            .push_back(ticket);
        Ok(ticket)
    }

    /// Whether nobody in the same line came earlier. A request without a ticket comes after all who wait.
    pub fn is_next(&self, line: &L, ticket: Option<Ticket>) -> bool {
        let first = self.waiting.get(line).and_then(VecDeque::front);
        first.is_none_or(|first| Some(*first) == ticket)
    }

    /// The lines that somebody waits in.
    pub fn lines(&self) -> impl Iterator<Item = &L> {
        self.waiting.keys()
    }

    /// Gives the place back, whether served or not. A ticket that is not in the queue changes nothing.
    pub fn leave(&mut self, line: &L, ticket: Ticket) {
        let Some(waiting) = self.waiting.get_mut(line) else {
            return;
        };
        let Some(at) = waiting.iter().position(|known| *known == ticket) else {
            return;
        };
        waiting.remove(at);
        self.length -= 1;
        if waiting.is_empty() {
            self.waiting.remove(line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn first_come_first_served_in_each_line() {
        let (llama, qwen) = ("llama", "qwen");
        let mut queue = Queue::new();
        let first = queue.enter(&llama, 10).unwrap();
        let second = queue.enter(&llama, 10).unwrap();
        assert!(queue.is_next(&llama, Some(first)));
        assert!(!queue.is_next(&llama, Some(second)));
        assert!(
            !queue.is_next(&llama, None),
            "a newcomer does not pass those who wait"
        );
        assert!(queue.is_next(&qwen, None), "another line is another line");
        assert!(queue.lines().eq([&llama]));
        queue.leave(&llama, first);
        assert!(queue.is_next(&llama, Some(second)));
        queue.leave(&llama, second);
        assert_eq!(queue.lines().next(), None, "nobody waits there any more");
    }

    #[test]
    fn a_full_queue_says_so_with_retry_after() {
        let mut queue = Queue::new();
        queue.enter(&"a", 1).unwrap();
        let fault = queue.enter(&"b", 1).unwrap_err();
        assert_eq!(fault.kind, Kind::Unavailable { retry_after_s: 5 });
    }

    proptest! {
        #[test]
        fn the_length_is_what_was_entered_less_what_left(steps in prop::collection::vec((0..3usize, any::<bool>()), 0..200)) {
            let models = ["a", "b", "c"];
            let mut queue = Queue::new();
            let mut held: Vec<(usize, Ticket)> = Vec::new();
            for (which, enter) in steps {
                if enter {
                    match queue.enter(&models[which], 20) {
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
