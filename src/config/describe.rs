//! What a configuration means, in plain words: what `arriero check` prints.

mod nodes;

use std::fmt::Write as _;
use std::time::Duration;

use super::text::{spell_duration, spell_size};
use super::{Config, DefaultTarget, LogFormat, Management, Placement, Queue, StickySessions};

/// Every setting that matters, one thought per line. Secrets are `***`.
pub fn describe(config: &Config) -> String {
    let mut out = Description(String::new());
    listeners(&mut out, config);
    client_limits(&mut out, config);
    node_limits(&mut out, config);
    routing(&mut out, config);
    catalogue(&mut out, config);
    nodes::nodes(&mut out, config);
    out.0
}

struct Description(String);

impl Description {
    fn heading(&mut self, text: &str) {
        if !self.0.is_empty() {
            self.0.push('\n');
        }
        self.0.push_str(text);
        self.0.push('\n');
    }

    fn line(&mut self, name: &str, text: impl std::fmt::Display) {
        // Writing into a String cannot fail.
        let _ = writeln!(self.0, "  {name:<21} {text}");
    }
}

fn after(duration: Duration) -> String {
    spell_duration(duration)
}

fn socket(host: std::net::IpAddr, port: u16) -> String {
    match port {
        0 => format!(
            "http://{}, on a free port",
            std::net::SocketAddr::new(host, 0).ip()
        ),
        _ => format!("http://{}", std::net::SocketAddr::new(host, port)),
    }
}

fn listeners(out: &mut Description, config: &Config) {
    let (server, admin) = (&config.server, &config.admin);
    let open = if server.host.is_loopback() {
        ""
    } else {
        ", open to whoever reaches it"
    };
    let h2c = if server.h2c {
        ", HTTP/1.1 and cleartext HTTP/2"
    } else {
        ""
    };
    let key = if admin.key.is_some() {
        "asks for the key ***"
    } else {
        "asks for no key"
    };
    out.heading("Listeners");
    out.line(
        "clients",
        format!("{}{h2c}{open}", socket(server.host, server.port)),
    );
    out.line(
        "admin",
        format!("{}, {key}", socket(admin.host, admin.port)),
    );
    out.line(
        "admin answers to",
        if admin.allowed_hosts.is_empty() {
            "its own address only".to_owned()
        } else {
            format!("its own address, {}", admin.allowed_hosts.join(", "))
        },
    );
    out.line("worker threads", server.threads);
    let format = match config.logging.format {
        LogFormat::Text => "text",
        LogFormat::Json => "json",
    };
    let access = if config.logging.access_log {
        "one line per request"
    } else {
        "no access lines"
    };
    out.line(
        "log",
        format!(
            "{}, {format}, {access}",
            config.logging.level.as_str().to_ascii_lowercase()
        ),
    );
    out.line("model management", management(&config.management));
    if let Some(dir) = &config.state_dir {
        out.line("temporary files", format!("in {}", dir.display()));
    }
}

fn management(management: &Management) -> String {
    if !management.enabled {
        return "off".to_owned();
    }
    let target = match &management.default_target {
        DefaultTarget::All => "every node",
        DefaultTarget::First => "the first node that is up",
        DefaultTarget::Node(name) => name,
    };
    let hosts = match management.download_hosts.as_slice() {
        [] => "nowhere".to_owned(),
        hosts => hosts.join(", "),
    };
    format!("on: pull, delete and the like reach {target}; downloads from {hosts}")
}

fn client_limits(out: &mut Description, config: &Config) {
    let server = &config.server;
    out.heading("Limits towards clients");
    out.line(
        "body",
        format!(
            "at most {}, {} between two reads",
            spell_size(server.body_bytes_max),
            after(server.body_timeout)
        ),
    );
    out.line(
        "head",
        format!(
            "at most {}, complete within {}",
            spell_size(server.header_bytes_max),
            after(server.read_header_timeout)
        ),
    );
    out.line(
        "connections",
        format!(
            "at most {}, closed when idle for {}",
            server.connections_max,
            after(server.idle_timeout)
        ),
    );
    out.line(
        "slow readers",
        format!(
            "given up after {} without reading",
            after(server.write_timeout)
        ),
    );
    out.line(
        "shutdown",
        format!("drains for at most {}", after(server.shutdown_timeout)),
    );
}

fn node_limits(out: &mut Description, config: &Config) {
    let proxy = &config.proxy;
    out.heading("Limits towards nodes");
    out.line(
        "connect",
        format!("within {}", after(proxy.connection_timeout)),
    );
    out.line(
        "first byte",
        format!(
            "within {} from a warm model, {} from a cold one",
            after(proxy.warm_header_timeout),
            after(proxy.response_header_timeout)
        ),
    );
    out.line(
        "silence in a stream",
        format!("at most {}", after(proxy.read_timeout)),
    );
    out.line(
        "whole exchange",
        proxy
            .response_timeout
            .map_or("no limit".to_owned(), |limit| {
                format!("at most {}", after(limit))
            }),
    );
}

fn queue(queue: &Queue) -> String {
    let sources = queue.tenant_sources.iter().map(|source| source.word());
    let tenants = match sources.collect::<Vec<_>>() {
        words if words.is_empty() => "all clients alike".to_owned(),
        words => format!("clients told apart by {}", words.join(", then ")),
    };
    format!(
        "at most {} requests, {} each, {tenants}",
        queue.length_max,
        after(queue.wait_max)
    )
}

fn routing(out: &mut Description, config: &Config) {
    let (proxy, health, models) = (&config.proxy, &config.health, &config.model_discovery);
    let statuses: Vec<String> = proxy.retry.on_status.iter().map(u16::to_string).collect();
    let statuses = if statuses.is_empty() {
        "on failed connections only".to_owned()
    } else {
        format!("also on status {}", statuses.join(", "))
    };
    let attempts = match proxy.retry.attempts_max {
        1 => "never: one attempt per request".to_owned(),
        most => format!(
            "at most {most} nodes per request, {statuses}, retries up to {}% of live requests",
            proxy.retry.budget_percent
        ),
    };
    out.heading("Routing");
    out.line("balancer", proxy.balancer.word());
    out.line("failover", attempts);
    out.line(
        "slow embeddings",
        match proxy.hedge.embeddings {
            false => "wait for their node".to_owned(),
            true => format!(
                "go to a second node too after {}, up to {}% of them",
                after(proxy.hedge.delay),
                proxy.hedge.budget_percent
            ),
        },
    );
    out.line("queue", queue(&proxy.queue));
    out.line("conversations", conversations(&proxy.sticky));
    placement(out, &config.placement);
    out.line(
        "a node goes down",
        format!(
            "after {} failures in a row, comes back after {} good",
            health.unhealthy_threshold, health.healthy_threshold
        ),
    );
    out.line(
        "failed under traffic",
        format!(
            "out for {}, doubling up to {}; at most {}% of the nodes at once",
            after(health.eject_base),
            after(health.eject_max),
            health.ejected_percent_max
        ),
    );
    out.line(
        "models are listed",
        format!(
            "every {}, loaded ones every {}, within {}",
            after(models.interval),
            after(models.loaded_interval),
            after(models.timeout)
        ),
    );
}

fn placement(out: &mut Description, placement: &Placement) {
    out.line(
        "models in demand",
        match placement.preload {
            false => "are loaded by requests alone".to_owned(),
            true => format!(
                "are loaded on one more node when {} requests wait for {}, on {} at most, again after {}",
                placement.queue_depth,
                after(placement.sustained),
                placement.copies_max,
                after(placement.hold)
            ),
        },
    );
    for pinned in &placement.pinned {
        let nodes = match pinned.nodes.as_slice() {
            [] => "any node".to_owned(),
            nodes => nodes.join(", "),
        };
        let (name, copies) = (&pinned.name, pinned.copies);
        out.line(
            "pinned",
            format!("{name}, copies in memory: {copies}, on {nodes}"),
        );
    }
}

fn conversations(sticky: &StickySessions) -> String {
    let sources: Vec<&str> = sticky.sources.iter().map(|source| source.word()).collect();
    let known = format!(
        "known by {}; {} at most, forgotten after {} without a request",
        sources.join(", "),
        sticky.sessions_max,
        after(sticky.idle_ttl)
    );
    match sticky.enabled {
        true => format!("stay with their node while it has room, {known}"),
        false => format!("not bound to nodes, {known}"),
    }
}

fn catalogue(out: &mut Description, config: &Config) {
    let registry = &config.registry;
    out.heading("Catalogue");
    let unified = if registry.unify {
        "names of one digest are one entry"
    } else {
        "one entry per name"
    };
    let stale = after(registry.stale_threshold);
    out.line(
        "models",
        format!("{unified}, forgotten {stale} after their last node went down"),
    );
    let asked = if registry.refresh_on_miss {
        let limit = after(registry.refresh_timeout);
        format!("nodes are asked again, for at most {limit}")
    } else {
        "nodes are not asked again".to_owned()
    };
    let (strategy, fallback) = (registry.strategy.word(), registry.fallback.word());
    out.line(
        "an unknown model",
        format!("{asked}; strategy {strategy}, fallback {fallback}"),
    );
    for alias in &config.aliases {
        let targets = alias.targets.join(", then ");
        out.line("alias", format!("{} stands for {targets}", alias.name));
    }
}
