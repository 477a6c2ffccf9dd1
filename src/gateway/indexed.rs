//! Open WebUI's node index on a listing: the one node's own answer, unmerged.

use std::pin::pin;

use pingora::http::ResponseHeader;

use crate::dialect::{self, Call};
use crate::error::{Fault, Kind};
use crate::fleet::{Lease, NodeId, Observation, listing};
use crate::routing::{self, HeadAsk, HeadRoute, NoRoute, OllaWords};
use crate::telemetry::record::{EndBy, Phase};

use super::client::{Client, broken, insert};
use super::failure::symptom;
use super::fetch::{FetchLimits, Fetched, Unanswered};
use super::head;
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
        let (route, lease) = self.place_by_index(call, ctx)?;
        let access = self.access(route.node).ok_or_else(busy)?;
        ctx.record.asks(access.name(), route.reason.as_str());
        ctx.record.phase = Phase::Wait;
        let limits = FetchLimits {
            time: ctx.config.proxy.warm_header_timeout,
            body_bytes_max: listing::LISTING_BYTES_MAX,
            cut: false,
        };
        let fetched = {
            let path = access.path_of(call, None);
            let id = Some(ctx.record.request_id.as_str());
            let fetching = pin!(self.fetch_for(route.node, &access, &path, limits, id));
            client.unless_gone(fetching).await?
        };
        drop(lease);
        let fetched = self.judge_fetched(fetched, route.node, access.name())?;
        ctx.record.phase = Phase::Stream;
        ctx.record.first_byte = Some(ctx.elapsed());
        let mut head = answer_head(&fetched)?;
        let served_by = ServedBy {
            access: &access,
            model: None,
            reason: route.reason,
            olla: OllaWords::by_head(route.reason),
        };
        self.mark(&mut head, call, served_by, ctx)?;
        ctx.record.end_by = EndBy::Done;
        client.finish(head, fetched.body).await
    }

    fn place_by_index(&self, call: &Call, ctx: &Context) -> Result<(HeadRoute, Lease), Fault> {
        let ask = HeadAsk {
            operation: call.operation,
            mount: &call.mount,
            node_index: call.node_index,
            tried: &[],
        };
        let balancer = ctx.config.proxy.balancer;
        let turn = self.turns.next(&(ask.operation, ask.mount, ask.node_index));
        let route = routing::route_head(&ask, &self.fleet.view(), balancer, turn, now());
        let route = route.map_err(|none| match none {
            NoRoute::Refused(fault) => fault,
            NoRoute::Full => busy(),
        })?;
        let lease = self.fleet.try_lease(route.node, None).ok_or_else(busy)?;
        Ok((route, lease))
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
            Ok(fetched) if fetched.status == 401 => Err(failed(
                "does not accept our key; correct its `auth` in the configuration".to_owned(),
                true,
            )),
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

fn answer_head(fetched: &Fetched) -> Result<ResponseHeader, Fault> {
    let mut head = ResponseHeader::build_no_case(fetched.status, Some(16)).map_err(broken)?;
    for (name, value) in head::crossing(&fetched.headers, head::reaches_client) {
        let copied = head.append_header(name.clone(), value.clone());
        copied.map_err(broken)?;
    }
    insert(&mut head, "content-length", &fetched.body.len().to_string())?;
    Ok(head)
}

fn busy() -> Fault {
    Fault::new(
        Kind::Unavailable { retry_after_s: 5 },
        "the node has no free slot; try again shortly",
    )
}
