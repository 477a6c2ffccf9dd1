//! JSON as text: an object under construction, whose fields may be a node's own, untouched.

use std::fmt::Write;

use bytes::Bytes;

use super::fields::{self, Kind, Kinds};
use crate::fleet::listing::Fields;
use crate::text::quoted;

/// A JSON object under construction: fields in order, values as they came.
#[derive(Default)]
pub(super) struct Entry {
    text: String,
    names: Vec<String>,
}

impl Entry {
    /// Takes over all fields of a node's entry but those we say ourselves and those that clients could not parse. Its `name` and
    /// `model` become `name`, when given.
    pub(super) fn keep(&mut self, raw: &str, ours: &[&str], name: Option<&str>, kinds: Kinds) {
        // `listing` has parsed this text before, so an error would be our own; the entry then has our fields only.
        let fields = Fields::parse(raw).map_or_else(|_| Vec::new(), |fields| fields.0);
        for (field, value) in fields {
            match name {
                _ if ours.contains(&field.as_str()) => (),
                _ if !fields::passes(&field, value.get(), kinds) => (),
                Some(name) if matches!(field.as_str(), "name" | "model") => {
                    self.text(&field, name);
                }
                _ if kinds(&field) == Kind::Details => {
                    let mut details = Entry::default();
                    details.keep(value.get(), &[], None, fields::details);
                    self.field(&field, &details.finish());
                }
                _ => self.field(&field, value.get()),
            }
        }
    }

    /// `name` and `model`, where the node's entry lacks them.
    pub(super) fn name(&mut self, name: &str) {
        self.default_field("name", &quoted(name));
        self.default_field("model", &quoted(name));
    }

    pub(super) fn default_field(&mut self, name: &str, value: &str) {
        if !self.names.iter().any(|known| known == name) {
            self.field(name, value);
        }
    }

    /// `value` is JSON.
    pub(super) fn field(&mut self, name: &str, value: &str) {
        let comma = if self.names.is_empty() { "" } else { "," };
        // Writing to a String cannot fail.
        let _ = write!(self.text, "{comma}{}:{value}", quoted(name));
        self.names.push(name.to_owned());
    }

    /// `value` is text.
    pub(super) fn text(&mut self, name: &str, value: &str) {
        self.field(name, &quoted(value));
    }

    /// Nothing when there is no number.
    pub(super) fn number(&mut self, name: &str, value: Option<u64>) {
        if let Some(value) = value {
            self.default_field(name, &value.to_string());
        }
    }

    pub(super) fn finish(self) -> String {
        format!("{{{}}}", self.text)
    }
}

/// A JSON array of values that are JSON.
pub(super) fn array(values: impl Iterator<Item = String>) -> String {
    let values: Vec<String> = values.collect();
    format!("[{}]", values.join(","))
}

/// A JSON array of words.
pub(super) fn words<'a>(words: impl Iterator<Item = &'a str>) -> String {
    array(words.map(quoted))
}

/// A whole listing: its entries between what stands before and behind them.
pub(super) fn list(head: &str, entries: impl Iterator<Item = String>, tail: &str) -> Bytes {
    let entries: Vec<String> = entries.collect();
    format!("{head}{}{tail}", entries.join(",")).into()
}
