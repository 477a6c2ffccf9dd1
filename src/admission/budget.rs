//! The retry budget: retries may be a share of the live requests, plus a small floor, so that a storm cannot feed itself.

use std::sync::Mutex;
use std::time::Duration;

/// Retries per second that are always allowed, so that a quiet gateway can fail over too.
const FLOOR_PER_SECOND: f64 = 10.0;
/// What can be saved up: enough for every request in flight on a node that dies under load.
const SAVED_MAX: f64 = 1000.0;
/// What a new gateway starts with: ten seconds of the floor.
const SAVED_AT_START: f64 = 100.0;

/// A purse that requests fill and retries empty.
#[derive(Debug)]
pub struct RetryBudget {
    share: f64,
    purse: Mutex<Purse>,
}

#[derive(Debug)]
struct Purse {
    saved: f64,
    filled_at: Duration,
}

impl RetryBudget {
    /// `percent`: retries allowed per hundred requests.
    pub fn new(percent: u32) -> RetryBudget {
        let purse = Purse {
            saved: SAVED_AT_START,
            filled_at: Duration::ZERO,
        };
        RetryBudget {
            share: f64::from(percent) / 100.0,
            purse: Mutex::new(purse),
        }
    }

    /// A request came in.
    pub fn earn(&self) {
        let mut purse = self.lock();
        purse.saved = (purse.saved + self.share).min(SAVED_MAX);
    }

    /// Asks for one retry; `now` is the time since the gateway started.
    pub fn spend(&self, now: Duration) -> bool {
        let mut purse = self.lock();
        let idle = now.saturating_sub(purse.filled_at);
        purse.filled_at = now.max(purse.filled_at);
        purse.saved = (purse.saved + idle.as_secs_f64() * FLOOR_PER_SECOND).min(SAVED_MAX);
        let granted = purse.saved >= 1.0;
        if granted {
            purse.saved -= 1.0;
        }
        granted
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Purse> {
        // Two additions cannot panic half-way, so a poisoned purse is still a good one.
        self.purse
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spend_all(budget: &RetryBudget, now: Duration) -> usize {
        (0..10_000).take_while(|_| budget.spend(now)).count()
    }

    #[test]
    fn retries_are_a_share_of_requests_plus_a_floor() {
        let budget = RetryBudget::new(20);
        assert_eq!(
            spend_all(&budget, Duration::ZERO),
            100,
            "what a new gateway starts with"
        );
        (0..50).for_each(|_| budget.earn());
        assert_eq!(
            spend_all(&budget, Duration::ZERO),
            10,
            "20 % of 50 requests"
        );
        assert_eq!(
            spend_all(&budget, Duration::from_secs(3)),
            30,
            "the floor of 3 seconds"
        );
        assert_eq!(spend_all(&budget, Duration::from_secs(3)), 0);
    }

    #[test]
    fn savings_have_a_limit() {
        let budget = RetryBudget::new(100);
        (0..5000).for_each(|_| budget.earn());
        assert_eq!(spend_all(&budget, Duration::from_secs(86_400)), 1000);
    }
}
