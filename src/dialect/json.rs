//! A pull scanner over a JSON document in memory: one pass, no tree, no recursion, no allocation, and no byte left unchecked.
//!
//! It accepts exactly RFC 8259 in UTF-8, with a limit on depth and on keys. Numbers are checked but never converted, so
//! `1e999999` in a field that nobody reads is as harmless here as it is for a node.

mod broken;

mod run;

mod text;

#[cfg(test)]
mod tests;

pub use self::broken::{Broken, Why};
pub use self::text::{Piece, Text};

use self::run::plain;
use self::text::unescape;

/// Deepest nesting of objects and arrays.
pub const DEPTH_MAX: u8 = 128;
/// Most keys in all objects of depth 1 together, and again in all objects of depth 2.
pub const KEYS_MAX: u16 = 10_000;

/// One step through a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Token<'a> {
    /// `{`
    ObjectStart,
    /// `}`
    ObjectEnd,
    /// `[`
    ArrayStart,
    /// `]`
    ArrayEnd,
    /// A key of an object, its colon already passed; its value is the next token.
    Key(Text<'a>),
    /// A string that is a value.
    String(Text<'a>),
    /// As it is written.
    Number(&'a [u8]),
    /// `true` or `false`.
    Bool(bool),
    /// `null`
    Null,
    /// The document is whole and nothing but white space follows it.
    End,
}

/// What may come next.
#[derive(Debug, Clone, Copy)]
enum State {
    Value,
    ItemOrEnd,
    KeyOrEnd,
    AfterItem,
}

/// The scanner: a position, and one bit per open container.
#[derive(Debug, Clone)]
pub struct Scanner<'a> {
    body: &'a [u8],
    at: usize,
    state: State,
    depth: u8,
    /// The lowest bit is the innermost container: 1 for an object, 0 for an array.
    containers: u128,
    /// Keys seen at depth 1 and 2.
    keys: [u16; 2],
}

impl<'a> Scanner<'a> {
    /// A scanner at the start of `body`, which may be anything: nothing is checked before [`Scanner::token`].
    pub fn new(body: &'a [u8]) -> Scanner<'a> {
        Scanner {
            body,
            at: 0,
            state: State::Value,
            depth: 0,
            containers: 0,
            keys: [0; 2],
        }
    }

    /// The whole document, read or not.
    pub fn body(&self) -> &'a [u8] {
        self.body
    }

    /// Offset of the next unread byte.
    pub fn at(&self) -> usize {
        self.at
    }

    /// The next token; [`Token::End`] for ever once the document is whole.
    ///
    /// # Errors
    /// Where and why the document breaks. There is no going on after it.
    #[inline]
    pub fn token(&mut self) -> Result<Token<'a>, Broken> {
        let byte = self.peek();
        match self.state {
            State::Value => self.value(byte, Why::Value),
            State::AfterItem if self.depth == 0 => match byte {
                None => Ok(Token::End),
                Some(_) => Err(self.broken(Why::Trailing)),
            },
            State::AfterItem if self.in_object() => match byte {
                Some(b',') => {
                    self.at += 1;
                    self.peek();
                    self.key(Why::Key)
                }
                Some(b'}') => Ok(self.close(Token::ObjectEnd)),
                _ => Err(self.broken(Why::CommaOrBrace)),
            },
            State::AfterItem => match byte {
                Some(b',') => {
                    self.at += 1;
                    let byte = self.peek();
                    self.value(byte, Why::Value)
                }
                Some(b']') => Ok(self.close(Token::ArrayEnd)),
                _ => Err(self.broken(Why::CommaOrBracket)),
            },
            State::ItemOrEnd if byte == Some(b']') => Ok(self.close(Token::ArrayEnd)),
            State::ItemOrEnd => self.value(byte, Why::ItemOrEnd),
            State::KeyOrEnd if byte == Some(b'}') => Ok(self.close(Token::ObjectEnd)),
            State::KeyOrEnd => self.key(Why::KeyOrEnd),
        }
    }

    /// Goes past the rest of the value that `token` began; a token that is a whole value has no rest.
    ///
    /// # Errors
    /// As [`Scanner::token`].
    pub fn skip(&mut self, token: Token<'a>) -> Result<(), Broken> {
        if !matches!(token, Token::ObjectStart | Token::ArrayStart) {
            return Ok(());
        }
        let floor = self.depth;
        while floor <= self.depth {
            self.token()?;
        }
        Ok(())
    }

    /// The next byte that is not white space.
    #[inline]
    fn peek(&mut self) -> Option<u8> {
        loop {
            match self.body.get(self.at) {
                Some(b' ' | b'\n' | b'\t' | b'\r') => self.at += 1,
                byte => return byte.copied(),
            }
        }
    }

    #[inline]
    fn value(&mut self, byte: Option<u8>, expected: Why) -> Result<Token<'a>, Broken> {
        let token = match byte {
            Some(b'"') => Token::String(self.string()?),
            Some(b'{') => return self.open(true),
            Some(b'[') => return self.open(false),
            Some(b'-' | b'0'..=b'9') => Token::Number(self.number()?),
            Some(b't') => self.literal(b"true", Token::Bool(true), expected)?,
            Some(b'f') => self.literal(b"false", Token::Bool(false), expected)?,
            Some(b'n') => self.literal(b"null", Token::Null, expected)?,
            _ => return Err(self.not_a_value(expected)),
        };
        self.state = State::AfterItem;
        Ok(token)
    }

    #[cold]
    fn not_a_value(&self, expected: Why) -> Broken {
        let why = match (self.depth, self.body.get(self.at)) {
            (0, None) => Why::Empty,
            (0, _) if self.body.starts_with("\u{feff}".as_bytes()) => Why::ByteOrderMark,
            _ => expected,
        };
        self.broken(why)
    }

    fn open(&mut self, object: bool) -> Result<Token<'a>, Broken> {
        if self.depth == DEPTH_MAX {
            return Err(self.broken(Why::TooDeep));
        }
        self.at += 1;
        self.depth += 1;
        self.containers = self.containers << 1 | u128::from(object);
        match object {
            true => {
                self.state = State::KeyOrEnd;
                Ok(Token::ObjectStart)
            }
            false => {
                self.state = State::ItemOrEnd;
                Ok(Token::ArrayStart)
            }
        }
    }

    fn close(&mut self, token: Token<'a>) -> Token<'a> {
        self.at += 1;
        self.depth -= 1;
        self.containers >>= 1;
        self.state = State::AfterItem;
        token
    }

    fn in_object(&self) -> bool {
        self.containers & 1 == 1
    }

    #[inline]
    fn key(&mut self, expected: Why) -> Result<Token<'a>, Broken> {
        if self.body.get(self.at) != Some(&b'"') {
            return Err(self.broken(expected));
        }
        if self.depth <= 2 {
            let keys = &mut self.keys[usize::from(self.depth - 1)];
            *keys += 1;
            if KEYS_MAX < *keys {
                return Err(self.broken(Why::TooManyKeys));
            }
        }
        let text = self.string()?;
        if self.peek() != Some(b':') {
            return Err(self.broken(Why::Colon));
        }
        self.at += 1;
        self.state = State::Value;
        Ok(Token::Key(text))
    }

    #[inline]
    fn string(&mut self) -> Result<Text<'a>, Broken> {
        let start = self.at;
        let (mut escaped, mut ascii) = (false, true);
        self.at += 1;
        loop {
            let run = plain(&self.body[self.at..]);
            self.at += run.len;
            ascii &= run.ascii;
            match self.body.get(self.at) {
                Some(b'"') => break,
                Some(b'\\') => {
                    escaped = true;
                    let (_, len) =
                        unescape(&self.body[self.at..]).map_err(|why| self.broken(why))?;
                    self.at += len;
                }
                Some(_) => return Err(self.broken(Why::Control)),
                None => return Err(self.broken(Why::Quote)),
            }
        }
        let raw = &self.body[start + 1..self.at];
        if !ascii && let Err(error) = std::str::from_utf8(raw) {
            self.at = start + 1 + error.valid_up_to();
            return Err(self.broken(Why::Utf8));
        }
        self.at += 1;
        Ok(Text {
            raw,
            start,
            escaped,
        })
    }

    fn number(&mut self) -> Result<&'a [u8], Broken> {
        let start = self.at;
        self.at += usize::from(self.body[self.at] == b'-');
        match self.body.get(self.at) {
            Some(b'0') => self.at += 1,
            _ => self.digits()?,
        }
        if self.body.get(self.at) == Some(&b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.body.get(self.at) {
            self.at += 1;
            if let Some(b'+' | b'-') = self.body.get(self.at) {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(&self.body[start..self.at])
    }

    /// One digit or more.
    fn digits(&mut self) -> Result<(), Broken> {
        let rest = &self.body[self.at..];
        let len = rest
            .iter()
            .position(|b| !b.is_ascii_digit())
            .unwrap_or(rest.len());
        self.at += len;
        match len {
            0 => Err(self.broken(Why::Digit)),
            _ => Ok(()),
        }
    }

    fn literal(
        &mut self,
        word: &[u8],
        token: Token<'a>,
        expected: Why,
    ) -> Result<Token<'a>, Broken> {
        if !self.body[self.at..].starts_with(word) {
            return Err(self.broken(expected));
        }
        self.at += word.len();
        Ok(token)
    }

    #[cold]
    fn broken(&self, why: Why) -> Broken {
        Broken { at: self.at, why }
    }
}
