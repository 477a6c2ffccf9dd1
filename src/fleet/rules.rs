//! The rules by which the nodes' models become one catalogue.

use std::time::Duration;

use crate::config::{Alias, Config};

/// What the configuration says about the catalogue as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// Whether names of one digest are one entry of the unified listing.
    pub unify: bool,
    /// How long the models of a node that is down stay in the catalogue.
    pub stale_threshold: Duration,
    /// Names that stand for others and are listed when one of those is offered.
    pub aliases: Vec<Alias>,
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
            aliases: config.aliases.clone(),
        }
    }
}
