//! Budgets: what is asked of the nodes beyond the clients' own requests is a share of those, so that a storm cannot feed itself.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What one extra request costs; a client's request earns `percent` hundredths of it.
const EXTRA: u64 = 100;

/// A purse that clients' requests fill and extra requests empty.
#[derive(Debug)]
pub struct Budget {
    /// Extra requests per second that are always allowed.
    floor_per_second: u64,
    /// Hundredths of an extra request that can be saved up.
    saved_max: u64,
    purse: Mutex<Purse>,
}

#[derive(Debug)]
struct Purse {
    /// Hundredths of an extra request.
    saved: u64,
    filled_at: Duration,
}

impl Budget {
    /// For retries, a full purse. A quiet gateway can fail over too, hence the floor; and savings are enough for every request in
    /// flight on a node that dies under load.
    pub fn of_retries() -> Budget {
        Budget::full(10, 1000)
    }

    /// For hedges, a full purse. No request needs one, so there is no floor, and the few that can be saved up are no burst.
    pub fn of_hedges() -> Budget {
        Budget::full(0, 10)
    }

    fn full(floor_per_second: u64, extra_max: u64) -> Budget {
        let saved_max = extra_max * EXTRA;
        Budget {
            floor_per_second,
            saved_max,
            purse: Mutex::new(Purse {
                saved: saved_max,
                filled_at: Duration::ZERO,
            }),
        }
    }

    /// A request came in; `percent` extra ones are allowed per hundred of them.
    pub fn earn(&self, percent: u32) {
        let mut purse = self.lock();
        purse.saved = (purse.saved + u64::from(percent)).min(self.saved_max);
    }

    /// Asks for one extra request; `now` is the time since the gateway started.
    pub fn spend(&self, now: Duration) -> bool {
        let mut purse = self.lock();
        let idle_ms = now.saturating_sub(purse.filled_at).as_millis() as u64;
        purse.filled_at += Duration::from_millis(idle_ms); // the rest of a millisecond is not lost
        let floor = idle_ms.saturating_mul(self.floor_per_second * EXTRA) / 1000;
        purse.saved = purse.saved.saturating_add(floor).min(self.saved_max);
        let granted = EXTRA <= purse.saved;
        if granted {
            purse.saved -= EXTRA;
        }
        granted
    }

    fn lock(&self) -> MutexGuard<'_, Purse> {
        // Two additions cannot panic half-way, so a poisoned purse is still a good one.
        self.purse.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spend_all(budget: &Budget, now: Duration) -> usize {
        (0..10_000).take_while(|_| budget.spend(now)).count()
    }

    #[test]
    fn extra_requests_are_a_share_of_requests_plus_a_floor() {
        // The budget, a full purse, what 50 requests earn at 20 %, and the floor of three seconds.
        for (budget, full, share, floor) in [
            (Budget::of_retries(), 1000, 10, 30),
            (Budget::of_hedges(), 10, 10, 0),
        ] {
            assert_eq!(spend_all(&budget, Duration::ZERO), full);
            (0..50).for_each(|_| budget.earn(20));
            assert_eq!(spend_all(&budget, Duration::ZERO), share);
            assert_eq!(spend_all(&budget, Duration::from_secs(3)), floor);
            assert_eq!(spend_all(&budget, Duration::from_secs(3)), 0);
        }
    }

    #[test]
    fn savings_have_a_limit() {
        for (budget, full) in [(Budget::of_retries(), 1000), (Budget::of_hedges(), 10)] {
            (0..5000).for_each(|_| budget.earn(100));
            assert_eq!(spend_all(&budget, Duration::from_secs(86_400)), full);
        }
    }
}
