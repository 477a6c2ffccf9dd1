//! `metrics.extraction` of a profile: read key by key, over what the profile before it says.

use super::super::problem::Problem;
use super::super::raw::Value;
use super::super::section::Section;
use crate::profile::extraction::{ExtractionText, Figures};

type Entries = Vec<(String, String)>;

/// The section over what the built-in profile of the name says: an entry replaces the one of its name or, when it is empty, takes it
/// away; others stay.
pub(super) fn figures(mut s: Section, below: &Figures) -> Figures {
    let before = below.text();
    let place = s.place;
    let mut text = ExtractionText {
        enabled: s.flag("enabled", before.enabled),
        ..before.clone()
    };
    for (key, field) in [("source", &mut text.source), ("format", &mut text.format)] {
        if let Some(set) = s.text(key) {
            *field = set.text;
        }
    }
    let paths = written(s.section("paths"));
    let says_headers = s.is_written("source") && text.source == "response_headers";
    if says_headers && paths.iter().all(|(_, path)| is_empty(path)) {
        // What was inherited leads through bodies, which are not looked at any more.
        text = text.without_paths();
    }
    merge(&mut text.paths, paths);
    merge(&mut text.headers, written(s.section("headers")));
    merge(&mut text.calculations, written(s.section("calculations")));
    for entries in [&mut text.paths, &mut text.calculations] {
        entries.retain(|(_, value)| !is_empty(value));
    }
    let path = s.path.clone();
    let reading = s.reading;
    s.close();
    Figures::new(text).unwrap_or_else(|problems| {
        for problem in problems {
            let message = format!("`{path}.{}`: {}", problem.what, problem.why);
            let told = Problem::new(place, message);
            reading.report(match problem.hint {
                Some(hint) => told.hint(hint),
                None => told,
            });
        }
        below.clone()
    })
}

/// Names and texts as they stand in the file: `$` begins a path here and no variable.
fn written(s: Section) -> Entries {
    let mut entries = Entries::new();
    for entry in s.entries() {
        match &entry.tree.value {
            Value::Scalar(text) => entries.push((entry.key.clone(), text.clone())),
            other => s.reading.report(Problem::new(
                entry.tree.at,
                format!(
                    "`{}` must be a single value, and this is {}",
                    s.path_of(&entry.key),
                    other.noun()
                ),
            )),
        }
    }
    entries
}

/// Takes an inherited entry away.
fn is_empty(value: &str) -> bool {
    value.trim().is_empty()
}

fn merge(entries: &mut Entries, newer: Entries) {
    for (name, value) in newer {
        match entries.iter_mut().find(|(known, _)| *known == name) {
            Some((_, known)) => *known = value,
            None => entries.push((name, value)),
        }
    }
}
