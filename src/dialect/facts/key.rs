//! Keys compared as Go's `encoding/json` compares them, and the refusal of two that mean one field.

use std::borrow::Cow;
use std::ops::Range;

use crate::dialect::json::Text;
use crate::error::Fault;

/// How much of a key a message shows, in bytes.
const SHOWN_LEN_MAX: usize = 64;

/// A key with its escapes undone and its case folded.
pub(super) struct Folded<'a>(Cow<'a, [u8]>);

impl<'a> Folded<'a> {
    pub(super) fn of(key: &Text<'a>) -> Folded<'a> {
        let raw = key.raw();
        if raw.iter().all(|b| matches!(b, b'a'..=b'z' | b'_')) {
            return Folded(Cow::Borrowed(raw));
        }
        let fold = |c| match c {
            'ſ' => 's',
            '\u{212a}' => 'k',
            c => c.to_ascii_lowercase(),
        };
        let folded: String = key.unescape().chars().map(fold).collect();
        Folded(Cow::Owned(folded.into_bytes()))
    }

    pub(super) fn name(&self) -> &[u8] {
        &self.0
    }

    /// FNV-1a: keys are short, and who makes two of his own keys collide has only his own request refused.
    fn hash(&self) -> u64 {
        self.0.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        })
    }
}

/// The keys of one object; at most [`crate::dialect::json::KEYS_MAX`], since the scanner sees to it.
pub(super) struct Keys {
    seen: Vec<(u64, Range<usize>)>,
}

impl Keys {
    pub(super) fn new() -> Keys {
        Keys {
            seen: Vec::with_capacity(16),
        }
    }

    pub(super) fn push(&mut self, folded: &Folded<'_>, key: &Text<'_>) {
        self.seen.push((folded.hash(), key.span()));
    }

    /// # Errors
    /// 400 `ambiguous_body` with both spellings when two keys fold to the same; `place` says of what.
    pub(super) fn check(mut self, place: &str, body: &[u8]) -> Result<(), Fault> {
        self.seen
            .sort_unstable_by_key(|(hash, span)| (*hash, span.start));
        let twins = self.seen.windows(2).find(|pair| pair[0].0 == pair[1].0);
        let Some([(_, first), (_, second)]) = twins else {
            return Ok(());
        };
        let shown = |span: &Range<usize>| {
            let end = span.end.min(span.start + SHOWN_LEN_MAX);
            String::from_utf8_lossy(&body[span.start..end]).into_owned()
        };
        Err(Fault::malformed(
            "ambiguous_body",
            format!(
                "the keys {} at byte {} and {} at byte {} of {place} mean the same field; send one of them",
                shown(first),
                first.start,
                shown(second),
                second.start
            ),
        ))
    }
}
