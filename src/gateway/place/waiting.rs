//! Those who wait for a slot, and what they are told.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::admission::{Limits, Queue};
use crate::config::{Config, Fallback};
use crate::error::{Fault, Kind};
use crate::fleet::NodeId;
use crate::gateway::outgoing::Asked;
use crate::routing::{Ask, Circumstances};

use super::Placed;
use super::line::Line;

/// How a wait ends.
pub(super) type Granted = Result<Placed, Fault>;

/// Who waits, and how they hear of it. Nobody holds the queue's lock across an await.
pub(in crate::gateway) struct Waiting {
    pub(super) queue: Mutex<Queue<Line, Waiter>>,
    /// As the queue's length, so that nobody need lock it to see that nobody waits.
    pub(super) length: AtomicUsize,
    /// Held by the one of them who looks for all.
    pub(super) baton: tokio::sync::Mutex<()>,
}

/// A request that waits.
pub(super) struct Waiter {
    pub(super) asked: Asked,
    pub(super) tried: Vec<NodeId>,
    pub(super) fallback: Fallback,
    pub(super) config: Arc<Config>,
    /// Taken when it is told.
    pub(super) news: Option<oneshot::Sender<Granted>>,
}

impl Waiter {
    pub(super) fn ask(&self, circumstances: Circumstances) -> Ask<'_> {
        let ask = self.asked.ask(&self.tried, &self.config, self.fallback);
        Ask {
            circumstances,
            ..ask
        }
    }

    /// Tells it how its wait ended; `false` when it has left.
    pub(super) fn tell(&mut self, granted: Granted) -> bool {
        let news = self.news.take();
        news.is_some_and(|news| news.send(granted).is_ok())
    }
}

impl Default for Waiting {
    fn default() -> Waiting {
        let nobody = Limits {
            length_max: 0,
            swap_age_max: Duration::ZERO,
            background_age_max: Duration::ZERO,
            wait_max: Duration::MAX,
        };
        Waiting {
            queue: Mutex::new(Queue::new(nobody)),
            length: AtomicUsize::new(0),
            baton: tokio::sync::Mutex::default(),
        }
    }
}

impl Waiting {
    pub(super) fn is_empty(&self) -> bool {
        self.length.load(Ordering::Acquire) == 0
    }
}

/// Why nobody else may wait.
pub(super) fn queue_full(waiting: usize, retry_after_s: u32) -> Fault {
    let message = format!(
        "every node that has this model is busy and {waiting} requests wait already; try again in {retry_after_s} s, add nodes, or \
         raise proxy.queue.max_length"
    );
    Fault::new(Kind::Unavailable { retry_after_s }, message)
}

/// Why somebody need not wait any longer.
pub(super) fn waited_too_long(waited: Duration, retry_after_s: u32) -> Fault {
    let message = format!(
        "no node that has this model had a free slot within {} s (proxy.queue.max_wait); try again in {retry_after_s} s or add nodes",
        (waited.as_secs_f32() * 10.0).round() / 10.0
    );
    Fault::new(Kind::Unavailable { retry_after_s }, message)
}
