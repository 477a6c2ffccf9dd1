//! The shell: the only module that names Pingora or opens a socket towards clients and nodes.
//!
//! `proxy` is the way in (Pingora's phases), `exchange` the way of a request on one screen, the rest its steps.

mod proxy;

mod exchange;

mod native;

mod client;

mod head;

mod place;

mod outgoing;

mod upstream;

mod failure;

mod relay;

mod credentials;

mod probe;

pub mod dns;

mod admin;

mod guard;

mod drain;

pub mod server;

pub mod local;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use pingora::connectors::ConnectorOptions;
use pingora::connectors::http::Connector;
use pingora::server::configuration::ServerConf;

use crate::admission::RetryBudget;
use crate::config::Config;
use crate::error::{Fault, Kind};
use crate::fleet::{Fleet, Health, NodeId, Observation};
use crate::telemetry::metrics::Metrics;

use self::credentials::NodeAccess;
use self::drain::Lifecycle;
use self::place::Waiting;

/// Modules whose log lines repeat ours: the fleet tells of its nodes' health itself, in words of its own.
pub const REPETITIVE_LOGS: &[&str] = &["pingora_load_balancing"];

/// All that outlives a request.
pub struct Gateway {
    config: Arc<Config>,
    fleet: Arc<Fleet>,
    /// How each node is reached, by `NodeId`.
    access: Vec<NodeAccess>,
    connector: Connector,
    /// For probes, without a pool.
    probes: Connector,
    waiting: Waiting,
    budget: RetryBudget,
    metrics: Arc<Metrics>,
    lifecycle: Arc<Lifecycle>,
    started: Instant,
    /// Start of the request ids of this process.
    id_prefix: u64,
    requests: AtomicU64,
    picks: AtomicU64,
}

impl Gateway {
    /// # Errors
    /// `Internal` when a node's TLS settings cannot be used or a metric is declared twice.
    pub fn new(config: Config, conf: &ServerConf) -> Result<Gateway, Fault> {
        let internal = |what: &str, error: &dyn std::fmt::Display| {
            Fault::new(Kind::Internal, format!("{what}: {error}"))
        };
        let access = config
            .nodes
            .iter()
            .map(NodeAccess::new)
            .collect::<Result<_, _>>()?;
        let metrics =
            Metrics::new().map_err(|error| internal("metrics can't be declared", &error))?;
        Ok(Gateway {
            fleet: Arc::new(Fleet::new(config.nodes.clone(), config.health)),
            access,
            connector: Connector::new(Some(ConnectorOptions::from_server_conf(conf))),
            probes: Connector::new(None),
            waiting: Waiting::new(config.proxy.queue.length_max),
            budget: RetryBudget::new(config.proxy.retry.budget_percent),
            metrics: Arc::new(metrics),
            lifecycle: Arc::new(Lifecycle::default()),
            started: now(),
            id_prefix: random(),
            requests: AtomicU64::new(0),
            picks: AtomicU64::new(random() >> 32),
            config: Arc::new(config),
        })
    }

    /// The nodes and what is believed about them.
    pub fn fleet(&self) -> &Arc<Fleet> {
        &self.fleet
    }

    /// What `/metrics` of the admin listener shows.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Requests in work and whether the drain has begun.
    pub fn lifecycle(&self) -> &Arc<Lifecycle> {
        &self.lifecycle
    }

    /// A request id that no other request of this or another gateway is likely to have.
    fn next_request_id(&self) -> String {
        let count = self.requests.fetch_add(1, Ordering::Relaxed);
        format!("{:016x}{:08x}", self.id_prefix, count as u32)
    }

    /// Chance as an argument for the pure core: a counter, so that round robin can use it as one.
    fn next_seed(&self) -> u64 {
        self.picks.fetch_add(1, Ordering::Relaxed)
    }

    fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// What traffic or a probe showed of a node. A change of its health is news for the operator, whoever found it out.
    fn observe(&self, node: NodeId, seen: Observation) {
        if matches!(seen, Observation::Traffic(Ok(()))) {
            return self.fleet.observe(node, seen, now()); // the hot path: next to nothing
        }
        let before = self.fleet.view();
        self.fleet.observe(node, seen, now());
        let after = self.fleet.view();
        let (was, is) = (&before.nodes[node.0].health, &after.nodes[node.0].health);
        let name = &self.config.nodes[node.0].name;
        match is {
            Health::Up if !was.is_up() => log::info!("node `{name}` is up"),
            Health::Down { why, .. } if !was.is_down() => {
                log::warn!("node `{name}` is down: {why}")
            }
            _ => (),
        }
    }
}

/// The clock is read in the shell only; the core gets it as an argument.
fn now() -> Instant {
    Instant::now()
}

/// Chance is drawn in the shell only. The standard library's hasher keys are the operating system's randomness.
fn random() -> u64 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    RandomState::new().build_hasher().finish()
}
