//! What of a node's models is offered to clients, and under which names: the one place of `model_ids`, `model_filter` and `prefix_id`.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::config::NodeConfig;
use crate::fleet::ledger::Ledger;
use crate::fleet::listing::Installed;
use crate::fleet::traits::Traits;
use crate::model::ModelKey;

/// A model as clients may ask for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offered {
    /// What an asked name is compared with.
    pub key: ModelKey,
    /// As listings show it: the node's own spelling, behind the node's prefix if it has one.
    pub name: Arc<str>,
    /// Where it stands in the node's `installed`.
    pub place: usize,
    /// What it can do and needs there.
    pub traits: Arc<Traits>,
    file: File,
}

/// What is loaded when a model is asked for: names of one file share a runner, and so what is known of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum File {
    Digest(Arc<str>),
    /// The listing tells no digest.
    Named(ModelKey),
}

impl File {
    fn of(model: &Installed) -> File {
        match model.digest.is_empty() {
            true => File::Named(model.key.clone()),
            false => File::Digest(Arc::clone(&model.digest)),
        }
    }
}

/// A node's rule, ready to be applied to many names.
struct Rule<'a> {
    node: &'a NodeConfig,
    ids: HashSet<&'a str>,
    prefix: Option<String>,
}

impl Rule<'_> {
    fn of(node: &NodeConfig) -> Rule<'_> {
        Rule {
            node,
            ids: node.model_ids.iter().map(String::as_str).collect(),
            prefix: node.prefix_id.as_ref().map(|prefix| format!("{prefix}.")),
        }
    }

    /// The node's own names are what ids and filters speak of; the prefix comes last.
    fn admits(&self, own: &str) -> bool {
        (self.ids.is_empty() || self.ids.contains(own)) && self.node.model_filter.admits(own)
    }

    /// The public name of a model with the node's own `key` and `name`.
    fn name(&self, key: &ModelKey, name: &Arc<str>) -> Option<(ModelKey, Arc<str>)> {
        let Some(prefix) = &self.prefix else {
            return Some((key.clone(), Arc::clone(name)));
        };
        let public = format!("{prefix}{name}");
        let key = ModelKey::parse_any(&public).ok()?;
        // A name with a scheme or a host of its own could fold the prefix away, and then mean another node's model.
        let kept = key.as_str().starts_with(&prefix.to_ascii_lowercase());
        kept.then(|| (key, public.into()))
    }
}

/// What a node offers of its installed models, in their order. No two have the same key. `before` is what it offered until now:
/// requests under way for a model are counted on.
pub(super) fn offered(
    node: &NodeConfig,
    installed: &[Installed],
    before: &[Offered],
) -> Arc<[Offered]> {
    let rule = Rule::of(node);
    let known = before
        .iter()
        .map(|it| (it.file.clone(), Arc::clone(it.traits.shared_ledger())));
    let mut ledgers: HashMap<File, Arc<Ledger>> = known.collect();
    let mut seen = HashSet::with_capacity(installed.len());
    let mut offered = Vec::with_capacity(installed.len());
    for (place, model) in installed.iter().enumerate() {
        if !rule.admits(&model.name) {
            continue;
        }
        if let Some((key, name)) = rule.name(&model.key, &model.name)
            && seen.insert(key.clone())
        {
            let file = File::of(model);
            let ledger = Arc::clone(ledgers.entry(file.clone()).or_default());
            offered.push(Offered {
                key,
                name,
                place,
                traits: Arc::new(Traits::of(node, model, ledger)),
                file,
            });
        }
    }
    offered.into()
}

/// What the node would call the model that a client asks for as `asked`; `None` when it offers nothing of that name. For nodes of
/// which nobody knows what they have.
pub fn own_name<'n>(node: &NodeConfig, asked: &'n str) -> Option<&'n str> {
    let own = match &node.prefix_id {
        None => asked,
        Some(prefix) => {
            let (start, rest) = asked.split_at_checked(prefix.len())?;
            let is_meant = start.eq_ignore_ascii_case(prefix);
            rest.strip_prefix('.').filter(|_| is_meant)?
        }
    };
    // Without knowledge of its spelling, what means the same name counts, with the tag that is meant when none is said.
    let key = ModelKey::parse_any(own).ok()?;
    let is_id = |id: &String| ModelKey::parse_any(id).as_ref() == Ok(&key);
    let is_offered = node.model_ids.is_empty() || node.model_ids.iter().any(is_id);
    (is_offered && node.model_filter.admits_all(&[own, key.as_str()])).then_some(own)
}

/// The public names of models of a node, by their own keys and names; `None` for those that are not offered.
pub(super) fn public_names<'a>(
    node: &'a NodeConfig,
    models: impl Iterator<Item = (&'a ModelKey, &'a Arc<str>)>,
) -> impl Iterator<Item = Option<Arc<str>>> {
    let rule = Rule::of(node);
    models.map(move |(key, name)| {
        let admitted = rule.admits(name).then(|| rule.name(key, name));
        admitted.flatten().map(|(_, name)| name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::fixture::{installed, ollama};
    use crate::glob::{Filter, Glob};

    fn filter(include: &[&str], exclude: &[&str]) -> Filter {
        let globs = |words: &[&str]| words.iter().map(|word| Glob::new(word).unwrap()).collect();
        Filter {
            include: globs(include),
            exclude: globs(exclude),
        }
    }

    fn names(node: &NodeConfig, models: &[&str]) -> Vec<String> {
        let installed = installed(true, models);
        let offered = offered(node, &installed, &[]);
        let public: Vec<String> = offered.iter().map(|it| it.name.to_string()).collect();
        let models = installed.iter().map(|model| (&model.key, &model.name));
        let loaded: Vec<String> = public_names(node, models)
            .flatten()
            .map(|name| name.to_string())
            .collect();
        assert_eq!(
            public, loaded,
            "what is installed and what is loaded go by one rule"
        );
        for it in offered.iter() {
            assert_eq!(ModelKey::parse(&it.name).as_ref(), Ok(&it.key));
        }
        public
    }

    #[test]
    fn ids_then_filter_then_prefix() {
        let models = ["llama3:8b", "Qwen3:32b", "nomic-embed-text", "llama3:70b"];
        let all = |node: &NodeConfig| names(node, &models);
        let mut node = ollama("a");
        assert_eq!(all(&node), models);
        node.model_filter = filter(&["llama*", "qwen*"], &["*:70b"]);
        assert_eq!(all(&node), ["llama3:8b", "Qwen3:32b"]);
        // Ids are exact, case included, and are the node's own names.
        node.model_ids = ["qwen3:32b", "llama3:8b", "llama3:70b"]
            .map(str::to_owned)
            .into();
        assert_eq!(all(&node), ["llama3:8b"]);
        node.prefix_id = Some("GPU1".to_owned());
        assert_eq!(all(&node), ["GPU1.llama3:8b"]);
        node.model_ids = vec!["GPU1.llama3:8b".to_owned()];
        assert!(all(&node).is_empty());
    }

    #[test]
    fn a_name_that_a_node_would_not_offer_is_not_guessed() {
        let mut node = ollama("a");
        assert_eq!(own_name(&node, "New"), Some("New"));
        node.model_filter = filter(&["llama3:*", "qwen*"], &["*:70b", "*coder:latest"]);
        let offered = |asked| own_name(&node, asked);
        for asked in ["LLAMA3", "llama3:8b", "qwen3"] {
            assert_eq!(offered(asked), Some(asked));
        }
        for asked in ["llama3:70b", "mistral", "qwen-coder", "a//b"] {
            assert_eq!(offered(asked), None, "{asked}");
        }
        node.model_ids = vec!["llama3:latest".to_owned()];
        node.prefix_id = Some("GPU1".to_owned());
        let offered = |asked| own_name(&node, asked);
        assert_eq!(offered("gpu1.Llama3"), Some("Llama3"));
        for asked in [
            "llama3",
            "gpu1",
            "gpu1llama3",
            "gpu1.",
            "gpu1.llama3:8b",
            "gpü.llama3",
        ] {
            assert_eq!(offered(asked), None, "{asked}");
        }
    }

    #[test]
    fn a_prefix_cannot_be_folded_away() {
        let mut node = ollama("a");
        node.prefix_id = Some("registry.ollama".to_owned());
        let long = "m".repeat(crate::model::NAME_BYTES_MAX);
        let models = ["ai/llama3", "http://other/llama3", "fine", &long];
        assert_eq!(names(&node, &models), ["registry.ollama.fine"]);
    }
}
