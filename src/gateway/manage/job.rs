//! One change on its nodes: driven by those who wait for it, and stopped when the last of them leaves.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt, Shared};
use futures::stream::{self, StreamExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::dialect::Operation;
use crate::error::{Fault, Kind};
use crate::fleet::NodeId;
use crate::management::{Errand, Failure, Manner, OnceKey, Outcome, Plan, Words};

use super::ending::Ending;
use super::feed::{Feed, Seat};
use super::{AT_ONCE_MAX, Desk};

/// Files that may be on their way to the nodes at the same time; each may be as large as the disk.
const FILES_MAX: usize = 4;

/// Work under way.
pub(in crate::gateway) struct Jobs {
    pulls: Mutex<HashMap<OnceKey, Weak<Job>>>,
    files: Arc<Semaphore>,
}

/// A change under way, or its end.
pub(super) struct Job {
    pub(super) words: Words,
    /// Names of the nodes that are asked.
    pub(super) nodes: Vec<String>,
    pub(super) feed: Arc<Feed>,
    /// Whoever polls it drives the work; nobody else does.
    outcome: Shared<BoxFuture<'static, Arc<Outcome>>>,
}

/// What a client of a job is told next.
pub(super) enum Next {
    Lines(Vec<Bytes>),
    End(Arc<Outcome>),
}

impl Default for Jobs {
    fn default() -> Jobs {
        Jobs {
            pulls: Mutex::default(),
            files: Arc::new(Semaphore::new(FILES_MAX)),
        }
    }
}

impl Jobs {
    /// Room for one file on our disk.
    ///
    /// # Errors
    /// 503 when there are too many already.
    pub(super) fn file(&self) -> Result<OwnedSemaphorePermit, Fault> {
        self.files.clone().try_acquire_owned().map_err(|_| {
            let message = format!(
                "{FILES_MAX} downloads and uploads are under way already; try again when one has ended"
            );
            Fault::new(Kind::Unavailable { retry_after_s: 60 }, message)
        })
    }

    /// The job of that key that is still under way, else the one that `new` makes.
    pub(super) fn same_or(&self, key: OnceKey, new: impl FnOnce() -> Arc<Job>) -> Arc<Job> {
        // Jobs are put in whole, so a panic elsewhere left the map as good as it was.
        let mut jobs = self.pulls.lock().unwrap_or_else(PoisonError::into_inner);
        jobs.retain(|_, job| job.strong_count() > 0);
        let running = jobs.get(&key).and_then(Weak::upgrade);
        if let Some(job) = running.filter(|job| job.outcome.peek().is_none()) {
            return job;
        }
        let job = new();
        jobs.insert(key, Arc::downgrade(&job));
        job
    }
}

impl Job {
    /// A job that begins when somebody waits for it.
    pub(super) fn new(desk: Desk, plan: Plan) -> Arc<Job> {
        let nodes: Vec<String> = plan
            .errands
            .iter()
            .map(|it| it.target.name.clone())
            .collect();
        let feed = Arc::new(Feed::of(&plan));
        Arc::new(Job {
            words: plan.words.clone(),
            nodes,
            outcome: run(desk, plan, feed.clone()).boxed().shared(),
            feed,
        })
    }

    /// Works on until there is something to tell to the holder of this seat.
    pub(super) async fn next(&self, seat: &mut Seat) -> Next {
        tokio::select! {
            biased;
            lines = seat.next(&self.feed) => Next::Lines(lines),
            outcome = self.outcome.clone() => match seat.rest(&self.feed) {
                lines if lines.is_empty() => Next::End(outcome),
                lines => Next::Lines(lines),
            },
        }
    }

    /// Works on to the end.
    pub(super) async fn end(&self) -> Arc<Outcome> {
        self.outcome.clone().await
    }
}

/// Asks all nodes, waits for their ends, and learns what they have now.
async fn run(desk: Desk, plan: Plan, feed: Arc<Feed>) -> Arc<Outcome> {
    let nodes = plan.errands.iter().map(|it| it.target.node).collect();
    let mut ending = Ending::of(&desk, &plan.words.what, nodes);
    let words = plan.words.clone();
    let outcome = desk.carry_out(plan, feed).await;
    ending.tell(&outcome, &words);
    Arc::new(outcome)
}

async fn ask(
    desk: &Desk,
    feed: &Feed,
    at: usize,
    errand: Errand,
    manner: Manner,
) -> Result<String, Failure> {
    let asked = match manner {
        Manner::Progress { .. } => desk.follow(&errand, feed, at).await,
        Manner::Whole(_) => desk.ask(&errand).await,
    };
    match asked {
        Ok(()) => Ok(errand.target.name),
        Err(failure) => {
            feed.lost(at);
            Err(failure)
        }
    }
}

impl Desk {
    /// The work of a plan; whoever calls it tells of its end.
    pub(super) async fn carry_out(&self, plan: Plan, feed: Arc<Feed>) -> Outcome {
        let manner = plan.manner;
        let nodes: Vec<NodeId> = plan.errands.iter().map(|it| it.target.node).collect();
        let asking = plan.errands.into_iter().enumerate().map(|(at, errand)| {
            let (desk, feed) = (self.clone(), feed.clone());
            async move { (at, ask(&desk, &feed, at, errand, manner).await) }
        });
        let mut ends: Vec<_> = stream::iter(asking)
            .buffer_unordered(AT_ONCE_MAX)
            .collect()
            .await;
        ends.sort_unstable_by_key(|(at, _)| *at);
        let mut outcome = Outcome {
            skipped: plan.skipped,
            ..Outcome::default()
        };
        for (_, end) in ends {
            match end {
                Ok(name) => outcome.done.push(name),
                Err(failure) => outcome.failed.push(failure),
            }
        }
        if self.operation == Operation::Delete {
            outcome.take_gone_for_deleted();
        }
        // A node that failed may have done it all the same.
        self.learn(nodes).await;
        outcome
    }

    /// What changed shall be in the catalogue before the client hears of it.
    async fn learn(&self, nodes: Vec<NodeId>) {
        let (in_memory, on_disk) = match self.operation {
            Operation::Unload => (true, false),
            Operation::Push => (false, false),
            _ => (false, true),
        };
        let time = self.config.model_discovery.timeout;
        let learning = nodes.into_iter().map(|node| {
            let gateway = self.gateway.clone();
            async move {
                let learned = match (in_memory, on_disk) {
                    (true, _) => gateway.learn_loaded(node, time).await,
                    (_, true) => gateway.learn_installed(node, time).await,
                    _ => Ok(()),
                };
                if let (Err(why), Some(access)) = (learned, gateway.access(node)) {
                    let name = access.name();
                    log::warn!("node `{name}` did not tell its models after a change: {why}");
                }
            }
        });
        stream::iter(learning)
            .buffer_unordered(AT_ONCE_MAX)
            .collect::<()>()
            .await;
    }
}
