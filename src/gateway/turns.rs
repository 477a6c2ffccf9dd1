//! Whose turn it is: one counter per kind of request, so that what others ask for does not decide which node this one gets.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};

/// Two lines that share a counter disturb each other's turns, which is rare with so many and never worse than one counter for all.
const COUNTERS: usize = 1024;

/// Counters for round robin, each line of requests with its own.
pub(super) struct Turns(Box<[AtomicU64]>);

impl Turns {
    /// `chance` says where a counter starts, or all models would begin at the same node after each start.
    pub(super) fn starting_at(chance: impl Fn() -> u64) -> Turns {
        // Far from the end of the numbers, where the cycle of a round would break.
        let start = |_| AtomicU64::new(chance() >> 32);
        Turns((0..COUNTERS).map(start).collect())
    }

    /// The next number in the line of requests that want the same.
    pub(super) fn next(&self, line: &impl Hash) -> u64 {
        self.counter(line).fetch_add(1, Ordering::Relaxed)
    }

    /// The number that comes next there, for somebody who takes no turn.
    pub(super) fn coming(&self, line: &impl Hash) -> u64 {
        self.counter(line).load(Ordering::Relaxed)
    }

    fn counter(&self, line: &impl Hash) -> &AtomicU64 {
        let mut hasher = DefaultHasher::new();
        line.hash(&mut hasher);
        &self.0[hasher.finish() as usize % self.0.len()]
    }

    /// A number that is not the one before.
    pub(super) fn any(&self) -> u64 {
        self.0[0].fetch_add(1, Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_takes_its_turns_whatever_others_do() {
        let turns = Turns::starting_at(|| 7 << 32);
        for round in 0..100 {
            assert_eq!(turns.coming(&"chat"), 7 + round);
            assert_eq!(turns.next(&"chat"), 7 + round);
            assert_eq!(turns.next(&"embed"), 7 + round);
        }
    }
}
