//! What all sections of one reading share: where values come from, which keys and variables are known, what is wrong.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use super::keys;
use super::problem::{ConfigError, Place, Problem};
use super::raw::Entry;
use super::schema::{Form, Known};
use super::text::{self, Wrong};
use super::{ENV_PREFIX, Sources};

/// One reading of one configuration.
pub(super) struct Reading<'s> {
    pub(super) sources: &'s Sources<'s>,
    problems: RefCell<Vec<Problem>>,
    /// All keys read so far, and what their values may look like.
    known: RefCell<Known>,
    /// Environment variables that mean something here.
    variables: RefCell<BTreeSet<String>>,
    /// Keys written that nobody read: judged at the end, when all known keys are known.
    unread: RefCell<Vec<(String, Place)>>,
    /// What is wrong with other files that this configuration names.
    elsewhere: RefCell<Vec<ConfigError>>,
}

impl<'s> Reading<'s> {
    pub(super) fn new(sources: &'s Sources<'s>) -> Reading<'s> {
        Reading {
            sources,
            problems: RefCell::default(),
            known: RefCell::default(),
            variables: RefCell::default(),
            unread: RefCell::default(),
            elsewhere: RefCell::default(),
        }
    }

    pub(super) fn report(&self, problem: Problem) {
        self.problems.borrow_mut().push(problem);
    }

    pub(super) fn wrong(&self, place: Place, subject: &str, wrong: Wrong) {
        self.report(Problem::new(place, format!("{subject}: {}", wrong.message)).hint(wrong.hint));
    }

    /// Of several forms told for a key the first counts: the typed readers tell theirs before they read the text.
    pub(super) fn make_known(&self, path: String, form: Form) {
        self.known.borrow_mut().forms.entry(path).or_insert(form);
    }

    pub(super) fn make_needed(&self, path: String) {
        self.known.borrow_mut().needed.insert(path);
    }

    pub(super) fn leave_unread(&self, path: String, place: Place) {
        self.unread.borrow_mut().push((path, place));
    }

    /// What the environment says for a key. Makes the variable known.
    pub(super) fn variable(&self, name: &str) -> Option<String> {
        self.variables.borrow_mut().insert(name.to_owned());
        (self.sources.env)(name).filter(|value| !keys::is_service_link(name, value))
    }

    pub(super) fn report_elsewhere(&self, error: ConfigError) {
        self.elsewhere.borrow_mut().push(error);
    }

    /// What was reported of other files so far.
    pub(super) fn take_elsewhere(&self) -> Vec<ConfigError> {
        self.elsewhere.take()
    }

    /// All mistakes and all known keys of a profile. The environment has no say there.
    pub(super) fn finish_profile(self) -> (Vec<Problem>, Known) {
        for (path, place) in self.unread.take() {
            self.report(keys::unknown_in_profile(
                &path,
                place,
                &self.known.borrow().forms,
            ));
        }
        (self.problems.into_inner(), self.known.into_inner())
    }

    /// All mistakes and all known keys, in order. Judges what nobody read.
    pub(super) fn finish(self) -> (Vec<Problem>, Known) {
        for (path, place) in self.unread.take() {
            let problem = keys::unknown(&path, place, &self.known.borrow().forms);
            self.report(problem);
        }
        for name in &self.sources.env_names {
            let ours = name.starts_with(ENV_PREFIX) && !self.variables.borrow().contains(name);
            let value = (self.sources.env)(name).unwrap_or_default();
            if ours && name != super::FILE_VARIABLE && !keys::is_service_link(name, &value) {
                self.report(keys::unknown_variable(name, &self.variables.borrow()));
            }
        }
        (self.problems.into_inner(), self.known.into_inner())
    }

    /// Reports every key of a mapping that was written before in it.
    pub(super) fn refuse_twice(&self, entries: &[Entry]) {
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
            self.report(Problem::new(entry.at, message).hint("remove one of the two"));
        }
    }

    /// A scalar's text with its variables put in.
    pub(super) fn expand(&self, subject: &str, written: &str, place: Place) -> Option<String> {
        let lookup = |name: &str| {
            self.variables.borrow_mut().insert(name.to_owned());
            (self.sources.env)(name)
        };
        match text::expand(written, lookup) {
            Ok(expanded) => Some(expanded),
            Err(wrong) => {
                self.wrong(place, subject, wrong);
                None
            }
        }
    }
}
