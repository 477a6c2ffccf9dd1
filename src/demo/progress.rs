//! Work that tells how far it is, line by line: pulls, pushes and creates on the wire, with what cuts them short.

use std::future::pending;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::Shared;
use super::exchange::{Exchange, Next};
use super::fault::Cut;
use super::http::{self, Answer, BARE_JSON, Framing, NDJSON};
use super::json::quote;
use super::manage::{Step, Work};
use super::seen::Ticket;
use super::wire::Wire;

/// What a client reads when the registry broke off.
const BROKEN_OFF: &str = "max retries exceeded: unexpected EOF";

/// How work ended.
enum End {
    Done,
    Failed(String),
    /// Nothing more is said.
    Cut(Cut),
}

impl Exchange<'_> {
    pub(super) async fn work(&self, work: Work, ticket: &mut Ticket) -> io::Result<Next> {
        let pulling = work
            .is_pull
            .then(|| Counted::new(self.shared, |s| &s.pulling));
        let framing = match self.head.is_http10 {
            true => Framing::Close,
            false => Framing::Chunked,
        };
        let headers = [("Content-Type", NDJSON.to_owned())];
        let mut wire = work.is_stream.then(|| Wire {
            out: http::head(200, &headers, framing, self.head.closes()),
            chunks: Vec::new(),
            framing,
        });
        let end = self.steps(work.steps, wire.as_mut()).await?;
        drop(pulling);
        match (end, wire) {
            (End::Cut(Cut::Reset), _) => Ok(self.end(ticket, Next::Reset)),
            (End::Cut(Cut::Fin), _) => Ok(self.end(ticket, Next::Close)),
            (End::Cut(Cut::Stall), _) => pending().await,
            (End::Cut(Cut::BadChunk), _) => {
                ticket.finish();
                self.conn.write(b"xyz\r\nnot a chunk\r\n").await?;
                Ok(Next::Close)
            }
            (End::Failed(sentence), None) => {
                let body = format!("{{\"error\":{}}}", quote(&sentence));
                self.reply(Answer::new(500, BARE_JSON, body), ticket).await
            }
            (_, None) => {
                let body = "{\"status\":\"success\"}".to_owned();
                self.reply(Answer::new(200, BARE_JSON, body), ticket).await
            }
            (end, Some(mut wire)) => {
                if let End::Failed(sentence) = end {
                    let line = format!("{{\"error\":{}}}\n", quote(&sentence));
                    wire.chunks.push(line);
                }
                ticket.finish();
                wire.end(self.conn).await?;
                Ok(self.next(framing))
            }
        }
    }

    async fn steps(&self, steps: Vec<Step>, mut wire: Option<&mut Wire>) -> io::Result<End> {
        let mut said = 0;
        for step in steps {
            match step {
                Step::Say(line) => {
                    match self.cut(said) {
                        None => {}
                        Some(Cut::RunnerDies) => return Ok(End::Failed(BROKEN_OFF.to_owned())),
                        Some(cut) => return Ok(End::Cut(cut)),
                    }
                    self.rest().await;
                    said += 1;
                    if let Some(wire) = wire.as_mut() {
                        wire.chunks.push(line + "\n");
                        wire.flush(self.conn).await?;
                    }
                }
                Step::Hold => {
                    let mut held = self.shared.pulls_held.subscribe();
                    // An error means that the node is gone; its connections end with it.
                    let _ = held.wait_for(|h| !h).await;
                }
                Step::Install(model) => self.shared.put(model),
                Step::Fail(sentence) => return Ok(End::Failed(sentence)),
            }
        }
        Ok(End::Done)
    }
}

/// Something that goes on, counted until it ends or is given up.
pub(super) struct Counted<'a> {
    shared: &'a Shared,
    count: fn(&Shared) -> &AtomicUsize,
}

impl Counted<'_> {
    pub(super) fn new(shared: &Shared, count: fn(&Shared) -> &AtomicUsize) -> Counted<'_> {
        count(shared).fetch_add(1, Ordering::SeqCst);
        shared.changed.notify_waiters();
        Counted { shared, count }
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        (self.count)(self.shared).fetch_sub(1, Ordering::SeqCst);
        self.shared.changed.notify_waiters();
    }
}
