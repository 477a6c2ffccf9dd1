//! Loads of models as work of our own: a client that leaves takes no load away that others wait for.
//!
//! Ollama loads for the request that came first and gives up when that one leaves. So the gateway asks it for the load alone, and sends
//! what a client wants once the model is there.

mod ahead;
mod request;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use crate::config::Config;
use crate::dialect::{Dialect, Operation, RunnerOptions};
use crate::error::{Fault, Kind};
use crate::fleet::{Loading, NodeId, NumCtx, Traits};
use crate::model::ModelKey;
use crate::profile::Listing;
use crate::routing::Route;

pub(super) use self::ahead::GONE;
pub(super) use self::request::{KeepAlive, loads_by};
use super::credentials::NodeAccess;
use super::failure::Failed;
use super::outgoing::Asked;
use super::place::Placed;
use super::proxy::Context;
use super::upstream::{cold_limit, judge};
use super::{Gateway, now};

/// Loads under way. Each is kept by its own task and found here by those who need the same.
#[derive(Default)]
pub(super) struct Loads(Mutex<HashMap<Key, Weak<Job>>>);

/// Requests with the same key wait for one load.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    node: NodeId,
    /// The node's own name for it.
    model: Arc<str>,
    options: RunnerOptions,
}

/// A load under way; who waits for it is counted by the channel that tells its end.
struct Job {
    end: watch::Sender<Option<End>>,
}

/// What became of a load.
#[derive(Clone)]
enum End {
    Loaded,
    /// The node answered with an error that is for a client to see. Each request that waited gets its own, in its own dialect.
    Answered,
    Failed(Arc<Failed>),
}

/// A load that somebody waits for; it is given up when the last of these is dropped and nobody in the queue wants the model.
pub(super) struct Awaited(watch::Receiver<Option<End>>);

/// What a load's task needs.
struct Errand {
    gateway: Arc<Gateway>,
    config: Arc<Config>,
    access: Arc<NodeAccess>,
    route: Route,
    key: Key,
    /// What clients call the model.
    wanted: ModelKey,
    /// How it is asked for.
    operation: Operation,
    /// What the node is told about keeping the model; nothing where a request will tell it.
    keep_alive: Option<KeepAlive>,
    /// Whether the request that began it had tried no other node.
    is_first: bool,
}

impl Awaited {
    /// Waits for the end: whether the model is in the node's memory now, as far as the node told.
    ///
    /// # Errors
    /// What failed; the node has been blamed for it.
    pub(super) async fn end(mut self, dialect: Dialect) -> Result<bool, Failed> {
        let end = self.0.wait_for(Option::is_some).await;
        match end.as_deref() {
            Ok(Some(End::Loaded)) => Ok(true),
            Ok(Some(End::Answered)) => Ok(false),
            Ok(Some(End::Failed(failed))) => Err(failed.passed_on(dialect)),
            Ok(None) | Err(_) => {
                let why = "the load of the model broke off inside the gateway; try again";
                Err(Fault::new(Kind::Internal, why).into())
            }
        }
    }
}

impl Loads {
    /// Those of the model at the node of a route, whatever their options; none where the model needs no load.
    pub(super) fn under_way(&self, route: &Route) -> Vec<Awaited> {
        if route.warm {
            return Vec::new();
        }
        let jobs = self.lock();
        let same = |key: &Key| key.node == route.node && Some(&key.model) == route.spelled.as_ref();
        let jobs = jobs.iter().filter(|(key, _)| same(key));
        let jobs = jobs.filter_map(|(_, job)| job.upgrade());
        jobs.map(|job| job.awaited()).collect()
    }

    /// Waits for the load of that key: for the one under way, or for a new one, which `start` is given.
    fn join(&self, key: &Key, start: impl FnOnce(Arc<Job>)) -> Awaited {
        let mut jobs = self.lock();
        jobs.retain(|_, job| 0 < job.strong_count());
        if let Some(job) = jobs.get(key).and_then(Weak::upgrade) {
            return job.awaited();
        }
        let job = Arc::new(Job {
            end: watch::Sender::new(None),
        });
        jobs.insert(key.clone(), Arc::downgrade(&job));
        let awaited = job.awaited();
        start(job);
        awaited
    }

    /// Takes a load out that nobody waits for; under the lock, so that nobody joins it in between. Of those that are kept for the
    /// queue alone one is enough: clients that ask with ever other options and leave shall not heap up loads at a node.
    ///
    /// `is_wanted`: by somebody in the queue. Found out before, since the queue is locked while loads are looked for; who comes in
    /// between and finds it gone begins another.
    fn give_up(&self, key: &Key, job: &Job, is_wanted: bool) -> bool {
        let mut jobs = self.lock();
        let is_rival = |(other, job): (&Key, &Weak<Job>)| {
            let is_same = (other.node, &other.model) == (key.node, &key.model);
            is_same && other != key && job.upgrade().is_some_and(|job| job.is_under_way())
        };
        let is_kept = || is_wanted && !jobs.iter().any(is_rival);
        let gives_up = job.end.receiver_count() == 0 && !is_kept();
        if gives_up {
            jobs.remove(key);
        }
        gives_up
    }

    fn take_out(&self, key: &Key) {
        self.lock().remove(key);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Weak<Job>>> {
        // Entries are put in whole, so a panic elsewhere left the map as good as it was.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Job {
    fn is_under_way(&self) -> bool {
        self.end.borrow().is_none()
    }

    fn awaited(&self) -> Awaited {
        Awaited(self.end.subscribe())
    }
}

impl Gateway {
    /// The load that a request has to wait for before it is sent: that under way, or a new one. `None` when the model is there, or when
    /// the node loads only for the request itself.
    pub(super) fn load_for(
        &self,
        asked: &Asked,
        placed: &mut Placed,
        ctx: &Context,
    ) -> Option<Awaited> {
        // What others began is waited for or not; from here on it need not be kept.
        let _under_way = std::mem::take(&mut placed.loads);
        if placed.route.warm || asked.facts.unloads {
            return None;
        }
        let operation = loads_by(asked.call.operation)?;
        let profile = &placed.access.config.profile;
        let is_known = profile.listing == Listing::Ollama && profile.serves(operation);
        if !is_known || profile.is_auto() {
            return None;
        }
        let route = &placed.route;
        let model = route.spelled.clone()?;
        let wanted = asked.wanted(&ctx.config);
        let wanted = wanted.models().get(route.place?)?.clone();
        if self.is_remote(&wanted, route.node) {
            return None;
        }
        let key = Key {
            node: route.node,
            model,
            options: RunnerOptions {
                // Of the load that it joins, where that is longer than its own.
                num_ctx: route
                    .num_ctx
                    .map_or(asked.facts.runner.num_ctx, NumCtx::tokens),
                ..asked.facts.runner
            },
        };
        let errand = |key: &Key| Errand {
            gateway: Arc::clone(&ctx.gateway),
            config: Arc::clone(&ctx.config),
            access: Arc::clone(&placed.access),
            route: route.clone(),
            key: key.clone(),
            wanted,
            operation,
            keep_alive: None,
            is_first: ctx.record.attempts <= 1,
        };
        let uptime = self.uptime();
        let loading = placed.loading.take();
        let loading = loading.unwrap_or_else(|| placed.lease.loading(uptime));
        let start = |job| spawn(errand(&key).run(job, loading));
        Some(self.loads.join(&key, start))
    }

    /// A model that is another company's leaves nothing to load.
    fn is_remote(&self, model: &ModelKey, node: NodeId) -> bool {
        let view = self.fleet.view();
        let mut holders = view.holders(model).unwrap_or_default().iter();
        holders.any(|holder| holder.node == node && holder.remote)
    }

    /// A load that went well.
    fn loaded(&self, node: &str, model: &str, traits: Option<&Traits>, took: Duration) {
        if let Some(traits) = traits {
            traits.ledger().loaded(took, self.uptime());
        }
        let seconds = took.as_secs_f64();
        let times = &self.metrics.nodes.load_time;
        times.with_label_values(&[node]).observe(seconds);
        log::info!("node `{node}` loaded {model} in {seconds:.1} s");
    }
}

impl Errand {
    /// Loads, unless all who want it leave; then dropping the connection is what stops the node.
    async fn run(self, job: Arc<Job>, loading: Loading) {
        let began = now();
        let end = {
            let load = pin!(self.load());
            let unwanted = pin!(self.unwanted(&job));
            tokio::select! {
                biased;
                end = load => Some(end),
                () = unwanted => None,
            }
        };
        drop(loading);
        let (gateway, node) = (&self.gateway, self.access.name());
        let count = |outcome| {
            let loads = &gateway.metrics.nodes.loads;
            loads.with_label_values(&[node, outcome]).inc();
        };
        match end {
            None => count("abandoned"),
            Some(End::Loaded) => {
                count("loaded");
                let traits = self.route.traits.as_deref();
                gateway.loaded(node, &self.key.model, traits, began.elapsed());
                job.end.send_replace(end);
                // Who comes before the fleet knows that the model is warm finds the load here, and that it is done.
                self.learn().await;
                gateway.loads.take_out(&self.key);
            }
            Some(_) => {
                count("failed");
                gateway.loads.take_out(&self.key);
                job.end.send_replace(end);
            }
        }
    }

    /// Resolves when nobody waits for it any more, and nobody in the queue is about to.
    async fn unwanted(&self, job: &Job) {
        let gateway = &self.gateway;
        loop {
            job.end.closed().await;
            // Listen before looking, or who leaves the queue in between would be missed.
            let mut left = pin!(gateway.fleet.slot_freed().notified());
            left.as_mut().enable();
            let is_wanted = gateway.awaits(&self.wanted);
            if gateway.loads.give_up(&self.key, job, is_wanted) {
                return;
            }
            left.await;
        }
    }

    async fn load(&self) -> End {
        let Err(failed) = self.ask().await else {
            return End::Loaded;
        };
        let Some(failed) = failed else {
            return End::Answered;
        };
        self.gateway
            .count_failure(self.access.name(), failed.reason);
        // Options are the client's word, so what kills one runner may kill every other: one node is blamed, as for a prompt.
        self.gateway.blame(&failed, self.key.node, self.is_first);
        End::Failed(Arc::new(failed))
    }

    /// Asks the node for the load and nothing else.
    ///
    /// # Errors
    /// What failed; `None` when the node answered with an error that another node would not mend.
    async fn ask(&self) -> Result<(), Option<Failed>> {
        let (name, proxy) = (self.access.name(), &self.config.proxy);
        let profile = &self.access.config.profile;
        let (limit, what) = cold_limit(profile, proxy.response_header_timeout, &self.route);
        let outgoing = request::outgoing(&self.key, self.operation, self.keep_alive, &self.access)
            .map_err(|fault| Some(fault.into()))?;
        let asking = self
            .gateway
            .ask_apart(self.key.node, &self.access, outgoing, proxy);
        let answer = match timeout(limit, asking).await {
            Ok(answer) => answer?,
            Err(_) => return Err(Some(Failed::silent(name, limit, what))),
        };
        let answer = judge(answer, name, &self.route, &proxy.retry.on_status).await?;
        match answer.node.head().status.is_success() {
            true => Ok(()),
            false => Err(None),
        }
    }

    /// A load that the node does not tell of afterwards costs the next request no more than a question.
    async fn learn(&self) {
        let (gateway, node) = (&self.gateway, self.key.node);
        let time = self.config.model_discovery.timeout;
        if let Err(why) = gateway.learn_loaded(node, time).await {
            let name = self.access.name();
            log::debug!("node `{name}` does not tell its loaded models after a load: {why}");
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "ends when nobody waits for it any more, and so with the clients' connections at the latest"
)]
fn spawn(task: impl Future<Output = ()> + Send + 'static) {
    drop(tokio::spawn(task));
}
