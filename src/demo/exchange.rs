//! One request and its answer, with what goes wrong on cue.

use std::future::pending;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::answer::{Act, Job, Said, Stats};
use super::ask::refusal;
use super::blobs::{self, Upload};
use super::conn::Conn;
use super::engine::{Turn, Wish};
use super::fault::{Cut, Fault};
use super::http::{self, Answer, Framing, Head};
use super::ollama::DIED;
use super::routes::route;
use super::seen::Ticket;
use super::wire::Wire;
use super::{Shared, others, probes};

const BUSY: &str = "server busy, please try again.  maximum pending requests exceeded";
const GIANT_CHUNK_BYTES: usize = 64 << 10;

/// What becomes of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    KeepAlive,
    Close,
    Reset,
}

pub(super) struct Exchange<'a> {
    pub shared: &'a Arc<Shared>,
    pub conn: &'a Conn,
    pub head: &'a Head,
    pub fault: Option<Fault>,
}

impl Exchange<'_> {
    pub(super) async fn run(&self, reused: bool) -> Next {
        let mut ticket = self.shared.journal.begin(self.head, reused);
        if let Some(fault) = self.fault.as_ref().filter(|f| f.is_early()) {
            let next = self.refuse_early(fault).await;
            ticket.finish();
            return next;
        }
        let pace = match self.fault {
            Some(Fault::SlowRead { bytes, ms }) => Some((bytes.max(1), Duration::from_millis(ms))),
            _ => None,
        };
        let act = match self.read(pace, &ticket).await {
            Ok(Act::SayEarly(answer)) => return self.say_early(&answer, ticket).await,
            Ok(act) => act,
            Err(_) => return Next::Close,
        };
        let done = tokio::select! {
            biased;
            () = self.conn.gone() => None,
            done = self.answer(act, &mut ticket) => done.ok(),
        };
        match done {
            Some(next) => next,
            None => {
                ticket.cancel();
                Next::Close
            }
        }
    }

    /// Reads the request's body and what is to be done.
    async fn read(&self, pace: Option<(usize, Duration)>, ticket: &Ticket) -> io::Result<Act> {
        if blobs::is_upload(self.shared, self.head) {
            let upload = Upload {
                shared: self.shared,
                conn: self.conn,
                head: self.head,
                pace,
                ticket,
            };
            return upload.take().await;
        }
        let body = self.conn.body(self.head, pace).await?;
        ticket.body(&body);
        Ok(route(self.shared, self.head, &body))
    }

    /// Answers although the client still sends; it may finish, but the connection serves nothing more.
    async fn say_early(&self, answer: &Answer, mut ticket: Ticket) -> Next {
        ticket.finish();
        if self.conn.write(&answer.bytes(false, true)).await.is_ok() {
            self.conn.discard().await;
        }
        Next::Close
    }

    async fn refuse_early(&self, fault: &Fault) -> Next {
        if let Some(answer) = fault.answer(self.head.path()) {
            // Whether it arrives is the client's race against the reset that unread bytes cause.
            let _ = self.conn.write(&answer.bytes(false, true)).await;
        }
        match fault {
            Fault::StaleReset => Next::Reset,
            _ => Next::Close,
        }
    }

    async fn answer(&self, act: Act, ticket: &mut Ticket) -> io::Result<Next> {
        if let Some(fault) = &self.fault {
            match fault {
                Fault::DelayHeaders { ms } => sleep(Duration::from_millis(*ms)).await,
                Fault::NeverHeaders => pending().await,
                Fault::FinBeforeHead | Fault::RstBeforeHead => {
                    ticket.finish();
                    let is_fin = *fault == Fault::FinBeforeHead;
                    return Ok(if is_fin { Next::Close } else { Next::Reset });
                }
                _ => {}
            }
            if let Some(bytes) = fault.broken_head() {
                ticket.finish();
                self.conn.write(bytes).await?;
                return Ok(Next::Close);
            }
            if let Some(answer) = fault.answer(self.head.path()) {
                return self.reply(answer, ticket).await;
            }
        }
        match act {
            Act::Say(answer) | Act::SayEarly(answer) => {
                match probes::fault(self.shared, self.head) {
                    Some(fault) => self.misprobe(fault, answer, ticket).await,
                    None => self.reply(answer, ticket).await,
                }
            }
            Act::Work(work) => self.work(work, ticket).await,
            Act::WarmUp(wish, then) => {
                let done = self.warm_up(&wish).await;
                self.reply(then(done), ticket).await
            }
            Act::Compute(wish, then) => {
                let turn = self.shared.engine.enter(&wish).await;
                let load = turn.as_ref().map(|t| t.load).map_err(|_| BUSY);
                self.pace(0).await;
                drop(turn);
                self.reply(then(load), ticket).await
            }
            Act::Generate(job) => self.generate(job, ticket).await,
        }
    }

    async fn warm_up(&self, wish: &Wish) -> Result<(), &'static str> {
        if wish.keep_alive == Some(Duration::ZERO) {
            self.shared.engine.unload(&wish.model);
            return Ok(());
        }
        self.shared.engine.warm_up(wish).await.map_err(|_| BUSY)
    }

    async fn generate(&self, job: Job, ticket: &mut Ticket) -> io::Result<Next> {
        let began = Instant::now();
        let Ok(turn) = self.shared.engine.enter(&job.wish).await else {
            let busy = refusal(&*job.voice, job.is_stream, 503, BUSY);
            return self.reply(busy, ticket).await;
        };
        match self.fault {
            Some(Fault::HeadersOnly) => {
                let head = self.stream_head(&job, Framing::Chunked);
                self.conn.write(&head).await?;
                pending().await
            }
            Some(Fault::GiantLine { bytes }) => self.giant_line(&job, bytes, ticket).await,
            Some(Fault::ShortLength | Fault::LongLength | Fault::SecondResponse) => {
                self.whole(job, turn, began, ticket).await
            }
            _ if job.is_stream => self.stream(job, turn, began, ticket).await,
            _ => self.whole(job, turn, began, ticket).await,
        }
    }

    async fn stream(
        &self,
        mut job: Job,
        turn: Turn,
        began: Instant,
        ticket: &mut Ticket,
    ) -> io::Result<Next> {
        let framing = match self.fault {
            Some(Fault::CloseDelimited) => Framing::Close,
            _ if self.head.is_http10 => Framing::Close,
            _ => Framing::Chunked,
        };
        // Nothing leaves before the first token, so the head waits in the buffer.
        let mut wire = Wire {
            out: self.stream_head(&job, framing),
            chunks: Vec::new(),
            framing,
        };
        let mut sent = 0;
        loop {
            if let Some(cut) = self.cut(sent) {
                return self.cut_off(cut, sent, job, wire, ticket).await;
            }
            self.pace(sent).await;
            let Some(piece) = job.pieces.get(sent) else {
                break;
            };
            job.voice.piece(piece, &mut wire.chunks);
            wire.flush(self.conn).await?;
            sent += 1;
        }
        let stats = job.stats(&turn, began);
        job.voice.finish(&stats, &mut wire.chunks);
        drop(turn);
        ticket.finish();
        wire.end(self.conn).await?;
        Ok(self.next(framing))
    }

    async fn whole(
        &self,
        job: Job,
        turn: Turn,
        began: Instant,
        ticket: &mut Ticket,
    ) -> io::Result<Next> {
        let mut said = Said::default();
        for sent in 0..=job.pieces.len() {
            match self.cut(sent) {
                None => {}
                Some(Cut::Reset) => return Ok(self.end(ticket, Next::Reset)),
                Some(Cut::Fin | Cut::BadChunk) => return Ok(self.end(ticket, Next::Close)),
                Some(Cut::Stall) => pending().await,
                Some(Cut::RunnerDies) => {
                    return self.reply(job.voice.refuse(500, DIED), ticket).await;
                }
                Some(Cut::Stuck) => return self.reply(job.voice.whole(&said, None), ticket).await,
            }
            self.pace(sent).await;
            if let Some(piece) = job.pieces.get(sent) {
                said.add(piece);
            }
        }
        let answer = job.voice.whole(&said, Some(&job.stats(&turn, began)));
        drop(turn);
        self.reply(answer, ticket).await
    }

    async fn cut_off(
        &self,
        cut: Cut,
        sent: usize,
        mut job: Job,
        mut wire: Wire,
        ticket: &mut Ticket,
    ) -> io::Result<Next> {
        match cut {
            Cut::Reset => return Ok(self.end(ticket, Next::Reset)),
            Cut::Fin => return Ok(self.end(ticket, Next::Close)),
            Cut::Stall => pending().await,
            Cut::BadChunk => {
                wire.out.extend_from_slice(b"xyz\r\nnot a chunk\r\n");
                ticket.finish();
                self.conn.write(&wire.out).await?;
                return Ok(Next::Close);
            }
            // Before the first token a dead runner still has a status of its own.
            Cut::RunnerDies if sent == 0 => {
                let refused = refusal(&*job.voice, true, 500, DIED);
                return self.reply(refused, ticket).await;
            }
            Cut::RunnerDies => job.voice.died(&mut wire.chunks),
            Cut::Stuck => {}
        }
        ticket.finish();
        let framing = wire.framing;
        wire.end(self.conn).await?;
        Ok(self.next(framing))
    }

    async fn giant_line(&self, job: &Job, bytes: usize, ticket: &mut Ticket) -> io::Result<Next> {
        self.conn
            .write(&self.stream_head(job, Framing::Chunked))
            .await?;
        let mut left = bytes;
        while left > 0 {
            let size = left.min(GIANT_CHUNK_BYTES);
            let mut out = Vec::with_capacity(size + 16);
            http::chunk(&mut out, &vec![b'a'; size]);
            self.conn.write(&out).await?;
            left -= size;
        }
        ticket.finish();
        self.conn.write(b"0\r\n\r\n").await?;
        Ok(self.next(Framing::Chunked))
    }

    /// Sends a whole answer, with the faults that only falsify its length or its headers.
    pub(super) async fn reply(&self, mut answer: Answer, ticket: &mut Ticket) -> io::Result<Next> {
        answer.headers.extend(self.extra_headers());
        let mut framing = answer.framing;
        let mut after: &[u8] = b"";
        match self.fault {
            Some(Fault::ShortLength) => framing = Framing::Length(answer.body.len() + 64),
            Some(Fault::LongLength) => {
                framing = Framing::Length(answer.body.len().saturating_sub(8))
            }
            Some(Fault::SecondResponse) => {
                after = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 6\r\n\r\nsecond";
            }
            Some(Fault::CloseDelimited) => framing = Framing::Close,
            _ => {}
        }
        if self.head.is_http10 && framing == Framing::Chunked {
            framing = Framing::Close;
        }
        let is_head = self.head.method == "HEAD";
        let mut bytes = answer.framed(framing).bytes(is_head, self.head.closes());
        bytes.extend_from_slice(after);
        ticket.finish();
        self.conn.write(&bytes).await?;
        let is_short = matches!(
            self.fault,
            Some(Fault::ShortLength | Fault::SecondResponse | Fault::LongLength)
        );
        Ok(if is_short {
            Next::Close
        } else {
            self.next(framing)
        })
    }

    fn stream_head(&self, job: &Job, framing: Framing) -> Vec<u8> {
        let mut headers = vec![("Content-Type", job.voice.stream_type().to_owned())];
        let more = job.voice.stream_headers().iter();
        headers.extend(more.map(|(name, value)| (*name, (*value).to_owned())));
        headers.extend(self.extra_headers());
        http::head(200, &headers, framing, self.head.closes())
    }

    fn extra_headers(&self) -> impl Iterator<Item = (&'static str, String)> {
        let of_fault = self.fault.as_ref().map_or(&[][..], Fault::headers);
        let of_kind = match of_fault {
            [] => others::headers(self.shared.settings.kind),
            _ => &[],
        };
        of_fault
            .iter()
            .chain(of_kind)
            .map(|(n, v)| (*n, (*v).to_owned()))
    }

    pub(super) fn cut(&self, sent: usize) -> Option<Cut> {
        self.fault.as_ref().and_then(|f| f.cut(sent))
    }

    /// The time a token takes, and the pause that a test may have asked for.
    async fn pace(&self, sent: usize) {
        self.rest().await;
        self.shared.gate(sent).await;
    }

    pub(super) async fn rest(&self) {
        let delay = self.shared.settings.token_delay;
        if !delay.is_zero() {
            sleep(delay).await;
        }
    }

    pub(super) fn end(&self, ticket: &mut Ticket, next: Next) -> Next {
        ticket.finish();
        next
    }

    pub(super) fn next(&self, framing: Framing) -> Next {
        if self.head.closes() || framing == Framing::Close {
            Next::Close
        } else {
            Next::KeepAlive
        }
    }
}

impl Job {
    fn stats(&self, turn: &Turn, began: Instant) -> Stats {
        Stats {
            reason: self.reason,
            total: began.elapsed(),
            load: turn.load,
            tokens_in: self.tokens_in,
            tokens_out: self.pieces.len(),
        }
    }
}
