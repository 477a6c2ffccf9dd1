//! The nodes' part of the description: where they are, how they are watched, what they offer and are shown.

use super::super::{Config, Connection, NodeAuth, NodeConfig};
use super::{Description, after};
use crate::glob::Glob;

pub(super) fn nodes(out: &mut Description, config: &Config) {
    let count = config.nodes.len();
    out.heading(&match (count, config.dns.len()) {
        (0, 0) => "No node is enabled: every request for a model will be refused".to_owned(),
        (0, _) => "Nodes are found by name".to_owned(),
        (1, 0) => "1 node".to_owned(),
        (_, 0) => format!("{count} nodes"),
        (1, _) => "1 node, and those found by name".to_owned(),
        (_, _) => format!("{count} nodes, and those found by name"),
    });
    for node in &config.nodes {
        let at = format!("{}, type {}", node.url, node.profile.name);
        out.line(&node.name, at);
        node_lines(out, node);
    }
    for source in &config.dns {
        let server = source
            .server
            .map_or("the system's DNS".to_owned(), |server| {
                format!("the DNS server {server}")
            });
        out.line(
            &source.name,
            format!(
                "every address, port {}, type {}; {server} is asked every {}",
                source.port,
                source.template.profile.name,
                after(source.interval)
            ),
        );
        node_lines(out, &source.template);
    }
}

fn node_lines(out: &mut Description, node: &NodeConfig) {
    let slots = node.slots.map_or(
        "auto (no limit; 4 assumed for spilling)".to_owned(),
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
    for shown in [offered(node), credentials(node)].into_iter().flatten() {
        out.line("", shown);
    }
}

fn offered(node: &NodeConfig) -> Option<String> {
    let mut parts = Vec::new();
    let globs = |globs: &[Glob]| {
        let all: Vec<String> = globs.iter().map(Glob::to_string).collect();
        all.join(", ")
    };
    if !node.model_ids.is_empty() {
        parts.push(format!("offers {} only", node.model_ids.join(", ")));
    }
    if !node.model_filter.include.is_empty() {
        let include = globs(&node.model_filter.include);
        parts.push(format!("offers models like {include} only"));
    }
    if !node.model_filter.exclude.is_empty() {
        parts.push(format!("hides {}", globs(&node.model_filter.exclude)));
    }
    if let Some(prefix) = &node.prefix_id {
        parts.push(format!("puts `{prefix}.` in front of its models"));
    }
    if !node.tags.is_empty() {
        parts.push(format!("tags {}", node.tags.join(", ")));
    }
    if node.connection == Connection::External {
        parts.push("external".to_owned());
    }
    if !node.preserve_path && !node.url.base_path.is_empty() {
        parts.push("the URL's path is for health and models only".to_owned());
    }
    (!parts.is_empty()).then(|| parts.join("; "))
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
    if node.tls.client.is_some() {
        parts.push("shows a certificate".to_owned());
    }
    if node.tls.insecure_skip_verify {
        parts.push("DOES NOT VERIFY the certificate".to_owned());
    }
    (!parts.is_empty()).then(|| parts.join("; "))
}
