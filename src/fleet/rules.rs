//! The rules by which the nodes' models become one catalogue.

use std::time::Duration;

use crate::config::{Alias, Config};
use crate::model::ModelKey;

/// What the configuration says about the catalogue as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// Whether names of one digest are one entry of the unified listing.
    pub unify: bool,
    /// How long the models of a node that is down stay in the catalogue.
    pub stale_threshold: Duration,
    /// Names that stand for others and are listed when one of those is offered.
    pub aliases: Vec<Stand>,
}

/// A name that stands for others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stand {
    /// What an asked name is compared with.
    pub key: ModelKey,
    /// As listings show it.
    pub name: String,
    /// What it stands for, best first.
    pub targets: Vec<ModelKey>,
}

impl Default for Rules {
    fn default() -> Rules {
        Rules {
            unify: true,
            stale_threshold: Duration::MAX,
            aliases: Vec::new(),
        }
    }
}

impl Rules {
    /// The part of a configuration that concerns the catalogue.
    pub fn of(config: &Config) -> Rules {
        Rules {
            unify: config.registry.unify,
            stale_threshold: config.registry.stale_threshold,
            aliases: config.aliases.iter().map(Stand::of).collect(),
        }
    }
}

impl Stand {
    fn of(alias: &Alias) -> Stand {
        // The configuration has parsed these names before; one that could not be asked for would be no target.
        let targets = alias.targets.iter();
        Stand {
            key: alias.key.clone(),
            name: alias.name.clone(),
            targets: targets
                .filter_map(|name| ModelKey::parse(name).ok())
                .collect(),
        }
    }
}
