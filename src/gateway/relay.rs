//! Bytes from a node to a client, both ends watched; a stream that does not end as it should never looks as if it did.

use std::borrow::Cow;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, timeout_at};

use crate::admission::Claim;
use crate::config::Proxy;
use crate::dialect::{Call, Close, Framing, Meter};
use crate::error::Fault;
use crate::fleet::{Lease, NodeId, Observation, Shown};
use crate::routing::OllaWords;
use crate::telemetry::record::EndBy;

mod cut;
use cut::{Cut, cut};

use super::Gateway;
use super::client::{Client, insert, put_ids};
use super::credentials::NodeAccess;
use super::failure::Broken;
use super::outgoing::client_head;
use super::place::Placed;
use super::proxy::Context;
use super::recall::Stickiness;
use super::upstream::{Answer, Connection};

/// What was decided for a request: the call, the node that serves it, and the slot it holds there.
pub(super) struct Served {
    pub(super) call: Call,
    /// Whether the asked name is one that stands for others.
    pub(super) is_alias: bool,
    pub(super) expected: Expected,
    pub(super) placed: Placed,
    /// Why that node, for `X-Arriero-Route`.
    pub(super) told: Cow<'static, str>,
    /// Where sessions are configured to stay with their nodes.
    pub(super) sticky: Option<Stickiness>,
}

/// What a request was expected to take, and who pays for it.
#[derive(Clone, Copy)]
pub(super) struct Expected {
    pub(super) prompt_tokens: u64,
    /// Of that, what the node has read before.
    pub(super) cached_tokens: u64,
    pub(super) claim: Claim,
}

/// How the node's side ended.
enum End {
    Clean,
    Broken(Broken),
    OutOfTime,
}

impl Gateway {
    /// Gives the client the answer, whole or honestly cut.
    ///
    /// # Errors
    /// After the first byte: the client left, the node broke off, or it ended without its terminal chunk. The client has
    /// been told in-band; the caller breaks the connection off.
    pub(super) async fn relay(
        &self,
        client: &mut Client<'_>,
        answer: Answer,
        served: Served,
        ctx: &mut Context,
    ) -> Result<(), Fault> {
        let Served {
            call,
            is_alias,
            expected,
            placed,
            told,
            sticky,
        } = served;
        let Placed {
            route,
            access,
            lease,
            since,
            paid,
            ..
        } = placed;
        let config = ctx.config.clone();
        ctx.record.first_byte = Some(ctx.elapsed());
        let (head, framing) = (answer.node.head(), framing(answer.node.head()));
        let served_by = ServedBy {
            access: &access,
            // Where we know no better, the client's word went out.
            model: route.spelled.as_deref().or(ctx.record.model.as_deref()),
            route: &told,
            olla: OllaWords::new(&config.registry, is_alias, route.reason),
            sticky,
        };
        let written = self.write_answer_head(client, head, &call, served_by, ctx);
        written.await?;
        let reads = head.status.is_success() && call.operation.runs_model();
        let figures = &access.config.profile.figures;
        let extraction = reads.then(|| figures.extraction()).flatten();
        let mut stream = Relayed {
            meter: Meter::new(call.operation, framing).keeping(extraction),
            announced: announces_end(head),
            first_token: None,
            node: answer.node,
        };
        let limits = &config.proxy;
        let ended = pump(client, &mut stream, answer.first, limits).await;
        let ended = ended.map(|end| {
            let cut = self.verdict_on_end(&end, &mut stream, &access, route.node, limits);
            (cut, end)
        });
        let is_telling = matches!(ended, Ok((None, _))) && route.warm && reads;
        let shown = stream.shown(since, expected, self.uptime());
        // The slot is free as soon as the node has nothing more to do for us, not when the client has read the last byte.
        self.give_back(lease, is_telling, shown, expected.claim, paid);
        ctx.tell_stream(&mut stream.meter, stream.first_token, stream.node.head());
        let (cut, end) = ended?;
        let Some(fault) = cut else {
            client.write(Bytes::new(), true).await?;
            if matches!(end, End::Clean) {
                self.reuse(stream.node).await;
            }
            ctx.record.end_by = EndBy::Done;
            return Ok(());
        };
        drop(stream.node);
        Err(fault.tell(client, &call, framing, &stream.meter).await)
    }

    /// Gives a slot back, and draws from the request what it has shown.
    fn give_back(&self, lease: Lease, is_telling: bool, shown: Shown, claim: Claim, paid: u64) {
        if is_telling {
            lease.served(shown);
        }
        drop(lease);
        let used = shown.tokens_in + shown.tokens_out.unwrap_or(0);
        self.settle(claim, paid, used);
    }

    async fn write_answer_head(
        &self,
        client: &mut Client<'_>,
        from: &pingora::http::ResponseHeader,
        call: &Call,
        served_by: ServedBy<'_>,
        ctx: &Context,
    ) -> Result<(), Fault> {
        let mut head = client_head(from.status.as_u16(), &from.headers)?;
        if let Some(length) = from.headers.get(http::header::CONTENT_LENGTH) {
            head.insert_header(http::header::CONTENT_LENGTH, length.clone())
                .map_err(super::client::broken)?;
        }
        self.mark(&mut head, call, served_by, ctx)?;
        client.write_head(head).await
    }

    /// Puts on an answer who gave it and why.
    pub(super) fn mark(
        &self,
        head: &mut pingora::http::ResponseHeader,
        call: &Call,
        served_by: ServedBy<'_>,
        ctx: &Context,
    ) -> Result<(), Fault> {
        let record = &ctx.record;
        let node = &served_by.access.config;
        insert(head, "x-arriero-node", &node.name)?;
        if let Some(model) = served_by.model {
            insert(head, "x-arriero-model", model)?;
        }
        insert(head, "x-arriero-route", served_by.route)?;
        insert(head, "x-arriero-attempts", &record.attempts.to_string())?;
        insert(
            head,
            "x-arriero-queue-ms",
            &record.queue.as_millis().to_string(),
        )?;
        insert(head, "x-arriero-mode", "passthrough")?;
        put_ids(head, call.dialect, &record.request_id)?;
        if call.olla {
            insert(head, "x-olla-endpoint", &node.name)?;
            insert(head, "x-olla-backend-type", &node.profile.name)?;
            let asked = record.model.as_deref().unwrap_or_default();
            insert(head, "x-olla-model", asked)?;
            insert(head, "x-olla-request-id", &record.request_id)?;
            insert(
                head,
                "x-olla-response-time",
                &format!("{}ms", ctx.elapsed().as_millis()),
            )?;
            for (name, value) in served_by.olla.headers() {
                insert(head, name, value)?;
            }
            insert(head, "x-olla-mode", "passthrough")?;
            if let Some(sticky) = &served_by.sticky {
                sticky.mark(head)?;
            }
        }
        Ok(())
    }

    /// Whether the end is one that the client must be told of; the node's health learns of it.
    fn verdict_on_end(
        &self,
        end: &End,
        stream: &mut Relayed,
        access: &NodeAccess,
        node: NodeId,
        limits: &Proxy,
    ) -> Option<Cut> {
        let close = match end {
            End::Clean if stream.announced => Close::Framed,
            End::Clean => Close::Unannounced,
            End::Broken(_) | End::OutOfTime => Close::Cut,
        };
        let ending = stream.meter.finish(close);
        let name = access.name();
        let cut = cut(name, end, &ending, limits.read_timeout);
        match &cut {
            None => self.observe(node, Observation::Traffic(Ok(()))),
            Some(Cut {
                blame: Some(blame), ..
            }) => {
                self.count_failure(name, blame.reason);
                let symptom = blame.symptom.clone();
                self.observe(node, Observation::Traffic(Err(symptom)));
            }
            Some(_) => (),
        }
        cut
    }
}

/// Moves bytes until the node's side ends.
///
/// # Errors
/// `ClientGone`; the node's connection is then dropped by the caller, which stops its work.
async fn pump(
    client: &mut Client<'_>,
    stream: &mut Relayed,
    first: Option<Bytes>,
    limits: &Proxy,
) -> Result<End, Fault> {
    let silence_max = limits.read_timeout;
    let deadline = limits.response_timeout.map(|limit| Instant::now() + limit);
    let Some(first) = first else {
        return Ok(End::Clean);
    };
    stream.pass(client, first).await?;
    loop {
        // A timer alone would never get its turn while both sides are quick.
        if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            return Ok(End::OutOfTime);
        }
        let piece = {
            let read = pin!(stream.node.read(silence_max));
            match deadline {
                Some(deadline) => {
                    let read = pin!(timeout_at(deadline, read));
                    match client.unless_gone(read).await? {
                        Ok(piece) => piece,
                        Err(_) => return Ok(End::OutOfTime),
                    }
                }
                None => client.unless_gone(read).await?,
            }
        };
        match piece {
            Ok(Some(piece)) => stream.pass(client, piece).await?,
            Ok(None) => return Ok(End::Clean),
            Err(broken) => return Ok(End::Broken(broken)),
        }
    }
}

/// Who serves a request, for the answer's head.
pub(super) struct ServedBy<'a> {
    pub(super) access: &'a NodeAccess,
    pub(super) model: Option<&'a str>,
    /// Why it does, as `X-Arriero-Route` says it.
    pub(super) route: &'a str,
    /// The same for Olla's users.
    pub(super) olla: OllaWords,
    pub(super) sticky: Option<Stickiness>,
}

/// A stream under way.
struct Relayed {
    node: Connection,
    meter: Meter,
    /// Whether HTTP tells where the body ends, so that an end can be told from a cut.
    announced: bool,
    /// When the first token passed.
    first_token: Option<Instant>,
}

impl Relayed {
    /// What an answer that began at `since` has shown of the model.
    fn shown(&self, since: Instant, expected: Expected, uptime: Duration) -> Shown {
        let usage = self.meter.usage();
        Shown {
            first_token: self
                .first_token
                .map(|at| at.saturating_duration_since(since)),
            whole: since.elapsed(),
            tokens_in: usage.tokens_in.unwrap_or(expected.prompt_tokens),
            tokens_cached: expected.cached_tokens,
            tokens_out: usage.tokens_out,
            at_once: 0,
            uptime,
        }
    }

    async fn pass(&mut self, client: &mut Client<'_>, piece: Bytes) -> Result<(), Fault> {
        if piece.is_empty() {
            return Ok(()); // an empty write would be taken for the end
        }
        self.meter.push(&piece);
        if self.first_token.is_none() && self.meter.first_token_seen() {
            self.first_token = Some(Instant::now());
        }
        client.write(piece, false).await
    }
}

/// How an answer's body is cut into frames.
fn framing(head: &pingora::http::ResponseHeader) -> Framing {
    let content_type = head.headers.get(http::header::CONTENT_TYPE);
    match head.status.is_success() {
        true => Framing::of(content_type.and_then(|value| value.to_str().ok())),
        false => Framing::Whole, // an error is one document, whatever a success would have been
    }
}

/// Whether a head tells where its body ends.
fn announces_end(head: &pingora::http::ResponseHeader) -> bool {
    use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
    head.headers.contains_key(CONTENT_LENGTH) || head.headers.contains_key(TRANSFER_ENCODING)
}
