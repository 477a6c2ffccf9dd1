//! Watching the nodes: names are resolved and health is probed on pingora-load-balancing's loops (one per node, so that every
//! `check_interval` is honest and a slow node delays nobody else's probe); models are asked for beside them.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use pingora::http::RequestHeader;
use pingora::lb::discovery::ServiceDiscovery;
use pingora::lb::health_check::HealthCheck;
use pingora::lb::selection::RoundRobin;
use pingora::lb::{Backend, Backends, LoadBalancer};
use pingora::protocols::http::client::HttpSession;
use pingora::server::ShutdownWatch;
use pingora::services::background::BackgroundService;
use pingora::{Error, ErrorType, Result};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};

use crate::fleet::listing;
use crate::fleet::{NodeId, Observation};
use crate::profile::Listing;

use super::Gateway;
use super::credentials::Timeouts;
use super::failure::plain;

/// Longest answer to a health probe that is read.
const HEALTH_BYTES_MAX: usize = 64 * 1024;
/// Longest model list that is read.
const LISTING_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Failed listings after which a node that never told its models is taken to have none.
const LISTING_TRIES: u32 = 5;
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
    balancer.update_frequency = Some(config.model_discovery.interval);
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
        let url = &eye.gateway.config.nodes[eye.node.0].url;
        let looked_up = tokio::net::lookup_host((url.host.as_str(), url.port)).await;
        let Some(addr) = looked_up.ok().and_then(|mut addrs| addrs.next()) else {
            let why = format!("`{}` can't be resolved", url.host);
            eye.observe(Observation::Probe(Err(why.clone())));
            return Error::e_explain(ErrorType::ConnectNoRoute, why);
        };
        if eye.addr() != Some(addr) {
            eye.observe(Observation::Resolved(addr));
        }
        Ok((
            BTreeSet::from([Backend::new(&addr.to_string())?]),
            HashMap::new(),
        ))
    }
}

/// Probes the node. The thresholds are the fleet's health machine's, which traffic feeds as well.
struct Health(Arc<Eye>);

#[async_trait]
impl HealthCheck for Health {
    async fn check(&self, _target: &Backend) -> Result<()> {
        let eye = &self.0;
        let node = &eye.gateway.config.nodes[eye.node.0];
        let pause = (node.check_interval / 10).min(CONFIRM_PAUSE_MAX);
        loop {
            let was_up = eye.is_up();
            let Err(why) = eye
                .get(&node.health_path, node.check_timeout, HEALTH_BYTES_MAX)
                .await
            else {
                eye.observe(Observation::Probe(Ok(())));
                if !was_up && eye.is_up() {
                    log::info!("node `{}` is up", node.name);
                    eye.wake.notify_one();
                }
                return Ok(());
            };
            let knew = eye.gateway.fleet.view().nodes[eye.node.0].health.is_down();
            eye.observe(Observation::Probe(Err(why.clone())));
            if eye.gateway.fleet.view().nodes[eye.node.0].health.is_down() {
                if !knew {
                    log::warn!("node `{}` is down: {why}", node.name);
                }
                return Error::e_explain(ErrorType::ConnectError, why);
            }
            // Made sure at once rather than an interval later: a dead node is found out in less than two intervals.
            sleep(pause).await;
        }
    }

    fn health_threshold(&self, _success: bool) -> usize {
        1
    }
}

impl Eye {
    fn observe(&self, seen: Observation) {
        self.gateway.observe(self.node, seen);
    }

    fn addr(&self) -> Option<SocketAddr> {
        self.gateway.fleet.view().nodes[self.node.0].addr
    }

    fn is_up(&self) -> bool {
        self.gateway.fleet.view().nodes[self.node.0].health.is_up()
    }

    /// Asks for installed models every `interval` (and when woken), for loaded ones every `loaded_interval`.
    async fn keep_models(&self) {
        let timing = self.gateway.config.model_discovery;
        let mut installed_at: Option<Instant> = None;
        let mut failures = 0;
        loop {
            let woken = tokio::select! {
                () = self.wake.notified() => true,
                () = sleep(timing.loaded_interval) => false,
            };
            if !self.is_up() {
                continue;
            }
            let due = woken || installed_at.is_none_or(|at| timing.interval <= at.elapsed());
            match self.learn_models(due, timing.timeout).await {
                Ok(()) => {
                    failures = 0;
                    installed_at = if due {
                        Some(Instant::now())
                    } else {
                        installed_at
                    };
                }
                Err(why) => {
                    failures += 1;
                    self.listing_failed(failures, &why);
                }
            }
        }
    }

    /// A node that is well but does not tell its models is taken, after a few tries, to have none: else every unknown name
    /// would be answered with "not known yet" for ever.
    fn listing_failed(&self, failures: u32, why: &str) {
        if failures == 1 {
            log::warn!(
                "node `{}` does not tell its models: {why}",
                self.gateway.config.nodes[self.node.0].name
            );
        }
        let never_told = self.gateway.fleet.view().nodes[self.node.0]
            .installed
            .is_none();
        if failures == LISTING_TRIES && never_told {
            self.observe(Observation::Installed {
                models: Vec::new(),
                version: None,
            });
        }
    }

    async fn learn_models(
        &self,
        installed: bool,
        limit: Duration,
    ) -> std::result::Result<(), String> {
        let node = &self.gateway.config.nodes[self.node.0];
        match node.profile.listing {
            Listing::Ollama => {
                if installed {
                    let models = listing::tags(
                        &self.get(&node.model_path, limit, LISTING_BYTES_MAX).await?,
                    )?;
                    let version = self.get("/api/version", limit, HEALTH_BYTES_MAX).await;
                    let version = version.ok().and_then(|body| listing::version(&body).ok());
                    self.observe(Observation::Installed { models, version });
                }
                let loaded = listing::ps(&self.get("/api/ps", limit, LISTING_BYTES_MAX).await?)?;
                self.observe(Observation::Loaded(loaded));
            }
            Listing::OpenAi if installed => {
                let models = listing::v1_models(
                    &self.get(&node.model_path, limit, LISTING_BYTES_MAX).await?,
                )?;
                self.observe(Observation::Installed {
                    models,
                    version: None,
                });
            }
            Listing::OpenAi => (),
        }
        Ok(())
    }

    /// One GET, whole, within the limits.
    ///
    /// # Errors
    /// What went wrong, in a few words.
    async fn get(
        &self,
        path: &str,
        limit: Duration,
        bytes_max: usize,
    ) -> std::result::Result<Bytes, String> {
        match timeout(limit, self.get_unlimited(path, limit, bytes_max)).await {
            Ok(Ok((200..=299, body))) => Ok(body),
            Ok(Ok((status, _))) => Err(format!("GET {path} answered {status}")),
            Ok(Err(error)) => Err(format!("GET {path}: {}", plain(&error))),
            Err(_) => Err(format!(
                "GET {path}: no answer within {} s",
                limit.as_secs_f32()
            )),
        }
    }

    async fn get_unlimited(
        &self,
        path: &str,
        limit: Duration,
        bytes_max: usize,
    ) -> Result<(u16, Bytes)> {
        let addr = self
            .addr()
            .ok_or_else(|| Error::explain(ErrorType::ConnectNoRoute, "not resolved yet"))?;
        let access = &self.gateway.access[self.node.0];
        let peer = access.build_peer(
            addr,
            Timeouts {
                connect: limit,
                read: limit,
            },
        );
        let mut request = RequestHeader::build("GET", access.path(path, None).as_bytes(), Some(4))?;
        request.insert_header("accept", "application/json")?;
        request.insert_header("user-agent", concat!("arriero/", env!("CARGO_PKG_VERSION")))?;
        access
            .sign(&mut request)
            .map_err(|fault| Error::explain(ErrorType::InternalError, fault.message))?;
        // Every probe on a connection of its own: one from the pool could vouch for a node that takes no new ones.
        let mut session = self.gateway.probes.get_http_session(&peer).await?.0;
        session.write_request_header(Box::new(request)).await?;
        session.finish_request_body().await?;
        session.read_response_header().await?;
        let status = session
            .response_header()
            .map_or(0, |head| head.status.as_u16());
        let body = read_body(&mut session, bytes_max).await?;
        Ok((status, body))
    }
}

async fn read_body(session: &mut HttpSession, bytes_max: usize) -> Result<Bytes> {
    let mut body = BytesMut::new();
    while let Some(piece) = session.read_response_body().await? {
        if body.len() + piece.len() > bytes_max {
            return Error::e_explain(ErrorType::InternalError, "the answer is too long");
        }
        body.extend_from_slice(&piece);
    }
    Ok(body.freeze())
}
