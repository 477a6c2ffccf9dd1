//! `discovery`: which nodes there are, by address and by DNS name, and how they are watched.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::problem::{Place, Problem};
use super::schema::Form;
use super::section::Section;
use super::text::Wrong;
use super::{HealthConfig, ModelDiscovery, NodeConfig, NodeUrl, node};
use crate::profile::Profiles;

/// The path of an item of `dns`.
const SOURCE: &str = "discovery.dns[]";
const SOURCES_MAX: usize = 64;
/// RFC 1035, section 2.3.4, as a name is written.
const NAME_BYTES_MAX: usize = 253;
const DNS_PORT: u16 = 53;
const OLLAMA_PORT: u16 = 11434;

/// A DNS name whose every address is a node.
#[derive(Debug, Clone, PartialEq)]
pub struct DnsSource {
    /// The name to ask for, lower case; no two sources have the same name and port.
    pub name: String,
    /// TCP port of every node; never 0.
    pub port: u16,
    /// From one question to the next. Never 0.
    pub interval: Duration,
    /// The DNS server to ask; `None` asks as the system does.
    pub server: Option<SocketAddr>,
    /// What every node has in common. Its own name and URL are those of the DNS name and lead nowhere by themselves.
    pub template: NodeConfig,
}

impl DnsSource {
    /// The node at one of the name's addresses, named `address:port`. Its certificate must carry the DNS name, unless
    /// `tls.server_name` says another.
    pub fn node(&self, address: IpAddr) -> NodeConfig {
        let url = NodeUrl {
            host: address.to_string(),
            ..self.template.url.clone()
        };
        NodeConfig {
            name: url.authority(),
            url,
            ..self.template.clone()
        }
    }
}

/// `discovery.type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Static,
    Dns,
    Both,
}

const KINDS: &[(&str, Kind)] = &[
    ("static", Kind::Static),
    ("dns", Kind::Dns),
    ("both", Kind::Both),
];

/// All that `discovery` says.
pub(super) struct Discovery {
    pub(super) nodes: Vec<NodeConfig>,
    pub(super) dns: Vec<DnsSource>,
    pub(super) health: HealthConfig,
    pub(super) models: ModelDiscovery,
}

/// Reads `discovery`, and the top level's `endpoints`, which is short for `discovery.static.endpoints`.
pub(super) fn discovery(root: &mut Section, profiles: &Profiles) -> Discovery {
    root.learn("endpoints", Form::Items(node::ENDPOINT));
    let short = root.list("endpoints");
    let mut s = root.section("discovery");
    let kind = s.word("type", Kind::Static, KINDS);
    let mut fixed = s.section("static");
    let nodes = node::nodes(&mut fixed, short, kind, profiles);
    fixed.close();
    let dns = sources(&mut s, kind, profiles);
    let health = health(s.section("health_check"));
    let mut m = s.section("model_discovery");
    let models = ModelDiscovery {
        interval: m.duration("interval", Duration::from_secs(30)),
        loaded_interval: m.duration("loaded_interval", Duration::from_secs(2)),
        timeout: m.duration("timeout", Duration::from_secs(5)),
    };
    m.close();
    s.close();
    Discovery {
        nodes,
        dns,
        health,
        models,
    }
}

fn sources(s: &mut Section, kind: Kind, profiles: &Profiles) -> Vec<DnsSource> {
    let at = s.place_of("type");
    s.learn("dns", Form::Items(SOURCE));
    let Some((items, place)) = s.list("dns") else {
        // Reading an absent item makes the keys known, for hints and the documentation's test.
        source(Section::new(s.reading, SOURCE, None), profiles, true);
        if kind != Kind::Static {
            missing(s, at);
        }
        return Vec::new();
    };
    if kind == Kind::Static && !items.is_empty() {
        let message = "`discovery.dns` is set and `discovery.type` is `static`";
        let hint = "write `type: both`, or `type: dns` when no nodes are listed by address";
        s.reading.report(Problem::new(place, message).hint(hint));
    }
    if kind != Kind::Static && items.is_empty() {
        missing(s, place);
    }
    if SOURCES_MAX < items.len() {
        let message = format!("more than {SOURCES_MAX} names in `discovery.dns`");
        s.reading.report(Problem::new(place, message));
    }
    let mut out: Vec<DnsSource> = Vec::new();
    for item in items.iter().take(SOURCES_MAX) {
        let section = Section::new(s.reading, SOURCE, Some(item));
        let Some(found) = source(section, profiles, false) else {
            continue;
        };
        if out
            .iter()
            .any(|other| (&other.name, other.port) == (&found.name, found.port))
        {
            let message = format!("`{}` with port {} is listed twice", found.name, found.port);
            s.reading
                .report(Problem::new(item.at, message).hint("remove one of the two"));
        }
        out.push(found);
    }
    out
}

fn missing(s: &Section, place: Place) {
    let hint = "name one under `dns`, such as `- { name: ollama.default.svc.cluster.local, port: 11434 }`, or write `type: static`";
    let message = "`discovery.type` asks for DNS and `discovery.dns` lists no name";
    s.reading.report(Problem::new(place, message).hint(hint));
}

/// One DNS name; none without a legal name. `absent` reads only to learn the keys.
fn source(mut s: Section, profiles: &Profiles, absent: bool) -> Option<DnsSource> {
    s.need("name");
    let written = s.text("name");
    if !s.is_written("name") && !absent {
        let hint = "write one, such as `name: ollama.default.svc.cluster.local`";
        let message = "an item of `discovery.dns` has no `name`";
        s.reading.report(Problem::new(s.place, message).hint(hint));
    }
    let name = written.and_then(|set| s.judge(&set, None, |text| dns_name(text).map(Some)));
    s.learn(
        "port",
        Form::Number(Some(OLLAMA_PORT.into()), 1..=65_535, None),
    );
    let port = s.parse("port", OLLAMA_PORT, node_port);
    let interval = s.duration("interval", Duration::from_secs(5));
    let server = s.parse("server", None, |text| dns_server(text).map(Some));
    let tls = s.word("scheme", false, &[("http", false), ("https", true)]);
    let url = NodeUrl {
        tls,
        host: name.clone().unwrap_or_default(),
        port,
        base_path: String::new(),
    };
    let template = node::template(&mut s, url, tls, profiles);
    s.close();
    let (name, mut template) = (name?, template?);
    if tls {
        // No certificate carries the dot that ends a full name.
        let bare = name.strip_suffix('.').unwrap_or(&name);
        template.tls.server_name.get_or_insert(bare.to_owned());
    }
    Some(DnsSource {
        name,
        port,
        interval,
        server,
        template,
    })
}

fn dns_name(text: &str) -> Result<String, Wrong> {
    if text.parse::<IpAddr>().is_ok() {
        return Err(Wrong::new(
            format!("`{text}` is an address, not a name"),
            "list it under `discovery.static.endpoints`",
        ));
    }
    let label = |label: &str| {
        let legal = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        (1..=63).contains(&label.len()) && label.bytes().all(legal)
    };
    let bare = text.strip_suffix('.').unwrap_or(text);
    if NAME_BYTES_MAX < bare.len() || !bare.split('.').all(label) {
        return Err(Wrong::new(
            format!("`{text}` is not a DNS name"),
            "write a name without scheme and port, such as `ollama.default.svc.cluster.local`",
        ));
    }
    Ok(text.to_ascii_lowercase())
}

fn node_port(text: &str) -> Result<u16, Wrong> {
    let port = text.parse().ok().filter(|port| *port != 0);
    port.ok_or_else(|| {
        Wrong::new(
            format!("`{text}` is not the port of a node"),
            "write a whole number from 1 to 65535",
        )
    })
}

fn dns_server(text: &str) -> Result<SocketAddr, Wrong> {
    let address = text
        .parse::<IpAddr>()
        .map(|ip| SocketAddr::new(ip, DNS_PORT));
    let found = text.parse().or(address).ok();
    found.filter(|server| server.port() != 0).ok_or_else(|| {
        Wrong::new(
            format!("`{text}` is not the address of a DNS server"),
            "write an IP address and a port, such as `10.0.0.2:53` or `[fd00::2]:8600`",
        )
    })
}

fn health(mut s: Section) -> HealthConfig {
    let health = HealthConfig {
        unhealthy_threshold: s.number("unhealthy_threshold", 2, 1..=100),
        healthy_threshold: s.number("healthy_threshold", 1, 1..=100),
        eject_base: s.duration("eject_base", Duration::from_secs(5)),
        eject_max: s.duration("eject_max", Duration::from_secs(60)),
        ejected_percent_max: s.number("max_ejected_percent", 50, 0..=100),
    };
    if health.eject_max < health.eject_base {
        s.reading.report(
            Problem::new(
                s.place_of("eject_base"),
                "`eject_max` is shorter than `eject_base`",
            )
            .hint("raise `eject_max`, or lower `eject_base`"),
        );
    }
    s.close();
    health
}
