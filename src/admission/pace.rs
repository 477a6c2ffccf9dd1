//! How fast the queue moves, so that who is turned away can be told when to come back.

use std::time::Duration;

/// How much of the pace the latest departure is.
const WEIGHT: f64 = 0.2;
/// What is told when nobody has left the queue yet.
const UNKNOWN_S: u32 = 5;
/// Nobody is told to stay away for longer: nodes may come, and clients leave.
const LONGEST_S: u32 = 120;

/// The mean time from one placement to the next while somebody waits.
#[derive(Debug, Default)]
pub(super) struct Pace {
    last: Option<Duration>,
    between_s: Option<f64>,
}

impl Pace {
    /// Somebody who waited was placed.
    pub(super) fn placed(&mut self, now: Duration) {
        if let Some(last) = self.last.replace(now) {
            let took = now.saturating_sub(last).as_secs_f64();
            let mean = self
                .between_s
                .map_or(took, |mean| mean + WEIGHT * (took - mean));
            self.between_s = Some(mean);
        }
    }

    /// Nobody waits: what passes until the next placement says nothing.
    pub(super) fn pause(&mut self) {
        self.last = None;
    }

    /// When so many who wait will have been placed, whole seconds, about.
    pub(super) fn retry_after_s(&self, waiting: usize) -> u32 {
        let Some(between_s) = self.between_s else {
            return UNKNOWN_S;
        };
        let seconds = (between_s * waiting as f64).ceil();
        (seconds as u32).clamp(1, LONGEST_S)
    }
}
