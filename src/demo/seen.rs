//! What a node remembers of the requests it received.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tokio::sync::Notify;

use super::http::{Head, lock};

/// Older requests are forgotten, so that a load bench does not fill the memory.
const REQUESTS_MAX: usize = 4096;
const BODIES_BYTES_MAX: usize = 256 << 20;

/// One request as a node received it.
#[derive(Debug, Clone)]
pub struct Seen {
    /// In the letter case received.
    pub method: String,
    /// With its query, as sent.
    pub path: String,
    /// In the order and spelling received.
    pub headers: Vec<(String, String)>,
    /// Decoded from chunks; empty while it is still coming or when it was never read. Of a blob only the first 64 KiB.
    pub body: Bytes,
    /// Length of the whole body, as far as it was read.
    pub body_bytes: u64,
    /// Whether the request came over a connection that had served another one before.
    pub reused: bool,
    /// As of the moment of asking.
    pub outcome: Outcome,
}

impl Seen {
    /// The first header of that name, in any letter case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut found = self
            .headers
            .iter()
            .filter(|(n, _)| n.eq_ignore_ascii_case(name));
        found.next().map(|(_, v)| v.as_str())
    }
}

/// How a request went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Still being read or answered.
    Running,
    /// The node did what it meant to do, a fault on cue included.
    Finished,
    /// The client left, or the node was killed, before the answer was out.
    Cancelled,
}

#[derive(Default)]
struct Log {
    seen: VecDeque<Seen>,
    /// How many were forgotten at the front.
    forgotten: usize,
    bodies_bytes: usize,
}

/// The last requests, oldest first.
pub(super) struct Journal {
    log: Mutex<Log>,
    changed: Arc<Notify>,
}

impl Journal {
    pub(super) fn new(changed: Arc<Notify>) -> Journal {
        Journal {
            log: Mutex::default(),
            changed,
        }
    }

    pub(super) fn all(&self) -> Vec<Seen> {
        lock(&self.log).seen.iter().cloned().collect()
    }

    /// Writes a request down; the ticket tells later how it went.
    pub(super) fn begin(self: &Arc<Journal>, head: &Head, reused: bool) -> Ticket {
        let number = {
            let mut log = lock(&self.log);
            log.seen.push_back(Seen {
                method: head.method.clone(),
                path: head.target.clone(),
                headers: head.headers.clone(),
                body: Bytes::new(),
                body_bytes: 0,
                reused,
                outcome: Outcome::Running,
            });
            log.trim();
            log.forgotten + log.seen.len() - 1
        };
        self.changed.notify_waiters();
        Ticket {
            journal: Arc::clone(self),
            number,
            outcome: Outcome::Running,
        }
    }
}

impl Log {
    fn entry(&mut self, number: usize) -> Option<&mut Seen> {
        let at = number.checked_sub(self.forgotten)?;
        self.seen.get_mut(at)
    }

    fn trim(&mut self) {
        while self.seen.len() > 1
            && (REQUESTS_MAX < self.seen.len() || BODIES_BYTES_MAX < self.bodies_bytes)
        {
            if let Some(oldest) = self.seen.pop_front() {
                self.forgotten += 1;
                self.bodies_bytes -= oldest.body.len();
            }
        }
    }
}

/// One running request; dropped without a word it counts as cancelled.
pub(super) struct Ticket {
    journal: Arc<Journal>,
    number: usize,
    outcome: Outcome,
}

impl Ticket {
    pub(super) fn body(&self, body: &Bytes) {
        self.part_of_body(body, body.len() as u64);
    }

    /// What is kept of a body of so many bytes.
    pub(super) fn part_of_body(&self, body: &Bytes, bytes: u64) {
        {
            let mut log = lock(&self.journal.log);
            if let Some(seen) = log.entry(self.number) {
                seen.body = body.clone();
                seen.body_bytes = bytes;
                log.bodies_bytes += body.len();
            }
            log.trim();
        }
        self.journal.changed.notify_waiters();
    }

    /// Told before the last bytes go out, so that a client that has them finds it told.
    pub(super) fn finish(&mut self) {
        self.tell(Outcome::Finished);
    }

    pub(super) fn cancel(&mut self) {
        self.tell(Outcome::Cancelled);
    }

    fn tell(&mut self, outcome: Outcome) {
        self.outcome = outcome;
        if let Some(seen) = lock(&self.journal.log).entry(self.number) {
            seen.outcome = outcome;
        }
        self.journal.changed.notify_waiters();
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.outcome == Outcome::Running {
            self.cancel();
        }
    }
}
