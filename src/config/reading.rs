//! What all sections of one reading share: where values come from, which keys and variables are known, what is wrong.

use std::cell::RefCell;
use std::collections::BTreeSet;

use super::keys;
use super::problem::{Place, Problem};
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
}

impl<'s> Reading<'s> {
    pub(super) fn new(sources: &'s Sources<'s>) -> Reading<'s> {
        Reading {
            sources,
            problems: RefCell::default(),
            known: RefCell::default(),
            variables: RefCell::default(),
            unread: RefCell::default(),
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
