//! Before a model counts as unknown the nodes are asked once more: it may have been pulled a moment ago, behind our back.
//!
//! Requests that miss at the same time share one round of questions, and rounds are at least a second apart, so that a flood of
//! made-up names costs the nodes next to nothing.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::{FutureExt, Shared, WeakShared};
use futures::stream::{self, StreamExt};
use tokio::time::{Instant, timeout};

use crate::config::{Fallback, Registry, Strategy};
use crate::dialect::Mount;
use crate::error::{Fault, Kind};
use crate::fleet::{Node, NodeId, Snapshot};
use crate::routing::{self, Ask, Lack, OllaWords};

use super::client::Client;
use super::exchange::unknown_model;
use super::outgoing::Asked;
use super::place::Placed;
use super::proxy::Context;
use super::{Gateway, now};

/// Shortest time from the start of one round to the start of the next.
const ROUND_EVERY: Duration = Duration::from_secs(1);
/// Nodes that are asked at the same time; a listing may be large.
const ASKED_AT_ONCE_MAX: usize = 64;

/// How long a node that has just joined is waited for. Most tell within a few milliseconds; one that is dead is found out by its probes.
const NEWCOMER_PATIENCE: Duration = Duration::from_secs(2);

/// Every node of a mount is asked for its models; over when all have answered or the time is up.
type Round = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The last round of each mount. It runs as long as somebody waits for it: a client that leaves takes no other's round away.
#[derive(Default)]
pub(super) struct Rounds(Mutex<HashMap<Mount, LastRound>>);

struct LastRound {
    began: Instant,
    running: Option<WeakShared<Round>>,
}

impl Rounds {
    /// The round under way, or a new one unless the last began too recently.
    fn join(
        &self,
        mount: &Mount,
        now: Instant,
        start: impl FnOnce() -> Round,
    ) -> Option<Shared<Round>> {
        // Entries are replaced whole, so a panic elsewhere left the map as good as it was.
        let mut rounds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(last) = rounds.get(mount) {
            let running = last.running.as_ref().and_then(WeakShared::upgrade);
            match running.filter(|round| round.peek().is_none()) {
                Some(running) => return Some(running),
                None if now.duration_since(last.began) < ROUND_EVERY => return None,
                None => (),
            }
        }
        let round = start().shared();
        let last = LastRound {
            began: now,
            running: round.downgrade(),
        };
        rounds.insert(mount.clone(), last);
        Some(round)
    }
}

impl Gateway {
    /// Finds a node for a request. A miss is told only after the nodes were asked whether it still is one.
    ///
    /// # Errors
    /// As [`Self::place`]; an unknown model is told with names that come close.
    pub(super) async fn find(
        &self,
        client: &mut Client<'_>,
        asked: &Asked,
        tried: &[NodeId],
        ctx: &mut Context,
    ) -> Result<Placed, Fault> {
        let config = ctx.config.clone();
        let registry = &config.registry;
        let may_refresh = tried.is_empty() && registry.refresh_on_miss;
        let fallback = match registry.strategy {
            // Who asks first must not fall back before the answer.
            Strategy::Discovery if may_refresh => Fallback::None,
            _ => registry.admitted(),
        };
        let ask = asked.ask(tried, &config, fallback);
        let mut placed = self.place(client, asked, tried, fallback, ctx).await;
        if placed.is_err() && tried.is_empty() && self.awaits_newcomers(&ask) {
            // As below: rare, and large.
            let mut told = Box::pin(self.newcomers_tell(&ask));
            client.unless_gone(told.as_mut()).await?;
            drop(told);
            placed = Box::pin(self.place(client, asked, tried, fallback, ctx)).await;
        }
        if placed.is_err() && may_refresh && self.is_worth_asking(&ask, registry) {
            // Misses are rare, and this future would make that of every request larger.
            let mut refresh = Box::pin(self.refresh(&ask, registry, ctx));
            client.unless_gone(refresh.as_mut()).await?;
            drop(refresh);
            let admitted = registry.admitted();
            placed = Box::pin(self.place(client, asked, tried, admitted, ctx)).await;
        }
        placed.map_err(|fault| self.told(&ask, asked, fault, ctx))
    }

    /// Why no node was found, as the client is told it.
    fn told(&self, ask: &Ask<'_>, asked: &Asked, fault: Fault, ctx: &mut Context) -> Fault {
        let view = self.fleet.view();
        if asked.call.olla && ask.tried.is_empty() {
            let registry = &ctx.config.registry;
            let is_alias = ask.wanted.is_alias();
            let lack = routing::lack(ask, &view, now());
            ctx.rejected = lack.map(|lack| OllaWords::rejected(registry, is_alias, lack));
        }
        match fault.kind {
            Kind::UnknownModel if ask.is_plain() => unknown_model(&asked.facts.model, &view),
            _ => fault,
        }
    }

    fn is_worth_asking(&self, ask: &Ask<'_>, registry: &Registry) -> bool {
        match routing::lack(ask, &self.fleet.view(), now()) {
            Some(Lack::Unknown) => true,
            Some(Lack::Unavailable) => registry.strategy == Strategy::Discovery,
            None => false,
        }
    }

    /// Waits until the nodes have answered, or one of them turns out to have what is missed; nobody waits for a slow one then.
    async fn refresh(&self, ask: &Ask<'_>, registry: &Registry, ctx: &Context) {
        let start = || self.round(ask.mount, registry.refresh_timeout, ctx);
        let joined = self.rounds.join(ask.mount, Instant::now(), start);
        let result = match joined {
            None => "limited",
            Some(round) => match self.turns_up(ask, round).await {
                true => "found",
                false => "miss",
            },
        };
        let refreshes = &self.metrics.refreshes;
        refreshes.with_label_values(&[result]).inc();
    }

    async fn turns_up(&self, ask: &Ask<'_>, round: Shared<Round>) -> bool {
        let is_there = |view: &Snapshot| routing::lack(ask, view, now()).is_none();
        tokio::select! {
            biased;
            () = self.until(is_there) => true,
            () = round => is_there(&self.fleet.view()),
        }
    }

    fn awaits_newcomers(&self, ask: &Ask<'_>) -> bool {
        let view = self.fleet.view();
        has_newcomers(ask, &view) && routing::lack(ask, &view, now()).is_some()
    }

    /// Waits a while for nodes that have just joined and are about to tell what they have: after a reload they may be all there are.
    async fn newcomers_tell(&self, ask: &Ask<'_>) {
        let told = self
            .until(|view| !has_newcomers(ask, view) || routing::lack(ask, view, now()).is_none());
        let _ = timeout(NEWCOMER_PATIENCE, told).await;
    }

    /// Resolves when a snapshot of the fleet suits.
    async fn until(&self, suits: impl Fn(&Snapshot) -> bool) {
        let mut seen = None;
        loop {
            // Listen before looking, or news in between would be missed.
            let changed = self.fleet.slot_freed().notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let view = self.fleet.view();
            // The bell rings for every slot as well; only another snapshot can hold another answer.
            let is_news = seen.as_ref().is_none_or(|seen| !Arc::ptr_eq(&view, seen));
            if is_news && suits(&view) {
                return;
            }
            seen = Some(view);
            changed.await;
        }
    }

    fn round(&self, mount: &Mount, limit: Duration, ctx: &Context) -> Round {
        let gateway = ctx.gateway.clone();
        let view = self.fleet.view();
        let asked = |node: &&Node| node.health.is_up() && node.is_on(mount);
        let nodes: Vec<NodeId> = view
            .nodes
            .iter()
            .filter(asked)
            .map(|node| node.id)
            .collect();
        Box::pin(async move {
            let learn = |node| {
                let gateway = gateway.clone();
                async move {
                    if let Err(why) = gateway.learn_installed(node, limit).await {
                        log::debug!("node {} did not tell its models on a miss: {why}", node.0);
                    }
                }
            };
            let all = stream::iter(nodes).for_each_concurrent(ASKED_AT_ONCE_MAX, learn);
            // Who is late is late; what the others told is known already.
            let _ = timeout(limit, all).await;
        })
    }
}

/// Whether a node that the address allows has neither told its models yet nor failed to.
fn has_newcomers(ask: &Ask<'_>, view: &Snapshot) -> bool {
    let is_new = |node: &Node| node.installed.is_none() && !node.health.is_down();
    let mut nodes = view.nodes.iter();
    // What is still to be found out of its type it may turn out to be.
    nodes.any(|node| is_new(node) && (node.is_on(ask.mount) || node.config.profile.is_auto()))
}
