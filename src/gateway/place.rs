//! Finding a node with a free slot, and waiting for one.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use crate::admission::{Queue, Ticket};
use crate::config::{Balancer, Config};
use crate::dialect::{Mount, Operation};
use crate::error::{Fault, Kind};
use crate::fleet::{Lease, NodeId};
use crate::model::ModelKey;
use crate::profile::Needs;
use crate::routing::{self, Ask, NoRoute, Route};

use super::client::Client;
use super::credentials::NodeAccess;
use super::load::Awaited;
use super::proxy::Context;
use super::{Gateway, now};

/// Lost races for a slot before a request queues.
const LOOKS_MAX: usize = 8;

/// The queue and its lock, which nobody holds across an await.
#[derive(Default)]
pub(super) struct Waiting(Mutex<Queue<Line>>);

/// Requests that the same nodes could serve wait in one line. What a request needs beside its model makes a line of its own only where
/// it keeps nodes away: hardly any type lacks tools, and two lines for one slot would overtake each other.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Line {
    models: Box<[ModelKey]>,
    operation: Operation,
    mount: Mount,
    node_index: Option<usize>,
    needs: Needs,
    tried: Vec<NodeId>,
}

impl Line {
    fn of(ask: &Ask<'_>) -> Line {
        Line {
            models: ask.wanted.models().into(),
            operation: ask.operation,
            mount: ask.mount.clone(),
            node_index: ask.node_index,
            needs: Needs {
                images: ask.needs.images,
                // Of an alias's targets some may have them and others not.
                tools: ask.needs.tools && ask.wanted.is_alias(),
                thinking: ask.needs.thinking && ask.wanted.is_alias(),
                ..Needs::default()
            },
            tried: ask.tried.to_vec(),
        }
    }
}

impl Waiting {
    fn with<T>(&self, look: impl FnOnce(&mut Queue<Line>) -> T) -> T {
        // The queue's functions leave it whole even if one panicked, so a poisoned lock still guards a good queue.
        look(
            &mut self
                .0
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner),
        )
    }
}

/// A place in the queue that is given back however the wait ends.
struct Place<'a> {
    gateway: &'a Gateway,
    line: Line,
    ticket: Ticket,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.gateway
            .waiting
            .with(|queue| queue.leave(&self.line, self.ticket));
        self.gateway.metrics.queue.depth.dec();
        // Whoever stood behind is next now and must look for itself.
        self.gateway.fleet.slot_freed().notify_waiters();
    }
}

/// The node a request goes to, with one of its slots.
pub(super) struct Placed {
    pub(super) route: Route,
    pub(super) access: Arc<NodeAccess>,
    pub(super) lease: Lease,
    /// Loads that others began there for this model: they go on until the request has decided whether it waits for one.
    pub(super) loads: Vec<Awaited>,
}

impl Gateway {
    /// Chooses a node and takes one of its slots, waiting in the queue while every candidate is full.
    ///
    /// # Errors
    /// `UnknownModel`, `Unavailable` (no healthy node, queue full, waited too long), or `ClientGone`.
    pub(super) async fn place(
        &self,
        client: &mut Client<'_>,
        ask: &Ask<'_>,
        ctx: &mut Context,
    ) -> Result<Placed, Fault> {
        let config = ctx.config.clone();
        if let Some(placed) = self.try_place(ask, &config, None)? {
            return Ok(placed);
        }
        let queued_at = Instant::now();
        // Waiting is rare, and its future would make that of every request larger.
        let mut waiting = Box::pin(self.wait(ask, &config, queued_at));
        let placed = client.unless_gone(waiting.as_mut()).await;
        ctx.record.queue += queued_at.elapsed();
        placed?
    }

    async fn wait(
        &self,
        ask: &Ask<'_>,
        config: &Config,
        queued_at: Instant,
    ) -> Result<Placed, Fault> {
        let line = Line::of(ask);
        let limits = &config.proxy.queue;
        let entered = self
            .waiting
            .with(|queue| queue.enter(&line, limits.length_max));
        let ticket = entered.inspect_err(|_| {
            self.metrics
                .queue
                .rejected
                .with_label_values(&["full"])
                .inc()
        })?;
        self.metrics.queue.depth.inc();
        let place = Place {
            gateway: self,
            line,
            ticket,
        };
        let deadline = queued_at + limits.wait_max;
        loop {
            // Listen before looking, or a slot freed in between would be missed.
            let freed = self.fleet.slot_freed().notified();
            tokio::pin!(freed);
            freed.as_mut().enable();
            if let Some(placed) = self.try_place(ask, config, Some((&place.line, ticket)))? {
                return Ok(placed);
            }
            if timeout_at(deadline, freed).await.is_err() {
                self.metrics
                    .queue
                    .rejected
                    .with_label_values(&["late"])
                    .inc();
                return Err(waited_too_long(limits.wait_max));
            }
        }
    }

    /// Whether somebody in the queue wants this model, alone or among others.
    pub(super) fn awaits(&self, model: &ModelKey) -> bool {
        let wants = |line: &Line| line.models.contains(model);
        self.waiting.with(|queue| queue.lines().any(wants))
    }

    /// Chance as an argument for the pure core, and for round robin a count of those who want the same.
    fn turn(&self, ask: &Ask<'_>, balancer: Balancer) -> u64 {
        if balancer != Balancer::RoundRobin {
            return self.turns.any();
        }
        let wanted = (ask.wanted.models(), ask.operation);
        let allowed = (ask.mount, ask.node_index, ask.tried);
        self.turns.next(&(wanted, allowed))
    }

    /// One look: `None` means that all candidates are full, or that others came first.
    fn try_place(
        &self,
        ask: &Ask<'_>,
        config: &Config,
        place: Option<(&Line, Ticket)>,
    ) -> Result<Option<Placed>, Fault> {
        // Advice from a snapshot may be stale by a moment; the lease is the permission. When it is refused somebody else got
        // the slot, and another look may find another; a few such losses in a row mean that there is none.
        for _ in 0..LOOKS_MAX {
            // A free slot wakes all who wait, and one of them may have it: the others need not look for a node.
            let is_behind = |(line, ticket)| {
                let is_next = |queue: &mut Queue<Line>| queue.is_next(line, Some(ticket));
                !self.waiting.with(is_next)
            };
            if place.is_some_and(is_behind) {
                return Ok(None);
            }
            let view = self.fleet.view();
            let balancer = config.proxy.balancer;
            let seed = self.turn(ask, balancer);
            let route = match routing::route(ask, &view, balancer, seed, now()) {
                Ok(route) => route,
                Err(NoRoute::Full) => return Ok(None),
                Err(NoRoute::Refused(fault)) => return Err(fault),
            };
            let is_free =
                |queue: &mut Queue<Line>| queue.is_empty() || queue.is_next(&Line::of(ask), None);
            if place.is_none() && !self.waiting.with(is_free) {
                return Ok(None);
            }
            let access = self.access(route.node);
            let lease = self.fleet.try_lease(route.node, route.traits.as_deref());
            if let Some((lease, access)) = lease.zip(access) {
                return Ok(Some(Placed {
                    // While the place in the queue is still held: from now on it is these that speak for the request.
                    loads: self.loads.under_way(&route),
                    route,
                    access,
                    lease,
                }));
            }
        }
        Ok(None)
    }
}

fn waited_too_long(limit: Duration) -> Fault {
    let message = format!(
        "no node that has this model had a free slot within {} s (proxy.queue.max_wait); try again later or add nodes",
        limit.as_secs_f32()
    );
    Fault::new(Kind::Unavailable { retry_after_s: 10 }, message)
}
