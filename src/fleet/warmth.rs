//! Which models a node has in its memory, be it that it says so or that servers of its type hold what they list.

use std::collections::HashMap;

use crate::fleet::listing::{Installed, Loaded};
use crate::fleet::snapshot::Node;
use crate::fleet::traits::Traits;
use crate::model::ModelKey;
use crate::profile::Listing;

/// What a node says of a model in its memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Runner {
    /// What it takes, bytes; 0 when the node does not say.
    pub(super) bytes: u64,
    /// Its context, tokens.
    pub(super) context: Option<u64>,
}

/// Which models of one node are in its memory.
#[derive(PartialEq, Eq)]
pub(super) enum Warmth<'a> {
    /// Such servers list only what they hold in memory, or say of each model whether they do.
    All,
    /// By digest, because copies of a model share one runner and only the name that loaded first is listed.
    Listed {
        digests: HashMap<&'a str, Runner>,
        keys: HashMap<&'a ModelKey, Runner>,
    },
}

impl Warmth<'_> {
    pub(super) fn of(node: &Node) -> Warmth<'_> {
        if node.config.profile.listing != Listing::Ollama {
            return Warmth::All;
        }
        let runner = |model: &Loaded| Runner {
            bytes: model.bytes,
            context: model.context,
        };
        let digests = node
            .loaded
            .iter()
            .map(|it| (it.digest.as_ref(), runner(it)));
        let keys = node.loaded.iter().map(|it| (&it.key, runner(it)));
        Warmth::Listed {
            digests: digests.filter(|(digest, _)| !digest.is_empty()).collect(),
            keys: keys.collect(),
        }
    }

    pub(super) fn is_warm(&self, model: &Installed) -> bool {
        self.runner(model).is_some()
    }

    /// What is known of the model's runner; `None` when it is not in memory.
    pub(super) fn runner(&self, model: &Installed) -> Option<Runner> {
        match self {
            Warmth::All => (model.loaded != Some(false)).then(Runner::default),
            Warmth::Listed { digests, keys } => {
                let by_digest = digests.get(model.digest.as_ref());
                by_digest.or_else(|| keys.get(&model.key)).copied()
            }
        }
    }
}

impl Node {
    /// Whether one of its models is in its memory, as it told last.
    pub fn holds(&self, model: &Traits) -> bool {
        let mut offered = self.offered().iter();
        let known = offered.find(|it| *it.traits == *model);
        known.is_some_and(|it| Warmth::of(self).is_warm(&self.models()[it.place]))
    }

    /// The models in its memory, under its own names: what it says is loaded, or where it does not say that apart, what it lists
    /// and does not say to be on disk only. None while it is down, since nobody knows.
    pub fn in_memory(&self) -> impl Iterator<Item = &str> {
        let warmth = Warmth::of(self);
        let told = self.loaded.iter().map(|model| &*model.name);
        let listed = match warmth {
            Warmth::All if !self.health.is_down() => self.models(),
            _ => &[],
        };
        let listed = listed.iter().filter(move |model| warmth.is_warm(model));
        told.chain(listed.map(|model| &*model.name))
    }
}
