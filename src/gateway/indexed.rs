//! Open WebUI's node index on a listing: the one node's own answer, unmerged.

use std::pin::pin;

use crate::dialect::{self, Call};
use crate::error::{Fault, Kind};
use crate::fleet::{Lease, NodeId, Observation, listing};
use crate::routing::{self, OllaWords, Reason};
use crate::telemetry::record::{EndBy, Phase};

use super::client::{Client, insert};
use super::failure::{WRONG_KEY, symptom};
use super::fetch::{FetchLimits, Fetched, Unanswered};
use super::outgoing::client_head;
use super::proxy::Context;
use super::relay::ServedBy;
use super::{Gateway, now};

impl Gateway {
    /// Fetches what the node says and passes it on.
    ///
    /// # Errors
    /// 404 when there is no such node, 503 when it is down or full, 502 when it does not answer.
    pub(super) async fn answer_from_node(
        &self,
        client: &mut Client<'_>,
        call: &Call,
        ctx: &mut Context,
    ) -> Result<(), Fault> {
        client.discard_body(&ctx.config.server).await?;
        ctx.record.phase = Phase::Queue;
        let reason = Reason::Only;
        let (node, lease) = self.place_by_index(call)?;
        let access = self.access(node).ok_or_else(busy)?;
        ctx.record.asks(access.name(), reason.as_str());
        ctx.record.phase = Phase::Wait;
        let limits = FetchLimits {
            time: ctx.config.proxy.warm_header_timeout,
            body_bytes_max: listing::LISTING_BYTES_MAX,
            cut: false,
        };
        let fetched = {
            let path = access.path_of(call, None);
            let id = Some(ctx.record.request_id.as_str());
            let fetching = pin!(self.fetch_for(node, &access, &path, limits, id));
            client.unless_gone(fetching).await?
        };
        drop(lease);
        let fetched = self.judge_fetched(fetched, node, access.name())?;
        ctx.record.phase = Phase::Stream;
        ctx.record.first_byte = Some(ctx.elapsed());
        let mut head = client_head(fetched.status, &fetched.headers)?;
        insert(&mut head, "content-length", &fetched.body.len().to_string())?;
        let served_by = ServedBy {
            access: &access,
            model: None,
            route: reason.as_str(),
            olla: OllaWords::insisted(),
            sticky: None,
        };
        self.mark(&mut head, call, served_by, ctx)?;
        ctx.record.end_by = EndBy::Done;
        client.finish(head, fetched.body).await
    }

    fn place_by_index(&self, call: &Call) -> Result<(NodeId, Lease), Fault> {
        let no_index = || Fault::new(Kind::Internal, "this call has no index of a node");
        let index = call.node_index.ok_or_else(no_index)?;
        let view = self.fleet.view();
        let node = routing::node_at(index, call.operation, &call.mount, &view, now())?;
        let lease = self.fleet.try_lease(node, None).ok_or_else(busy)?;
        Ok((node, lease))
    }

    /// The node's health learns of what speaks against it. A listing that goes well says little of a node that fails chats.
    fn judge_fetched(
        &self,
        fetched: Result<Fetched, Unanswered>,
        node: NodeId,
        name: &str,
    ) -> Result<Fetched, Fault> {
        let failed = |deed: String, blames_node: bool| {
            if blames_node {
                self.observe(node, Observation::Traffic(Err(symptom(&deed))));
            }
            Fault::new(Kind::NodeFailed, format!("node `{name}` {deed}"))
        };
        match fetched {
            Ok(fetched) if fetched.status == 401 => Err(failed(WRONG_KEY.to_owned(), true)),
            Ok(fetched) => {
                if dialect::counts_against_node(fetched.status, &fetched.body) {
                    let deed = format!("answered {}", fetched.status);
                    self.observe(node, Observation::Traffic(Err(symptom(&deed))));
                }
                Ok(fetched)
            }
            Err(unanswered) => {
                self.count_failure(name, unanswered.reason);
                let deed = format!("failed: {}", unanswered.why);
                Err(failed(deed, unanswered.blames_node()))
            }
        }
    }
}

fn busy() -> Fault {
    Fault::new(
        Kind::Unavailable { retry_after_s: 5 },
        "the node has no free slot; try again shortly",
    )
}
