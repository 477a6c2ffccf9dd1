//! The unified listing: one entry per model, with all its names and every node that has it.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::entry::{Entry, array, list, words};
use super::line::{Line, Scope};
use crate::dialect::Filter;
use crate::fleet::health::Health;
use crate::fleet::snapshot::{Holder, Node, Snapshot};
use crate::fleet::timestamp::Timestamp;

/// A model under all its names.
pub struct Unified<'a> {
    /// Its names, the one that speaks for it first; aliases last. Never empty.
    pub lines: Vec<Line<'a>>,
}

/// The same moment on the clock that only goes forward and on the one that people read.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// For distances.
    pub now: Instant,
    /// Seconds since 1970.
    pub unix_s: i64,
}

impl Snapshot {
    /// The models of the catalogue, the newest first. Names of one digest are one model, unless the rules say otherwise.
    pub fn unified(&self, scope: &Scope) -> Vec<Unified<'_>> {
        let lines = self.lines(scope);
        let groups = self.groups(&lines);
        let mut models: Vec<Unified<'_>> = Vec::new();
        let mut places: HashMap<usize, usize> = HashMap::new();
        for (line, group) in lines.into_iter().zip(groups) {
            let place = *places.entry(group).or_insert(models.len());
            match models.get_mut(place) {
                Some(model) => model.lines.push(line),
                None => models.push(Unified { lines: vec![line] }),
            }
        }
        for model in &mut models {
            // The name that most nodes have speaks, of several the shortest.
            model.lines.sort_by(|a, b| {
                let rank = |line: &Line<'_>| {
                    (
                        line.is_alias,
                        usize::MAX - line.holders.len(),
                        line.name.len(),
                    )
                };
                (rank(a), a.name).cmp(&(rank(b), b.name))
            });
        }
        models
    }

    /// For each line the place of the line that its group is known by.
    fn groups(&self, lines: &[Line<'_>]) -> Vec<usize> {
        let mut parents: Vec<usize> = (0..lines.len()).collect();
        if !self.rules.unify {
            return parents;
        }
        let mut known: HashMap<&str, usize> = HashMap::new();
        for (at, line) in lines.iter().enumerate() {
            // An alias is its first target; what else it stands for are models of their own.
            let others = if line.is_alias { &[] } else { &*line.holders };
            let digests = others.iter().map(|holder| &*self.model_of(holder).digest);
            for digest in digests.chain([&*line.model.digest]) {
                if digest.is_empty() {
                    continue;
                }
                let other = *known.entry(digest).or_insert(at);
                let (a, b) = (root(&mut parents, at), root(&mut parents, other));
                parents[a.max(b)] = a.min(b);
            }
        }
        (0..lines.len()).map(|at| root(&mut parents, at)).collect()
    }
}

/// The root of a tree, whose branches become shorter on the way.
fn root(parents: &mut [usize], mut at: usize) -> usize {
    while parents[at] != at {
        parents[at] = parents[parents[at]];
        at = parents[at];
    }
    at
}

impl<'a> Unified<'a> {
    /// The name that speaks for it.
    pub fn main(&self) -> &Line<'a> {
        &self.lines[0]
    }

    /// Who has it under any of its names; a node may be there several times. An alias may stand for other models as well, so its
    /// nodes count only where no name of the model's own is listed.
    pub fn holders(&self) -> impl Iterator<Item = &'a Holder> {
        let only_aliases = self.main().is_alias;
        let lines = self
            .lines
            .iter()
            .filter(move |line| only_aliases || !line.is_alias);
        lines.flat_map(|line| line.holders.iter().copied())
    }

    /// Each node that has it, whether it holds the model in memory, and the node's own name for it.
    fn nodes(&self, view: &'a Snapshot) -> Vec<(&'a Node, bool, &'a Holder)> {
        let mut nodes: Vec<(&Node, bool, &Holder)> = Vec::new();
        let mut places: HashMap<usize, usize> = HashMap::new();
        for holder in self.holders() {
            let place = *places.entry(holder.at).or_insert(nodes.len());
            match nodes.get_mut(place) {
                Some((_, loaded, _)) => *loaded |= holder.warm,
                None => nodes.push((view.node_of(holder), holder.warm, holder)),
            }
        }
        nodes.sort_by_key(|(.., holder)| holder.at);
        nodes
    }
}

/// What can be had of a model on a node: `loaded`, `available` when it must be loaded first, `offline` when the node takes no requests.
fn state(node: &Node, loaded: bool) -> &'static str {
    match (node.is_open(), loaded) {
        (false, _) => "offline",
        (true, true) => "loaded",
        (true, false) => "available",
    }
}

/// `/olla/models`.
pub(super) fn page(view: &Snapshot, scope: &Scope, filter: &Filter) -> Bytes {
    let models = view.unified(scope);
    let fitting = models
        .iter()
        .filter(|model| model.lines.iter().any(|line| line.fits(filter, view)));
    let entries = fitting.map(|model| {
        let main = model.main();
        let mut entry = Entry::default();
        entry.text("id", main.name);
        entry.text("object", "model");
        entry.field("created", &main.model.modified.unix_s.to_string());
        entry.text("owned_by", super::openai::owner(&main.model.name));
        entry.field("olla", &facts(view, model));
        entry.finish()
    });
    list("{\"object\":\"list\",\"data\":[", entries, "]}")
}

fn facts(view: &Snapshot, model: &Unified<'_>) -> String {
    let about = &model.main().model.about;
    let mut entry = Entry::default();
    entry.text("family", &about.family);
    entry.text("variant", &about.variant);
    entry.text("publisher", &about.publisher);
    entry.text("type", about.kind.as_str());
    entry.text("parameter_size", &about.parameter_size());
    entry.text("quantization", &about.quantization);
    entry.text("format", &about.format);
    entry.field("aliases", &words(model.lines.iter().map(|line| line.name)));
    let nodes = model.nodes(view);
    let availability = nodes.iter().map(|(node, loaded, _)| {
        let mut entry = Entry::default();
        entry.text("endpoint", &node.config.name);
        entry.text("state", state(node, *loaded));
        entry.finish()
    });
    entry.field("availability", &array(availability));
    let capabilities = about.capabilities.iter().map(AsRef::as_ref);
    entry.field("capabilities", &words(capabilities));
    entry.number("max_context_length", about.context_max);
    entry.finish()
}

/// `/olla/models/{asked}`, by any of the model's names; `None` when nobody offers it.
pub(super) fn detail(view: &Snapshot, scope: &Scope, asked: &str, moment: Moment) -> Option<Bytes> {
    let key = view.line(asked, scope)?.key;
    let models = view.unified(scope);
    let model = models
        .iter()
        .find(|model| model.lines.iter().any(|line| line.key == key))?;
    let main = model.main();
    let about = &main.model.about;
    let nodes = model.nodes(view);
    let size = |holder: &Holder| view.model_of(holder).about.size_bytes;
    let disk_size: u64 = nodes.iter().filter_map(|(.., holder)| size(holder)).sum();
    let mut entry = Entry::default();
    entry.text("id", main.name);
    entry.text("family", &about.family);
    entry.text("variant", &about.variant);
    entry.text("parameter_size", &about.parameter_size());
    entry.number("parameter_count", about.parameter_count);
    entry.text("quantization", &about.quantization);
    entry.text("format", &about.format);
    entry.field("total_disk_size", &disk_size.to_string());
    entry.text("last_seen", &last_seen(&nodes, moment));
    let aliases = model.lines.iter().map(|line| {
        let mut entry = Entry::default();
        entry.text("name", line.name);
        let source = &*line.teller.config.profile.name;
        entry.text("source", if line.is_alias { "alias" } else { source });
        entry.finish()
    });
    entry.field("aliases", &array(aliases));
    let endpoints = nodes.iter().map(|(node, loaded, holder)| {
        let mut entry = Entry::default();
        entry.text("endpoint", &node.config.name);
        entry.text("native_name", &holder.spelled);
        entry.text("state", state(node, *loaded));
        entry.number("disk_size", size(holder));
        entry.finish()
    });
    entry.field("endpoints", &array(endpoints));
    let loaded = nodes.iter().filter(|(_, loaded, _)| *loaded);
    entry.field(
        "loaded_endpoints",
        &words(loaded.map(|(node, ..)| node.config.name.as_str())),
    );
    entry.field(
        "capabilities",
        &words(about.capabilities.iter().map(AsRef::as_ref)),
    );
    entry.number("max_context_length", about.context_max);
    Some(entry.finish().into())
}

/// A node that is not down has been heard of within its check interval, which is now; one that is down was before it went.
fn last_seen(nodes: &[(&Node, bool, &Holder)], moment: Moment) -> String {
    let gone = |(node, ..): &(&Node, bool, &Holder)| match &node.health {
        Health::Down { since, .. } => moment.now.saturating_duration_since(*since),
        _ => Duration::ZERO,
    };
    let gone_s = nodes.iter().map(gone).min().unwrap_or_default().as_secs();
    let unix_s = moment.unix_s.saturating_sub_unsigned(gone_s);
    Timestamp { unix_s, nanos: 0 }.to_rfc3339()
}
