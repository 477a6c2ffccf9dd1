//! `model_registry` and `model_aliases`: how the nodes' models become one catalogue, and which names stand for others.

use std::time::Duration;

use super::problem::Problem;
use super::raw::Value;
use super::schema::Form;
use super::section::{Section, Set};
use super::text::Wrong;
use crate::model::ModelKey;

const ALIASES_MAX: usize = 1000;
const TARGETS_MAX: usize = 64;

/// How the nodes' models become one catalogue, and what happens when no node that is up has the model asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Registry {
    /// Whether names of one digest are one entry of the unified listing, whatever nodes have them; otherwise each name is one of
    /// its own. Models of one name are one entry either way.
    pub unify: bool,
    /// How long the models of a node that is down stay in the catalogue. Never 0.
    pub stale_threshold: Duration,
    /// What a model that no node is known to have means.
    pub strategy: Strategy,
    /// Who may be tried instead of a node that has the model.
    pub fallback: Fallback,
    /// How long a request waits for the nodes to be asked again. Never 0.
    pub refresh_timeout: Duration,
    /// Whether nodes are asked again before a model counts as unknown.
    pub refresh_on_miss: bool,
}

/// `routing_strategy.type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    /// Only nodes known to have the model; 404 when there is none, 503 when those there are cannot serve.
    Strict,
    /// Nodes known to have it, else whoever the fallback admits.
    Optimistic,
    /// All nodes are asked again first, then as `Optimistic`.
    Discovery,
}

/// `routing_strategy.options.fallback_behavior`: who may be tried when no node that has the model can serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fallback {
    /// Nodes whose list of models is not known, so that they might have it.
    CompatibleOnly,
    /// Any node that serves the call.
    All,
    /// Nobody.
    None,
}

const STRATEGIES: &[(&str, Strategy)] = &[
    ("strict", Strategy::Strict),
    ("optimistic", Strategy::Optimistic),
    ("discovery", Strategy::Discovery),
];

const FALLBACKS: &[(&str, Fallback)] = &[
    ("compatible_only", Fallback::CompatibleOnly),
    ("all", Fallback::All),
    ("none", Fallback::None),
];

impl Strategy {
    /// The word of `routing_strategy.type`.
    pub fn word(self) -> &'static str {
        spelled(STRATEGIES, self)
    }
}

impl Fallback {
    /// The word of `fallback_behavior`.
    pub fn word(self) -> &'static str {
        spelled(FALLBACKS, self)
    }
}

impl Registry {
    /// Whom the strategy lets try when nobody known to have a model can serve.
    pub fn admitted(&self) -> Fallback {
        match self.strategy {
            Strategy::Strict => Fallback::None,
            Strategy::Optimistic | Strategy::Discovery => self.fallback,
        }
    }
}

fn spelled<T: PartialEq>(words: &[(&'static str, T)], value: T) -> &'static str {
    let found = words.iter().find(|(_, other)| *other == value);
    found.map_or("", |(word, _)| word)
}

/// A name that stands for others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alias {
    /// As written, for listings.
    pub name: String,
    /// What an asked name is compared with.
    pub key: ModelKey,
    /// Names of models, best first; never empty. May hold the alias's own name, which then means the model itself.
    pub targets: Vec<String>,
    /// Whether a model of its own name is one of them.
    pub names_itself: bool,
    /// What may serve a request for the alias, best first: the targets, comparable and each once. A model that really has the
    /// alias's name comes first unless the targets give it another place.
    pub models: Vec<ModelKey>,
}

impl Alias {
    /// `key` is that of `name`; each target comes with its own.
    pub fn new(name: String, key: ModelKey, targets: Vec<(String, ModelKey)>) -> Alias {
        let mut models: Vec<ModelKey> = Vec::with_capacity(targets.len() + 1);
        let names_itself = targets.iter().any(|(_, target)| *target == key);
        models.extend((!names_itself).then(|| key.clone()));
        for (_, target) in &targets {
            if !models.contains(target) {
                models.push(target.clone());
            }
        }
        Alias {
            name,
            key,
            targets: targets.into_iter().map(|(text, _)| text).collect(),
            names_itself,
            models,
        }
    }

    /// The alias of that name; `aliases` as [`Config::aliases`](super::Config::aliases) has them.
    pub fn find<'a>(aliases: &'a [Alias], name: &ModelKey) -> Option<&'a Alias> {
        let at = aliases.binary_search_by(|alias| alias.key.cmp(name)).ok()?;
        aliases.get(at)
    }
}

/// Reads `model_registry`.
pub(super) fn registry(mut s: Section) -> Registry {
    s.word("type", (), &[("memory", ())]);
    let unifier = s.flag("enable_unifier", true);
    let mut u = s.section("unification");
    let unification = u.flag("enabled", true);
    let stale_threshold = u.duration("stale_threshold", Duration::from_secs(24 * 3600));
    u.close();
    let mut r = s.section("routing_strategy");
    let strategy = r.word("type", Strategy::Strict, STRATEGIES);
    let mut o = r.section("options");
    let registry = Registry {
        unify: unifier && unification,
        stale_threshold,
        strategy,
        fallback: o.word("fallback_behavior", Fallback::CompatibleOnly, FALLBACKS),
        refresh_timeout: o.duration("discovery_timeout", Duration::from_secs(2)),
        refresh_on_miss: o.flag("discovery_refresh_on_miss", true),
    };
    o.close();
    r.close();
    s.close();
    registry
}

/// Reads `model_aliases`, whose keys are free.
pub(super) fn aliases(root: &mut Section) -> Vec<Alias> {
    let names = Form::List(Box::new(Form::Text));
    root.learn("model_aliases", Form::Free(Box::new(names)));
    let tree = root.tree("model_aliases");
    let section = Section::new(root.reading, "model_aliases", tree);
    let entries = section.entries();
    if ALIASES_MAX < entries.len() {
        let message = format!(
            "{} aliases are written; at most {ALIASES_MAX} are kept",
            entries.len()
        );
        root.reading.report(Problem::new(section.place, message));
    }
    let mut out: Vec<Alias> = Vec::new();
    for entry in entries.iter().take(ALIASES_MAX) {
        let subject = format!("alias `{}`", entry.key);
        let targets = targets(&section, &subject, &entry.tree);
        let key = match model_key(&entry.key) {
            Ok(key) => key,
            Err(wrong) => {
                root.reading.wrong(entry.at, &subject, wrong);
                continue;
            }
        };
        if let Some(twin) = out.iter().find(|alias| alias.key == key) {
            let wrong = Wrong::new(
                format!("it is the same name as `{}`", twin.name),
                "put all targets into one of the two: names are compared without case, and `:latest` is implied",
            );
            root.reading.wrong(entry.at, &subject, wrong);
        } else if !targets.is_empty() {
            out.push(Alias::new(entry.key.clone(), key, targets));
        }
    }
    out.sort_unstable_by(|a, b| a.key.cmp(&b.key));
    out
}

fn targets(section: &Section, subject: &str, tree: &super::raw::Tree) -> Vec<(String, ModelKey)> {
    let report = |place, message: String| {
        let hint = "write a list of model names, best first, such as `[\"gpt-oss:120b\"]`";
        section
            .reading
            .report(Problem::new(place, message).hint(hint));
    };
    let items = match &tree.value {
        Value::List(items) if !items.is_empty() && items.len() <= TARGETS_MAX => items,
        Value::List(items) if items.is_empty() => {
            report(tree.at, format!("{subject} stands for no model"));
            return Vec::new();
        }
        Value::List(_) => {
            report(
                tree.at,
                format!("{subject} has more than {TARGETS_MAX} targets"),
            );
            return Vec::new();
        }
        other => {
            let noun = other.noun();
            report(
                tree.at,
                format!("{subject} must be a list, and this is {noun}"),
            );
            return Vec::new();
        }
    };
    let mut out = Vec::new();
    for item in items {
        let Value::Scalar(written) = &item.value else {
            let noun = item.value.noun();
            report(
                item.at,
                format!("a target of {subject} must be a name, and this is {noun}"),
            );
            continue;
        };
        let text = section.reading.expand(subject, written, item.at);
        let set = text.map(|text| Set {
            text,
            place: item.at,
            subject: subject.to_owned(),
        });
        out.extend(set.and_then(|set| {
            section.judge(&set, None, |text| {
                model_key(text).map(|key| Some((text.to_owned(), key)))
            })
        }));
    }
    out
}

/// A model's name, or what is wrong with it, told as the clients are.
pub(super) fn model_key(text: &str) -> Result<ModelKey, Wrong> {
    ModelKey::parse_any(text).map_err(|_| {
        Wrong::new(
            format!("`{text}` is not a model name"),
            "write it like `llama3.2:3b` or `hf.co/user/repo:Q4_K_M`: letters, digits and `._:/@+-`; or as a server lists a file",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_spelled_as_they_are_read() {
        for (text, strategy) in STRATEGIES {
            assert_eq!(strategy.word(), *text);
        }
        for (text, fallback) in FALLBACKS {
            assert_eq!(fallback.word(), *text);
        }
    }

    #[test]
    fn an_alias_stands_for_its_own_name_first_then_for_its_targets_each_once() {
        let key = |name: &str| ModelKey::parse(name).unwrap();
        let cases: [(&[&str], &[&str]); 3] = [
            (&["b:1", "C"], &["a:latest", "b:1", "c:latest"]),
            (&["b:1", "a", "B:1"], &["b:1", "a:latest"]),
            (&["A:latest"], &["a:latest"]),
        ];
        for (targets, expected) in cases {
            let targets = targets.iter().map(|name| ((*name).to_owned(), key(name)));
            let alias = Alias::new("A".to_owned(), key("A"), targets.collect());
            let models: Vec<&str> = alias.models.iter().map(ModelKey::as_str).collect();
            assert_eq!(models, expected);
        }
    }
}
