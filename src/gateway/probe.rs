//! Watching the nodes: names are resolved and health is probed on pingora-load-balancing's loops (one per node, so that every
//! `check_interval` is honest and a slow node delays nobody else's probe); models are asked for beside them.

mod fetch;

mod models;

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pingora::lb::discovery::ServiceDiscovery;
use pingora::lb::health_check::HealthCheck;
use pingora::lb::selection::RoundRobin;
use pingora::lb::{Backend, Backends, LoadBalancer};
use pingora::server::ShutdownWatch;
use pingora::services::background::BackgroundService;
use pingora::{Error, ErrorType, Result};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use crate::config::NodeConfig;
use crate::fleet::{NodeId, Observation};

use super::Gateway;

/// Longest answer to a health probe that is read.
const HEALTH_BYTES_MAX: usize = 64 * 1024;
/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 8;
/// Longest pause before a failed probe is repeated to make sure.
const CONFIRM_PAUSE_MAX: Duration = Duration::from_millis(500);

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
        let loops = (0..self.0.config.nodes.len()).map(|at| {
            let eye = Arc::new(Eye {
                gateway: self.0.clone(),
                node: NodeId(at),
                wake: Notify::new(),
            });
            watch_node(eye, shutdown.clone())
        });
        futures::future::join_all(loops).await;
    }
}

async fn watch_node(eye: Arc<Eye>, shutdown: ShutdownWatch) {
    let config = &eye.gateway.config;
    let node = &config.nodes[eye.node.0];
    let mut backends = Backends::new(Box::new(Names(eye.clone())));
    backends.set_health_check(Box::new(Health(eye.clone())));
    let mut balancer = LoadBalancer::<RoundRobin>::from_backends(backends);
    balancer.update_frequency = Some(node.check_interval);
    balancer.health_check_frequency = Some(node.check_interval);
    let mut stop = shutdown.clone();
    tokio::select! {
        () = balancer.run(shutdown, None) => (),
        () = eye.keep_models() => (),
        _ = stop.wait_for(|stopping| *stopping) => (),
    }
}

/// One node, as its watchers see it.
struct Eye {
    gateway: Arc<Gateway>,
    node: NodeId,
    /// Rings when the node's models should be asked for at once: it has an address, or it came back.
    wake: Notify,
}

/// Resolves the node's name; the last good answer is kept.
struct Names(Arc<Eye>);

#[async_trait]
impl ServiceDiscovery for Names {
    async fn discover(&self) -> Result<(BTreeSet<Backend>, HashMap<u64, bool>)> {
        let eye = &self.0;
        let node = &eye.gateway.config.nodes[eye.node.0];
        let host = (node.url.host.as_str(), node.url.port);
        let looked_up = timeout(node.check_timeout, tokio::net::lookup_host(host)).await;
        let found: Vec<SocketAddr> = looked_up
            .ok()
            .and_then(std::result::Result::ok)
            .into_iter()
            .flatten()
            .collect();
        let Some(addr) = eye.choose(&found).await else {
            let why = format!("`{}` can't be resolved", node.url.host);
            eye.observe(Observation::Probe(Err(why.clone())));
            return Error::e_explain(ErrorType::ConnectNoRoute, why);
        };
        if eye.addr() != Some(addr) {
            eye.observe(Observation::Resolved(addr));
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
        let pace = Pace::of(
            &eye.gateway.config.nodes[eye.node.0],
            eye.gateway.config.health.unhealthy_threshold,
        );
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

/// How quickly a node is probed, so that its death is found out in less than two intervals: in the worst case it dies just
/// after a good probe, and then `tries` probes have to fail, each by timeout, with pauses between.
#[derive(Debug, PartialEq, Eq)]
struct Pace {
    tries: u32,
    timeout: Duration,
    pause: Duration,
}

impl Pace {
    fn of(node: &NodeConfig, tries: u32) -> Pace {
        let pause = (node.check_interval / 10).min(CONFIRM_PAUSE_MAX) / tries.max(1);
        // A tenth is left for the machine's own delays.
        let time = node.check_interval * 9 / 10 - pause * tries.saturating_sub(1);
        Pace {
            tries,
            timeout: node.check_timeout.min(time / tries.max(1)),
            pause,
        }
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
        let limit = self.gateway.config.proxy.connection_timeout;
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
        let was_up = self.is_up();
        let path = &self.gateway.config.nodes[self.node.0].health_path;
        let result = self.get(path, limit, HEALTH_BYTES_MAX).await.map(drop);
        self.observe(Observation::Probe(result.clone()));
        if !was_up && self.is_up() {
            self.wake.notify_one(); // its models may have changed while it was away
        }
        result
    }

    fn observe(&self, seen: Observation) {
        self.gateway.observe(self.node, seen);
    }

    fn addr(&self) -> Option<SocketAddr> {
        self.gateway.fleet.view().nodes[self.node.0].addr
    }

    fn is_up(&self) -> bool {
        self.gateway.fleet.view().nodes[self.node.0].health.is_up()
    }

    fn is_down(&self) -> bool {
        self.gateway.fleet.view().nodes[self.node.0]
            .health
            .is_down()
    }

    fn name(&self) -> &str {
        &self.gateway.config.nodes[self.node.0].name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_case_of_a_death_is_found_out_in_less_than_two_intervals() {
        let sources = crate::config::Sources {
            file: None,
            env: &|_| None,
            env_names: Vec::new(),
            read_file: &|_| Err("no files here".into()),
            list_dir: &|_| Err("no files here".into()),
            cores: 1,
            terminal: false,
        };
        let config = crate::config::load(&sources).unwrap();
        for interval_ms in [200, 1000, 2000, 5000, 60_000] {
            for timeout_ms in [100, 2000, 60_000] {
                for tries in [1, 2, 3, 5] {
                    let mut node = config.nodes[0].clone();
                    node.check_interval = Duration::from_millis(interval_ms);
                    node.check_timeout = Duration::from_millis(timeout_ms).min(node.check_interval);
                    let pace = Pace::of(&node, tries);
                    let worst =
                        node.check_interval + pace.timeout * tries + pace.pause * (tries - 1);
                    assert!(worst < 2 * node.check_interval, "{pace:?}");
                    assert!(
                        pace.timeout <= node.check_timeout && !pace.timeout.is_zero(),
                        "{pace:?}"
                    );
                }
            }
        }
    }
}
