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
use crate::model::ModelKey;

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

/// Which names are one model. Made once for a catalogue, since it takes a look at all of it.
#[derive(Debug)]
pub(in crate::fleet) struct Groups {
    /// The names of each model, as [`Unified::lines`] has them.
    models: Vec<Vec<ModelKey>>,
    places: HashMap<ModelKey, usize>,
}

impl Groups {
    pub(in crate::fleet) fn of(view: &Snapshot, scope: &Scope) -> Groups {
        let lines = view.lines(scope);
        let places = group(&lines, view.rules().unify);
        let mut models: Vec<Vec<&Line<'_>>> = Vec::new();
        let mut order: HashMap<usize, usize> = HashMap::new();
        for (line, place) in lines.iter().zip(places) {
            let at = *order.entry(place).or_insert(models.len());
            match models.get_mut(at) {
                Some(model) => model.push(line),
                None => models.push(vec![line]),
            }
        }
        for model in &mut models {
            // The name that most nodes have speaks, of several the shortest.
            model.sort_by_key(|line| {
                let (rarity, length) = (usize::MAX - line.holders.len(), line.name.len());
                (line.is_alias(), rarity, length, line.name)
            });
        }
        let keys = models
            .iter()
            .map(|model| model.iter().map(|line| line.key.clone()).collect());
        let models: Vec<Vec<ModelKey>> = keys.collect();
        let place = |(at, model): (usize, &Vec<ModelKey>)| -> Vec<(ModelKey, usize)> {
            model.iter().map(|key| (key.clone(), at)).collect()
        };
        Groups {
            places: models.iter().enumerate().flat_map(place).collect(),
            models,
        }
    }
}

/// A number for each line, the same for those that are one model: by the digest of the entry that speaks for a name and by nothing
/// else of its holders, or a name in conflict would make one model of two. An alias is what it stands for.
fn group(lines: &[Line<'_>], unify: bool) -> Vec<usize> {
    let mut groups: Vec<usize> = (0..lines.len()).collect();
    if !unify {
        return groups;
    }
    let mut digests: HashMap<&str, usize> = HashMap::new();
    let mut keys: HashMap<&ModelKey, usize> = HashMap::new();
    for (at, line) in lines.iter().enumerate() {
        if line.is_alias() {
            continue;
        }
        if !line.model.digest.is_empty() {
            groups[at] = *digests.entry(&line.model.digest).or_insert(at);
        }
        keys.insert(line.key, groups[at]);
    }
    for (at, line) in lines.iter().enumerate() {
        if let Some(group) = line.stands_for.and_then(|target| keys.get(target)) {
            groups[at] = *group;
        }
    }
    groups
}

impl Snapshot {
    /// The models of the catalogue, the newest first. Names of one digest are one model, unless the rules say otherwise.
    pub fn unified(&self, scope: &Scope) -> Vec<Unified<'_>> {
        let groups = self.groups(scope);
        let models = groups.models.iter();
        models.map(|keys| self.unite(keys, scope)).collect()
    }

    /// The model that has this name among its own; `None` when nobody offers it.
    fn unified_as(&self, asked: &str, scope: &Scope) -> Option<Unified<'_>> {
        let groups = self.groups(scope);
        let key = ModelKey::parse_any(asked).ok()?;
        let keys = groups.models.get(*groups.places.get(&key)?)?;
        Some(self.unite(keys, scope))
    }

    fn unite(&self, keys: &[ModelKey], scope: &Scope) -> Unified<'_> {
        let lines = keys.iter().filter_map(|key| self.line_of(key, scope));
        Unified {
            lines: lines.collect(),
        }
    }
}

impl<'a> Unified<'a> {
    /// The name that speaks for it.
    pub fn main(&self) -> &Line<'a> {
        &self.lines[0]
    }

    /// Who has it under any of its names; a node may be there several times. An alias may stand for other models as well, so its
    /// nodes count only where no name of the model's own is listed.
    pub fn holders(&self) -> impl Iterator<Item = &'a Holder> {
        let only_aliases = self.main().is_alias();
        let lines = self
            .lines
            .iter()
            .filter(move |line| only_aliases || !line.is_alias());
        lines.flat_map(|line| line.holders.iter().copied())
    }

    /// Each node that has it, whether it holds the model in memory, and the node's own name for it.
    fn nodes(&self, view: &'a Snapshot) -> Vec<(&'a Node, bool, &'a Holder)> {
        let mut nodes: Vec<(&Node, bool, &Holder)> = Vec::new();
        let mut places: HashMap<usize, usize> = HashMap::new();
        for holder in self.holders() {
            let place = *places.entry(holder.at).or_insert(nodes.len());
            match nodes.get_mut(place) {
                Some((_, loaded, _)) => *loaded |= view.is_loaded(holder),
                None => nodes.push((view.node_of(holder), view.is_loaded(holder), holder)),
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
    let model = view.unified_as(asked, scope)?;
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
        entry.text("source", if line.is_alias() { "alias" } else { source });
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
