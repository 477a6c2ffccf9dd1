//! Reading keys: one call per key finds what was written or set in the environment, expands it, checks it, or takes the default.
//!
//! Whoever reads a key thereby makes it known, so the list of keys, the names of the environment variables and the
//! hints for mistyped keys cannot disagree with what is read.

mod typed;

use std::collections::BTreeSet;

use super::keys;
use super::problem::{Place, Problem};
use super::raw::{Entry, Tree, Value};
use super::reading::Reading;
use super::schema::Form;
use super::text::Wrong;

/// A text that was set, and where.
#[derive(Debug, Clone)]
pub(super) struct Set {
    pub(super) text: String,
    pub(super) place: Place,
    /// `` `server.port` `` or `` environment variable `ARRIERO_SERVER_PORT` ``: how messages name it.
    pub(super) subject: String,
}

/// One mapping of the file, or its absence.
pub(super) struct Section<'r, 't> {
    pub(super) reading: &'r Reading<'r>,
    /// Such as `proxy.retry`; empty for the whole file.
    pub(super) path: String,
    pub(super) place: Place,
    entries: &'t [Entry],
    /// Whether the environment may override: not inside lists, whose items have no name.
    overridable: bool,
    read: BTreeSet<&'static str>,
}

impl<'r, 't> Section<'r, 't> {
    pub(super) fn new(
        reading: &'r Reading<'r>,
        path: &str,
        tree: Option<&'t Tree>,
    ) -> Section<'r, 't> {
        let (entries, place): (&[Entry], Place) = match tree {
            None => (&[], Place::Nowhere),
            Some(Tree {
                value: Value::Map(entries),
                at,
                ..
            }) => (entries, *at),
            Some(Tree {
                value: Value::Null,
                at,
                ..
            }) => (&[], *at),
            Some(Tree { value, at, .. }) => {
                let subject = if path.is_empty() {
                    "the file".to_owned()
                } else {
                    format!("`{path}`")
                };
                reading.report(
                    Problem::new(
                        *at,
                        format!(
                            "{subject} must be a mapping of keys, and this is {}",
                            value.noun()
                        ),
                    )
                    .hint("write `key: value` lines, indented below it"),
                );
                (&[], *at)
            }
        };
        reading.refuse_twice(entries);
        let overridable = !path.contains("[]");
        Section {
            reading,
            path: path.to_owned(),
            place,
            entries,
            overridable,
            read: BTreeSet::new(),
        }
    }

    pub(super) fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.path)
        }
    }

    /// Tells what a key's value may look like, for the schema. To be called before the key is read; what is read as a
    /// flag, a number and the like tells so itself.
    pub(super) fn learn(&self, key: &str, form: Form) {
        self.reading.make_known(self.path_of(key), form);
    }

    /// Tells that a key has no default.
    pub(super) fn need(&self, key: &str) {
        self.reading.make_needed(self.path_of(key));
    }

    /// The value as written, none where the key is absent. Makes the key known.
    pub(super) fn tree(&mut self, key: &'static str) -> Option<&'t Tree> {
        self.read.insert(key);
        self.learn(key, Form::Any);
        self.entries
            .iter()
            .find(|entry| entry.key == key)
            .map(|entry| &entry.tree)
    }

    pub(super) fn section(&mut self, key: &'static str) -> Section<'r, 't> {
        self.learn(key, Form::Mapping);
        let tree = self.tree(key);
        let inner = Section::new(self.reading, &self.path_of(key), tree);
        Section {
            overridable: self.overridable && inner.overridable,
            ..inner
        }
    }

    /// The same section, deaf to the environment.
    pub(super) fn without_environment(self) -> Section<'r, 't> {
        Section {
            overridable: false,
            ..self
        }
    }

    /// A value of a mapping whose keys are free, such as names the operator chose.
    pub(super) fn scalar_of(&self, entry: &Entry) -> Option<Set> {
        let subject = format!("`{}`", self.path_of(&entry.key).replace("[]", ""));
        let Value::Scalar(written) = &entry.tree.value else {
            let message = format!(
                "{subject} must be a single value, and this is {}",
                entry.tree.value.noun()
            );
            self.reading.report(Problem::new(entry.tree.at, message));
            return None;
        };
        let text = self.reading.expand(&subject, written, entry.tree.at)?;
        Some(Set {
            text,
            place: entry.tree.at,
            subject,
        })
    }

    /// Where a key's value stands; the section's place when the key is absent.
    pub(super) fn place_of(&self, key: &str) -> Place {
        self.entries
            .iter()
            .find(|entry| entry.key == key)
            .map_or(self.place, |entry| entry.tree.at)
    }

    /// Whether something stands behind a key, be it right or wrong.
    pub(super) fn is_written(&self, key: &str) -> bool {
        let empty = |tree: &Tree| matches!(&tree.value, Value::Scalar(text) if text.is_empty());
        let written = |entry: &&Entry| entry.key == key && !empty(&entry.tree);
        self.entries.iter().any(|entry| written(&entry))
    }

    pub(super) fn entries(&self) -> &'t [Entry] {
        self.entries
    }

    /// A single value: the environment's word before the file's.
    pub(super) fn scalar(&mut self, key: &'static str) -> Option<Set> {
        let path = self.path_of(key);
        self.learn(key, Form::Text);
        let tree = self.tree(key);
        if self.overridable {
            let name = keys::variable(&path);
            let value = self.reading.variable(&name);
            if let Some(text) = value {
                return Some(Set {
                    text,
                    place: Place::Nowhere,
                    subject: format!("environment variable `{name}`"),
                });
            }
        }
        let tree = tree?;
        let subject = format!("`{}`", path.replace("[]", ""));
        match &tree.value {
            Value::Scalar(written) => {
                let text = self.reading.expand(&subject, written, tree.at)?;
                Some(Set {
                    text,
                    place: tree.at,
                    subject,
                })
            }
            Value::Null => {
                let place = self
                    .entries
                    .iter()
                    .find(|entry| entry.key == key)
                    .map_or(tree.at, |entry| entry.at);
                self.reading.report(
                    Problem::new(place, format!("{subject} has no value"))
                        .hint("give it one, or remove the key to take the default"),
                );
                None
            }
            other => {
                self.reading.report(Problem::new(
                    tree.at,
                    format!(
                        "{subject} must be a single value, and this is {}",
                        other.noun()
                    ),
                ));
                None
            }
        }
    }

    /// Reads with `parse`; absent or wrong gives the default, wrong is reported.
    pub(super) fn parse<T>(
        &mut self,
        key: &'static str,
        default: T,
        parse: impl Fn(&str) -> Result<T, Wrong>,
    ) -> T {
        match self.scalar(key) {
            None => default,
            Some(set) => self.judge(&set, default, parse),
        }
    }

    pub(super) fn judge<T>(
        &self,
        set: &Set,
        default: T,
        parse: impl Fn(&str) -> Result<T, Wrong>,
    ) -> T {
        parse(set.text.trim()).unwrap_or_else(|wrong| {
            self.reading.wrong(set.place, &set.subject, wrong);
            default
        })
    }

    /// A text; absent and empty are the same.
    pub(super) fn text(&mut self, key: &'static str) -> Option<Set> {
        self.scalar(key).filter(|set| !set.text.is_empty())
    }

    /// The items of a list, with the list's place. Not overridable by environment.
    pub(super) fn list(&mut self, key: &'static str) -> Option<(&'t [Tree], Place)> {
        let path = self.path_of(key);
        self.learn(key, Form::List(Box::new(Form::Any)));
        let tree = self.tree(key)?;
        match &tree.value {
            Value::List(items) => Some((items, tree.at)),
            Value::Null => Some((&[], tree.at)),
            other => {
                self.reading.report(
                    Problem::new(
                        tree.at,
                        format!(
                            "`{}` must be a list, and this is {}",
                            path.replace("[]", ""),
                            other.noun()
                        ),
                    )
                    .hint("write `[a, b]`, or one `- item` per line"),
                );
                None
            }
        }
    }

    /// A list of single values.
    pub(super) fn scalars(&mut self, key: &'static str) -> Option<Vec<Set>> {
        self.learn(key, Form::List(Box::new(Form::Text)));
        let (items, _) = self.list(key)?;
        Some(self.scalars_in(key, items))
    }

    /// The single values of a list that was found under `key`.
    pub(super) fn scalars_in(&self, key: &str, items: &[Tree]) -> Vec<Set> {
        let subject = format!("`{}`", self.path_of(key));
        let mut out = Vec::new();
        for item in items {
            let Value::Scalar(written) = &item.value else {
                let message = format!(
                    "an item of {subject} must be a single value, and this is {}",
                    item.value.noun()
                );
                self.reading.report(Problem::new(item.at, message));
                continue;
            };
            if let Some(text) = self.reading.expand(&subject, written, item.at) {
                out.push(Set {
                    text,
                    place: item.at,
                    subject: subject.clone(),
                });
            }
        }
        out
    }

    /// To be called when all keys were read: what is left over is unknown.
    pub(super) fn close(self) {
        for entry in self
            .entries
            .iter()
            .filter(|entry| !self.read.contains(entry.key.as_str()))
        {
            // A forgotten blank makes a key of all; what follows may be a secret, so the message does not show it.
            if let Some((key, _)) = entry.key.split_once(':') {
                let problem = Problem::new(entry.at, format!("unknown key `{key}:…`"));
                self.reading
                    .report(problem.hint(format!("write a blank behind the colon: `{key}: …`")));
                continue;
            }
            self.reading
                .leave_unread(self.path_of(&entry.key), entry.at);
        }
    }
}
