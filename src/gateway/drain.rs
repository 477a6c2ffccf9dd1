//! The end of a process's life: readiness off, keep accepting briefly, exit the moment nothing is in flight.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use pingora::server::{ShutdownSignal, ShutdownSignalWatch, UnixShutdownSignalWatch};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout_at};

use crate::error::{Fault, Kind};

/// How long requests are still taken after SIGTERM, so that balancers can notice that readiness is off.
pub(super) const LAG: Duration = Duration::from_secs(1);

/// What the last answer's bytes get to leave the process: HTTP/2 writes them in a task of its own.
const FLUSH: Duration = Duration::from_millis(50);

/// Where the process is in its life, and how many requests it has in work.
#[derive(Debug, Default)]
pub struct Lifecycle {
    /// Readiness is off; requests are still taken.
    draining: AtomicBool,
    /// New requests are refused.
    closing: AtomicBool,
    in_flight: AtomicUsize,
    idle: Notify,
}

impl Lifecycle {
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::SeqCst)
    }

    /// Counts a request from its head to its last byte.
    pub(super) fn enter(self: &Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Ordering::SeqCst);
        InFlight(self.clone())
    }

    /// # Errors
    /// 503 once the gateway takes nothing new.
    pub(super) fn admits(&self) -> Result<(), Fault> {
        match self.closing.load(Ordering::Relaxed) {
            false => Ok(()),
            true => Err(Fault::new(
                Kind::Unavailable { retry_after_s: 1 },
                "this gateway is shutting down; send the request again, another one will take it",
            )),
        }
    }

    /// Runs the drain: `lag` of ordinary work with readiness off, then nothing new, until idle or until `longest` is over.
    ///
    /// Returns whether everything in flight could finish.
    pub async fn drain(&self, lag: Duration, longest: Duration) -> bool {
        let deadline = Instant::now() + longest;
        self.draining.store(true, Ordering::SeqCst);
        // With nothing in flight there is still the balancer to wait for; it may send more until it has noticed.
        sleep(lag.min(longest)).await;
        self.closing.store(true, Ordering::SeqCst);
        loop {
            let idle = self.idle.notified();
            tokio::pin!(idle);
            idle.as_mut().enable();
            if self.in_flight() == 0 {
                return true;
            }
            if timeout_at(deadline, idle).await.is_err() {
                return false;
            }
        }
    }
}

/// One request in work.
#[derive(Debug)]
pub(super) struct InFlight(Arc<Lifecycle>);

impl Drop for InFlight {
    fn drop(&mut self) {
        if self.0.in_flight.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.0.idle.notify_waiters();
        }
    }
}

/// Turns signals into a drain. Pingora's own graceful stop sleeps a fixed time and ignores further signals, so it is told
/// to stop fast, once there is nothing left to lose.
pub(super) struct Signals {
    pub(super) lifecycle: Arc<Lifecycle>,
    pub(super) lag: Duration,
    pub(super) longest: Duration,
}

#[async_trait]
impl ShutdownSignalWatch for Signals {
    async fn recv(&self) -> ShutdownSignal {
        let first = UnixShutdownSignalWatch.recv().await;
        if !matches!(first, ShutdownSignal::GracefulTerminate) {
            return ShutdownSignal::FastShutdown;
        }
        log::info!(
            "draining: readiness is off, requests are taken for {:?} more, {} in flight; a second signal exits at once",
            self.lag,
            self.lifecycle.in_flight()
        );
        tokio::select! {
            complete = self.lifecycle.drain(self.lag, self.longest) => match complete {
                true => {
                    sleep(FLUSH).await;
                    log::info!("drained, nothing in flight");
                }
                false => log::warn!("server.shutdown_timeout is over: {} requests are cut", self.lifecycle.in_flight()),
            },
            _ = UnixShutdownSignalWatch.recv() => {
                log::warn!("second signal: {} requests are cut", self.lifecycle.in_flight());
            }
        }
        ShutdownSignal::FastShutdown
    }
}
