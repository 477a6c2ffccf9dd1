//! What the client of a change is told: lines while the nodes work, then the end.

use std::pin::pin;

use bytes::Bytes;
use pingora::http::ResponseHeader;

use crate::error::Fault;
use crate::gateway::client::{Client, broken, insert, put_ids};
use crate::gateway::proxy::Context;

use crate::management::{Manner, Outcome};
use crate::telemetry::record::{EndBy, Phase};
use crate::text::quoted;

use super::Desk;
use super::feed::Seat;
use super::job::{Job, Next};

/// Most names of nodes in a header or an access line.
const NAMED_MAX: usize = 3;
/// What Ollama says at the end.
const SUCCESS: &str = "{\"status\":\"success\"}";

/// An answer of our own about nodes.
pub(super) struct Told<'a> {
    pub(super) status: u16,
    pub(super) content_type: &'static str,
    pub(super) body: Bytes,
    pub(super) nodes: &'a [String],
    pub(super) outcome: Option<&'a Outcome>,
}

impl Desk {
    /// Drives a job and tells the client of it.
    ///
    /// # Errors
    /// `ClientGone`, or what became of the job when nothing has been told yet.
    pub(super) async fn tell(
        &self,
        client: &mut Client<'_>,
        manner: Manner,
        job: &Job,
        ctx: &mut Context,
    ) -> Result<(), Fault> {
        let whole = match manner {
            Manner::Progress { stream: true } => return self.stream(client, job, ctx).await,
            Manner::Progress { stream: false } => SUCCESS,
            Manner::Whole(body) => body,
        };
        let outcome = {
            let end = pin!(job.end());
            client.unless_gone(end).await?
        };
        if let Some(fault) = outcome.fault(&job.words) {
            return Err(fault);
        }
        let told = Told {
            status: 200,
            content_type: "application/json; charset=utf-8",
            body: Bytes::from_static(whole.as_bytes()),
            nodes: &job.nodes,
            outcome: Some(&outcome),
        };
        answer(client, told, ctx).await
    }

    async fn stream(
        &self,
        client: &mut Client<'_>,
        job: &Job,
        ctx: &mut Context,
    ) -> Result<(), Fault> {
        let mut seat = job.feed.join();
        let mut held = std::mem::take(&mut seat.so_far);
        let mut begun = false;
        if seat.begun {
            begin(client, "application/x-ndjson", &job.nodes, ctx).await?;
            begun = true;
            write(client, &mut held).await?;
        }
        let outcome = loop {
            match next(client, job, &mut seat).await? {
                Next::Lines(lines) => held.extend(lines),
                Next::End(outcome) => break outcome,
            }
            if !begun {
                begin(client, "application/x-ndjson", &job.nodes, ctx).await?;
                begun = true;
            }
            write(client, &mut held).await?;
        };
        let fault = outcome.fault(&job.words);
        if let (false, Some(fault)) = (begun, &fault) {
            return Err(fault.clone()); // nothing was told, so the status still can
        }
        if !begun {
            begin(client, "application/x-ndjson", &job.nodes, ctx).await?;
        }
        write(client, &mut held).await?;
        let last = match &fault {
            None => format!("{SUCCESS}\n"),
            Some(fault) => format!("{{\"error\":{}}}\n", quoted(&fault.message)),
        };
        end(client, last, fault, ctx).await
    }
}

/// Ends a stream as Ollama does, also one that failed: its last line tells, and the connection stays.
pub(super) async fn end(
    client: &mut Client<'_>,
    last: String,
    fault: Option<Fault>,
    ctx: &mut Context,
) -> Result<(), Fault> {
    client.write(last.into(), false).await?;
    client.write(Bytes::new(), true).await?;
    match fault {
        None => ctx.record.end_by = EndBy::Done,
        Some(fault) => {
            ctx.record.end_by = EndBy::Node;
            ctx.record.fault = Some(fault.message);
        }
    }
    Ok(())
}

async fn next(client: &mut Client<'_>, job: &Job, seat: &mut Seat) -> Result<Next, Fault> {
    let next = pin!(job.next(seat));
    client.unless_gone(next).await
}

pub(super) async fn write(client: &mut Client<'_>, lines: &mut Vec<Bytes>) -> Result<(), Fault> {
    for line in lines.drain(..) {
        client.write(line, false).await?;
    }
    Ok(())
}

/// Sends the head of a stream.
pub(super) async fn begin(
    client: &mut Client<'_>,
    content_type: &'static str,
    nodes: &[String],
    ctx: &mut Context,
) -> Result<(), Fault> {
    ctx.record.phase = Phase::Stream;
    let head = head(200, content_type, nodes, ctx)?;
    client.write_head(head).await
}

/// Sends a whole answer.
pub(super) async fn answer(
    client: &mut Client<'_>,
    told: Told<'_>,
    ctx: &mut Context,
) -> Result<(), Fault> {
    ctx.record.phase = Phase::Stream;
    let mut head = head(told.status, told.content_type, told.nodes, ctx)?;
    insert(&mut head, "content-length", &told.body.len().to_string())?;
    let skipped = told.outcome.map_or(&[][..], |outcome| &outcome.skipped);
    if !skipped.is_empty() {
        let names: Vec<&str> = skipped.iter().map(|it| it.node.as_str()).collect();
        insert(&mut head, "x-arriero-skipped", &some_of(&names))?;
    }
    client.finish(head, told.body).await?;
    ctx.record.end_by = EndBy::Done;
    Ok(())
}

fn head(
    status: u16,
    content_type: &'static str,
    nodes: &[String],
    ctx: &Context,
) -> Result<ResponseHeader, Fault> {
    let mut head = ResponseHeader::build_no_case(status, Some(6)).map_err(broken)?;
    insert(&mut head, "content-type", content_type)?;
    if !nodes.is_empty() {
        let names: Vec<&str> = nodes.iter().map(String::as_str).collect();
        insert(&mut head, "x-arriero-node", &some_of(&names))?;
    }
    put_ids(&mut head, ctx.dialect, &ctx.record.request_id)?;
    Ok(head)
}

/// `a,b,c,+2`
pub(super) fn some_of(names: &[&str]) -> String {
    let mut text = names[..names.len().min(NAMED_MAX)].join(",");
    if NAMED_MAX < names.len() {
        text += &format!(",+{}", names.len() - NAMED_MAX);
    }
    text
}
