//! Finds members of JSON by their bytes, without parsing: a quoted key, a colon, and what the value begins with.
//!
//! Inside a JSON string every quote is escaped, so the bytes of a quoted key cannot stand in the text of a model.

use std::sync::LazyLock;

use memchr::memmem::Finder;
use serde::de::DeserializeOwned;

/// Keys that are looked for in every frame; their searchers are made once.
pub(super) static DONE: Key = LazyLock::new(|| Finder::new("\"done\""));
pub(super) static ERROR: Key = LazyLock::new(|| Finder::new("\"error\""));
pub(super) static USAGE: Key = LazyLock::new(|| Finder::new("\"usage\""));
pub(super) static PROMPT_EVAL_COUNT: Key = LazyLock::new(|| Finder::new("\"prompt_eval_count\""));
pub(super) static EVAL_COUNT: Key = LazyLock::new(|| Finder::new("\"eval_count\""));
pub(super) static MODEL: Key = LazyLock::new(|| Finder::new("\"model\""));
pub(super) static TYPE: Key = LazyLock::new(|| Finder::new("\"type\""));

type Key = LazyLock<Finder<'static>>;

/// Members that hold what a model made, in all dialects.
const TEXT_KEYS: &[&[u8]] = &[
    b"\"content\"",
    b"\"response\"",
    b"\"thinking\"",
    b"\"text\"",
    b"\"delta\"",
    b"\"reasoning\"",
    b"\"reasoning_content\"",
    b"\"tool_calls\"",
    b"\"partial_json\"",
    b"\"refusal\"",
];

/// What follows each `"key":` in the text, blanks skipped. `key` comes with its quotes.
pub(super) fn values<'a>(text: &'a [u8], key: &'a Finder<'_>) -> impl Iterator<Item = &'a [u8]> {
    key.find_iter(text).filter_map(|at| {
        let after = text[at + key.needle().len()..].trim_ascii_start();
        Some(after.strip_prefix(b":")?.trim_ascii_start())
    })
}

/// The value of the last `"key":` that has the wanted form. Follow-up bytes do not matter, so the text may be a part of a document.
pub(super) fn last_value<T: DeserializeOwned>(text: &[u8], key: &Finder<'_>) -> Option<T> {
    values(text, key)
        .filter_map(|value| {
            serde_json::Deserializer::from_slice(value)
                .into_iter::<T>()
                .next()?
                .ok()
        })
        .last()
}

/// Whether a frame holds something that a model made: a text or a list that is not empty.
pub(super) fn has_text(frame: &[u8]) -> bool {
    TEXT_KEYS
        .iter()
        .any(|key| values(frame, &Finder::new(key)).any(is_filled))
}

fn is_filled(value: &[u8]) -> bool {
    match value {
        [b'"', next, ..] => *next != b'"',
        [b'[', rest @ ..] => rest
            .trim_ascii_start()
            .first()
            .is_some_and(|next| *next != b']'),
        _ => false,
    }
}
