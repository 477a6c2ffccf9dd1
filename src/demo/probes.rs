//! What a node tells those who only look: refused probes, and listings that are garbage, huge, slow or never end.

use std::future::pending;
use std::io;
use std::time::Duration;

use tokio::time::sleep;

use super::ask::error;
use super::exchange::{Exchange, Next};
use super::http::{self, Answer, Framing, Head, JSON, lock};
use super::seen::Ticket;
use super::{Node, Shared};

const CHUNK_BYTES: usize = 64 << 10;

/// One way to get a listing of models wrong; it strikes GET on every path that lists models.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListingFault {
    /// 200 and a page that is no JSON.
    Garbage,
    /// 200 and JSON of another shape.
    WrongShape,
    /// A well-formed listing of at least so many bytes, in chunks.
    Huge {
        /// Length of the body.
        bytes: usize,
    },
    /// The right listing, so many milliseconds late.
    Slow {
        /// Milliseconds.
        ms: u64,
    },
    /// No answer at all.
    Never,
    /// The right listing without its second half, then FIN.
    Truncated,
}

/// What probes are to find.
#[derive(Debug, Default)]
pub(super) struct Probes {
    status: Option<(u16, Option<u32>)>,
    listing: Option<ListingFault>,
}

impl Node {
    /// Every GET and HEAD gets this status, and `Retry-After` in seconds, until it is set to `None`; calls go on as before.
    pub fn probe_status(&self, status: Option<u16>, retry_after_s: Option<u32>) {
        lock(&self.shared.probes).status = status.map(|status| (status, retry_after_s));
    }

    /// Every listing fails like this, until it is set to `None`; the health path and calls go on as before.
    pub fn listing_fault(&self, fault: Option<ListingFault>) {
        lock(&self.shared.probes).listing = fault;
    }
}

/// What is wrong with the answer to a probe.
#[derive(Debug)]
pub(super) enum ProbeFault {
    Status(u16, Option<u32>),
    Listing(ListingFault),
}

/// The fault that strikes this request, if it is a probe at all.
pub(super) fn fault(shared: &Shared, head: &Head) -> Option<ProbeFault> {
    let path = head.path();
    if !matches!(head.method.as_str(), "GET" | "HEAD") || path.starts_with("/demo/") {
        return None;
    }
    let probes = lock(&shared.probes);
    if let Some((status, retry_after_s)) = probes.status {
        return Some(ProbeFault::Status(status, retry_after_s));
    }
    let is_listing = matches!(
        path,
        "/api/tags" | "/api/ps" | "/v1/models" | "/models" | "/api/v0/models"
    );
    let listing = probes
        .listing
        .filter(|_| is_listing && head.method == "GET");
    listing.map(ProbeFault::Listing)
}

impl Exchange<'_> {
    /// Answers a probe wrongly; `right` is what it should have read.
    pub(super) async fn misprobe(
        &self,
        fault: ProbeFault,
        right: Answer,
        ticket: &mut Ticket,
    ) -> io::Result<Next> {
        let fault = match fault {
            ProbeFault::Status(status, retry_after_s) => {
                let mut answer = error(self.head.path(), status, "this node refuses to be probed");
                if let Some(seconds) = retry_after_s {
                    answer = answer.with("Retry-After", seconds.to_string());
                }
                return self.reply(answer, ticket).await;
            }
            ProbeFault::Listing(fault) => fault,
        };
        let wrong = |body: &str| Answer::new(200, JSON, body.to_owned());
        match fault {
            ListingFault::Garbage => self.reply(wrong("<html>moved\0"), ticket).await,
            ListingFault::WrongShape => {
                let body = "{\"models\":{\"name\":7},\"data\":\"none\",\"object\":[]}";
                self.reply(wrong(body), ticket).await
            }
            ListingFault::Huge { bytes } => self.huge_listing(bytes, ticket).await,
            ListingFault::Slow { ms } => {
                sleep(Duration::from_millis(ms)).await;
                self.reply(right, ticket).await
            }
            ListingFault::Never => pending().await,
            ListingFault::Truncated => {
                let length = Framing::Length(right.body.len());
                let whole = right.framed(length);
                let bytes = whole.bytes(false, false);
                ticket.finish();
                let kept = bytes.len() - whole.body.len().div_ceil(2);
                self.conn.write(&bytes[..kept]).await?;
                Ok(Next::Close)
            }
        }
    }

    async fn huge_listing(&self, bytes: usize, ticket: &mut Ticket) -> io::Result<Next> {
        let is_native = matches!(self.head.path(), "/api/tags" | "/api/ps");
        let headers = [("Content-Type", JSON.to_owned())];
        let mut out = http::head(200, &headers, Framing::Chunked, false);
        let mut chunk = match is_native {
            true => "{\"models\":[".to_owned(),
            false => "{\"object\":\"list\",\"data\":[".to_owned(),
        };
        let (mut sent, mut number) = (0, 0_u64);
        while sent + chunk.len() < bytes {
            let name = format!("huge-{number}:latest");
            let separator = if number == 0 { "" } else { "," };
            chunk.push_str(&match is_native {
                true => format!("{separator}{{\"name\":\"{name}\",\"model\":\"{name}\",\"size\":1,\"digest\":\"{number:064x}\"}}"),
                false => format!("{separator}{{\"id\":\"{name}\",\"object\":\"model\"}}"),
            });
            number += 1;
            if CHUNK_BYTES < chunk.len() {
                http::chunk(&mut out, chunk.as_bytes());
                self.conn.write(&out).await?;
                sent += chunk.len();
                out.clear();
                chunk.clear();
            }
        }
        http::chunk(&mut out, (chunk + "]}").as_bytes());
        out.extend_from_slice(b"0\r\n\r\n");
        ticket.finish();
        self.conn.write(&out).await?;
        Ok(self.next(Framing::Chunked))
    }
}
