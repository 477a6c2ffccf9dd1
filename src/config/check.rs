//! From what was written to what it means: every key, every default and every cross-check.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

use super::discovery::discovery;
use super::hedge::hedge;
use super::management::management;
use super::placement::placement;
use super::problem::{ConfigError, Place, Problem};
use super::queue::queue;
use super::raw;
use super::reading::Reading;
use super::registry;
use super::schema::{Form, Known};
use super::section::Section;
use super::sticky::sticky_sessions;
use super::text::{Wrong, number};
use super::{
    Admin, Balancer, Config, LogFormat, Logging, Proxy, Retry, Secret, Server, Sources, profiles,
};

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Reads a configuration: the file, the environment above it, defaults below it.
///
/// # Errors
/// Every mistake found, each with its place; any one refuses the whole. Text that is no YAML is told alone.
pub fn load(sources: &Sources) -> Result<Config, ConfigError> {
    load_with_keys(sources).map(|(config, _)| config)
}

/// As `load`, and all keys of this version.
pub(super) fn load_with_keys(sources: &Sources) -> Result<(Config, Known), ConfigError> {
    let read = read(sources).map_err(|problem| {
        // An overlong file is refused before its lines are counted for an excerpt.
        let shown = sources.file.map(|(name, text)| {
            (
                name,
                if raw::FILE_BYTES_MAX < text.len() {
                    ""
                } else {
                    text
                },
            )
        });
        ConfigError::new(shown, vec![problem])
    })?;
    let (mut errors, known) = (read.elsewhere, read.known);
    if !read.problems.is_empty() {
        // Last: a type that is unknown here may be one whose profile has a mistake.
        errors.push(ConfigError::new(sources.file, read.problems));
    }
    match errors.is_empty() {
        true => Ok((read.config, known)),
        false => Err(ConfigError::all(errors)),
    }
}

/// A file as far as it can be understood.
pub(super) struct Read {
    pub(super) config: Config,
    /// All keys of this version.
    pub(super) known: Known,
    /// Every mistake in the file.
    pub(super) problems: Vec<Problem>,
    /// What is wrong with other files that it names.
    pub(super) elsewhere: Vec<ConfigError>,
}

/// Reads a file. Fails with the one mistake that keeps it from being YAML.
pub(super) fn read(sources: &Sources) -> Result<Read, Problem> {
    let tree = raw::parse(sources.file.map_or("", |(_, text)| text))?;
    let reading = Reading::new(sources);
    let config = config(Section::new(&reading, "", Some(&tree)));
    let elsewhere = reading.take_elsewhere();
    let (problems, known) = reading.finish();
    Ok(Read {
        config,
        known,
        problems,
        elsewhere,
    })
}

fn config(mut root: Section) -> Config {
    let (server, host, port) = server(root.section("server"));
    let admin = admin(root.section("admin"));
    if server.port != 0
        && server.port == admin.port
        && (server.host == admin.host
            || server.host.is_unspecified()
            || admin.host.is_unspecified())
    {
        let message = format!("`server.port` and `admin.port` are both {}", server.port);
        let hint = "give the admin listener a port of its own";
        root.reading.report(Problem::new(port, message).hint(hint));
    }
    let proxy = proxy(root.section("proxy"));
    let profiles = profiles::profiles(&mut root);
    let discovery = discovery(&mut root, &profiles);
    let registry = registry::registry(root.section("model_registry"));
    let aliases = registry::aliases(&mut root);
    let has_dns = !discovery.dns.is_empty();
    let placement = placement(root.section("placement"), &discovery.nodes, has_dns);
    let management = management(root.section("management"), &discovery.nodes, has_dns);
    let state_dir = root.text("state_dir").map(|set| PathBuf::from(set.text));
    open_to_all(root.section("auth"), &server, host);
    let logging = logging(root.section("logging"));
    root.close();
    Config {
        server,
        admin,
        proxy,
        profiles,
        nodes: discovery.nodes,
        dns: discovery.dns,
        health: discovery.health,
        model_discovery: discovery.models,
        registry,
        aliases,
        placement,
        management,
        state_dir,
        logging,
    }
}

/// The settings, and where host and port were set, for the checks that involve others.
fn server(mut s: Section) -> (Server, Place, Place) {
    let cores = s.reading.sources.cores.max(1);
    let host = s.text("host");
    let mut limits = s.section("request_limits");
    let body_bytes_max = limits.size("max_body_size", 100 << 20, 1..=(64 << 30));
    let header_bytes_max = limits.size("max_header_size", 32 << 10, (4 << 10)..=(1 << 20));
    limits.close();
    let server = Server {
        host: host
            .as_ref()
            .map_or(LOOPBACK, |set| s.judge(set, LOOPBACK, address)),
        port: s.port("port", 40114),
        threads: match s.count("threads", 0, 0..=1024) {
            0 => cores,
            threads => threads,
        },
        read_header_timeout: s.duration("read_header_timeout", seconds(10)),
        body_timeout: s.duration("body_timeout", seconds(30)),
        idle_timeout: s.duration_or_zero("idle_timeout", seconds(75)),
        write_timeout: s.duration_or_zero("write_timeout", seconds(60)),
        shutdown_timeout: s.duration("shutdown_timeout", seconds(300)),
        connections_max: s.count("max_connections", 10_000, 1..=1_000_000),
        h2c: s.flag("h2c", false),
        body_bytes_max,
        header_bytes_max,
    };
    let places = (
        host.map_or(Place::Nowhere, |set| set.place),
        s.place_of("port"),
    );
    s.close();
    (server, places.0, places.1)
}

fn address(text: &str) -> Result<IpAddr, Wrong> {
    if text == "localhost" {
        return Ok(LOOPBACK);
    }
    let bare = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(text);
    bare.parse().map_err(|_| {
        Wrong::new(
            format!("`{text}` is not an IP address"),
            "write an address such as `127.0.0.1`, `0.0.0.0` or `::`; the port has its own key",
        )
    })
}

fn admin(mut s: Section) -> Admin {
    let allowed_hosts = match s.scalars("allowed_hosts") {
        None => vec!["localhost".to_owned()],
        Some(hosts) => hosts
            .iter()
            .filter_map(|set| s.judge(set, None, |text| host_name(text).map(Some)))
            .collect(),
    };
    let admin = Admin {
        host: s.parse("host", LOOPBACK, address),
        port: s.port("port", 40115),
        allowed_hosts,
        key: s.text("key").map(|set| Secret::new(set.text)),
    };
    s.close();
    admin
}

fn host_name(text: &str) -> Result<String, Wrong> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if text.is_empty() || !text.chars().all(legal) {
        return Err(Wrong::new(
            format!("`{text}` is not a host name"),
            "write a name without scheme and port, such as `gateway.example.org`",
        ));
    }
    Ok(text.to_ascii_lowercase())
}

const BALANCERS: &[(&str, Balancer)] = &[
    ("adaptive", Balancer::Adaptive),
    ("priority", Balancer::Priority),
    ("round-robin", Balancer::RoundRobin),
    ("least-connections", Balancer::LeastConnections),
    ("random", Balancer::Random),
];

impl Balancer {
    /// The word of `load_balancer`.
    pub fn word(self) -> &'static str {
        BALANCERS
            .iter()
            .find(|(_, balancer)| *balancer == self)
            .map_or("", |(word, _)| word)
    }
}

fn proxy(mut s: Section) -> Proxy {
    let retry = retry(s.section("retry"));
    let hedge = hedge(s.section("hedge"));
    let queue = queue(s.section("queue"));
    let sticky = sticky_sessions(s.section("sticky_sessions"));
    let proxy = Proxy {
        balancer: s.word("load_balancer", Balancer::Adaptive, BALANCERS),
        connection_timeout: s.duration("connection_timeout", seconds(2)),
        response_header_timeout: s.duration("response_header_timeout", seconds(600)),
        warm_header_timeout: s.duration("warm_header_timeout", seconds(120)),
        read_timeout: s.duration("read_timeout", seconds(120)),
        response_timeout: Some(s.duration_or_zero("response_timeout", Duration::ZERO))
            .filter(|limit| !limit.is_zero()),
        retry,
        hedge,
        queue,
        larger_context: s.flag("larger_context", true),
        sticky,
    };
    s.close();
    proxy
}

fn retry(mut s: Section) -> Retry {
    let status = Form::Number(Some(502), 400..=599, None);
    s.learn("on_status", Form::List(Box::new(status)));
    let on_status = match s.scalars("on_status") {
        None => vec![502, 503, 504, 429],
        Some(statuses) => statuses
            .iter()
            .filter_map(|set| {
                s.judge(set, None, |text| {
                    Ok(u16::try_from(number(text, &(400..=599))?).ok())
                })
            })
            .collect(),
    };
    let retry = Retry {
        attempts_max: s.count("max_attempts", 3, 1..=100),
        budget_percent: s.number("budget_percent", 20, 0..=100),
        on_status,
    };
    s.close();
    retry
}

/// A gateway that asks for no key must not listen where strangers are, unless that is said aloud.
fn open_to_all(mut auth: Section, server: &Server, host: Place) {
    auth.learn("mode", Form::word("none", ["none"]));
    auth.parse("mode", (), |text| match text {
        "none" => Ok(()),
        "keys" | "jwt" | "keys+jwt" => Err(Wrong::new(
            format!("`{text}` is not in this version yet"),
            "write `none`, and let only trusted networks reach the gateway",
        )),
        _ => Err(Wrong::new(
            format!("`{text}` is not one of its values"),
            "write `none`",
        )),
    });
    let allowed = auth.flag("allow_open", false);
    if !allowed && !server.host.is_loopback() {
        let message = format!(
            "listening on {} with `auth.mode: none` would let anyone who reaches it use every node",
            server.host
        );
        let hint = "set `auth.allow_open: true` (or ARRIERO_AUTH_ALLOW_OPEN=true) if the network is trusted, or listen on 127.0.0.1";
        auth.reading.report(Problem::new(host, message).hint(hint));
    }
    auth.close();
}

fn logging(mut s: Section) -> Logging {
    let terminal = s.reading.sources.terminal;
    let auto = if terminal {
        LogFormat::Text
    } else {
        LogFormat::Json
    };
    use log::LevelFilter::{Debug, Error, Info, Off, Trace, Warn};
    let levels = &[
        ("off", Off),
        ("error", Error),
        ("warn", Warn),
        ("info", Info),
        ("debug", Debug),
        ("trace", Trace),
    ];
    let formats = &[
        ("auto", auto),
        ("text", LogFormat::Text),
        ("json", LogFormat::Json),
    ];
    let logging = Logging {
        level: s.word("level", Info, levels),
        format: s.word("format", auto, formats),
        access_log: s.flag("access_log", true),
    };
    s.close();
    logging
}
