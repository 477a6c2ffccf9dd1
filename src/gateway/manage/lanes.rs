//! One file to several nodes at once, piece by piece: nothing is buffered, and the slowest node sets the pace.

use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use futures::stream::{self, StreamExt};
use pingora::{Error, ErrorType};
use tokio::time::timeout;

use crate::dialect::Operation;
use crate::gateway::failure::plain;
use crate::gateway::upstream::Connection;
use crate::management::{Failure, Outcome, Target, Targets};

use super::errand::Head;
use super::{AT_ONCE_MAX, Desk};

/// How long the answer is waited for of a node that takes no more of a file.
const EARLY_PATIENCE: Duration = Duration::from_secs(1);

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

/// A node that has the file now.
struct Taken {
    name: String,
    /// It did not have it before.
    created: bool,
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

    /// Ends a node's request, with what became of its body, and hears what it makes of it.
    async fn close(&self, lane: Lane, written: pingora::Result<()>) -> Result<Taken, Failure> {
        let Lane { name, node } = lane;
        let answering = async {
            let node = self.answer(&name, node, written).await?;
            self.judge(&name, node).await
        };
        let answered = timeout(self.patience(), answering).await;
        let node = answered.unwrap_or_else(|_| Err(self.silent(&name)))?;
        let created = node.head().status == 201;
        Ok(Taken { name, created })
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
        let mut lacking = Vec::new();
        for (name, has) in self.look(path, targets.nodes).await {
            match has {
                Has::Yes => lanes.outcome.done.push(name),
                Has::Unclear(failure) => lanes.outcome.failed.push(failure),
                Has::No(target) => lacking.push(target),
            }
        }
        let opening = lacking.into_iter().map(|target| {
            let (desk, path) = (self.clone(), path.to_owned());
            async move { desk.open_lane(&path, length, &target).await }
        });
        let mut opening = stream::iter(opening).buffered(AT_ONCE_MAX);
        while let Some(opened) = opening.next().await {
            match opened {
                Ok(lane) => lanes.live.push(lane),
                Err(failure) => lanes.outcome.failed.push(failure),
            }
        }
        lanes
    }

    async fn open_lane(
        &self,
        path: &str,
        length: Option<u64>,
        target: &Target,
    ) -> Result<Lane, Failure> {
        let head = Head {
            method: "POST",
            operation: Operation::Blob,
            path,
            content_type: "application/octet-stream",
            length,
        };
        let (name, limit) = (target.name.clone(), self.config.proxy.read_timeout);
        match timeout(limit, self.begin(target, &head)).await {
            Ok(begun) => begun.map(|node| Lane { name, node }),
            Err(_) => Err(stalled(&name, limit)),
        }
    }

    /// Ends the request of a node that does not take all of it: what it has answered, or `why` it gets no more.
    async fn close_early(&self, lane: Lane, why: Failure) -> Result<Taken, Failure> {
        let written = Error::e_explain(ErrorType::WriteError, "no more is sent");
        let closed = timeout(EARLY_PATIENCE, self.close(lane, written)).await;
        closed.unwrap_or(Err(why))
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
        let sending = self.live.iter_mut().map(|lane| async {
            if lane.node.has_ended_early() {
                return Some(Failure::new(&lane.name, "it closed the connection"));
            }
            let written = timeout(limit, lane.node.write(piece)).await;
            match written {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(Failure::new(&lane.name, plain(&error))),
                Err(_) => Some(stalled(&lane.name, limit)),
            }
        });
        let sent = join_all(sending).await;
        if sent.iter().all(Option::is_none) {
            return;
        }
        let mut closing = Vec::new();
        for (lane, failure) in std::mem::take(&mut self.live).into_iter().zip(sent) {
            match failure {
                None => self.live.push(lane),
                Some(why) => closing.push(self.desk.close_early(lane, why)),
            }
        }
        for end in join_all(closing).await {
            self.ended(end);
        }
    }

    /// Hears what the nodes make of it. The second value tells whether any of them got the file only now.
    pub(super) async fn finish(mut self) -> (Outcome, bool) {
        let live = std::mem::take(&mut self.live);
        let closing = live.into_iter().map(|lane| self.desk.close(lane, Ok(())));
        for end in join_all(closing).await {
            self.ended(end);
        }
        (self.outcome, self.created)
    }

    fn ended(&mut self, end: Result<Taken, Failure>) {
        match end {
            Ok(taken) => {
                self.created |= taken.created;
                self.outcome.done.push(taken.name);
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
