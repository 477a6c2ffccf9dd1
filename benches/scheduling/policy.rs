//! Who decides where a request goes: what a policy sees, what it may do, and all that are compared.

use std::time::Duration;

use crate::arriero::Arriero;
use crate::baselines::{Baseline, Rule};
use crate::fleet::NodeSpec;
use crate::node::Loaded;

/// A request as a gateway sees it: how much will be answered is not in it.
#[derive(Clone, Copy)]
pub(crate) struct Request {
    /// Counted from 0 in the order of arrival.
    pub(crate) id: usize,
    pub(crate) arrived: Duration,
    pub(crate) tenant: usize,
    /// What an affinity key would be made of.
    pub(crate) conversation: usize,
    /// From 0.
    pub(crate) turn: usize,
    /// Its index in [`crate::fleet::MODELS`].
    pub(crate) model: usize,
    /// The `num_ctx` it wants.
    pub(crate) context: u32,
    pub(crate) prompt_tokens: u32,
}

/// What the last line of an answer tells.
#[expect(
    dead_code,
    reason = "none of the baselines learns; what learns reads it"
)]
pub(crate) struct Usage {
    pub(crate) prompt_tokens: u32,
    pub(crate) output_tokens: u32,
    /// `load_duration`: until the runner was there, including the wait for other loads; 0 if it was there.
    pub(crate) load: Duration,
    /// `prompt_eval_duration`
    pub(crate) prefill: Duration,
    /// `eval_duration`
    pub(crate) decode: Duration,
}

/// What a policy wants done with a request that it has been told of and that is not placed yet.
pub(crate) enum Decision {
    Send {
        id: usize,
        node: usize,
        /// The request's own, or another that covers it.
        context: u32,
    },
    Refuse {
        id: usize,
    },
}

/// A gateway's scheduling. It learns of nothing but what a gateway would see; all times are from the start of the run.
pub(crate) trait Policy {
    /// A node told its loaded models, as it does every two seconds.
    fn polled(&mut self, node: usize, loaded: &[Loaded], now: Duration);
    fn arrived(&mut self, request: &Request, now: Duration);
    fn first_token(&mut self, id: usize, now: Duration);
    fn ended(&mut self, id: usize, usage: &Usage, now: Duration);
    /// The node it was sent to had its pending line full: the request is the policy's again.
    fn turned_away(&mut self, id: usize, now: Duration);
    /// Asked after every event and again until it returns nothing. A request that is in no decision goes on waiting.
    fn decide(&mut self, now: Duration) -> Vec<Decision>;
    /// When to ask [`Policy::decide`] again even though nothing has happened: later than `now`.
    fn wake(&mut self, _now: Duration) -> Option<Duration> {
        None
    }
}

/// A policy by name, and how it is made anew for each run: from the nodes and a seed.
pub(crate) struct Contender {
    pub(crate) name: &'static str,
    pub(crate) build: fn(&[NodeSpec], u64) -> Box<dyn Policy>,
}

/// Everyone compared, in the order of the tables.
pub(crate) const CONTENDERS: &[Contender] = &[
    Contender {
        name: "random",
        build: |nodes, seed| Box::new(Baseline::new(Rule::Random, nodes, seed)),
    },
    Contender {
        name: "round-robin",
        build: |nodes, seed| Box::new(Baseline::new(Rule::RoundRobin, nodes, seed)),
    },
    Contender {
        name: LEAST_CONNECTIONS,
        build: |nodes, seed| Box::new(Baseline::new(Rule::LeastConnections, nodes, seed)),
    },
    Contender {
        name: "Olla",
        build: |nodes, seed| Box::new(Baseline::new(Rule::Olla, nodes, seed)),
    },
    Contender {
        name: "Olla, priority",
        build: |nodes, seed| Box::new(Baseline::new(Rule::OllaPriority, nodes, seed)),
    },
    Contender {
        name: "Olla, sticky",
        build: |nodes, seed| Box::new(Baseline::new(Rule::OllaSticky, nodes, seed)),
    },
    Contender {
        name: WARM_ELSE_LEAST,
        build: |nodes, seed| Box::new(Baseline::new(Rule::WarmElseLeast, nodes, seed)),
    },
    Contender {
        name: ARRIERO,
        build: |nodes, seed| Box::new(Arriero::new(nodes, seed)),
    },
];

pub(crate) const LEAST_CONNECTIONS: &str = "least-connections";
pub(crate) const WARM_ELSE_LEAST: &str = "warm, else least-connections";
/// Whom `--check` holds to the promises.
pub(crate) const ARRIERO: &str = "arriero";
