//! Byte-exact edits of a body: what is not edited is not even copied.

use std::ops::Range;

use bytes::Bytes;

/// The pieces of `body` with each span replaced, in order; never an empty piece.
///
/// # Panics
/// When the edits are not in ascending order without overlap, or reach past the end of the body: they come from a scan of
/// this same body, so anything else is a mistake of ours that must not reach a node.
pub fn splice(body: &Bytes, edits: &[(Range<usize>, Bytes)]) -> Vec<Bytes> {
    let mut pieces = Vec::with_capacity(2 * edits.len() + 1);
    let mut at = 0;
    for (span, replacement) in edits {
        pieces.push(body.slice(at..span.start));
        pieces.push(replacement.clone());
        assert!(span.start <= span.end, "a span ends before it starts");
        at = span.end;
    }
    pieces.push(body.slice(at..));
    pieces.retain(|piece| !piece.is_empty());
    pieces
}

#[cfg(test)]
mod tests;
