//! Changing what the gateway is while it works: a new configuration, all or nothing, and the nodes that follow from it.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::{Arc, MutexGuard, PoisonError};

use crate::config::{Config, DnsSource, NodeConfig};
use crate::error::{Fault, Kind};
use crate::fleet::{Node, NodeId, Rules, Snapshot};
use crate::profile::Profile;

use super::Gateway;
use super::credentials::NodeAccess;

/// How each node is reached. It also holds those of the nodes that left last, since a request may have chosen one a moment before.
pub(super) type Accesses = HashMap<NodeId, Arc<NodeAccess>>;

/// What the nodes are made from.
pub(super) struct Members {
    config: Arc<Config>,
    /// The addresses that each DNS source's name and port stand for.
    found: HashMap<(String, u16), Vec<IpAddr>>,
    /// The type that a node of `type: auto` was found to have, by its name and URL.
    types: HashMap<(String, String), Arc<str>>,
}

impl Members {
    pub(super) fn of(config: Arc<Config>) -> Members {
        Members {
            config,
            found: HashMap::new(),
            types: HashMap::new(),
        }
    }

    /// The listed nodes, then those behind the names; an address that was listed already is one node, as listed.
    fn nodes(&self) -> Vec<Arc<NodeConfig>> {
        let mut nodes = self.config.nodes.clone();
        for source in &self.config.dns {
            for address in self.found.get(&key(source)).into_iter().flatten() {
                let node = source.node(*address);
                let is_twin = |known: &NodeConfig| known.url == node.url || known.name == node.name;
                if !nodes.iter().any(is_twin) {
                    nodes.push(node);
                }
            }
        }
        let typed = nodes.into_iter().map(|node| Arc::new(self.typed(node)));
        typed.collect()
    }

    /// The node as what it was found to be, if its type is not written. One that does not suit what it was found to be serves nothing.
    fn typed(&self, node: NodeConfig) -> NodeConfig {
        let found = self.types.get(&type_key(&node));
        let profile = found.and_then(|name| self.config.profiles.find(name));
        match profile {
            Some(profile) if node.type_is_found => node.of_type(profile).unwrap_or(node),
            _ => node,
        }
    }
}

impl Gateway {
    /// Puts a new configuration in force. Requests under way keep the old one; nodes that stay keep their health, models and leases.
    ///
    /// # Errors
    /// `Internal` when something of it cannot be carried out or needs a restart; then nothing has changed.
    pub fn reload(&self, config: Config) -> Result<(), Fault> {
        let mut members = self.lock_members();
        refuse_restart(&members.config, &config)?;
        let config = Arc::new(config);
        let mut found = members.found.clone();
        found.retain(|known, _| config.dns.iter().any(|source| key(source) == *known));
        let next = Members {
            config: config.clone(),
            found,
            types: members.types.clone(),
        };
        check_templates(&config)?;
        let nodes = next.nodes();
        let accesses = self.accesses_of(&nodes)?;
        if members.config.profiles != config.profiles {
            self.metrics.end_of_figures();
        }
        *members = next;
        // In force before the nodes change: who watches them reads the rest of the configuration when they do.
        self.config.store(config.clone());
        self.seat(nodes, accesses, &config);
        Ok(())
    }

    /// Learns which addresses a DNS source's name stands for now.
    pub(super) fn found(&self, source: &DnsSource, addresses: &[IpAddr]) {
        let known = key(source);
        self.lock_members().found.insert(known, addresses.to_vec());
        // Whether the template can be used was looked at before the configuration came in force.
        if let Err(fault) = self.seat_members() {
            log::error!("the nodes behind `{}` can't be used: {fault}", source.name);
        }
    }

    /// The addresses that a DNS source brought in last.
    pub(super) fn last_found(&self, source: &DnsSource) -> Vec<IpAddr> {
        let members = self.lock_members();
        members.found.get(&key(source)).cloned().unwrap_or_default()
    }

    /// Learns what a node of `type: auto` is.
    pub(super) fn found_type(&self, node: &NodeConfig, found: &Arc<Profile>) {
        let mut members = self.lock_members();
        // Nodes that DNS brought and took away again would pile up.
        let present: HashSet<_> = members.nodes().iter().map(|node| type_key(node)).collect();
        members.types.retain(|known, _| present.contains(known));
        let before = members.types.insert(type_key(node), found.name.clone());
        drop(members);
        if before.as_ref() == Some(&found.name) {
            return; // it does not suit the node, as was said before
        }
        log::info!("node `{}` is of type {}", node.name, found.name);
        if let Err(why) = node.of_type(found) {
            log::error!("node `{}` stays unused: {why}", node.name);
        }
        if let Err(fault) = self.seat_members() {
            log::error!(
                "node `{}` can't be used as {}: {fault}",
                node.name,
                found.name
            );
        }
    }

    /// Brings the fleet in line with what the nodes are made from.
    ///
    /// # Errors
    /// `Internal` when a node's settings cannot be used; then nothing has changed.
    pub(super) fn seat_members(&self) -> Result<(), Fault> {
        let members = self.lock_members();
        let nodes = members.nodes();
        let accesses = self.accesses_of(&nodes)?;
        self.seat(nodes, accesses, &members.config);
        Ok(())
    }

    /// How a node is reached; `None` for one that left long ago.
    pub(super) fn access(&self, node: NodeId) -> Option<Arc<NodeAccess>> {
        self.accesses.load().get(&node).cloned()
    }

    fn lock_members(&self) -> MutexGuard<'_, Members> {
        // It is replaced whole, so a panic elsewhere left it as good as it was.
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One access per node, in order; those of unchanged nodes are taken over.
    fn accesses_of(&self, nodes: &[Arc<NodeConfig>]) -> Result<Vec<Arc<NodeAccess>>, Fault> {
        let known = self.accesses.load();
        let access = |node: &Arc<NodeConfig>| {
            let same = known.values().find(|access| *access.config == **node);
            match same {
                Some(access) => Ok(access.clone()),
                None => NodeAccess::new(node.clone()).map(Arc::new),
            }
        };
        nodes.iter().map(access).collect()
    }

    fn seat(&self, nodes: Vec<Arc<NodeConfig>>, accesses: Vec<Arc<NodeAccess>>, config: &Config) {
        let before = self.fleet.view();
        let rules = Rules::of(config);
        self.fleet
            .reconfigure(nodes, config.health, rules, |members| {
                let ids = members.iter().map(|(id, _)| *id);
                let mut next: Accesses = ids.zip(accesses).collect();
                for node in &before.nodes {
                    if let Some(access) = self.access(node.id) {
                        next.entry(node.id).or_insert(access);
                    }
                }
                self.accesses.store(Arc::new(next));
            });
        let after = self.fleet.view();
        if before
            .nodes
            .iter()
            .any(|node| after.node(node.id).is_none())
        {
            self.sessions.keep(|node| after.node(node).is_some());
        }
        // A node whose type was found is another node to us and the same to people.
        let news = |node: &&Node, other: &Snapshot| {
            let named = other.named(&node.config.name);
            let same = named
                .is_some_and(|other| other.config.url.authority() == node.config.url.authority());
            other.node(node.id).is_none() && !(same && node.config.type_is_found)
        };
        for node in after.nodes.iter().filter(|node| news(node, &before)) {
            let (name, url) = (&node.config.name, &node.config.url);
            match node.draining {
                false => log::info!("node `{name}` at {url} joins"),
                true => log::warn!(
                    "node `{name}` at {url} joins and gets no requests, since `{name}` is drained; `arriero nodes undrain {name}` puts it into service"
                ),
            }
        }
        for node in before.nodes.iter().filter(|node| news(node, &after)) {
            let (name, left) = (&node.config.name, node.in_flight());
            log::info!("node `{name}` leaves; {left} requests are still with it");
        }
    }
}

fn type_key(node: &NodeConfig) -> (String, String) {
    (node.name.clone(), node.url.authority())
}

fn key(source: &DnsSource) -> (String, u16) {
    (source.name.clone(), source.port)
}

/// What every node of a DNS source has in common can be used, though no address is known yet.
pub(super) fn check_templates(config: &Config) -> Result<(), Fault> {
    let mut templates = config.dns.iter().map(|source| source.template.clone());
    templates.try_for_each(|template| NodeAccess::new(Arc::new(template)).map(drop))
}

/// Listeners and threads are made once. Half a reload would be worse than none.
fn refuse_restart(old: &Config, new: &Config) -> Result<(), Fault> {
    let (was, is) = (&old.server, &new.server);
    let keys = [
        ("server.host", was.host != is.host),
        ("server.port", was.port != is.port),
        ("server.threads", was.threads != is.threads),
        ("server.h2c", was.h2c != is.h2c),
        ("server.idle_timeout", was.idle_timeout != is.idle_timeout),
        (
            "server.max_connections",
            was.connections_max != is.connections_max,
        ),
        (
            "server.read_header_timeout",
            was.read_header_timeout != is.read_header_timeout,
        ),
        (
            "server.shutdown_timeout",
            was.shutdown_timeout != is.shutdown_timeout,
        ),
        ("admin.host", old.admin.host != new.admin.host),
        ("admin.port", old.admin.port != new.admin.port),
        ("logging", old.logging != new.logging),
    ];
    let changed: Vec<&str> = keys
        .iter()
        .filter(|(_, is)| *is)
        .map(|(key, _)| *key)
        .collect();
    if changed.is_empty() {
        return Ok(());
    }
    let message = format!(
        "{} can't change while the gateway runs, so nothing of the new configuration is in force; restart it, or change them back",
        changed.join(", ")
    );
    Err(Fault::new(Kind::Internal, message))
}
