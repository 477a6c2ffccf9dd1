//! What an observation makes of a snapshot: the next one, or nothing when nobody could see a difference.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use super::warmth::Warmth;
use super::{Health, Installed, Loaded, Machine, Snapshot, offer};

pub(super) fn with_health(
    current: &Snapshot,
    at: usize,
    machine: &Machine,
    now: Instant,
) -> Option<Snapshot> {
    let before = &current.nodes[at];
    // A node that is down is probed in turn, which is clock enough to notice that it has been down for too long.
    let stale = match machine.health() {
        Health::Down { since, .. } => {
            current.rules().stale_threshold <= now.saturating_duration_since(*since)
        }
        Health::Unknown | Health::Up | Health::Trial => false,
    };
    if before.health == *machine.health()
        && before.stale == stale
        && before.spared == machine.spared()
        && before.at_once_max == machine.at_once_max()
    {
        return None;
    }
    let mut nodes = current.nodes.clone();
    let node = &mut nodes[at];
    node.health = machine.health().clone();
    node.stale = stale;
    node.spared = machine.spared();
    node.at_once_max = machine.at_once_max();
    let lost = node.health.is_down() && !node.loaded.is_empty();
    if lost {
        node.loaded = Arc::default();
    }
    if lost || before.stale != stale {
        return Some(current.with_other_models(nodes));
    }
    Some(current.with_same_models(nodes))
}

pub(super) fn with_installed(
    current: &Snapshot,
    at: usize,
    models: Vec<Installed>,
    version: Option<String>,
) -> Option<Snapshot> {
    let node = &current.nodes[at];
    let same_models = node.installed.as_deref() == Some(models.as_slice());
    let same_version = version.is_none() || node.version.as_deref() == version.as_deref();
    if same_models && same_version {
        return None;
    }
    let mut nodes = current.nodes.clone();
    let node = &mut nodes[at];
    node.version = version.map(Arc::from).or_else(|| node.version.take());
    if !same_models {
        node.offered = offer::offered(&node.config, &models, &node.offered);
        node.installed = Some(models.into());
    }
    // Another version may serve other calls, and some listings show only what serves theirs.
    Some(current.with_other_models(nodes))
}

pub(super) fn with_loaded(current: &Snapshot, at: usize, models: Vec<Loaded>) -> Option<Snapshot> {
    let before = &current.nodes[at];
    let loading = before
        .offered
        .iter()
        .filter(|it| it.traits.ledger().is_loading());
    let bytes = loading.map(|it| it.traits.size_bytes.unwrap_or(0)).max();
    before.counters.memory.seen(&before.loaded, &models, bytes);
    if *before.loaded == *models {
        return None;
    }
    let mut nodes = current.nodes.clone();
    nodes[at].loaded = models.into();
    // Under traffic every poll brings new expiry times; the index must not be rebuilt for that.
    if Warmth::of(before) == Warmth::of(&nodes[at]) {
        return Some(current.with_other_expiry(nodes));
    }
    Some(current.with_other_models(nodes))
}

pub(super) fn with_addr(current: &Snapshot, at: usize, addr: SocketAddr) -> Option<Snapshot> {
    if current.nodes[at].addr == Some(addr) {
        return None;
    }
    let mut nodes = current.nodes.clone();
    nodes[at].addr = Some(addr);
    Some(current.with_same_models(nodes))
}
