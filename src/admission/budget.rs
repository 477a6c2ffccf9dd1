//! The retry budget: retries may be a share of the live requests, plus a small floor, so that a storm cannot feed itself.

use std::sync::Mutex;
use std::time::Duration;

/// What one retry costs; a request earns `percent` hundredths of it.
const RETRY: u64 = 100;
/// Retries per second that are always allowed, so that a quiet gateway can fail over too.
const FLOOR_PER_SECOND: u64 = 10;
/// What can be saved up: enough for every request in flight on a node that dies under load.
const SAVED_MAX: u64 = 1000 * RETRY;

/// A purse that requests fill and retries empty.
#[derive(Debug)]
pub struct RetryBudget {
    purse: Mutex<Purse>,
}

#[derive(Debug)]
struct Purse {
    /// Hundredths of a retry.
    saved: u64,
    filled_at: Duration,
}

impl Default for RetryBudget {
    fn default() -> RetryBudget {
        RetryBudget::new()
    }
}

impl RetryBudget {
    /// A full purse.
    pub fn new() -> RetryBudget {
        let purse = Purse {
            saved: SAVED_MAX,
            filled_at: Duration::ZERO,
        };
        RetryBudget {
            purse: Mutex::new(purse),
        }
    }

    /// A request came in; `percent` retries are allowed per hundred of them.
    pub fn earn(&self, percent: u32) {
        let mut purse = self.lock();
        purse.saved = (purse.saved + u64::from(percent)).min(SAVED_MAX);
    }

    /// Asks for one retry; `now` is the time since the gateway started.
    pub fn spend(&self, now: Duration) -> bool {
        let mut purse = self.lock();
        let idle_ms = now.saturating_sub(purse.filled_at).as_millis() as u64;
        purse.filled_at += Duration::from_millis(idle_ms); // the rest of a millisecond is not lost
        let floor = idle_ms.saturating_mul(FLOOR_PER_SECOND * RETRY) / 1000;
        purse.saved = purse.saved.saturating_add(floor).min(SAVED_MAX);
        let granted = RETRY <= purse.saved;
        if granted {
            purse.saved -= RETRY;
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
        let budget = RetryBudget::new();
        assert_eq!(
            spend_all(&budget, Duration::ZERO),
            1000,
            "a new gateway starts with a full purse"
        );
        (0..50).for_each(|_| budget.earn(20));
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
        let budget = RetryBudget::new();
        (0..5000).for_each(|_| budget.earn(100));
        assert_eq!(spend_all(&budget, Duration::from_secs(86_400)), 1000);
    }
}
