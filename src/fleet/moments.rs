//! When a node was last watched, and what of its answer was of no use: for the status pages, decided nothing by.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::fleet::listing::Lost;

/// Moments of one node, as the gateway's uptime in milliseconds. Shared by all snapshots and written without a lock: they may be
/// a moment apart from the beliefs that the same probe led to.
#[derive(Debug, Default)]
pub struct Moments {
    /// One more than the moment, so that 0 is never.
    probed: AtomicU64,
    probe_took: AtomicU64,
    listed: AtomicU64,
    lost: ArcSwap<Lost>,
}

/// A probe that ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probed {
    /// The gateway's uptime then.
    pub at: Duration,
    /// From its begin to its end, however it ended.
    pub took: Duration,
}

impl Moments {
    /// Notes that a probe ended at this uptime.
    pub fn note_probe(&self, probed: Probed) {
        self.probe_took
            .store(millis(probed.took), Ordering::Relaxed);
        self.probed.store(1 + millis(probed.at), Ordering::Relaxed);
    }

    /// Notes that the node told its models at this uptime.
    pub fn note_listing(&self, at: Duration) {
        self.listed.store(1 + millis(at), Ordering::Relaxed);
    }

    /// Notes which entries its listing lost; says whether they are others than before.
    pub fn note_lost(&self, lost: Lost) -> bool {
        let is_news = **self.lost.load() != lost;
        if is_news {
            self.lost.store(Arc::new(lost));
        }
        is_news
    }

    /// What its last listing lost.
    pub fn lost(&self) -> Arc<Lost> {
        self.lost.load_full()
    }

    /// The last probe; `None` before the first.
    pub fn probed(&self) -> Option<Probed> {
        Some(Probed {
            at: moment(&self.probed)?,
            took: Duration::from_millis(self.probe_took.load(Ordering::Relaxed)),
        })
    }

    /// When the node last told its models, as the gateway's uptime; `None` when it never did.
    pub fn listed(&self) -> Option<Duration> {
        moment(&self.listed)
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX / 2)
}

fn moment(stored: &AtomicU64) -> Option<Duration> {
    let millis = stored.load(Ordering::Relaxed).checked_sub(1)?;
    Some(Duration::from_millis(millis))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_is_told_from_the_first_millisecond() {
        let moments = Moments::default();
        assert_eq!((moments.probed(), moments.listed()), (None, None));
        let probed = Probed {
            at: Duration::ZERO,
            took: Duration::from_millis(3),
        };
        moments.note_probe(probed);
        moments.note_listing(Duration::ZERO);
        assert_eq!(moments.probed(), Some(probed));
        assert_eq!(moments.listed(), Some(Duration::ZERO));
    }
}
