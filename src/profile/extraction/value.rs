//! One figure or word that an answer told.

use std::fmt;

/// Texts are cut to this many characters: they end in access lines.
pub(super) const TEXT_CHARS_MAX: usize = 128;

/// What a path, a header or a calculation gave.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Always finite.
    Number(f64),
    /// At most 128 characters, as the node wrote them.
    Text(String),
    /// `true` or `false`.
    Bool(bool),
}

impl Value {
    /// A number, unless it is infinite or none at all.
    pub(super) fn number(number: f64) -> Option<Value> {
        number.is_finite().then_some(Value::Number(number))
    }

    /// A text, cut to its limit.
    pub(super) fn text(text: &str) -> Value {
        let end = text.char_indices().nth(TEXT_CHARS_MAX);
        Value::Text(text[..end.map_or(text.len(), |(at, _)| at)].to_owned())
    }

    /// A header's value: a number if it reads as one.
    pub(super) fn header(text: &str) -> Value {
        let number = text.trim().parse().ok().and_then(Value::number);
        number.unwrap_or_else(|| Value::text(text))
    }
}

/// Numbers and truth values are valid JSON; a text comes bare.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // A tiny or a huge number would fill the line with zeros.
            Value::Number(n) if *n != 0.0 && !(1e-6..1e18).contains(&n.abs()) => write!(f, "{n:e}"),
            Value::Number(n) => write!(f, "{n}"),
            Value::Text(text) => f.write_str(text),
            Value::Bool(truth) => write!(f, "{truth}"),
        }
    }
}
