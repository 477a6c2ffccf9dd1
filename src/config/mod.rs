//! What the configuration means. `raw` is what was written, `check` turns it into these types; nobody else applies a
//! default or asks whether a value is legal.
//!
//! Pure: the file's text, the environment and the reading of key files come in through `Sources`.

mod check;
mod comments;
mod credentials;
mod describe;
mod discovery;
mod hedge;
mod import;
mod keys;
mod management;
mod node;
mod offer;
mod placement;
mod problem;
pub mod profiles;
mod queue;
mod raw;
mod reading;
mod registry;
mod schema;
mod seat;
mod secrets;
mod section;
mod sources;
mod sticky;
#[cfg(test)]
mod tests;
mod text;
mod url;

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use check::load;
pub use describe::describe;
pub use discovery::DnsSource;
pub use hedge::Hedge;
pub use import::{Imported, import_olla};
pub use management::{DefaultTarget, Management};
pub use placement::{Pinned, Placement};
pub use problem::ConfigError;
pub use queue::{Queue, TenantSource};
pub use registry::{Alias, Fallback, Registry, Strategy};
pub use schema::schema;
pub use seat::Unsaid;
pub use sources::Sources;
pub use sticky::{KeySource, StickySessions};

use crate::glob::Filter;
use crate::profile::{Profile, Profiles};

/// What every variable that overrides a key begins with.
const ENV_PREFIX: &str = "ARRIERO_";
/// Names the configuration file, and is therefore no key.
const FILE_VARIABLE: &str = "ARRIERO_CONFIG";

/// A whole, valid configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where clients come in.
    pub server: Server,
    /// The second listener, for operators.
    pub admin: Admin,
    /// How requests reach nodes.
    pub proxy: Proxy,
    /// The node types there are: built in, and from `profiles.dir`.
    pub profiles: Arc<Profiles>,
    /// In the order of the file, which is that of `NodeId`; nodes with `enabled: false` are left out. May be empty where
    /// `dns` is not.
    pub nodes: Vec<NodeConfig>,
    /// Names whose every address is a node too; empty with `discovery.type: static`.
    pub dns: Vec<DnsSource>,
    /// When a node is taken out and brought back.
    pub health: HealthConfig,
    /// How often nodes are asked for their models.
    pub model_discovery: ModelDiscovery,
    /// How the nodes' models become one catalogue, and what happens when nobody has the model asked for.
    pub registry: Registry,
    /// Names that stand for other names, in the order of their keys; no two have the same. [`Alias::find`] looks one up.
    pub aliases: Vec<Alias>,
    /// What is put into the nodes' memory without a request that asks for it.
    pub placement: Placement,
    /// What may be changed on nodes: pull, push, create, copy, delete, blobs.
    pub management: Management,
    /// Directory for temporary files; `None` when written empty or not at all.
    pub state_dir: Option<PathBuf>,
    /// What is logged, and how.
    pub logging: Logging,
}

/// `server`: where clients come in.
#[derive(Debug, Clone)]
pub struct Server {
    /// Address to listen on; other than loopback only with `auth.allow_open`.
    pub host: IpAddr,
    /// TCP port; 0 takes a free one.
    pub port: u16,
    /// Worker threads; never 0 (`threads: 0` became `Sources::cores`).
    pub threads: usize,
    /// For a whole request head, not per read; on a kept-alive connection `idle_timeout` comes on top. Never 0.
    pub read_header_timeout: Duration,
    /// Longest gap between two reads of a request body.
    pub body_timeout: Duration,
    /// How long a kept-alive connection may be without a request. Never 0: `0s` became the default.
    pub idle_timeout: Duration,
    /// How long a client may stop reading before its answer is broken off. Never 0: `0s` became the default.
    pub write_timeout: Duration,
    /// Longest drain after SIGTERM.
    pub shutdown_timeout: Duration,
    /// Client connections open at once, 1 to 1,000,000; one more is closed at once.
    pub connections_max: usize,
    /// Whether HTTP/2 without TLS (prior knowledge) is spoken beside HTTP/1.1.
    pub h2c: bool,
    /// Longest request body, bytes, 1 to 64 GiB, before and after decoding; a longer one is refused with 413.
    pub body_bytes_max: usize,
    /// Longest request head, bytes, 4 KiB to 1 MiB; a longer one is refused with 431.
    pub header_bytes_max: usize,
}

/// `admin`: the second listener, with health, metrics and status.
#[derive(Debug, Clone)]
pub struct Admin {
    /// Address to listen on.
    pub host: IpAddr,
    /// TCP port, another than the server's; 0 takes a free one.
    pub port: u16,
    /// `Host` names the admin listener answers to besides its own address (DNS-rebinding guard). Lower case, no port.
    pub allowed_hosts: Vec<String>,
    /// When set, everything but `/internal/health` and `/internal/ready` asks for it.
    pub key: Option<Secret<String>>,
}

/// `proxy.load_balancer`: how one of the nodes that may serve a request is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Balancer {
    /// The highest tier with room; in it nodes with the model in memory first, then the least busy for its weight.
    Adaptive,
    /// The highest tier with a free slot; in it by chance, as likely as the weights.
    Priority,
    /// In turn over all tiers, each as often as its weight.
    RoundRobin,
    /// The fewest requests in flight for its weight, whatever the tier.
    LeastConnections,
    /// By chance over all tiers, as likely as the weights.
    Random,
}

/// `proxy`: how requests reach nodes.
#[derive(Debug, Clone)]
pub struct Proxy {
    /// How a node is chosen.
    pub balancer: Balancer,
    /// Until a TCP connection to a node stands; a TLS handshake may take as long again. Never 0.
    pub connection_timeout: Duration,
    /// Until the node's first byte when the model is cold.
    pub response_header_timeout: Duration,
    /// Until the node's first byte when the model is warm.
    pub warm_header_timeout: Duration,
    /// Longest silence inside a stream.
    pub read_timeout: Duration,
    /// Whole exchange; `None` when written as 0.
    pub response_timeout: Option<Duration>,
    /// When another node is tried.
    pub retry: Retry,
    /// When a second node is asked the same, because the first is slow.
    pub hedge: Hedge,
    /// Who may wait for a free slot.
    pub queue: Queue,
    /// Whether a request that asks for a context shorter than that of the runner in memory takes that one, which saves a load.
    pub larger_context: bool,
    /// By what conversations are known, and whether they stay with their node.
    pub sticky: StickySessions,
}

/// `proxy.retry`: when another node is tried.
#[derive(Debug, Clone)]
pub struct Retry {
    /// Nodes tried per request, the first included; at least 1.
    pub attempts_max: usize,
    /// Retries as a share of live requests, percent (with a small floor, see `admission::Budget`).
    pub budget_percent: u32,
    /// Statuses, 400 to 599, that count as the node's failure when it answers with one.
    pub on_status: Vec<u16>,
}

/// A node as the configuration describes it.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeConfig {
    /// Unique; default `host:port`.
    pub name: String,
    /// Where it is; taken apart when the configuration was read.
    pub url: NodeUrl,
    /// Whether its type is found out by asking it (`type: auto`).
    pub type_is_found: bool,
    /// What is for that type to say; nothing where the type is written.
    pub unsaid: Unsaid,
    /// What its `type:` says about it; the type that serves nothing until it is found out.
    pub profile: Arc<Profile>,
    /// Higher is preferred.
    pub priority: u32,
    /// Share inside a tier; at least 1.
    pub weight: u32,
    /// `None` for `auto`.
    pub slots: Option<u32>,
    /// From one health probe to the next. Never 0.
    pub check_interval: Duration,
    /// For one health probe; at most `check_interval`.
    pub check_timeout: Duration,
    /// Path, starting with `/`, appended to the URL's own path.
    pub health_path: String,
    /// Path of the model listing.
    pub model_path: String,
    /// Extra request headers for this node.
    pub headers: Vec<(String, Secret<String>)>,
    /// Credentials that every request to it carries.
    pub auth: NodeAuth,
    /// How its certificate is judged; without meaning for `http://`.
    pub tls: NodeTls,
    /// Which of its models are offered, by the node's own names.
    pub model_filter: Filter,
    /// When not empty, only models of exactly these names, as the node spells them, are offered; the filter applies as well.
    pub model_ids: Vec<String>,
    /// Offered as `{prefix_id}.{name}`: no dot at its end, never empty.
    pub prefix_id: Option<String>,
    /// Put in place of each model's tags in listings, when not empty.
    pub tags: Vec<String>,
    /// What listings say about where it is.
    pub connection: Connection,
    /// Whether the path in its URL stands in front of calls too, and not only of health and model paths.
    pub preserve_path: bool,
}

impl NodeConfig {
    /// What stands in front of the path of a call: the URL's path, unless `preserve_path: false` keeps that for health and models.
    pub fn call_prefix(&self) -> &str {
        match self.preserve_path {
            true => &self.url.base_path,
            false => "",
        }
    }
}

/// An endpoint's `connection_type`: a word for listings, as in Open WebUI; nothing is decided by it here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Connection {
    /// A machine of one's own.
    Local,
    /// Somebody else's.
    External,
}

impl NodeConfig {
    /// Whether two configurations mean one node, however else they differ: what is believed about it stays true.
    pub fn is_same_node(&self, other: &NodeConfig) -> bool {
        self.name == other.name && self.url == other.url && self.profile.name == other.profile.name
    }
}

/// `http[s]://host[:port][/path]`, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeUrl {
    /// Whether the scheme is `https`.
    pub tls: bool,
    /// Name or address, without brackets around IPv6.
    pub host: String,
    /// TCP port; 80 or 443 by scheme when the URL has none.
    pub port: u16,
    /// Path in front of every call, without a trailing slash; usually empty.
    pub base_path: String,
}

/// What we show a node to be let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeAuth {
    /// Nothing is sent.
    None,
    /// `Authorization: Bearer …` with this token (RFC 6750).
    Bearer(Secret<String>),
    /// A key in a header of its own.
    ApiKey {
        /// Name of the header, `X-Api-Key` unless configured.
        header: String,
        /// Value of the header, as it is.
        key: Secret<String>,
    },
    /// `Authorization: Basic …` (RFC 7617).
    Basic {
        /// Must hold no colon, which would end it on the wire; that is not checked.
        username: String,
        /// May hold colons; never empty.
        password: Secret<String>,
    },
}

/// An endpoint's `tls`: how its certificate is judged.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeTls {
    /// PEM text of the authority to trust instead of the system's.
    pub ca_pem: Option<Vec<u8>>,
    /// Accepts any certificate under any name; whoever sits in between reads everything.
    pub insecure_skip_verify: bool,
    /// Name in SNI and in the certificate; `None` takes the URL's host.
    pub server_name: Option<String>,
    /// What we show a node that asks for a certificate.
    pub client: Option<ClientCertificate>,
}

/// A certificate of ours and its key, for nodes that ask who calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    /// PEM text; the first certificate is ours, others lead to its authority.
    pub cert_pem: Vec<u8>,
    /// PEM text of its private key.
    pub key_pem: Secret<Vec<u8>>,
}

/// `discovery.health_check`: when a node is taken out and brought back.
#[derive(Debug, Clone, Copy)]
pub struct HealthConfig {
    /// Failures in a row that take a node down; at least 1.
    pub unhealthy_threshold: u32,
    /// Successes in a row that bring it back; at least 1.
    pub healthy_threshold: u32,
    /// How long a node that failed under traffic stays out before its trial; doubles each time up to `eject_max`.
    pub eject_base: Duration,
    /// Longest ejection; at least `eject_base`.
    pub eject_max: Duration,
    /// Share of the nodes not down for another cause that may be ejected at the same time, percent, 0 to 100. One may always be, unless
    /// it is 0.
    pub ejected_percent_max: u32,
}

/// `discovery.model_discovery`: how often nodes are asked what they have. No duration is 0.
#[derive(Debug, Clone, Copy)]
pub struct ModelDiscovery {
    /// Installed models and version.
    pub interval: Duration,
    /// Loaded models.
    pub loaded_interval: Duration,
    /// For one such question, its whole answer included.
    pub timeout: Duration,
}

/// `logging`: what goes to standard error, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logging {
    /// The least important level that is written; `Off` writes nothing.
    pub level: log::LevelFilter,
    /// How a line looks.
    pub format: LogFormat,
    /// Whether each request leaves one line when it has ended.
    pub access_log: bool,
}

/// `auto` became one of these by `Sources::terminal`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object per line.
    Json,
}

/// A value that never prints itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret<T>(T);

impl<T> Secret<T> {
    /// Hides a value; only [`Secret::reveal`] shows it again.
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
