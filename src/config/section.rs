//! Reading keys: one call per key finds what was written or set in the environment, expands it, checks it, or takes the default.
//!
//! Whoever reads a key thereby makes it known, so the list of keys, the names of the environment variables and the
//! hints for mistyped keys cannot disagree with what is read.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::keys;
use super::problem::{Place, Problem};
use super::raw::{Entry, Tree, Value};
use super::reading::Reading;
use super::text::{self, Wrong, number, word};

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
            }) => (entries, *at),
            Some(Tree {
                value: Value::Null,
                at,
            }) => (&[], *at),
            Some(Tree { value, at }) => {
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
        refuse_twice(reading, entries);
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

    /// The value as written, none where the key is absent. Makes the key known.
    pub(super) fn tree(&mut self, key: &'static str) -> Option<&'t Tree> {
        self.read.insert(key);
        self.reading.make_known(self.path_of(key));
        self.entries
            .iter()
            .find(|entry| entry.key == key)
            .map(|entry| &entry.tree)
    }

    pub(super) fn section(&mut self, key: &'static str) -> Section<'r, 't> {
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

    pub(super) fn entries(&self) -> &'t [Entry] {
        self.entries
    }

    /// A single value: the environment's word before the file's.
    pub(super) fn scalar(&mut self, key: &'static str) -> Option<Set> {
        let path = self.path_of(key);
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

    /// A duration above zero.
    pub(super) fn duration(&mut self, key: &'static str, default: Duration) -> Duration {
        self.parse(key, default, |text| match text::duration(text)? {
            Duration::ZERO => Err(Wrong::new(
                "0 would end everything at once, and no limit at all is not offered",
                format!(
                    "write a duration, or remove the key for the default of {}",
                    text::spell_duration(default)
                ),
            )),
            duration => Ok(duration),
        })
    }

    /// A duration for which 0 means the default, since Olla's files write `0s` there.
    pub(super) fn duration_or_zero(&mut self, key: &'static str, default: Duration) -> Duration {
        self.parse(key, default, |text| match text::duration(text)? {
            Duration::ZERO => Ok(default),
            duration => Ok(duration),
        })
    }

    pub(super) fn size(
        &mut self,
        key: &'static str,
        default: usize,
        range: std::ops::RangeInclusive<usize>,
    ) -> usize {
        self.parse(key, default, |text| {
            let bytes = text::size(text)?;
            if range.contains(&bytes) {
                return Ok(bytes);
            }
            let (least, most) = (
                text::spell_size(*range.start()),
                text::spell_size(*range.end()),
            );
            Err(Wrong::new(
                format!("`{text}` is out of range"),
                format!("write a size from {least} to {most}"),
            ))
        })
    }

    pub(super) fn number(
        &mut self,
        key: &'static str,
        default: u32,
        range: std::ops::RangeInclusive<u32>,
    ) -> u32 {
        self.parse(key, default, |text| number(text, &range))
    }

    pub(super) fn count(
        &mut self,
        key: &'static str,
        default: u32,
        range: std::ops::RangeInclusive<u32>,
    ) -> usize {
        usize::try_from(self.number(key, default, range)).unwrap_or(usize::MAX)
    }

    pub(super) fn port(&mut self, key: &'static str, default: u16) -> u16 {
        self.parse(key, default, |text| {
            text.parse().map_err(|_| {
                Wrong::new(
                    format!("`{text}` is not a port"),
                    "write a whole number from 0 to 65535; 0 takes a free one",
                )
            })
        })
    }

    pub(super) fn flag(&mut self, key: &'static str, default: bool) -> bool {
        self.parse(key, default, |text| match text {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(Wrong::new(
                format!("`{text}` is neither `true` nor `false`"),
                "write `true` or `false`",
            )),
        })
    }

    /// One word of a table.
    pub(super) fn word<T: Copy>(
        &mut self,
        key: &'static str,
        default: T,
        words: &[(&str, T)],
    ) -> T {
        self.parse(key, default, |text| word(text, words))
    }

    /// A text; absent and empty are the same.
    pub(super) fn text(&mut self, key: &'static str) -> Option<Set> {
        self.scalar(key).filter(|set| !set.text.is_empty())
    }

    /// The items of a list, with the list's place. Not overridable by environment.
    pub(super) fn list(&mut self, key: &'static str) -> Option<(&'t [Tree], Place)> {
        let path = self.path_of(key);
        let tree = self.tree(key)?;
        match &tree.value {
            Value::List(items) => Some((items, tree.at)),
            Value::Null => Some((&[], tree.at)),
            other => {
                self.reading.report(
                    Problem::new(
                        tree.at,
                        format!("`{path}` must be a list, and this is {}", other.noun()),
                    )
                    .hint("write `[a, b]`, or one `- item` per line"),
                );
                None
            }
        }
    }

    /// A list of single values.
    pub(super) fn scalars(&mut self, key: &'static str) -> Option<Vec<Set>> {
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
            self.reading
                .leave_unread(self.path_of(&entry.key), entry.at);
        }
    }
}

fn refuse_twice(reading: &Reading, entries: &[Entry]) {
    let mut first_of: BTreeMap<&str, Place> = BTreeMap::new();
    for entry in entries {
        let Some(first) = first_of.insert(&entry.key, entry.at) else {
            continue;
        };
        let line = match first {
            Place::At { line, .. } => format!(", first in line {line}"),
            Place::Nowhere => String::new(),
        };
        let message = format!("`{}` is written twice{line}", entry.key);
        reading.report(Problem::new(entry.at, message).hint("remove one of the two"));
    }
}
