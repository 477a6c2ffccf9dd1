//! The policies arriero is compared with: none of them queues, each sends a request on as it comes.

use std::collections::HashMap;
use std::time::Duration;

use crate::chance::Chance;
use crate::fleet::NodeSpec;
use crate::node::Loaded;
use crate::policy::{Decision, Policy, Request, Usage};

/// Olla's `sticky_sessions.idle_ttl_seconds`.
const STICKY_IDLE: Duration = Duration::from_secs(600);

/// How a node is chosen. All nodes have all models on their disks, so that routing by model leaves every node in the choice.
#[derive(Clone, Copy)]
pub(crate) enum Rule {
    Random,
    RoundRobin,
    /// Fewest of our own requests; by lot among equals.
    LeastConnections,
    /// Olla as it comes: fewest of its own requests, in turn among equals.
    Olla,
    /// Its `priority`: by lot among the nodes of the highest.
    OllaPriority,
    /// As it comes, with `sticky_sessions`: whoever shares model and first 512 bytes of the messages stays on one node, and a system prompt is longer than that.
    OllaSticky,
    /// Of the nodes that had the model loaded when last asked, else of all: the one with the fewest of our own requests.
    WarmElseLeast,
}

/// A rule at work.
pub(crate) struct Baseline {
    rule: Rule,
    nodes: Vec<Seen>,
    placed: HashMap<usize, usize>,
    decisions: Vec<Decision>,
    cursor: usize,
    /// Model to node, and when last used.
    sticky: HashMap<usize, (usize, Duration)>,
    chance: Chance,
}

struct Seen {
    priority: u32,
    in_flight: usize,
    loaded: Vec<usize>,
}

impl Baseline {
    pub(crate) fn new(rule: Rule, nodes: &[NodeSpec], seed: u64) -> Self {
        let seen = |node: &NodeSpec| Seen {
            priority: node.priority,
            in_flight: 0,
            loaded: Vec::new(),
        };
        Self {
            rule,
            nodes: nodes.iter().map(seen).collect(),
            placed: HashMap::new(),
            decisions: Vec::new(),
            cursor: 0,
            sticky: HashMap::new(),
            chance: Chance::new(seed),
        }
    }

    fn choose(&mut self, request: &Request, now: Duration) -> usize {
        let all: Vec<usize> = (0..self.nodes.len()).collect();
        match self.rule {
            Rule::Random => self.chance.below(all.len()),
            Rule::RoundRobin => self.turn(&all),
            Rule::LeastConnections => self.by_lot(&self.least(&all)),
            Rule::Olla => self.turn(&self.least(&all)),
            Rule::OllaPriority => {
                let highest = self.nodes.iter().map(|node| node.priority).max();
                let top = |node: &usize| Some(self.nodes[*node].priority) == highest;
                let top: Vec<usize> = all.into_iter().filter(top).collect();
                self.by_lot(&top)
            }
            Rule::OllaSticky => self.stick(request.model, &all, now),
            Rule::WarmElseLeast => {
                let is_warm = |node: &usize| self.nodes[*node].loaded.contains(&request.model);
                let warm: Vec<usize> = all.iter().copied().filter(is_warm).collect();
                let among = if warm.is_empty() { &all } else { &warm };
                self.by_lot(&self.least(among))
            }
        }
    }

    fn least(&self, among: &[usize]) -> Vec<usize> {
        let in_flight = |node: usize| self.nodes[node].in_flight;
        let fewest = among.iter().map(|node| in_flight(*node)).min();
        let is_least = |node: &usize| Some(in_flight(*node)) == fewest;
        among.iter().copied().filter(is_least).collect()
    }

    fn by_lot(&mut self, among: &[usize]) -> usize {
        among[self.chance.below(among.len())]
    }

    fn turn(&mut self, among: &[usize]) -> usize {
        self.cursor += 1;
        among[self.cursor % among.len()]
    }

    fn stick(&mut self, model: usize, all: &[usize], now: Duration) -> usize {
        let pinned = self.sticky.get(&model);
        let node = match pinned {
            Some((node, used)) if now < *used + STICKY_IDLE => *node,
            _ => self.turn(&self.least(all)),
        };
        self.sticky.insert(model, (node, now));
        node
    }

    fn over(&mut self, id: usize) {
        if let Some(node) = self.placed.remove(&id) {
            self.nodes[node].in_flight -= 1;
        }
    }
}

impl Policy for Baseline {
    fn polled(&mut self, node: usize, loaded: &[Loaded], _now: Duration) {
        self.nodes[node].loaded = loaded.iter().map(|line| line.model).collect();
    }

    fn arrived(&mut self, request: &Request, now: Duration) {
        let node = self.choose(request, now);
        self.nodes[node].in_flight += 1;
        self.placed.insert(request.id, node);
        self.decisions.push(Decision::Send {
            id: request.id,
            node,
            context: request.context,
        });
    }

    fn first_token(&mut self, _id: usize, _now: Duration) {}

    fn ended(&mut self, id: usize, _usage: &Usage, _now: Duration) {
        self.over(id);
    }

    /// The node's 503 goes to the client, as Olla passes it on.
    fn turned_away(&mut self, id: usize, _now: Duration) {
        self.over(id);
        self.decisions.push(Decision::Refuse { id });
    }

    fn decide(&mut self, _now: Duration) -> Vec<Decision> {
        std::mem::take(&mut self.decisions)
    }
}
