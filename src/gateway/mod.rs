//! The shell: the only module that names Pingora or opens a socket towards clients and nodes.
//!
//! `proxy` is the way in (Pingora's phases), `exchange` the way of a request on one screen, the rest its steps.

mod proxy;

mod exchange;
mod explain;

mod listings;

mod indexed;

mod manage;

mod client;

mod head;

mod hedge;

mod place;

mod turns;

mod load;
mod placement;
mod recall;

mod refresh;

mod outgoing;

mod upstream;

mod failure;

mod relay;

mod credentials;

mod fetch;

mod retry_after;

mod learn;

mod wake;

mod probe;

pub mod dns;

mod admin;

mod about;

mod reload;

mod origin;

mod guard;

mod drain;

pub mod server;

pub mod local;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use pingora::connectors::ConnectorOptions;
use pingora::connectors::http::v1::Connector;
use pingora::server::configuration::ServerConf;

use crate::admission::Budget;
use crate::affinity::Sessions;
use crate::config::Config;
use crate::error::{Fault, Kind};
use crate::fleet::{Fleet, Health, Moment, Node, NodeId, Observation, Spared};
use crate::telemetry::metrics::Metrics;
use crate::telemetry::stats::Stats;

pub use self::origin::{Origin, Read, Reading};

use self::dns::Dns;
use self::drain::Lifecycle;
use self::load::Loads;
use self::manage::Jobs;
use self::place::Waiting;
use self::refresh::Rounds;
use self::reload::{Accesses, Members};
use self::turns::Turns;
use self::wake::Wakes;

/// Who we say that we are, where a request is our own.
const USER_AGENT: &str = concat!("arriero/", env!("CARGO_PKG_VERSION"));

/// Modules whose log lines repeat ours: the fleet tells of its nodes' health itself, in words of its own.
pub const REPETITIVE_LOGS: &[&str] = &["pingora_load_balancing"];

/// All that outlives a request.
pub struct Gateway {
    /// In force for requests that come now; each keeps the one it came under.
    config: ArcSwap<Config>,
    fleet: Arc<Fleet>,
    /// What the nodes are made from; its lock orders the changes.
    members: Mutex<Members>,
    accesses: ArcSwap<Accesses>,
    /// Unset where there is nothing to read again.
    origin: OnceLock<Arc<Origin>>,
    connector: Connector,
    dns: Dns,
    /// For probes, without a pool.
    probes: Connector,
    waiting: Waiting,
    /// Models on their way into the memory of nodes.
    loads: Loads,
    rounds: Rounds,
    wakes: Wakes,
    /// Pulls under way, so that the same one asked twice runs once.
    jobs: Jobs,
    budget: Budget,
    hedges: Budget,
    /// Who answered which conversation last.
    sessions: Sessions,
    metrics: Arc<Metrics>,
    stats: Stats,
    lifecycle: Arc<Lifecycle>,
    started: Instant,
    /// The same moment on the wall clock.
    started_ms: u64,
    /// Start of the request ids of this process.
    id_prefix: u64,
    requests: AtomicU64,
    turns: Turns,
}

impl Gateway {
    /// # Errors
    /// `Internal` when a node's TLS settings cannot be used or a metric is declared twice.
    pub fn new(config: Config, conf: &ServerConf) -> Result<Gateway, Fault> {
        let internal = |what: &str, error: &dyn std::fmt::Display| {
            Fault::new(Kind::Internal, format!("{what}: {error}"))
        };
        let metrics =
            Metrics::new().map_err(|error| internal("metrics can't be declared", &error))?;
        let config = Arc::new(config);
        let gateway = Gateway {
            fleet: Arc::new(Fleet::new(Vec::new(), config.health)),
            members: Mutex::new(Members::of(config.clone())),
            accesses: ArcSwap::default(),
            origin: OnceLock::new(),
            connector: Connector::new(Some(ConnectorOptions::from_server_conf(conf))),
            dns: Dns::default(),
            probes: Connector::new(None),
            waiting: Waiting::default(),
            loads: Loads::default(),
            rounds: Rounds::default(),
            jobs: Jobs::default(),
            wakes: Wakes::default(),
            budget: Budget::of_retries(),
            hedges: Budget::of_hedges(),
            sessions: Sessions::default(),
            metrics: Arc::new(metrics),
            stats: Stats::default(),
            lifecycle: Arc::new(Lifecycle::default()),
            started: now(),
            started_ms: wall_ms(),
            id_prefix: random(),
            requests: AtomicU64::new(0),
            turns: Turns::starting_at(random),
            config: ArcSwap::new(config),
        };
        reload::check_templates(&gateway.config())?;
        gateway.seat_members()?;
        Ok(gateway)
    }

    /// The configuration in force now.
    pub fn config(&self) -> Arc<Config> {
        self.config.load_full()
    }

    /// Says where the configuration can be read again; only the first word counts.
    pub fn set_origin(&self, origin: Arc<Origin>) {
        let _ = self.origin.set(origin);
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

    fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// What traffic or a probe showed of a node. A change of its health is news for the operator, whoever found it out.
    fn observe(&self, node: NodeId, seen: Observation) {
        if matches!(seen, Observation::Traffic(Ok(()))) && self.fleet.is_steady(node) {
            return; // the hot path: next to nothing
        }
        let failed = matches!(seen, Observation::Traffic(Err(_)));
        let before = self.fleet.view();
        self.fleet.observe(node, seen, now());
        let after = self.fleet.view();
        let (Some(was), Some(is)) = (before.node(node), after.node(node)) else {
            return;
        };
        if let Some(spared) = is.spared.filter(|_| failed) {
            let refused = &self.metrics.nodes.ejections_refused;
            refused.with_label_values(&[spared.as_str()]).inc();
        }
        tell(was, is);
    }
}

/// What is new about a node, for the operator's log.
fn tell(was: &Node, is: &Node) {
    let name = &is.config.name;
    match &is.health {
        Health::Up if was.health != Health::Up => log::info!("node `{name}` is up"),
        Health::Trial if was.health != Health::Trial => {
            log::info!(
                "node `{name}` is on trial: it gets one request at a time until one succeeds"
            )
        }
        Health::Down { why, cause, .. } if was.health.cause() != Some(*cause) => {
            let state = is.health.state().as_str();
            log::warn!("node `{name}` is down ({state}): {why}")
        }
        _ => (),
    }
    if is.spared.is_some() && was.spared.is_none() {
        log::warn!(
            "node `{name}` fails requests and is asked on all the same, {}",
            match is.spared {
                Some(Spared::Percent) =>
                    "since discovery.health_check.max_ejected_percent are ejected already",
                _ => "since no other node in service has all of its models",
            }
        );
    }
}

/// The clock is read in the shell only; the core gets it as an argument.
fn now() -> Instant {
    Instant::now()
}

/// Now, on both clocks.
fn moment() -> Moment {
    Moment {
        now: now(),
        unix_s: i64::try_from(wall_ms() / 1000).unwrap_or(i64::MAX),
    }
}

/// The wall clock, Unix milliseconds: for what people read, never for deciding.
fn wall_ms() -> u64 {
    let since_1970 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since_1970.map_or(0, |time| time.as_millis() as u64)
}

/// Chance is drawn in the shell only. The standard library's hasher keys are the operating system's randomness.
fn random() -> u64 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    RandomState::new().build_hasher().finish()
}
