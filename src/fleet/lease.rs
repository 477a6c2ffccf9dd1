//! The right to send a node one more request: a slot of the node, a seat of the model.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::Notify;

use super::ledger::{Ledger, Shown};
use super::runner::RunnerKey;
use super::snapshot::Counters;
use super::traits::{Seat, Traits};
use super::{Fleet, NodeId};

/// Permission to use one slot of a node, and a seat of a model there, given back on drop.
#[derive(Debug)]
pub struct Lease {
    node: NodeId,
    addr: Option<SocketAddr>,
    counters: Arc<Counters>,
    seat: Option<Seat>,
    /// Slots that the model is assumed to have while nothing is learned.
    assumed: u32,
    freed: Arc<Notify>,
}

/// While it lives, the node is known to load a model.
#[derive(Debug)]
pub struct Loading {
    counters: Arc<Counters>,
    ledger: Option<Arc<Ledger>>,
}

impl Drop for Loading {
    fn drop(&mut self) {
        self.counters.loading.fetch_sub(1, Ordering::Relaxed);
        if let Some(ledger) = &self.ledger {
            ledger.end_load();
        }
    }
}

impl Lease {
    /// Whose slot it is.
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// Notes that the node loads the request's model, until what is given back is dropped; the lease may end before.
    pub fn loading(&self, uptime: Duration) -> Loading {
        self.counters.loading.fetch_add(1, Ordering::Relaxed);
        let ledger = self.ledger().map(Arc::clone);
        if let Some(ledger) = &ledger {
            ledger.begin_load(uptime);
        }
        Loading {
            counters: self.counters.clone(),
            ledger,
        }
    }

    /// What is known of the model on that node; `None` when nobody knows whether it has it.
    pub fn ledger(&self) -> Option<&Arc<Ledger>> {
        self.seat.as_ref().map(Seat::ledger)
    }

    /// Notes with which options the model is asked for.
    pub fn asks(&self, runner: RunnerKey, uptime: Duration) {
        if let Some(ledger) = self.ledger() {
            ledger.asks(runner, uptime);
        }
    }

    /// Notes what the request has shown when it ended well.
    pub fn served(&self, shown: Shown) {
        if let Some(seat) = &self.seat {
            let at_once = seat.at_once;
            seat.ledger()
                .served(&Shown { at_once, ..shown }, self.assumed);
        }
    }

    /// Notes that the request failed, and whether the node said that it has too much to do. How its runner was started is not known
    /// any more.
    pub fn failed(&self, is_busy: bool) {
        if let Some(seat) = &self.seat {
            seat.ledger().forget_runner();
            if is_busy {
                seat.ledger().refused(seat.at_once, self.assumed);
            }
        }
    }

    /// Where the node was when the slot was taken; `None` while its name is not resolved. It stays even if the node leaves.
    pub fn addr(&self) -> Option<SocketAddr> {
        self.addr
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // Before the news: who hears it looks at once.
        drop(self.seat.take());
        self.counters.in_flight.fetch_sub(1, Ordering::AcqRel);
        self.freed.notify_waiters();
    }
}

impl Fleet {
    /// Notes that a node loads a model of its own with these options though no request asks for it, until what is given back is
    /// dropped. It takes no slot. `None` when the node is gone.
    pub fn loading(
        &self,
        node: NodeId,
        model: &Traits,
        runner: RunnerKey,
        uptime: Duration,
    ) -> Option<Loading> {
        let view = self.snapshot.load();
        let counters = Arc::clone(&view.node(node)?.counters);
        counters.loading.fetch_add(1, Ordering::Relaxed);
        let ledger = Arc::clone(model.shared_ledger());
        ledger.starts(runner);
        ledger.begin_load(uptime);
        Some(Loading {
            counters,
            ledger: Some(ledger),
        })
    }

    /// Takes one of the node's slots, and a seat of the model there where one is asked for; or says no: the node is full, draining or
    /// gone, or the model has as many requests as the operator allows. `auto` nodes are full only while they come back from being
    /// down.
    pub fn try_lease(&self, node: NodeId, model: Option<&Traits>) -> Option<Lease> {
        let view = self.snapshot.load();
        let node = view.node(node).filter(|node| !node.draining)?;
        let max = node.slots().unwrap_or(u32::MAX);
        let taken = |in_flight: u32| (in_flight < max).then(|| in_flight + 1);
        let counters = &node.counters;
        counters
            .in_flight
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, taken)
            .ok()?;
        let mut lease = Lease {
            node: node.id,
            addr: node.addr,
            counters: Arc::clone(counters),
            seat: None,
            assumed: model.map_or(1, Traits::slots_assumed),
            freed: Arc::clone(&self.freed),
        };
        if let Some(model) = model {
            // Without a seat the lease is dropped here, and with it the slot.
            lease.seat = Some(model.take_seat()?);
        }
        let ordinal = self.picks.fetch_add(1, Ordering::Relaxed) + 1;
        counters.last_picked.fetch_max(ordinal, Ordering::Relaxed);
        Some(lease)
    }
}
