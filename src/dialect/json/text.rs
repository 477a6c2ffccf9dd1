//! A string of a document: where it stands, and what it says once its escapes are undone.

use std::borrow::Cow;
use std::ops::Range;

use super::Why;

/// A checked string as it stands in the document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Text<'a> {
    pub(super) raw: &'a [u8],
    pub(super) start: usize,
    pub(super) escaped: bool,
}

/// A part of a string: bytes that mean themselves, or one escaped character.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece<'a> {
    /// Bytes between escapes: UTF-8, never empty.
    Plain(&'a [u8]),
    /// What an escape means; a surrogate pair is one character.
    Char(char),
}

impl<'a> Text<'a> {
    /// Where it stands, both quotes included.
    pub fn span(&self) -> Range<usize> {
        self.start..self.start + self.raw.len() + 2
    }

    /// As it is written, without its quotes.
    pub fn raw(&self) -> &'a [u8] {
        self.raw
    }

    /// Whether it is `""`.
    pub fn is_empty(&self) -> bool {
        self.raw.is_empty()
    }

    /// What it says; borrowed when it has no escapes.
    pub fn unescape(&self) -> Cow<'a, str> {
        if !self.escaped {
            return String::from_utf8_lossy(self.raw);
        }
        let mut text = String::with_capacity(self.raw.len());
        for piece in self.pieces() {
            match piece {
                Piece::Plain(bytes) => text.push_str(&String::from_utf8_lossy(bytes)),
                Piece::Char(c) => text.push(c),
            }
        }
        Cow::Owned(text)
    }

    /// What it says, part by part and without allocation.
    pub fn pieces(&self) -> Pieces<'a> {
        Pieces {
            rest: self.raw,
            escaped: self.escaped,
        }
    }
}

/// The parts of a string, in order.
pub struct Pieces<'a> {
    rest: &'a [u8],
    escaped: bool,
}

impl<'a> Iterator for Pieces<'a> {
    type Item = Piece<'a>;

    fn next(&mut self) -> Option<Piece<'a>> {
        let bytes = self.rest;
        if bytes.first() == Some(&b'\\') {
            let (c, len) = unescape(bytes).unwrap_or((char::REPLACEMENT_CHARACTER, bytes.len()));
            self.rest = &bytes[len..];
            return Some(Piece::Char(c));
        }
        let len = match self.escaped {
            true => bytes.iter().position(|&b| b == b'\\'),
            false => None,
        };
        let (plain, rest) = bytes.split_at(len.unwrap_or(bytes.len()));
        self.rest = rest;
        (!plain.is_empty()).then_some(Piece::Plain(plain))
    }
}

/// The character that the escape at the start of `bytes` means, and the escape's length in bytes.
pub(super) fn unescape(bytes: &[u8]) -> Result<(char, usize), Why> {
    let c = match bytes.get(1) {
        Some(&c @ (b'"' | b'\\' | b'/')) => char::from(c),
        Some(b'b') => '\u{8}',
        Some(b'f') => '\u{c}',
        Some(b'n') => '\n',
        Some(b'r') => '\r',
        Some(b't') => '\t',
        Some(b'u') => return unescape_utf16(bytes),
        _ => return Err(Why::Escape),
    };
    Ok((c, 2))
}

fn unescape_utf16(bytes: &[u8]) -> Result<(char, usize), Why> {
    let first = utf16_unit(bytes).ok_or(Why::Escape)?;
    if let Some(c) = char::from_u32(first) {
        return Ok((c, 6));
    }
    let second = utf16_unit(&bytes[6..]).ok_or(Why::Surrogate)?;
    match (first, second) {
        (0xd800..=0xdbff, 0xdc00..=0xdfff) => {
            let c = 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00);
            char::from_u32(c).map(|c| (c, 12)).ok_or(Why::Surrogate)
        }
        _ => Err(Why::Surrogate),
    }
}

/// The number in `\uXXXX`.
fn utf16_unit(bytes: &[u8]) -> Option<u32> {
    let digits = bytes.strip_prefix(br"\u")?.first_chunk::<4>()?;
    digits.iter().try_fold(0, |number, &digit| {
        Some(number * 16 + char::from(digit).to_digit(16)?)
    })
}
