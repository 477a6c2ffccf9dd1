//! The scenarios: which nodes, how much work, and one policy's figures over all seeds.

use std::time::Duration;

use crate::engine;
use crate::figures::{Figures, Window};
use crate::fleet::NodeSpec;
use crate::policy::Contender;
use crate::work::{self, Demand};

/// The share of the fleet that the ordinary scenarios use.
const UTILISATION: f64 = 0.7;
/// The shares that are compared with each other; the last is the overload.
pub(crate) const LEVELS: [f64; 7] = [0.25, 0.5, 0.7, 1.0, 1.3, 1.6, 2.0];
/// The flooder asks twenty times what it asks otherwise.
const FLOOD: f64 = 19.0;
/// Where contexts differ, one conversation in six has another than the rest.
const ODD_CONTEXTS: f64 = 1.0 / 6.0;

/// How many runs, and how long.
#[derive(Clone, Copy)]
pub(crate) struct Extent {
    pub(crate) seeds: u64,
    pub(crate) window: Window,
}

pub(crate) const WHOLE: Extent = Extent {
    seeds: 5,
    window: Window {
        begins: Duration::from_secs(600),
        ends: Duration::from_secs(4200),
    },
};
/// Shows that everything works; too short for figures.
pub(crate) const QUICK: Extent = Extent {
    seeds: 1,
    window: Window {
        begins: Duration::from_secs(300),
        ends: Duration::from_secs(1200),
    },
};

/// What is asked of which nodes.
#[derive(Clone)]
pub(crate) struct Scenario {
    pub(crate) nodes: Vec<NodeSpec>,
    pub(crate) demand: Demand,
}

impl Scenario {
    pub(crate) fn ordinary(nodes: Vec<NodeSpec>) -> Self {
        let demand = Demand {
            utilisation: UTILISATION,
            flood: 0.0,
            odd_contexts: 0.0,
        };
        Self { nodes, demand }
    }

    pub(crate) fn at(self, utilisation: f64) -> Self {
        let demand = Demand {
            utilisation,
            ..self.demand
        };
        Self { demand, ..self }
    }

    pub(crate) fn flooded(self) -> Self {
        let demand = Demand {
            flood: FLOOD,
            ..self.demand
        };
        Self { demand, ..self }
    }

    pub(crate) fn with_odd_contexts(self) -> Self {
        let demand = Demand {
            odd_contexts: ODD_CONTEXTS,
            ..self.demand
        };
        Self { demand, ..self }
    }

    /// One run per seed; the work is the same for every contender.
    pub(crate) fn runs(&self, contender: &Contender, extent: Extent) -> Vec<Figures> {
        let run = |seed| {
            let until = extent.window.ends;
            let work = work::conversations(&self.demand, &self.nodes, until, seed);
            // Another stream than the work's: lots must not follow what is asked.
            let mut policy = (contender.build)(&self.nodes, seed << 32);
            let story = engine::play(&self.nodes, &work, policy.as_mut());
            Figures::of(&story, extent.window, 0.0 < self.demand.flood)
        };
        (1..=extent.seeds).map(run).collect()
    }
}
