//! Watching the nodes: names are resolved and health is probed on pingora-load-balancing's loops (one per node, so that every
//! `check_interval` is honest and a slow node delays nobody else's probe); models are asked for beside them.

mod models;

mod pace;

mod sources;

mod types;

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use pingora::lb::discovery::ServiceDiscovery;
use pingora::lb::health_check::HealthCheck;
use pingora::lb::selection::RoundRobin;
use pingora::lb::{Backend, Backends, LoadBalancer};
use pingora::server::ShutdownWatch;
use pingora::services::background::BackgroundService;
use pingora::{Error, ErrorType, Result};
use tokio::sync::Notify;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};

use crate::config::{DnsSource, NodeConfig};
use crate::discovery;
use crate::fleet::listing::LISTING_BYTES_MAX;
use crate::fleet::{Cause, Node, NodeId, Observation, Probed};

use self::pace::Pace;
use super::credentials::NodeAccess;
use super::fetch::{FetchLimits, Useless};
use super::{Gateway, now};

/// Longest answer to a health probe that is read.
const HEALTH_BYTES_MAX: usize = 64 * 1024;
/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 8;
/// How long a watch that broke off rests.
const RESTART_PAUSE: Duration = Duration::from_secs(5);

/// The background service that keeps the fleet's beliefs true.
pub struct Watch(pub Arc<Gateway>);

#[async_trait]
impl BackgroundService for Watch {
    async fn start(&self, shutdown: ShutdownWatch) {
        self.run(shutdown).await;
    }
}

impl Watch {
    /// Runs until shutdown.
    pub async fn run(&self, shutdown: ShutdownWatch) {
        let mut membership = self.0.fleet.membership();
        let mut stop = shutdown.clone();
        let mut watched = Watched {
            gateway: &self.0,
            shutdown,
            loops: JoinSet::new(),
            nodes: HashMap::new(),
            sources: Vec::new(),
        };
        loop {
            membership.mark_unchanged();
            watched.follow();
            self.0.metrics.end_of_gone(&self.0.is_gone());
            tokio::select! {
                _ = stop.wait_for(|stopping| *stopping) => return,
                changed = membership.changed() => if changed.is_err() { return },
                () = next_end(&mut watched.loops) => (),
            }
        }
    }
}

/// One loop for each node of the fleet and for each name that stands for nodes; dropping it ends them.
struct Watched<'a> {
    gateway: &'a Arc<Gateway>,
    shutdown: ShutdownWatch,
    loops: JoinSet<()>,
    /// With the settings that the loop was started for.
    nodes: HashMap<NodeId, (Arc<NodeConfig>, AbortHandle)>,
    sources: Vec<(Arc<DnsSource>, AbortHandle)>,
}

impl Watched<'_> {
    /// Ends the loops of what left, and starts those of what came or changed.
    fn follow(&mut self) {
        self.follow_sources();
        let view = self.gateway.fleet.view();
        self.nodes.retain(|id, (config, running)| {
            let is_same = |node: &Node| Arc::ptr_eq(&node.config, config);
            let stays = view.node(*id).is_some_and(is_same) && !running.is_finished();
            if !stays {
                running.abort();
            }
            stays
        });
        for node in &view.nodes {
            let Some(access) = self.gateway.access(node.id) else {
                continue; // it has just left; the next change tells
            };
            self.nodes.entry(node.id).or_insert_with(|| {
                let eye = Arc::new(Eye {
                    gateway: self.gateway.clone(),
                    node: node.id,
                    access,
                    wake: self.gateway.wakes.bell(node.id),
                    back: Notify::new(),
                });
                let running = self.loops.spawn(watch_node(eye, self.shutdown.clone()));
                (node.config.clone(), running)
            });
        }
    }
}

/// Resolves when a loop has ended. One that panicked is told of, and may be started again a while later: what it met may still be there.
async fn next_end(loops: &mut JoinSet<()>) {
    match loops.join_next().await {
        Some(Err(error)) if error.is_panic() => {
            log::error!("watching a node broke off and is begun again; this is a bug: {error}");
            sleep(RESTART_PAUSE).await;
        }
        Some(_) => (),
        None => std::future::pending().await,
    }
}

async fn watch_node(eye: Arc<Eye>, shutdown: ShutdownWatch) {
    let check_interval = eye.access.config.check_interval;
    let mut backends = Backends::new(Box::new(Names(eye.clone())));
    backends.set_health_check(Box::new(Health(eye.clone())));
    let mut balancer = LoadBalancer::<RoundRobin>::from_backends(backends);
    balancer.update_frequency = Some(check_interval);
    balancer.health_check_frequency = Some(check_interval);
    let mut stop = shutdown.clone();
    tokio::select! {
        () = balancer.run(shutdown, None) => (),
        () = eye.keep_models() => (),
        () = eye.keep_type() => (),
        _ = stop.wait_for(|stopping| *stopping) => (),
    }
}

impl Watched<'_> {
    fn follow_sources(&mut self) {
        let config = self.gateway.config();
        self.sources.retain(|(source, running)| {
            let stays = config.dns.contains(source) && !running.is_finished();
            if !stays {
                running.abort();
            }
            stays
        });
        for source in &config.dns {
            if self.sources.iter().all(|(known, _)| **known != *source) {
                let source = Arc::new(source.clone());
                let task = sources::watch_source(self.gateway.clone(), source.clone());
                self.sources.push((source, self.loops.spawn(task)));
            }
        }
    }
}

/// One node, as its watchers see it.
struct Eye {
    gateway: Arc<Gateway>,
    node: NodeId,
    access: Arc<NodeAccess>,
    /// Rings when the node's models should be asked for at once: it came back, or somebody who changed them left before the end.
    wake: Arc<Notify>,
    /// Rings when the node can be asked what it is: it has an address, or it came back.
    back: Notify,
}

/// Resolves the node's name; the last good answer is kept.
struct Names(Arc<Eye>);

#[async_trait]
impl ServiceDiscovery for Names {
    async fn discover(&self) -> Result<(BTreeSet<Backend>, HashMap<u64, bool>)> {
        let eye = &self.0;
        let node = &eye.access.config;
        let began = now();
        let host = (node.url.host.as_str(), node.url.port);
        let looked_up = timeout(node.check_timeout, tokio::net::lookup_host(host)).await;
        // An address that was written is the operator's word; a name is whoever's who answers for it.
        let is_literal = node.url.host.parse::<IpAddr>().is_ok();
        let found: Vec<SocketAddr> = looked_up
            .ok()
            .and_then(std::result::Result::ok)
            .into_iter()
            .flatten()
            .filter(|addr| is_literal || discovery::usable(addr.ip()).is_ok())
            .collect();
        // The last good answer is kept: a name server that fails says nothing about the node.
        let Some(addr) = eye.choose(&found).await.or_else(|| eye.addr()) else {
            let why = format!("`{}` can't be resolved", node.url.host);
            eye.probed(Observation::Probe(Err(why.clone())), began);
            return Error::e_explain(ErrorType::ConnectNoRoute, why);
        };
        if eye.addr() != Some(addr) {
            eye.observe(Observation::Resolved(addr));
            eye.back.notify_one();
        }
        let backend = Backend::new(&addr.to_string())?;
        Ok((BTreeSet::from([backend]), HashMap::new()))
    }
}

/// Probes the node. The thresholds are the fleet's health machine's, which traffic feeds as well.
struct Health(Arc<Eye>);

#[async_trait]
impl HealthCheck for Health {
    async fn check(&self, _target: &Backend) -> Result<()> {
        let eye = &self.0;
        let tries = eye.gateway.config().health.unhealthy_threshold;
        let pace = Pace::of(&eye.access.config, tries);
        let mut tries = 0;
        loop {
            tries += 1;
            let Err(why) = eye.probe(pace.timeout).await else {
                return Ok(());
            };
            // A failure is made sure of at once rather than an interval later.
            if pace.tries <= tries || eye.is_down() {
                return Error::e_explain(ErrorType::ConnectError, why);
            }
            sleep(pace.pause).await;
        }
    }

    fn health_threshold(&self, _success: bool) -> usize {
        1
    }
}

impl Eye {
    /// Of a name's addresses the one in use as long as it is among them and serves, else the first that takes a connection:
    /// `localhost` may well mean `::1` first where the node listens on 127.0.0.1 only.
    async fn choose(&self, found: &[SocketAddr]) -> Option<SocketAddr> {
        let known = self.addr().filter(|known| found.contains(known));
        if known.is_some() && !self.is_down() {
            return known;
        }
        let limit = self.gateway.config().proxy.connection_timeout;
        for addr in found.iter().take(ADDRESSES_MAX).filter(|_| 1 < found.len()) {
            let connected = timeout(limit, tokio::net::TcpStream::connect(addr)).await;
            if matches!(connected, Ok(Ok(_))) {
                return Some(*addr);
            }
        }
        known.or(found.first().copied())
    }

    /// One probe; what it shows is learned.
    ///
    /// # Errors
    /// Why it failed.
    async fn probe(&self, limit: Duration) -> std::result::Result<(), String> {
        let (was_up, began) = (self.is_up(), now());
        let result = self.look(limit).await;
        if let (Err(Useless::Silent(why)), true) = (&result, self.is_loading()) {
            log::debug!("node `{}` loads a model: {why}", self.access.name());
            return Ok(());
        }
        let seen = match &result {
            Ok(()) => Observation::Probe(Ok(())),
            Err(useless) => useless.observed(),
        };
        self.probed(seen, began);
        if !was_up && self.is_up() {
            self.wake.notify_one(); // its models may have changed while it was away
            self.back.notify_one();
        }
        result.map_err(Useless::into_why)
    }

    /// A node that refused our key has to show that it accepts it now. Its health path may not ask for one, and then the node would
    /// come back with every probe and go with every listing.
    async fn look(&self, limit: Duration) -> std::result::Result<(), Useless> {
        // Its status is what counts, and for some types the health path is the whole model list.
        let limits = |body_bytes_max, cut| FetchLimits {
            time: limit,
            body_bytes_max,
            cut,
        };
        let (gateway, access) = (&self.gateway, &self.access);
        let get = |path, limits| gateway.get_useful(self.node, access, path, limits);
        get(&access.config.health_path, limits(HEALTH_BYTES_MAX, true)).await?;
        if self.cause() != Some(Cause::Refused) {
            return Ok(());
        }
        match get(&access.config.model_path, limits(LISTING_BYTES_MAX, false)).await {
            Ok(_) | Err(Useless::Failed(_) | Useless::Silent(_)) => Ok(()),
            Err(refused) => Err(refused),
        }
    }

    fn probed(&self, seen: Observation, began: Instant) {
        if let Some(node) = self.gateway.fleet.view().node(self.node) {
            let (at, took) = (self.gateway.uptime(), began.elapsed());
            node.moments().note_probe(Probed { at, took });
        }
        self.observe(seen);
    }

    fn observe(&self, seen: Observation) {
        self.gateway.observe(self.node, seen);
    }

    /// Reading a model of many gigabytes from disk may leave no time for a probe. The request that waits for it has a limit of its own,
    /// and says whether the node is ill.
    fn is_loading(&self) -> bool {
        let view = self.gateway.fleet.view();
        view.node(self.node).is_some_and(Node::is_loading)
    }

    fn addr(&self) -> Option<SocketAddr> {
        self.gateway.fleet.view().node(self.node)?.addr
    }

    fn is_up(&self) -> bool {
        let view = self.gateway.fleet.view();
        view.node(self.node).is_some_and(|node| node.health.is_up())
    }

    fn is_down(&self) -> bool {
        self.cause().is_some()
    }

    /// Why it is down, if it is.
    fn cause(&self) -> Option<Cause> {
        self.gateway.fleet.view().node(self.node)?.health.cause()
    }

    fn name(&self) -> &str {
        self.access.name()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_watch_that_broke_off_is_given_back_to_be_begun_again() {
        let mut loops = JoinSet::new();
        let running = loops.spawn(async { panic!("what a node sent") });
        let began = tokio::time::Instant::now();
        next_end(&mut loops).await;
        assert!(running.is_finished());
        assert_eq!(
            began.elapsed(),
            RESTART_PAUSE,
            "not at once, or it would spin"
        );
        // One that ended because its node left is nothing to wait for.
        loops.spawn(std::future::pending()).abort();
        next_end(&mut loops).await;
        assert_eq!(began.elapsed(), RESTART_PAUSE);
    }
}
