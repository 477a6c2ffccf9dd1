//! What the configuration means. `raw` is what was written, `check` turns it into these types; nobody else applies a
//! default or asks whether a value is legal.
//!
//! Pure: the file's text, the environment and the reading of key files come in through `Sources`.

mod check;
mod credentials;
mod describe;
mod keys;
mod node;
mod problem;
mod raw;
mod reading;
mod section;
#[cfg(test)]
mod tests;
mod text;
mod url;

use std::net::IpAddr;
use std::time::Duration;

pub use check::load;
pub use describe::describe;
pub use problem::ConfigError;

use crate::profile::Profile;

/// What every variable that overrides a key begins with.
const ENV_PREFIX: &str = "ARRIERO_";
/// Names the configuration file, and is therefore no key.
const FILE_VARIABLE: &str = "ARRIERO_CONFIG";

/// Where a configuration comes from. The caller does all reading.
pub struct Sources<'a> {
    /// Name (for messages) and text of the file, if there is one.
    pub file: Option<(&'a str, &'a str)>,
    /// The value of an environment variable.
    pub env: &'a dyn Fn(&str) -> Option<String>,
    /// Names of all environment variables, so that a mistyped `ARRIERO_…` is found.
    pub env_names: Vec<String>,
    /// Reads a key or certificate file; the error says why not, without the path.
    pub read_file: &'a dyn Fn(&str) -> Result<Vec<u8>, String>,
    /// What `threads: 0` means.
    pub cores: usize,
    /// Whether standard error is a terminal, for `logging.format: auto`.
    pub terminal: bool,
}

/// A whole, valid configuration.
#[derive(Debug, Clone)]
pub struct Config {
    pub server: Server,
    pub admin: Admin,
    pub proxy: Proxy,
    pub nodes: Vec<NodeConfig>,
    pub health: HealthConfig,
    pub model_discovery: ModelDiscovery,
    pub management_enabled: bool,
    pub logging: Logging,
}

#[derive(Debug, Clone)]
pub struct Server {
    pub host: IpAddr,
    pub port: u16,
    /// Worker threads; never 0 (`threads: 0` became `Sources::cores`).
    pub threads: usize,
    pub read_header_timeout: Duration,
    /// Longest gap between two reads of a request body.
    pub body_timeout: Duration,
    pub idle_timeout: Duration,
    pub write_timeout: Duration,
    /// Longest drain after SIGTERM.
    pub shutdown_timeout: Duration,
    pub connections_max: usize,
    pub h2c: bool,
    pub body_bytes_max: usize,
    pub header_bytes_max: usize,
}

#[derive(Debug, Clone)]
pub struct Admin {
    pub host: IpAddr,
    pub port: u16,
    /// `Host` names the admin listener answers to besides its own address (DNS-rebinding guard). Lower case, no port.
    pub allowed_hosts: Vec<String>,
    /// When set, everything but `/internal/health` and `/internal/ready` asks for it.
    pub key: Option<Secret<String>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Balancer {
    Adaptive,
    Priority,
    RoundRobin,
    LeastConnections,
    Random,
}

#[derive(Debug, Clone)]
pub struct Proxy {
    pub balancer: Balancer,
    pub connection_timeout: Duration,
    /// Until the node's first byte when the model is cold.
    pub response_header_timeout: Duration,
    /// Until the node's first byte when the model is warm.
    pub warm_header_timeout: Duration,
    /// Longest silence inside a stream.
    pub read_timeout: Duration,
    /// Whole exchange; `None` when written as 0.
    pub response_timeout: Option<Duration>,
    pub retry: Retry,
    pub queue: Queue,
}

#[derive(Debug, Clone)]
pub struct Retry {
    /// Nodes tried per request, the first included; at least 1.
    pub attempts_max: usize,
    /// Retries as a share of live requests, percent (with a small floor, see `gateway::retry`).
    pub budget_percent: u32,
    pub on_status: Vec<u16>,
}

#[derive(Debug, Clone)]
pub struct Queue {
    pub length_max: usize,
    pub wait_max: Duration,
}

/// A node as the configuration describes it.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    /// Unique; default `host:port`.
    pub name: String,
    pub url: NodeUrl,
    pub profile: &'static Profile,
    /// Higher is preferred.
    pub priority: u32,
    /// Share inside a tier; at least 1.
    pub weight: u32,
    /// `None` for `auto`.
    pub slots: Option<u32>,
    pub check_interval: Duration,
    pub check_timeout: Duration,
    /// Path, starting with `/`, appended to the URL's own path.
    pub health_path: String,
    /// Path of the model listing.
    pub model_path: String,
    /// Extra request headers for this node.
    pub headers: Vec<(String, Secret<String>)>,
    pub auth: NodeAuth,
    pub tls: NodeTls,
}

/// `http[s]://host[:port][/path]`, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeUrl {
    pub tls: bool,
    /// Name or address, without brackets around IPv6.
    pub host: String,
    pub port: u16,
    /// Path in front of every call, without a trailing slash; usually empty.
    pub base_path: String,
}

/// What we show a node to be let in.
#[derive(Debug, Clone)]
pub enum NodeAuth {
    None,
    Bearer(Secret<String>),
    ApiKey {
        header: String,
        key: Secret<String>,
    },
    Basic {
        username: String,
        password: Secret<String>,
    },
}

#[derive(Debug, Clone, Default)]
pub struct NodeTls {
    /// PEM text of the authority to trust instead of the system's.
    pub ca_pem: Option<Vec<u8>>,
    pub insecure_skip_verify: bool,
    pub server_name: Option<String>,
}

#[derive(Debug, Clone, Copy)]
pub struct HealthConfig {
    /// Failures in a row that take a node down; at least 1.
    pub unhealthy_threshold: u32,
    /// Successes in a row that bring it back; at least 1.
    pub healthy_threshold: u32,
    /// How long a node that failed under traffic stays out before its trial; doubles each time up to `eject_max`.
    pub eject_base: Duration,
    pub eject_max: Duration,
}

#[derive(Debug, Clone, Copy)]
pub struct ModelDiscovery {
    /// Installed models and version.
    pub interval: Duration,
    /// Loaded models.
    pub loaded_interval: Duration,
    pub timeout: Duration,
}

#[derive(Debug, Clone)]
pub struct Logging {
    pub level: log::LevelFilter,
    pub format: LogFormat,
    pub access_log: bool,
}

/// `auto` became one of these by `Sources::terminal`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

/// A value that never prints itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret<T>(T);

impl<T> Secret<T> {
    pub fn new(value: T) -> Secret<T> {
        Secret(value)
    }

    /// The one way to the value, easy to search for.
    pub fn reveal(&self) -> &T {
        &self.0
    }
}

impl<T> std::fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}
