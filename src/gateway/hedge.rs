//! Hedges: a second node is asked the same while the first is slow, and whoever answers first is relayed.

use std::pin::pin;
use std::sync::Arc;

use futures::future::{Either, select};
use tokio::time::timeout;

use crate::config::Config;
use crate::dialect::Operation;
use crate::error::Fault;
use crate::fleet::NodeId;
use crate::routing::{Ask, Circumstances};

use super::Gateway;
use super::client::Client;
use super::failure::Failed;
use super::outgoing::{Asked, Outgoing};
use super::place::Placed;
use super::proxy::Context;
use super::upstream::Answer;

/// A node that was asked, and what came of it.
pub(super) type Sent = (Placed, Result<Answer, Failed>);

/// How two requests for the same ended.
struct Raced {
    sent: Sent,
    /// Whether it is the second node's.
    is_second: bool,
    /// The other one, when it failed; one that was only slower is broken off and blamed for nothing.
    failed: Option<(Placed, Failed)>,
}

/// Whether a second node may be asked for it while the first is slow.
pub(super) fn may_hedge(asked: &Asked, config: &Config) -> bool {
    use Operation::{Embed, Embeddings, V1Embeddings};
    let operation = asked.call.operation;
    config.proxy.hedge.embeddings && matches!(operation, Embed | Embeddings | V1Embeddings)
}

impl Gateway {
    /// Asks the node, and another one too when it is silent for too long. Nodes that failed are blamed and added to `tried`, but for
    /// the one whose failure is returned.
    ///
    /// # Errors
    /// `ClientGone`: both nodes' connections are closed.
    pub(super) async fn send_hedged(
        &self,
        client: &mut Client<'_>,
        asked: &Asked,
        placed: Placed,
        tried: &mut Vec<NodeId>,
        ctx: &mut Context,
    ) -> Result<Sent, Fault> {
        let config = ctx.config.clone();
        let hedge = &config.proxy.hedge;
        self.hedges.earn(hedge.budget_percent);
        let asking: Vec<NodeId> = tried.iter().copied().chain([placed.route.node]).collect();
        let outgoing = Outgoing::new(client, asked, &placed, &ctx.record.request_id)?;
        let mut first = Box::pin(self.send_owned(placed, outgoing, config.clone()));
        let in_time = timeout(hedge.delay, first.as_mut());
        if let Ok(sent) = client.unless_gone(pin!(in_time)).await? {
            return Ok(sent);
        }
        let Some(second) = self.spare_place(asked, &asking, &config) else {
            self.count_hedge("refused");
            return client.unless_gone(first.as_mut()).await;
        };
        let outgoing = Outgoing::new(client, asked, &second, &ctx.record.request_id)?;
        ctx.record.attempts += 1;
        let second = Box::pin(self.send_owned(second, outgoing, config.clone()));
        let raced = client.unless_gone(pin!(race(first, second))).await?;
        Ok(self.told_of_race(raced, asked, tried, ctx))
    }

    /// A future that owns the slot, so that dropping it gives the slot back and closes the connection.
    async fn send_owned(&self, placed: Placed, outgoing: Outgoing, config: Arc<Config>) -> Sent {
        let sent = self.send(&placed, &outgoing, &config).await;
        (placed, sent)
    }

    /// A slot that is free now, and nobody waits for, on a node that has the model in memory, within the budget.
    fn spare_place(&self, asked: &Asked, asking: &[NodeId], config: &Config) -> Option<Placed> {
        let ask = Ask {
            circumstances: Circumstances {
                uptime: self.uptime(),
                line: 1,
                ..Circumstances::default() // without a swap
            },
            ..asked.ask(asking, config, config.registry.admitted())
        };
        let placed = self
            .try_place(&ask, &self.fleet.view(), config)
            .ok()?
            .ok()?;
        let is_spare = placed.route.warm && self.is_queue_empty();
        (is_spare && self.hedges.spend(self.uptime())).then_some(placed)
    }

    /// Draws the conclusions from a race, and notes who answered.
    fn told_of_race(
        &self,
        raced: Raced,
        asked: &Asked,
        tried: &mut Vec<NodeId>,
        ctx: &mut Context,
    ) -> Sent {
        let (placed, sent) = raced.sent;
        let won = raced.is_second && sent.is_ok();
        self.count_hedge(if won { "won" } else { "lost" });
        if let Some((other, failed)) = &raced.failed {
            self.blame(
                failed,
                other.route.node,
                tried.is_empty() && raced.is_second,
            );
            tried.push(other.route.node);
            ctx.record.tried.push(other.access.name().to_owned());
        }
        if raced.is_second {
            ctx.names_model(&placed.route, asked, &self.fleet.view());
            ctx.record.node = Some(placed.access.name().to_owned());
            ctx.record.route = Some(placed.route.reason.as_str());
        }
        (placed, sent)
    }

    fn count_hedge(&self, outcome: &str) {
        let hedges = &self.metrics.nodes.hedges;
        hedges.with_label_values(&[outcome]).inc();
    }
}

/// The first answer; when one fails, the other's end whatever it is.
async fn race(
    first: impl Future<Output = Sent> + Unpin,
    second: impl Future<Output = Sent> + Unpin,
) -> Raced {
    let (ended, is_second, other) = match select(first, second).await {
        Either::Left((ended, second)) => (ended, false, Either::Left(second)),
        Either::Right((ended, first)) => (ended, true, Either::Right(first)),
    };
    match ended {
        (placed, Err(failed)) => Raced {
            sent: other.await,
            is_second: !is_second,
            failed: Some((placed, failed)),
        },
        sent => Raced {
            sent,
            is_second,
            failed: None,
        },
    }
}
