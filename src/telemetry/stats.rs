//! What became of requests, per node and per model: sums since the start, for the status pages.
//!
//! Each request that was for a node is counted once: in the total, at the last node asked, and at its model. All tables are
//! bounded; what does not fit is added to one `other` entry, so that the sums always agree.

mod clients;
mod table;
mod tally;

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::dialect::Operation;

use super::record::{EndBy, Record};
use clients::Clients;
use table::{Kept, Table};
pub use tally::{Counts, Figures, Outcome, percent};
use tally::{Heard, Tally};

/// As many as a configuration may have.
const NODES_MAX: usize = 1000;
const MODELS_MAX: usize = 2000;
/// Entries of all models' break-downs by node together.
const PAIRS_MAX: usize = 20_000;
/// Stands for everything without an entry of its own. No model's label is spelled like this: labels have a tag.
pub const OTHER: &str = "other";

/// The sums of one gateway, since it started.
#[derive(Debug)]
pub struct Stats(Mutex<Tables>);

/// All sums at one moment.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// All requests that were for a node.
    pub total: Figures,
    /// By name; nodes that have left too.
    pub nodes: HashMap<String, NodeFigures>,
    /// Nodes without an entry of their own; the oldest of too many names.
    pub other_nodes: NodeFigures,
    /// By label; [`OTHER`] holds all names that no node has. Only in a full report.
    pub models: HashMap<String, ModelFigures>,
    /// Requests to Anthropic's calls.
    pub anthropic: Anthropic,
    /// Requests refused for their size or number.
    pub refusals: Refusals,
}

/// What became of the requests that ended at one node.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct NodeFigures {
    /// Requests whose last node this was.
    pub all: Figures,
    /// Attempts that failed here and went on to another node; their requests are counted there.
    pub failed_over: u64,
}

impl NodeFigures {
    /// Share of its attempts that the node carried out, 0 to 100; 100 when none was decided.
    pub fn success_percent(&self) -> f64 {
        let failed = self.all.counts.failed + self.failed_over;
        tally::percent(self.all.counts.succeeded, failed)
    }
}

/// What became of the requests for one model.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ModelFigures {
    /// Requests that named it.
    pub all: Figures,
    /// How their nodes were found.
    pub routing: Routing,
    /// Addresses that asked for it, an estimate good to a few percent.
    pub clients: u64,
    /// By node; [`OTHER`] holds nodes without an entry of their own. Requests that reached no node are in none.
    pub nodes: Vec<(String, Counts)>,
}

/// How nodes were found for requests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Routing {
    /// The first node chosen was the one that ended the request.
    pub hits: u64,
    /// No node could be asked.
    pub misses: u64,
    /// Another node had to be asked after the first.
    pub fallbacks: u64,
}

/// Requests to Anthropic's calls.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Anthropic {
    /// All of them.
    pub counts: Counts,
    /// Those that a node got as they came.
    pub passthrough: u64,
    /// Those that asked for a stream.
    pub streaming: u64,
    /// Those answered 501, since no node that has the model speaks the dialect.
    pub unspoken: u64,
}

/// Requests that we refused for their size or number, whatever they were for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Refusals {
    /// 413: the body.
    pub body_too_large: u64,
    /// 431 and 414: the head.
    pub head_too_large: u64,
    /// 429.
    pub too_many: u64,
}

#[derive(Debug)]
struct Tables {
    total: Tally,
    nodes: Table<NodeStory>,
    models: Table<ModelStory>,
    pairs_max: usize,
    anthropic: Anthropic,
    refusals: Refusals,
}

impl Default for Stats {
    fn default() -> Stats {
        Stats::new(NODES_MAX, MODELS_MAX, PAIRS_MAX)
    }
}

impl Stats {
    fn new(nodes_max: usize, models_max: usize, pairs_max: usize) -> Stats {
        Stats(Mutex::new(Tables {
            total: Tally::default(),
            nodes: Table::new(nodes_max),
            models: Table::new(models_max),
            pairs_max,
            anthropic: Anthropic::default(),
            refusals: Refusals::default(),
        }))
    }

    /// Counts a finished request; `at_ms` is the wall clock, Unix milliseconds.
    pub fn record(&self, record: &Record, at_ms: u64) {
        let heard = Heard::of(record, at_ms);
        let client = record.client.map(|addr| {
            let mut hasher = DefaultHasher::new();
            addr.ip().to_canonical().hash(&mut hasher);
            hasher.finish()
        });
        let mut tables = self.tables();
        tables.refusals.add(record);
        if !is_for_a_node(record) {
            return;
        }
        tables.total.add(&heard);
        if matches!(
            record.operation,
            Some(Operation::Messages | Operation::CountTokens)
        ) {
            tables.anthropic.add(record, &heard);
        }
        for name in &record.tried {
            tables.nodes.entry(name).failed_over += 1;
        }
        if let Some(name) = &record.node {
            tables.nodes.entry(name).tally.add(&heard);
        }
        if record.model.is_some() {
            tables.add_to_model(record, &heard, client);
        }
    }

    /// All sums as of now but those of the models; agrees in itself.
    pub fn report(&self) -> Report {
        self.tables().report()
    }

    /// All sums as of now; agrees in itself. With thousands of models it holds requests' ends up for milliseconds.
    pub fn full_report(&self) -> Report {
        let tables = self.tables();
        Report {
            models: tables.models(),
            ..tables.report()
        }
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        // A panic in between could at worst leave one request half counted.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tables {
    fn report(&self) -> Report {
        let nodes = self.nodes.iter();
        Report {
            total: self.total.figures(),
            nodes: nodes
                .map(|(name, story)| (name.to_owned(), story.figures()))
                .collect(),
            other_nodes: self.nodes.rest().figures(),
            models: HashMap::new(),
            anthropic: self.anthropic,
            refusals: self.refusals,
        }
    }

    fn models(&self) -> HashMap<String, ModelFigures> {
        let models = self.models.iter();
        let mut models: HashMap<_, _> = models
            .map(|(name, story)| (name.to_owned(), story.figures()))
            .collect();
        let other = self.models.rest().figures();
        if other != ModelFigures::default() {
            models.insert(OTHER.to_owned(), other);
        }
        models
    }

    fn add_to_model(&mut self, record: &Record, heard: &Heard, client: Option<u64>) {
        let story = self.models.entry_of(record.model_label.as_deref());
        story.tally.add(heard);
        story.routing.add(record);
        if let Some(client) = client {
            story.clients.add(client);
        }
        let Some(node) = record.node.as_deref() else {
            return;
        };
        if let Some(counts) = story.nodes.get_mut(node) {
            return counts.add(heard);
        }
        // Looking through all models is dear, but pairs are new only so many times.
        let stories = self.models.iter().map(|(_, story)| story);
        let pairs: usize = stories
            .chain([self.models.rest()])
            .map(|story| story.nodes.len())
            .sum();
        let story = self.models.entry_of(record.model_label.as_deref());
        match pairs < self.pairs_max {
            true => story.nodes.entry(node.into()).or_default().add(heard),
            false => story.other_nodes.add(heard),
        }
    }
}

/// Whether it was for a node, rather than for the catalogue, for an admin page or for nothing that exists.
fn is_for_a_node(record: &Record) -> bool {
    use Operation as O;
    let from_catalogue = |operation| {
        matches!(
            operation,
            O::Root | O::Version | O::Tags | O::Ps | O::Models | O::Model
        )
    };
    record.node.is_some() || record.operation.is_some_and(|call| !from_catalogue(call))
}

impl Routing {
    fn add(&mut self, record: &Record) {
        let which = match &record.node {
            None => &mut self.misses,
            Some(_) if record.tried.is_empty() => &mut self.hits,
            Some(_) => &mut self.fallbacks,
        };
        *which += 1;
    }
}

impl Anthropic {
    fn add(&mut self, record: &Record, heard: &Heard) {
        self.counts.add(heard);
        self.passthrough += u64::from(record.node.is_some());
        self.streaming += u64::from(record.stream);
        self.unspoken += u64::from(record.node.is_none() && record.status == 501);
    }
}

impl Refusals {
    fn add(&mut self, record: &Record) {
        if record.end_by != EndBy::Gateway {
            return; // a node's own 429 or 413 is not our refusal
        }
        match record.status {
            413 => self.body_too_large += 1,
            414 | 431 => self.head_too_large += 1,
            429 => self.too_many += 1,
            _ => (),
        }
    }
}

#[derive(Debug, Default)]
struct NodeStory {
    tally: Tally,
    failed_over: u64,
}

impl NodeStory {
    fn figures(&self) -> NodeFigures {
        NodeFigures {
            all: self.tally.figures(),
            failed_over: self.failed_over,
        }
    }
}

impl Kept for NodeStory {
    fn last_ms(&self) -> u64 {
        self.tally.counts.last_ms
    }

    fn absorb(&mut self, other: NodeStory) {
        self.tally.absorb(&other.tally);
        self.failed_over += other.failed_over;
    }
}

#[derive(Debug, Default)]
struct ModelStory {
    tally: Tally,
    routing: Routing,
    clients: Clients,
    nodes: HashMap<Box<str>, Counts>,
    other_nodes: Counts,
}

impl ModelStory {
    fn figures(&self) -> ModelFigures {
        let mut nodes: Vec<(String, Counts)> = self
            .nodes
            .iter()
            .map(|(name, counts)| (name.to_string(), *counts))
            .collect();
        nodes.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        if self.other_nodes != Counts::default() {
            nodes.push((OTHER.to_owned(), self.other_nodes));
        }
        ModelFigures {
            all: self.tally.figures(),
            routing: self.routing,
            clients: self.clients.count(),
            nodes,
        }
    }
}

impl Kept for ModelStory {
    fn last_ms(&self) -> u64 {
        self.tally.counts.last_ms
    }

    fn absorb(&mut self, other: ModelStory) {
        self.tally.absorb(&other.tally);
        self.routing.hits += other.routing.hits;
        self.routing.misses += other.routing.misses;
        self.routing.fallbacks += other.routing.fallbacks;
        self.clients.absorb(&other.clients);
        self.other_nodes.absorb(&other.other_nodes);
        for counts in other.nodes.values() {
            self.other_nodes.absorb(counts);
        }
    }
}

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod tests;
