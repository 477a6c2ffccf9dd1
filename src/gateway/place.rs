//! Finding a node with a free slot, and waiting for one.
//!
//! Nobody waits for a slot by itself: whoever waits holds a baton in turn, and the holder looks for all of them whenever something
//! changed (`admission::Queue` says in which order). So a slot that is freed wakes one request and not hundreds.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout_at};

use crate::admission::{Chance, Claim, Limits, Queue, Ticket, Tried, Wish};
use crate::config::{self, Config, Fallback};
use crate::error::{Fault, Kind};
use crate::fleet::{Lease, Loading, NodeId, Snapshot};
use crate::model::ModelKey;
use crate::routing::{self, Ask, Circumstances, NoRoute, Route, Wait};

use super::client::Client;
use super::credentials::NodeAccess;
use super::load::Awaited;
use super::outgoing::Asked;
use super::proxy::Context;
use super::{Gateway, now};

mod line;
use line::{Line, round};

mod waiting;
pub(super) use waiting::Waiting;
use waiting::{Granted, Waiter, queue_full, waited_too_long};

/// Lost races for a slot before a request queues.
const LOOKS_MAX: usize = 8;
/// How often it is looked again although nothing happened: who has waited for long may have what it could not have before.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Tokens that a tenant pays for each second of a load that is made for it.
const LOAD_TOKENS_PER_S: f32 = 50.0;

/// A place in the queue that is given back however the wait ends.
struct Place<'a> {
    gateway: &'a Gateway,
    ticket: Ticket,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        // What waited is dropped after the lock is given back.
        let left = self.gateway.queued(|queue| queue.leave(self.ticket));
        if left.is_some() {
            // A load may have gone on for it alone.
            self.gateway.fleet.slot_freed().notify_waiters();
        }
    }
}

/// The node a request goes to, with one of its slots.
pub(super) struct Placed {
    pub(super) route: Route,
    pub(super) access: Arc<NodeAccess>,
    pub(super) lease: Lease,
    /// Held while the model is loaded for this request.
    pub(super) loading: Option<Loading>,
    /// Loads that others began there for this model: they go on until the request has decided whether it waits for one.
    pub(super) loads: Vec<Awaited>,
    /// When the slot was taken.
    pub(super) since: Instant,
    /// What its tenant paid for it, tokens; 0 when nobody competed.
    pub(super) paid: u64,
}

impl Gateway {
    /// Chooses a node and takes one of its slots, waiting in the queue while every candidate is full or worth waiting for.
    ///
    /// # Errors
    /// `UnknownModel`, `Unavailable` (no healthy node, queue full, waited too long), or `ClientGone`.
    pub(super) async fn place(
        &self,
        client: &mut Client<'_>,
        asked: &Asked,
        tried: &[NodeId],
        fallback: Fallback,
        ctx: &mut Context,
    ) -> Result<Placed, Fault> {
        if self.waiting.is_empty() {
            let circumstances = Circumstances {
                uptime: self.uptime(),
                waited: Duration::ZERO,
                line: 1,
                may_swap: true,
            };
            let ask = Ask {
                circumstances,
                ..asked.ask(tried, &ctx.config, fallback)
            };
            if let Ok(placed) = self.try_place(&ask, &self.fleet.view(), &ctx.config)? {
                return Ok(placed);
            }
        }
        let queued_at = Instant::now();
        let waiter = Waiter {
            asked: asked.clone(),
            tried: tried.to_vec(),
            fallback,
            config: ctx.config.clone(),
            news: None,
        };
        // Waiting is rare, and its future would make that of every request larger.
        let mut waiting = Box::pin(self.wait(waiter, queued_at));
        let placed = client.unless_gone(waiting.as_mut()).await;
        drop(waiting);
        ctx.record.queue += queued_at.elapsed();
        placed?
    }

    async fn wait(&self, mut waiter: Waiter, queued_at: Instant) -> Granted {
        let limits = waiter.config.proxy.queue.clone();
        let (news, mut granted) = oneshot::channel();
        waiter.news = Some(news);
        let place = self.enter(waiter, &limits);
        self.dispatch();
        self.make_room(place.ticket);
        let waiting = async {
            tokio::select! {
                biased;
                granted = &mut granted => return granted,
                _baton = self.waiting.baton.lock() => (),
            }
            self.look_for_all(&mut granted).await
        };
        match timeout_at(queued_at + limits.wait_max, waiting).await {
            Ok(Ok(granted)) => granted,
            Ok(Err(_)) => Err(Fault::new(Kind::Internal, "the queue lost a request")),
            Err(_) => {
                self.count_rejected("late");
                let retry_after_s = self.queued(|queue| queue.retry_after_s());
                Err(waited_too_long(limits.wait_max, retry_after_s))
            }
        }
    }

    /// Looks for all who wait whenever something changed, until its own wait has ended.
    async fn look_for_all(
        &self,
        granted: &mut oneshot::Receiver<Granted>,
    ) -> Result<Granted, oneshot::error::RecvError> {
        loop {
            // Listen before looking, or a slot freed in between would be missed.
            let freed = self.fleet.slot_freed().notified();
            tokio::pin!(freed);
            freed.as_mut().enable();
            self.dispatch();
            tokio::select! {
                biased;
                granted = &mut *granted => return granted,
                () = freed => (),
                () = sleep(LOOK_EVERY) => (),
            }
        }
    }

    fn enter(&self, waiter: Waiter, limits: &config::Queue) -> Place<'_> {
        let ask = waiter.ask(Circumstances::default());
        let wish = Wish {
            claim: waiter.asked.claim,
            line: Line::of(&ask, &waiter.asked.facts.runner),
            tokens: waiter.asked.expected_tokens(),
        };
        let limits = Limits {
            length_max: limits.length_max,
            swap_age_max: limits.swap_patience,
            background_age_max: limits.background_patience,
            wait_max: limits.wait_max,
        };
        let now = self.uptime();
        let ticket = self.queued(|queue| {
            queue.set_limits(limits);
            queue.enter(wish, waiter, now)
        });
        Place {
            gateway: self,
            ticket,
        }
    }

    /// Turns somebody away when more wait than may.
    fn make_room(&self, newcomer: Ticket) {
        let displaced = self.queued(|queue| {
            let waiter = queue.make_room(newcomer)?;
            Some((waiter, queue.len(), queue.retry_after_s()))
        });
        if let Some((mut waiter, waiting, retry_after_s)) = displaced {
            self.count_rejected("full");
            waiter.tell(Err(queue_full(waiting, retry_after_s)));
        }
    }

    /// Places all who wait and can be placed now, and turns away those who have waited for too long.
    fn dispatch(&self) {
        let (now, view) = (self.uptime(), self.fleet.view());
        let (late, retry_after_s) = self.queued(|queue| (queue.expire(now), queue.retry_after_s()));
        for (mut waiter, waited) in late {
            self.count_rejected("late");
            waiter.tell(Err(waited_too_long(waited, retry_after_s)));
        }
        self.queued(|queue| {
            queue.dispatch(now, |waiter, chance| self.look(waiter, chance, now, &view));
        });
    }

    /// One look for one who waits.
    fn look(
        &self,
        waiter: &mut Waiter,
        chance: Chance,
        uptime: Duration,
        view: &Snapshot,
    ) -> Tried {
        let ask = waiter.ask(Circumstances {
            uptime,
            waited: chance.waited,
            line: chance.line,
            may_swap: chance.may_swap,
        });
        if !chance.may_take {
            let seed = self.turns.any();
            let balancer = waiter.config.proxy.balancer;
            return match routing::route(&ask, view, balancer, seed, now()) {
                Ok(_) => Tried::Could,
                Err(NoRoute::Full(wait)) => later(&wait, chance, uptime),
                Err(NoRoute::Refused(fault)) => {
                    waiter.tell(Err(fault));
                    Tried::Gone
                }
            };
        }
        match self.try_place(&ask, view, &waiter.config) {
            Ok(Err(wait)) => later(&wait, chance, uptime),
            Ok(Ok(placed)) => {
                let for_load = placed.load_tokens();
                let paid = waiter.asked.expected_tokens() + for_load;
                match waiter.tell(Ok(Placed { paid, ..placed })) {
                    true => Tried::Placed(for_load),
                    false => Tried::Gone,
                }
            }
            Err(fault) => {
                waiter.tell(Err(fault));
                Tried::Gone
            }
        }
    }

    /// Whether somebody in the queue wants this model, alone or among others.
    pub(super) fn awaits(&self, model: &ModelKey) -> bool {
        let wants = |(line, _): (&Line, u32)| line.models().contains(model);
        !self.waiting.is_empty() && self.queued(|queue| queue.lines().any(wants))
    }

    /// Charges a tenant what its request used beyond what it paid for, as long as others wait.
    pub(super) fn settle(&self, claim: Claim, paid: u64, used: u64) {
        if !self.waiting.is_empty() && 0 < paid {
            self.queued(|queue| queue.settle(claim, paid, used));
        }
    }

    fn queued<T>(&self, look: impl FnOnce(&mut Queue<Line, Waiter>) -> T) -> T {
        // The queue's functions leave it whole even if one panicked, so a poisoned lock still guards a good queue.
        let lock = self.waiting.queue.lock();
        let mut queue = lock.unwrap_or_else(std::sync::PoisonError::into_inner);
        let seen = look(&mut queue);
        let length = queue.len();
        self.waiting.length.store(length, Ordering::Release);
        self.metrics.queue.depth.set(length as i64);
        seen
    }

    fn count_rejected(&self, why: &str) {
        let rejected = &self.metrics.queue.rejected;
        rejected.with_label_values(&[why]).inc();
    }

    /// Chance as an argument for the pure core, and for round robin a count of those who want the same.
    fn turn(&self, ask: &Ask<'_>, balancer: config::Balancer) -> u64 {
        if balancer != config::Balancer::RoundRobin {
            return self.turns.any();
        }
        self.turns.next(&round(ask))
    }

    /// Whether nobody waits for a slot.
    pub(super) fn is_queue_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// One look. The inner error: all candidates are full, or one of them is worth waiting for.
    pub(super) fn try_place(
        &self,
        ask: &Ask<'_>,
        view: &Snapshot,
        config: &Config,
    ) -> Result<Result<Placed, Wait>, Fault> {
        // Advice from a snapshot may be stale by a moment; the lease is the permission. When it is refused somebody else got
        // the slot, and another look may find another; a few such losses in a row mean that there is none.
        for _ in 0..LOOKS_MAX {
            let balancer = config.proxy.balancer;
            let seed = self.turn(ask, balancer);
            let route = match routing::route(ask, view, balancer, seed, now()) {
                Ok(route) => route,
                Err(NoRoute::Full(wait)) => return Ok(Err(wait)),
                Err(NoRoute::Refused(fault)) => return Err(fault),
            };
            let access = self.access(route.node);
            let lease = self.fleet.try_lease(route.node, route.traits.as_deref());
            if let Some((lease, access)) = lease.zip(access) {
                let uptime = ask.circumstances.uptime;
                lease.asks(route.runner(ask.runner), uptime);
                if let Some(leaving) = &route.evicts {
                    leaving.ledger().retire(uptime);
                }
                let is_first = !route.warm && !route.joins;
                return Ok(Ok(Placed {
                    loading: is_first.then(|| lease.loading(uptime)),
                    loads: self.loads.under_way(&route),
                    route,
                    access,
                    lease,
                    since: Instant::now(),
                    paid: 0,
                }));
            }
        }
        Ok(Err(Wait { in_use: None }))
    }
}

/// Whoever has waited for too long has room made for it.
fn later(wait: &Wait, chance: Chance, uptime: Duration) -> Tried {
    if let Some(in_use) = wait.in_use.as_ref().filter(|_| chance.is_due) {
        in_use.ledger().retire(uptime);
    }
    Tried::Later
}

impl Placed {
    /// What a load that is made for the request costs its tenant, tokens.
    fn load_tokens(&self) -> u64 {
        let load_s = match (&self.loading, &self.route.cost) {
            (Some(_), Some(cost)) => cost.load_s,
            _ => 0.0,
        };
        (load_s * LOAD_TOKENS_PER_S) as u64
    }
}
