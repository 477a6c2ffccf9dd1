//! What the nodes tell while they work, for everybody who listens: each status once, also to who falls behind.

use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::broadcast::{self, error::RecvError, error::TryRecvError};

use crate::management::{News, Plan, Progress};

/// Lines that a client may fall behind before it is told the state anew instead.
const LINES_BEHIND_MAX: usize = 64;

/// What the nodes tell while they work.
pub(super) struct Feed {
    told: Mutex<Told>,
    lines: broadcast::Sender<Line>,
}

struct Told {
    progress: Progress,
    /// Whether a node has said something.
    begun: bool,
}

#[derive(Clone)]
struct Line {
    text: Bytes,
    /// How much had been told, this line included.
    place: usize,
}

/// A client's place at a job.
pub(super) struct Seat {
    pub(super) so_far: Vec<Bytes>,
    /// Whether the nodes have begun to tell.
    pub(super) begun: bool,
    lines: broadcast::Receiver<Line>,
    /// How much of what was told it has had.
    place: usize,
}

impl Feed {
    /// Nothing was told yet, but which nodes are skipped.
    pub(super) fn of(plan: &Plan) -> Feed {
        let names = plan.errands.iter().map(|it| it.target.name.clone());
        let mut progress = Progress::new(names);
        for skipped in &plan.skipped {
            let text = format!("{} was skipped: {}", skipped.node, skipped.why);
            progress.note(&skipped.node, &text);
        }
        let begun = false;
        Feed {
            told: Mutex::new(Told { progress, begun }),
            lines: broadcast::channel(LINES_BEHIND_MAX).0,
        }
    }

    /// From now on every line reaches this seat; what was told before is in it.
    pub(super) fn join(&self) -> Seat {
        self.join_at(0)
    }

    /// As [`Self::join`], for one who has had this much already.
    fn join_at(&self, place: usize) -> Seat {
        let told = self.lock();
        Seat {
            so_far: told.progress.since(place),
            begun: told.begun,
            lines: self.lines.subscribe(),
            place: told.progress.place(),
        }
    }

    /// A line that a node said. Its lines for the clients are on their way already.
    pub(super) fn heard(&self, node: usize, line: &[u8]) -> News {
        let mut told = self.lock();
        let mut news = told.progress.push(node, line);
        told.begun |= !news.lines.is_empty();
        self.send(&told, std::mem::take(&mut news.lines));
        news
    }

    /// A node failed.
    pub(super) fn lost(&self, node: usize) {
        let mut told = self.lock();
        let lines = told.progress.leave(node);
        self.send(&told, lines);
    }

    /// Only under the lock, or a client that joins could miss a line or get it twice.
    fn send(&self, told: &Told, lines: Vec<Bytes>) {
        let place = told.progress.place();
        for text in lines {
            let _ = self.lines.send(Line { text, place }); // nobody may be listening
        }
    }

    fn lock(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    /// Waits for the next line, or for more where it fell behind.
    pub(super) async fn next(&mut self, feed: &Feed) -> Vec<Bytes> {
        match self.lines.recv().await {
            Ok(line) => self.take(line),
            // What is still kept for it is older than the state that it is told now.
            Err(RecvError::Lagged(_)) => self.again(feed),
            // Not while the feed is there.
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }

    /// Lines that were told in the same moment as the end.
    pub(super) fn rest(&mut self, feed: &Feed) -> Vec<Bytes> {
        let mut rest = Vec::new();
        loop {
            match self.lines.try_recv() {
                Ok(line) => rest.extend(self.take(line)),
                Err(TryRecvError::Lagged(_)) => rest.extend(self.again(feed)),
                Err(TryRecvError::Empty | TryRecvError::Closed) => return rest,
            }
        }
    }

    fn take(&mut self, line: Line) -> Vec<Bytes> {
        self.place = line.place;
        vec![line.text]
    }

    fn again(&mut self, feed: &Feed) -> Vec<Bytes> {
        *self = feed.join_at(self.place);
        std::mem::take(&mut self.so_far)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed() -> Feed {
        Feed {
            told: Mutex::new(Told {
                progress: Progress::new(["a".to_owned()]),
                begun: false,
            }),
            lines: broadcast::channel(LINES_BEHIND_MAX).0,
        }
    }

    /// So many statuses, with a bar that moves between them.
    fn say(feed: &Feed, from: usize, to: usize) {
        for at in from..to {
            feed.heard(0, format!(r#"{{"status":"s{at}"}}"#).as_bytes());
            let bar = format!(r#"{{"status":"p","digest":"d","total":9999,"completed":{at}}}"#);
            feed.heard(0, bar.as_bytes());
        }
    }

    /// The statuses in their order, and how far the bar came.
    fn read(lines: &[Bytes]) -> (Vec<String>, u64) {
        let (mut statuses, mut completed) = (Vec::new(), 0);
        for line in lines {
            let line: serde_json::Value = serde_json::from_slice(line).unwrap();
            match line["digest"].is_string() {
                true => completed = line["completed"].as_u64().unwrap_or(0),
                false => statuses.push(line["status"].as_str().unwrap().to_owned()),
            }
        }
        (statuses, completed)
    }

    #[tokio::test]
    async fn who_falls_behind_gets_every_status_once_and_the_bar_as_it_stands() {
        for count in [1, 20, 32, 33, 300] {
            let named: Vec<String> = (0..count).map(|at| format!("s{at}")).collect();
            let expected = (named, count as u64 - 1);
            let (before, after) = (count / 3, count / 2);

            // All at once, at the end.
            let feed = feed();
            let mut seat = feed.join();
            say(&feed, 0, count);
            assert_eq!(read(&seat.rest(&feed)), expected, "{count}");
            assert!(seat.rest(&feed).is_empty());

            // In between, too, by one who came late.
            let feed = self::feed();
            say(&feed, 0, before);
            let mut seat = feed.join();
            let mut lines = std::mem::take(&mut seat.so_far);
            say(&feed, before, after);
            if before < after {
                lines.extend(seat.next(&feed).await);
            }
            say(&feed, after, count);
            lines.extend(seat.next(&feed).await);
            lines.extend(seat.rest(&feed));
            assert_eq!(read(&lines), expected, "{count}");
        }
    }
}
