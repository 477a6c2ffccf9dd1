//! Which models a node has in its memory, be it that it says so or that servers of its type hold what they list.

use std::collections::HashSet;

use crate::fleet::listing::Installed;
use crate::fleet::snapshot::Node;
use crate::fleet::traits::Traits;
use crate::model::ModelKey;
use crate::profile::Listing;

/// Which models of one node are in its memory.
#[derive(PartialEq, Eq)]
pub(super) enum Warmth<'a> {
    /// Such servers list only what they hold in memory, or say of each model whether they do.
    All,
    /// By digest, because copies of a model share one runner and only the name that loaded first is listed.
    Listed {
        digests: HashSet<&'a str>,
        keys: HashSet<&'a ModelKey>,
    },
}

impl Warmth<'_> {
    pub(super) fn of(node: &Node) -> Warmth<'_> {
        if node.config.profile.listing != Listing::Ollama {
            return Warmth::All;
        }
        let digests = node.loaded.iter().map(|model| model.digest.as_ref());
        Warmth::Listed {
            digests: digests.filter(|digest| !digest.is_empty()).collect(),
            keys: node.loaded.iter().map(|model| &model.key).collect(),
        }
    }

    pub(super) fn is_warm(&self, model: &Installed) -> bool {
        match self {
            Warmth::All => model.loaded != Some(false),
            Warmth::Listed { digests, keys } => {
                digests.contains(model.digest.as_ref()) || keys.contains(&model.key)
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
