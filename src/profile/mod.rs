//! What a node type is: its prefixes, the calls it serves and where, how it is told from others, what its models need.
//!
//! Profiles are YAML (`profiles/*.yaml`, read by `config::profiles`); here is what they mean.

pub mod extraction;

pub mod api;

pub mod resources;

pub mod detection;

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use self::api::Served;
pub use self::api::{Api, MessagesApi, Needs, Shortcoming, VersionPlace};
pub use self::detection::{Detection, Evidence, detect, questions};
use self::extraction::Figures;
pub use self::resources::{Characteristics, Demand, Limit, Resources};
use crate::dialect::Operation;
use crate::glob::Glob;

/// The word in `type:` for a node whose type is found out by asking it.
pub const AUTO: &str = "auto";

/// First path segments that mean something else than a type.
pub const RESERVED_MOUNTS: &[&str] = &[
    "",
    "api",
    "v1",
    "openai",
    "anthropic",
    "olla",
    "proxy",
    "models",
    "internal",
    "metrics",
    AUTO,
];

/// A node type; a node's `type:` names one by name or prefix.
#[derive(Debug, Clone, PartialEq)]
pub struct Profile {
    /// The word for it in `type:`, in messages and in [`Mount::Profile`](crate::dialect::Mount::Profile).
    pub name: Arc<str>,
    /// What people are told about it.
    pub about: About,
    /// Words that name it in `type:` and as mounts `/{prefix}/…`.
    pub prefixes: Vec<String>,
    /// How its models are listed.
    pub listing: Listing,
    /// How its nodes are treated.
    pub characteristics: Characteristics,
    /// By what it is told from others.
    pub detection: Detection,
    /// What names of models say.
    pub models: ModelPatterns,
    /// What its models need.
    pub resources: Resources,
    /// What is worth telling of its answers.
    pub figures: Figures,
    api: Api,
    served: Served,
}

/// Words for people; they route nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct About {
    /// Its name as its makers write it.
    pub display_name: Option<String>,
    /// One sentence.
    pub description: Option<String>,
    /// Where it lives.
    pub home: Option<String>,
    /// Of the profile, not of the server.
    pub version: Option<String>,
}

/// How a node tells which models it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listing {
    /// `/api/tags` (installed), `/api/ps` (loaded), `/api/version`.
    Ollama,
    /// `/v1/models`: whatever is listed counts as loaded, since such servers hold their models in memory.
    OpenAi,
    /// As [`Listing::OpenAi`], with more in each entry: type, state, length of context.
    LmStudio,
}

/// `models`: what names of models say about them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ModelPatterns {
    /// By capability (`vision`, `embeddings`, `code`, any word): the names that have it.
    pub capabilities: BTreeMap<String, Vec<Glob>>,
    /// Length of context in tokens; the first pattern that means a model decides.
    pub contexts: Vec<(Glob, u64)>,
    /// Of the above what an operator wrote, which holds against what a node's listing says.
    pub insisted: Insisted,
    /// Whether its servers themselves know a model by every spelling of its name, as Ollama does.
    pub loose_names: bool,
}

/// Which of the patterns are an operator's word.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Insisted {
    /// These capabilities.
    pub capabilities: BTreeSet<String>,
    /// The lengths of context, all of them.
    pub contexts: bool,
}

impl Profile {
    /// A type of which nothing is known but its name and its API.
    pub fn new(name: &str, api: Api) -> Profile {
        Profile {
            name: name.into(),
            about: About::default(),
            prefixes: Vec::new(),
            listing: Listing::OpenAi,
            characteristics: Characteristics::default(),
            detection: Detection::default(),
            models: ModelPatterns::default(),
            resources: Resources::default(),
            figures: Figures::default(),
            served: Served::of(&api, ""),
            api,
        }
    }

    /// The type of a node that was not asked yet: it serves nothing.
    pub fn auto() -> Profile {
        let api = Api {
            model_path: "/v1/models".to_owned(),
            health_path: "/".to_owned(),
            ..Api::default()
        };
        Profile::new(AUTO, api)
    }

    /// The same type with another API.
    #[must_use]
    pub fn with_api(self, api: Api) -> Profile {
        Profile {
            served: Served::of(&api, ""),
            api,
            ..self
        }
    }

    /// The API as written.
    pub fn api(&self) -> &Api {
        &self.api
    }

    /// Whether it is still to be found out what the node is.
    pub fn is_auto(&self) -> bool {
        &*self.name == AUTO
    }

    /// Whether the type serves a call at all, as it comes and without translation.
    pub fn serves(&self, operation: Operation) -> bool {
        self.served.has(operation)
    }

    /// Whether models can be put on nodes of this type.
    pub fn has_management(&self) -> bool {
        self.serves(Operation::Pull)
    }

    /// Why a node of this type and version can't serve a request as it comes; `None` when it can.
    pub fn shortcoming(
        &self,
        operation: Operation,
        version: Option<&str>,
        needs: Needs,
    ) -> Option<Shortcoming<'_>> {
        if !self.serves(operation) {
            return Some(Shortcoming::Call);
        }
        if needs.stream && self.characteristics.streaming == Some(false) {
            return Some(Shortcoming::Streams);
        }
        match (operation, &self.api.messages) {
            (Operation::Messages | Operation::CountTokens, Some(messages)) => {
                messages.shortcoming(version, needs)
            }
            _ => None,
        }
    }

    /// Where a call is on a node of this type; `None` for a call it does not serve.
    pub fn path_of(&self, operation: Operation) -> Option<&str> {
        self.served.path_of(operation)
    }

    /// Where its nodes tell which models are in their memory; `None` where the listing of what is installed says that as well.
    pub fn loaded_path(&self) -> Option<String> {
        let named = || self.path_of(Operation::Ps).map(str::to_owned);
        let is_apart = self.listing == Listing::Ollama;
        is_apart.then(|| named().unwrap_or_else(|| self.api.beside_listing("/api/ps")))
    }

    /// The path to ask a node for: `path` as a call names it (`/v1/models/llama3`), put where this type keeps the call. A call it
    /// does not serve keeps its own path.
    pub fn place<'a>(&self, operation: Operation, path: &'a str) -> Cow<'a, str> {
        let canonical = api::canonical(operation);
        match (self.path_of(operation), path.strip_prefix(canonical)) {
            (Some(own), Some(rest)) if own != canonical => Cow::Owned(format!("{own}{rest}")),
            _ => Cow::Borrowed(path),
        }
    }

    /// What stands in front of a call's own path wherever the type keeps it behind something: `/engines` for `/engines/v1/completions`.
    pub fn extras_of(&self, operation: Operation) -> impl Iterator<Item = &str> {
        let paths = self.api.paths.iter().map(String::as_str);
        let extras = paths.chain(self.path_of(operation));
        extras
            .filter_map(move |path| api::extra_of(path, api::canonical(operation)))
            .filter(|extra| !extra.is_empty())
    }

    /// Splits the path of a node's URL into what stands before the type's own extra part and that part: `/x/engines` is `/x` and
    /// `/engines` for a type that keeps `/engines/v1/models`.
    pub fn split_base<'b>(&self, base_path: &'b str) -> (&'b str, &'b str) {
        let extra = self.api.extra_in(base_path);
        base_path.split_at(base_path.len() - extra.len())
    }

    /// The same type for a node whose URL named this extra part: calls that stand behind several go there.
    #[must_use]
    pub fn preferring(&self, extra: &str) -> Profile {
        Profile {
            served: Served::of(&self.api, extra),
            ..self.clone()
        }
    }

    /// What the name of a model says it can do, such as `vision`.
    pub fn capabilities(&self, name: &str) -> impl Iterator<Item = &str> {
        let patterns = self.models.capabilities.iter();
        patterns
            .filter(move |(_, globs)| globs.iter().any(|glob| glob.means(name)))
            .map(|(word, _)| word.as_str())
    }

    /// Those among them that an operator wrote.
    pub fn insisted_capabilities(&self, name: &str) -> impl Iterator<Item = &str> {
        let insisted = &self.models.insisted.capabilities;
        self.capabilities(name)
            .filter(|word| insisted.contains(*word))
    }

    /// The length of context, tokens, that the name of a model says if an operator wrote so.
    pub fn insisted_context(&self, name: &str) -> Option<u64> {
        let insists = self.models.insisted.contexts;
        insists.then(|| self.context(name)).flatten()
    }

    /// The length of context, tokens, that the name of a model says.
    pub fn context(&self, name: &str) -> Option<u64> {
        let patterns = self.models.contexts.iter();
        patterns
            .clone()
            .find(|(glob, _)| glob.means(name))
            .map(|(_, tokens)| *tokens)
    }

    /// What a model needs. `parameter_size` (`7.6B`) and `quantization` (`Q4_K_M`) as the node told them; else the name is read.
    pub fn needs_of(
        &self,
        name: &str,
        parameter_size: Option<&str>,
        quantization: Option<&str>,
    ) -> Demand {
        self.resources.demand(name, parameter_size, quantization)
    }

    /// How long the first byte of a cold model may take: as configured, or as long as this type and the size of the model need if that
    /// is longer. Never shorter than configured.
    pub fn cold_timeout(&self, configured: Duration, demand: &Demand) -> Duration {
        let configured = self.characteristics.timeout.unwrap_or(configured);
        let loading = match self.resources.load_time_buffer {
            Some(true) => demand.load_time,
            _ => Duration::ZERO,
        };
        configured.max(self.resources.base_timeout.unwrap_or_default() + loading)
    }
}

/// All node types that a configuration knows.
#[derive(Debug, Clone, PartialEq)]
pub struct Profiles {
    all: Vec<Arc<Profile>>,
    auto: Arc<Profile>,
}

impl Profiles {
    /// In the order in which they are tried where several fit.
    pub fn new(all: Vec<Arc<Profile>>) -> Profiles {
        Profiles {
            all,
            auto: Arc::new(Profile::auto()),
        }
    }

    /// What a `type:` names: a type by name or prefix, or [`AUTO`].
    pub fn find(&self, word: &str) -> Option<&Arc<Profile>> {
        match word {
            AUTO => Some(&self.auto),
            _ => self.all.iter().find(|profile| profile.is_named(word)),
        }
    }

    /// The type whose nodes stand behind `/{prefix}`.
    pub fn mount(&self, prefix: &str) -> Option<&Arc<Profile>> {
        match RESERVED_MOUNTS.contains(&prefix) {
            true => None,
            false => self.find(prefix),
        }
    }

    /// All types but [`AUTO`].
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Arc<Profile>> {
        self.all.iter()
    }
}

impl Profile {
    fn is_named(&self, word: &str) -> bool {
        &*self.name == word || self.prefixes.iter().any(|prefix| prefix == word)
    }
}
