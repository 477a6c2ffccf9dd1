//! What a configuration means, in plain words: what `arriero check` prints.

use std::fmt::Write as _;
use std::time::Duration;

use super::text::{spell_duration, spell_size};
use super::{Config, LogFormat, NodeAuth, NodeConfig};

/// Every setting that matters, one thought per line. Secrets are `***`.
pub fn describe(config: &Config) -> String {
    let mut out = Description(String::new());
    listeners(&mut out, config);
    client_limits(&mut out, config);
    node_limits(&mut out, config);
    routing(&mut out, config);
    nodes(&mut out, config);
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
        let _ = writeln!(self.0, "  {name:<22}{text}");
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
    out.line(
        "model management",
        if config.management_enabled {
            "on: pull, delete and the like reach the nodes"
        } else {
            "off"
        },
    );
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
        "queue",
        format!(
            "at most {} requests, {} each",
            proxy.queue.length_max,
            after(proxy.queue.wait_max)
        ),
    );
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
            "out for {}, doubling up to {}",
            after(health.eject_base),
            after(health.eject_max)
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

fn nodes(out: &mut Description, config: &Config) {
    let count = config.nodes.len();
    out.heading(&match count {
        0 => "No node is enabled: every request for a model will be refused".to_owned(),
        1 => "1 node".to_owned(),
        _ => format!("{count} nodes"),
    });
    for node in &config.nodes {
        out.line(
            &node.name,
            format!("{}, type {}", node.url, node.profile.name),
        );
        let assumed = node.profile.characteristics.max_concurrent;
        let assumed = assumed.map_or(4, |limit| limit.requests);
        let slots = node.slots.map_or(
            format!("auto (no limit; {assumed} assumed for spilling)"),
            |slots| slots.to_string(),
        );
        out.line(
            "",
            format!(
                "priority {}, weight {}, slots {slots}",
                node.priority, node.weight
            ),
        );
        out.line(
            "",
            format!(
                "probed at {} every {}, within {}; models at {}",
                node.health_path,
                after(node.check_interval),
                after(node.check_timeout),
                node.model_path
            ),
        );
        if let Some(shown) = credentials(node) {
            out.line("", shown);
        }
    }
}

fn credentials(node: &NodeConfig) -> Option<String> {
    let mut parts = Vec::new();
    match &node.auth {
        NodeAuth::None => {}
        NodeAuth::Bearer(_) => parts.push("shows Authorization: Bearer ***".to_owned()),
        NodeAuth::ApiKey { header, .. } => parts.push(format!("shows {header}: ***")),
        NodeAuth::Basic { username, .. } => {
            parts.push(format!("logs in as {username} with password ***"))
        }
    }
    parts.extend(
        node.headers
            .iter()
            .map(|(name, _)| format!("adds {name}: ***")),
    );
    if node.tls.ca_pem.is_some() {
        parts.push("trusts its own authority".to_owned());
    }
    if let Some(name) = &node.tls.server_name {
        parts.push(format!("expects the certificate of {name}"));
    }
    if node.tls.insecure_skip_verify {
        parts.push("DOES NOT VERIFY the certificate".to_owned());
    }
    (!parts.is_empty()).then(|| parts.join("; "))
}
