//! The begin and the end of a document that is not held.

use super::shapes::Counts;
use super::signs::{EVAL_COUNT, PROMPT_EVAL_COUNT, USAGE, last_value};
use crate::dialect::Usage;

/// How much of a whole document's begin and end is kept to find its usage, in bytes.
pub(super) const HEAD_BYTES_MAX: usize = 4 << 10;
pub(super) const TAIL_BYTES_MAX: usize = 8 << 10;

/// The begin and the end of a document, where every server puts its usage.
#[derive(Debug, Default)]
pub(super) struct Window {
    pub(super) head: Vec<u8>,
    pub(super) tail: Vec<u8>,
    /// Bytes of the document so far.
    bytes: usize,
}

impl Window {
    pub(super) fn push(&mut self, chunk: &[u8]) {
        self.bytes = self.bytes.saturating_add(chunk.len());
        let room = HEAD_BYTES_MAX - self.head.len();
        let (head, rest) = chunk.split_at(room.min(chunk.len()));
        self.head.extend_from_slice(head);
        let rest = last_bytes(rest);
        if 2 * TAIL_BYTES_MAX < self.tail.len() + rest.len() {
            let old = self.tail.len() - last_bytes(&self.tail).len();
            self.tail.drain(..old);
        }
        self.tail.extend_from_slice(rest);
    }

    /// Whether the document is whole JSON; of one too long to be kept only whether it ends as one may.
    pub(super) fn looks_whole(&self) -> bool {
        if self.head.len() == self.bytes {
            return serde_json::from_slice::<serde::de::IgnoredAny>(&self.head).is_ok();
        }
        let last = self.tail.iter().rfind(|byte| !byte.is_ascii_whitespace());
        matches!(last, Some(b'}' | b']'))
    }

    /// What stands last wins: arguments of a tool call may hold members of the same name, but they come before.
    pub(super) fn usage(&mut self) -> Usage {
        if self.bytes <= HEAD_BYTES_MAX + TAIL_BYTES_MAX {
            self.head.append(&mut self.tail);
        }
        let tail = usage_in(last_bytes(&self.tail));
        if tail == Usage::default() {
            usage_in(&self.head)
        } else {
            tail
        }
    }
}

fn last_bytes(text: &[u8]) -> &[u8] {
    &text[text.len().saturating_sub(TAIL_BYTES_MAX)..]
}

fn usage_in(text: &[u8]) -> Usage {
    if let Some(counts) = last_value::<Counts>(text, &USAGE) {
        return counts.into();
    }
    Usage {
        tokens_in: last_value(text, &PROMPT_EVAL_COUNT),
        tokens_out: last_value(text, &EVAL_COUNT),
    }
}
