//! What of a node's models is offered, and under which names: `model_filter`, `model_ids`, `prefix_id`, `tags`.

use super::problem::Problem;
use super::raw::Value;
use super::registry::model_key;
use super::schema::Form;
use super::section::{Section, Set};
use super::text::{Wrong, glob};
use crate::glob::{Filter, Glob};

const GLOBS_MAX: usize = 256;
const IDS_MAX: usize = 10_000;
const TAGS_MAX: usize = 64;
const WORD_BYTES_MAX: usize = 64;

pub(super) fn filter(mut s: Section) -> Filter {
    let filter = Filter {
        include: globs(&mut s, "include"),
        exclude: globs(&mut s, "exclude"),
    };
    s.close();
    filter
}

fn globs(s: &mut Section, key: &'static str) -> Vec<Glob> {
    several(s, key, GLOBS_MAX, glob)
}

pub(super) fn model_ids(s: &mut Section) -> Vec<String> {
    several(s, "model_ids", IDS_MAX, |text| {
        model_key(text).map(|_| text.to_owned())
    })
}

/// A list of single values, at most so many.
fn several<T>(
    s: &mut Section,
    key: &'static str,
    most: usize,
    parse: impl Fn(&str) -> Result<T, Wrong>,
) -> Vec<T> {
    let all = s.scalars(key).unwrap_or_default();
    if most < all.len() {
        too_many(s, key, most);
    }
    all.iter()
        .take(most)
        .filter_map(|set| s.judge(set, None, |text| parse(text).map(Some)))
        .collect()
}

fn too_many(s: &Section, key: &str, most: usize) {
    let message = format!("`{key}` has more than {most} items");
    s.reading.report(Problem::new(s.place_of(key), message));
}

pub(super) fn prefix_id(s: &mut Section) -> Option<String> {
    let set = s.text("prefix_id")?;
    s.judge(&set, None, |text| {
        let legal = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
        if text.ends_with('.') {
            return Err(Wrong::new(
                format!("`{text}` ends with a dot, and one is put behind it anyway"),
                format!("write `{}`", text.trim_end_matches('.')),
            ));
        }
        if WORD_BYTES_MAX < text.len() || !text.bytes().all(legal) {
            return Err(Wrong::new(
                format!("`{text}` cannot stand in front of a model's name"),
                format!("write at most {WORD_BYTES_MAX} letters, digits and `._-`"),
            ));
        }
        Ok(Some(text.to_owned()))
    })
}

/// Words, or Open WebUI's `{ name: word }`.
pub(super) fn tags(s: &mut Section) -> Vec<String> {
    s.learn("tags", Form::List(Box::new(Form::Named)));
    let Some((items, _)) = s.list("tags") else {
        return Vec::new();
    };
    if TAGS_MAX < items.len() {
        too_many(s, "tags", TAGS_MAX);
    }
    let mut out = Vec::new();
    for item in items.iter().take(TAGS_MAX) {
        let written = match &item.value {
            Value::Scalar(text) => Some(text),
            Value::Map(entries) => match entries.as_slice() {
                [entry] if entry.key == "name" => match &entry.tree.value {
                    Value::Scalar(text) => Some(text),
                    _ => None,
                },
                _ => None,
            },
            _ => None,
        };
        let Some(written) = written else {
            let hint = "write words, such as `[gpu, fast]`, or `{ name: gpu }`";
            let problem = Problem::new(item.at, "an item of `tags` must be a word");
            s.reading.report(problem.hint(hint));
            continue;
        };
        let subject = format!("`{}`", s.path_of("tags").replace("[]", ""));
        let Some(text) = s.reading.expand(&subject, written, item.at) else {
            continue;
        };
        let set = Set {
            text,
            place: item.at,
            subject,
        };
        out.extend(s.judge(&set, None, |text| tag(text).map(Some)));
    }
    out
}

fn tag(text: &str) -> Result<String, Wrong> {
    let legal = !text.is_empty() && text.len() <= WORD_BYTES_MAX;
    if legal && !text.chars().any(char::is_control) {
        return Ok(text.to_owned());
    }
    Err(Wrong::new(
        "the tag cannot be shown",
        format!("write 1 to {WORD_BYTES_MAX} bytes without control characters"),
    ))
}
