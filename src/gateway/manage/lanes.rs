//! One file to several nodes at once, piece by piece: nothing is buffered, and the slowest node sets the pace.

use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use futures::stream::{self, StreamExt};
use tokio::time::timeout;

use crate::dialect::Operation;
use crate::gateway::upstream::Connection;
use crate::management::{Failure, Outcome, Target, Targets};

use super::errand::Head;
use super::{AT_ONCE_MAX, Desk};

/// A file on its way to its nodes.
pub(super) struct Lanes<'a> {
    desk: &'a Desk,
    live: Vec<Lane>,
    outcome: Outcome,
    /// Whether any node got the file only now.
    created: bool,
}

struct Lane {
    name: String,
    node: Connection,
}

/// What a node says to the question whether it has a file.
enum Has {
    Yes,
    No(Target),
    Unclear(Failure),
}

impl Desk {
    /// Which of the nodes have the blob already.
    async fn look(&self, path: &str, targets: Vec<Target>) -> Vec<(String, Has)> {
        let looking = targets.into_iter().map(|target| {
            let (desk, path) = (self.clone(), path.to_owned());
            async move {
                let name = target.name.clone();
                let limit = desk.config.proxy.read_timeout;
                let looked = timeout(limit, desk.has(&path, target)).await;
                let has = looked.unwrap_or_else(|_| Has::Unclear(stalled(&name, limit)));
                (name, has)
            }
        });
        let looking = stream::iter(looking).buffered(AT_ONCE_MAX);
        looking.collect().await
    }

    async fn has(&self, path: &str, target: Target) -> Has {
        let head = Head {
            method: "HEAD",
            operation: Operation::Blob,
            path,
            content_type: "application/octet-stream",
            length: Some(0),
        };
        let name = target.name.clone();
        let asked = async {
            let node = self.begin(&target, &head).await?;
            self.answer(&name, node, Ok(())).await
        };
        match asked.await {
            Err(failure) => Has::Unclear(failure),
            Ok(node) => match node.head().status.as_u16() {
                200 => Has::Yes,
                404 => Has::No(target),
                status => Has::Unclear(Failure::answered(&name, status, b"")),
            },
        }
    }

    /// Whether every node has a blob; the outcome tells of those that could not say.
    pub(super) async fn all_have(&self, path: &str, targets: Targets) -> (bool, Outcome) {
        let mut outcome = Outcome {
            skipped: targets.skipped,
            ..Outcome::default()
        };
        let mut all = true;
        for (name, has) in self.look(path, targets.nodes).await {
            match has {
                Has::Yes => outcome.done.push(name),
                Has::No(_) => all = false,
                Has::Unclear(failure) => outcome.failed.push(failure),
            }
        }
        (all, outcome)
    }

    /// Begins to send a blob to the nodes that lack it. `length` is `None` where it is not known.
    pub(super) async fn open_lanes(
        &self,
        path: &str,
        length: Option<u64>,
        targets: Targets,
    ) -> Lanes<'_> {
        let mut lanes = Lanes {
            desk: self,
            live: Vec::new(),
            outcome: Outcome {
                skipped: targets.skipped,
                ..Outcome::default()
            },
            created: false,
        };
        let limit = self.config.proxy.read_timeout;
        for (name, has) in self.look(path, targets.nodes).await {
            let target = match has {
                Has::Yes => {
                    lanes.outcome.done.push(name);
                    continue;
                }
                Has::Unclear(failure) => {
                    lanes.outcome.failed.push(failure);
                    continue;
                }
                Has::No(target) => target,
            };
            let head = Head {
                method: "POST",
                operation: Operation::Blob,
                path,
                content_type: "application/octet-stream",
                length,
            };
            match timeout(limit, self.begin(&target, &head)).await {
                Ok(Ok(node)) => lanes.live.push(Lane { name, node }),
                Ok(Err(failure)) => lanes.outcome.failed.push(failure),
                Err(_) => lanes.outcome.failed.push(stalled(&name, limit)),
            }
        }
        lanes
    }
}

impl Lanes<'_> {
    /// Whether there is still a node that wants more.
    pub(super) fn is_open(&self) -> bool {
        !self.live.is_empty()
    }

    /// Sends a piece to all. A node that does not take it in time, or that answers before the end, gets no more.
    pub(super) async fn send(&mut self, piece: &Bytes) {
        if piece.is_empty() {
            return; // it would be taken for the end
        }
        let limit = self.desk.config.proxy.read_timeout;
        let sending = self.live.iter_mut().map(|lane| {
            let written = lane.node.write(piece.clone());
            async move { timeout(limit, written).await }
        });
        let sent = join_all(sending).await;
        if sent.iter().all(|sent| matches!(sent, Ok(Ok(())))) {
            return;
        }
        for (lane, sent) in std::mem::take(&mut self.live).into_iter().zip(sent) {
            match sent {
                Ok(Ok(())) => self.live.push(lane),
                Ok(failed) => self.close(lane, failed).await,
                Err(_) => self.outcome.failed.push(stalled(&lane.name, limit)),
            }
        }
    }

    /// Hears what the nodes make of it. The second value tells whether any of them got the file only now.
    pub(super) async fn finish(mut self) -> (Outcome, bool) {
        for lane in std::mem::take(&mut self.live) {
            self.close(lane, Ok(())).await;
        }
        (self.outcome, self.created)
    }

    async fn close(&mut self, lane: Lane, written: pingora::Result<()>) {
        let Lane { name, node } = lane;
        let answering = async {
            let node = self.desk.answer(&name, node, written).await?;
            self.desk.judge(&name, node).await
        };
        let answered = timeout(self.desk.patience(), answering).await;
        match answered.unwrap_or_else(|_| Err(self.desk.silent(&name))) {
            Ok(node) => {
                self.created |= node.head().status == 201;
                self.outcome.done.push(name);
            }
            Err(failure) => self.outcome.failed.push(failure),
        }
    }
}

fn stalled(name: &str, limit: Duration) -> Failure {
    let limit = limit.as_secs_f32();
    Failure::new(
        name,
        format!("it stalled for {limit} s (proxy.read_timeout)"),
    )
}
