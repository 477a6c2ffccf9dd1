//! Where a body says how long a context it wants, or could say it, and the edit that has it say something else.

use std::ops::Range;

use bytes::Bytes;

#[cfg(test)]
mod tests;

/// Where a body says how long a context it wants, or could; offsets in bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum NumCtxAt {
    /// It can't say it: the call takes no options, or has something in their place that only the node can judge.
    #[default]
    Nowhere,
    /// `options` has the member.
    Member {
        /// Its value.
        value: Range<usize>,
        /// All of it with one comma, if there is another member.
        whole: Range<usize>,
    },
    /// `options` is an object without it.
    Object {
        /// Right behind its brace.
        inside: usize,
        /// Whether nothing else is in it.
        is_empty: bool,
    },
    /// `options` is `null`.
    Null(Range<usize>),
    /// There are no `options`; right behind the brace of the body, which has other members.
    Body(usize),
}

impl NumCtxAt {
    /// Whether the body can be made to ask for any context.
    pub fn is_anywhere(&self) -> bool {
        *self != NumCtxAt::Nowhere
    }

    /// The edit for [`splice`](crate::dialect::splice::splice) after which the body asks for so many tokens, or for none; `None` when it
    /// asks for none as it is, or can't be made to ask.
    pub fn edit(&self, tokens: Option<i64>) -> Option<(Range<usize>, Bytes)> {
        let Some(tokens) = tokens else {
            return match self {
                NumCtxAt::Member { whole, .. } => Some((whole.clone(), Bytes::new())),
                _ => None,
            };
        };
        let (span, text) = match self {
            NumCtxAt::Nowhere => return None,
            NumCtxAt::Member { value, .. } => (value.clone(), tokens.to_string()),
            NumCtxAt::Object { inside, is_empty } => {
                let comma = if *is_empty { "" } else { "," };
                (*inside..*inside, format!("\"num_ctx\":{tokens}{comma}"))
            }
            NumCtxAt::Null(span) => (span.clone(), format!("{{\"num_ctx\":{tokens}}}")),
            NumCtxAt::Body(inside) => (
                *inside..*inside,
                format!("\"options\":{{\"num_ctx\":{tokens}}},"),
            ),
        };
        Some((span, text.into()))
    }
}
