//! One change on its nodes: driven by those who wait for it, and stopped when the last of them leaves.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt, Shared};
use futures::stream::{self, StreamExt};
use tokio::sync::broadcast;

use crate::dialect::Operation;
use crate::fleet::NodeId;
use crate::management::{Errand, Failure, Manner, News, OnceKey, Outcome, Plan, Progress, Words};
use crate::telemetry::metrics::operation_label;

use super::{AT_ONCE_MAX, Desk};

/// Lines that a client may fall behind before it is told the state anew instead.
const LINES_BEHIND_MAX: usize = 64;

/// Pulls under way.
#[derive(Default)]
pub(in crate::gateway) struct Jobs(Mutex<HashMap<OnceKey, Weak<Job>>>);

/// A change under way, or its end.
pub(super) struct Job {
    pub(super) words: Words,
    /// Names of the nodes that are asked.
    pub(super) nodes: Vec<String>,
    pub(super) feed: Arc<Feed>,
    /// Whoever polls it drives the work; nobody else does.
    outcome: Shared<BoxFuture<'static, Arc<Outcome>>>,
}

/// What the nodes tell while they work.
pub(super) struct Feed {
    told: Mutex<Told>,
    lines: broadcast::Sender<Bytes>,
}

struct Told {
    progress: Progress,
    /// Whether a node has said something.
    begun: bool,
}

/// What a client of a job is told next.
pub(super) enum Next {
    Lines(Vec<Bytes>),
    End(Arc<Outcome>),
}

/// A client's place at a job.
pub(super) struct Seat {
    pub(super) so_far: Vec<Bytes>,
    /// Whether the nodes have begun to tell.
    pub(super) begun: bool,
    lines: broadcast::Receiver<Bytes>,
}

impl Jobs {
    /// The job of that key that is still under way, else the one that `new` makes.
    pub(super) fn same_or(&self, key: OnceKey, new: impl FnOnce() -> Arc<Job>) -> Arc<Job> {
        // Jobs are put in whole, so a panic elsewhere left the map as good as it was.
        let mut jobs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
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
        let mut progress = Progress::new(nodes.iter().cloned());
        for skipped in &plan.skipped {
            let text = format!("{} was skipped: {}", skipped.node, skipped.why);
            progress.note(&skipped.node, &text);
        }
        let feed = Arc::new(Feed {
            told: Mutex::new(Told {
                progress,
                begun: false,
            }),
            lines: broadcast::channel(LINES_BEHIND_MAX).0,
        });
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
            line = seat.lines.recv() => Next::Lines(match line {
                Ok(line) => vec![line],
                // It fell behind. What is still kept for it is older than the state that it is told now.
                Err(_) => {
                    *seat = self.feed.join();
                    std::mem::take(&mut seat.so_far)
                }
            }),
            outcome = self.outcome.clone() => match seat.rest() {
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

impl Seat {
    /// Lines that were told in the same moment as the end.
    fn rest(&mut self) -> Vec<Bytes> {
        std::iter::from_fn(|| self.lines.try_recv().ok()).collect()
    }
}

impl Feed {
    /// From now on every line reaches this seat; what was told before is in it.
    pub(super) fn join(&self) -> Seat {
        let told = self.lock();
        Seat {
            so_far: told.progress.so_far(),
            begun: told.begun,
            lines: self.lines.subscribe(),
        }
    }

    /// A line that a node said. Its lines for the clients are on their way already.
    pub(super) fn heard(&self, node: usize, line: &[u8]) -> News {
        let mut told = self.lock();
        let mut news = told.progress.push(node, line);
        told.begun |= !news.lines.is_empty();
        self.send(std::mem::take(&mut news.lines));
        news
    }

    /// A node failed.
    fn lost(&self, node: usize) {
        let mut told = self.lock();
        let lines = told.progress.leave(node);
        self.send(lines);
    }

    /// Only under the lock, or a client that joins could miss a line or get it twice.
    fn send(&self, lines: Vec<Bytes>) {
        for line in lines {
            let _ = self.lines.send(line); // nobody may be listening
        }
    }

    fn lock(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Asks all nodes, waits for their ends, and learns what they have now.
async fn run(desk: Desk, plan: Plan, feed: Arc<Feed>) -> Arc<Outcome> {
    let mut ending = Ending {
        desk: desk.clone(),
        words: plan.words.clone(),
        told: false,
    };
    let (manner, total) = (plan.manner, plan.errands.len());
    let asking = plan.errands.into_iter().enumerate().map(|(at, errand)| {
        let (desk, feed) = (desk.clone(), feed.clone());
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
    let mut changed = Vec::with_capacity(total);
    for (_, end) in ends {
        match end {
            Ok((name, node)) => {
                outcome.done.push(name);
                changed.push(node);
            }
            Err(failure) => outcome.failed.push(failure),
        }
    }
    desk.learn(changed).await;
    ending.tell(&outcome);
    Arc::new(outcome)
}

async fn ask(
    desk: &Desk,
    feed: &Feed,
    at: usize,
    errand: Errand,
    manner: Manner,
) -> Result<(String, NodeId), Failure> {
    let asked = match manner {
        Manner::Progress { .. } => desk.follow(&errand, feed, at).await,
        Manner::Whole(_) => desk.ask(&errand).await,
    };
    match asked {
        Ok(()) => Ok((errand.target.name, errand.target.node)),
        Err(failure) => {
            feed.lost(at);
            Err(failure)
        }
    }
}

impl Desk {
    /// What changed shall be in the catalogue before the client hears of it.
    pub(super) async fn learn(&self, nodes: Vec<NodeId>) {
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

/// Tells of a job's end once, also when it is dropped because everybody left.
struct Ending {
    desk: Desk,
    words: Words,
    told: bool,
}

impl Ending {
    fn tell(&mut self, outcome: &Outcome) {
        self.told = true;
        self.count(outcome.label());
        let (what, id) = (&self.words.what, &self.desk.request_id);
        match outcome.fault(&self.words) {
            None => log::info!(
                "{what}: done on {} request_id={id}",
                outcome.done.join(", ")
            ),
            Some(fault) => log::warn!("{fault} request_id={id}"),
        }
    }

    fn count(&self, outcome: &str) {
        let operation = operation_label(self.desk.operation);
        let counter = &self.desk.gateway.metrics.management;
        counter.with_label_values(&[operation, outcome]).inc();
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        if !self.told {
            self.count("left");
            let (what, id) = (&self.words.what, &self.desk.request_id);
            log::info!("{what}: stopped, since nobody waits for it any more request_id={id}");
        }
    }
}
