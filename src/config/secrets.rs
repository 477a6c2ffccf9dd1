//! What no excerpt may show: values of keys that hold secrets, over however many lines they go, and logins in URLs.
//!
//! Where a file can be read, the places of the values say what to star out. Where it cannot, nobody knows where a value ends, and
//! everything is starred that could still belong to it. One star per character, so that carets still point right.

use std::ops::Range;

use super::problem::Place;
use super::raw::{self, Tree, Value};
use super::text::nearest;

/// Keys whose values no excerpt may show; also when mistyped, and at the end of a longer word such as `X-Api-Key`.
const SECRET_WORDS: &[&str] = &[
    "token",
    "key",
    "password",
    "secret",
    "authorization",
    "cookie",
];

/// A file's lines without the values of keys that hold secrets. What stands in one line is left to [`mask`].
pub(super) fn starred(text: &str) -> Vec<String> {
    // The parser's lines end at a lone carriage return, too.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let mut chars: Vec<char> = text.chars().collect();
    let ranges = match raw::parse(&text) {
        Ok(tree) => {
            let mut found = Found::new(&chars);
            found.look(&tree, false);
            found.ranges
        }
        Err(_) => unread(&chars),
    };
    for range in ranges {
        star(&mut chars, range);
    }
    let lines = chars.split(|c| *c == '\n');
    lines.map(|line| line.iter().collect()).collect()
}

/// Stars out what can be told from a line alone.
pub(super) fn mask(line: &str) -> String {
    let mut chars: Vec<char> = line.chars().collect();
    for index in 0..chars.len() {
        if let Some(colon) = Colon::at(&chars, index) {
            let end = colon.end_in_line(&chars);
            star(&mut chars, index..end);
        }
        if chars[index] == '@' {
            star_login(&mut chars, index);
        }
    }
    chars.into_iter().collect()
}

fn is_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    SECRET_WORDS.iter().any(|secret| key.ends_with(secret))
        || nearest(&key, SECRET_WORDS.iter().copied()).is_some()
}

/// Stars out a value with the colon before it.
fn star(chars: &mut [char], range: Range<usize>) {
    let end = range.end.min(chars.len());
    let start = value_start(chars, range.start.min(end));
    // `${VAR}` names a variable and shows nothing of its value; a default in it would.
    let rest = start + variable_length(&chars[start..]).unwrap_or(0);
    for c in chars.iter_mut().take(end).skip(rest) {
        if !c.is_whitespace() {
            *c = '*';
        }
    }
}

fn value_start(chars: &[char], from: usize) -> usize {
    let is_before = |c: &&char| c.is_whitespace() || **c == ':';
    from + chars[from..].iter().take_while(is_before).count()
}

fn variable_length(chars: &[char]) -> Option<usize> {
    let name = chars.strip_prefix(&['$', '{'])?;
    let length = name
        .iter()
        .take_while(|c| c.is_ascii_alphanumeric() || **c == '_')
        .count();
    (name.get(length) == Some(&'}')).then_some(length + 3)
}

/// What stands before the `@` of a URL, back to its `//` or the beginning of the word.
fn star_login(chars: &mut [char], at: usize) {
    for index in (0..at).rev() {
        let before_is_slash = 0 < index && chars[index - 1] == '/';
        let c = chars[index];
        if c.is_whitespace() || matches!(c, '"' | '\'') || (c == '/' && before_is_slash) {
            break;
        }
        chars[index] = '*';
    }
}

/// Values found by their places in a file that could be read.
struct Found {
    /// Where each line begins.
    lines: Vec<usize>,
    ranges: Vec<Range<usize>>,
}

impl Found {
    fn new(chars: &[char]) -> Found {
        let breaks = chars.iter().enumerate().filter(|(_, c)| **c == '\n');
        let after = breaks.map(|(index, _)| index + 1);
        Found {
            lines: [0].into_iter().chain(after).collect(),
            ranges: Vec::new(),
        }
    }

    fn look(&mut self, tree: &Tree, is_within: bool) {
        match &tree.value {
            Value::Null | Value::Scalar(_) if is_within => {
                let range = self.range(tree.written);
                self.ranges.push(range);
            }
            Value::Null | Value::Scalar(_) => (),
            Value::List(items) => items.iter().for_each(|item| self.look(item, is_within)),
            Value::Map(entries) => {
                for entry in entries {
                    let is_secret = is_within || is_secret(&entry.key);
                    if is_secret {
                        // From the key on, since a tag may stand before the value that is not of the value.
                        let after_key = self.range(entry.at).end;
                        self.ranges.push(after_key..self.end(&entry.tree));
                    }
                    self.look(&entry.tree, is_secret);
                }
            }
        }
    }

    /// Where a value and all that is in it ends.
    fn end(&self, tree: &Tree) -> usize {
        let own = self.range(tree.at).end;
        let inner = match &tree.value {
            Value::Null | Value::Scalar(_) => None,
            Value::List(items) => items.iter().map(|item| self.end(item)).max(),
            Value::Map(entries) => entries.iter().map(|entry| self.end(&entry.tree)).max(),
        };
        own.max(inner.unwrap_or(0))
    }

    fn range(&self, place: Place) -> Range<usize> {
        match place {
            Place::Nowhere => 0..0,
            Place::At {
                line,
                column,
                chars,
            } => {
                let line = self.lines.get(line.saturating_sub(1)).copied();
                let start = line.unwrap_or(usize::MAX).saturating_add(column - 1);
                start..start.saturating_add(chars)
            }
        }
    }
}

/// Values in a file that could not be read: each to its closing quote, or as far as lines go on that can be no entry of their own.
fn unread(chars: &[char]) -> Vec<Range<usize>> {
    let mut ranges: Vec<Range<usize>> = Vec::new();
    let mut covered = 0;
    let mut index = 0;
    while index < chars.len() {
        if let Some(colon) = Colon::at(chars, index) {
            if let Some(end) = colon.closing_quote(chars) {
                ranges.push(index..end);
                index = end.max(index + 1);
                continue;
            }
            if covered <= index {
                covered = colon.end_unread(chars);
                ranges.push(index..covered);
            }
        }
        index += 1;
    }
    ranges
}

/// The colon behind a key that holds a secret.
struct Colon {
    at: usize,
    /// Where the key begins.
    key: usize,
}

impl Colon {
    fn at(chars: &[char], at: usize) -> Option<Colon> {
        if chars.get(at) != Some(&':') {
            return None;
        }
        let before = &chars[..at];
        // In braces, and behind a `?`, the colon may even stand in a later line.
        let blank = before.iter().rev().take_while(|c| c.is_whitespace());
        let before = &before[..at - blank.count()];
        let quoted = matches!(before.last(), Some('"' | '\''));
        let before = &before[..before.len() - usize::from(quoted)];
        let in_word = |c: &&char| c.is_alphanumeric() || matches!(c, '_' | '-');
        let key = before.len() - before.iter().rev().take_while(in_word).count();
        let word: String = before[key..].iter().collect();
        let is_key = quoted
            || chars
                .get(at + 1)
                .is_none_or(|c| c.is_whitespace() || *c == '"');
        // A forgotten blank makes no key, and yet what follows is a secret; `monkey:7b` is none.
        let is_meant = || {
            let word = word.rsplit(['_', '-']).next().unwrap_or_default();
            SECRET_WORDS.contains(&word)
        };
        let found = if is_key { is_secret(&word) } else { is_meant() };
        (found && !word.is_empty()).then_some(Colon { at, key })
    }

    /// Where the value ends as far as its own line tells.
    fn end_in_line(&self, chars: &[char]) -> usize {
        let line_end = line_end(chars, self.at);
        let line = &chars[..line_end];
        let start = value_start(line, self.at);
        if let Some(quote) = quote_at(line, start) {
            return after_quote(line, start, quote).unwrap_or(line_end);
        }
        let in_braces = line[line_start(line, self.at)..start].contains(&'{');
        let ends = |index: &usize| {
            let c = line[*index];
            let comment = c == '#' && line[index - 1].is_whitespace();
            comment || (in_braces && matches!(c, ',' | '}'))
        };
        (start..line_end).find(ends).unwrap_or(line_end)
    }

    /// Where a quoted value ends, the end of the file if its quote is left open; `None` when it is not quoted.
    fn closing_quote(&self, chars: &[char]) -> Option<usize> {
        let mut start = value_start(chars, self.at);
        // Tags, anchors and comments may stand before the quote.
        while matches!(chars.get(start), Some('!' | '&' | '#')) {
            let to_end = chars[start] == '#';
            let is_of_it = |c: &&char| **c != '\n' && (to_end || !c.is_whitespace());
            start += chars[start..].iter().take_while(is_of_it).count();
            start = value_start(chars, start);
        }
        let quote = quote_at(chars, start)?;
        Some(after_quote(chars, start, quote).unwrap_or(chars.len()))
    }

    /// Where a value without quotes may end at the latest.
    fn end_unread(&self, chars: &[char]) -> usize {
        let mut end = self.end_in_line(chars);
        if matches!(chars.get(end), Some(',' | '}')) {
            return end;
        }
        let column = self.key - line_start(chars, self.key);
        let mut next = line_end(chars, self.at) + 1;
        while next < chars.len() {
            let line_end = line_end(chars, next);
            let line = &chars[next..line_end];
            let indent = line.iter().take_while(|c| **c == ' ').count();
            let is_left = indent <= column && line.get(indent) != Some(&'\t');
            if is_left && begins_an_entry(line) {
                break;
            }
            let is_comment = is_left && line.get(indent) == Some(&'#');
            if !is_comment && line.iter().any(|c| !c.is_whitespace()) {
                end = line_end;
            }
            next = line_end + 1;
        }
        end
    }
}

/// Whether a line can be nothing but `key: value`, be it of a list's item, or the bound of a document.
fn begins_an_entry(line: &[char]) -> bool {
    let line: String = line.iter().collect();
    let line = line.trim();
    let bare = line.trim_start_matches(['-', '?', ' ']);
    let key = bare.split(": ").next().filter(|key| *key != bare);
    let key = key.or_else(|| bare.strip_suffix(':')).unwrap_or_default();
    let key = key.trim_end().trim_matches(['"', '\'']);
    let is_plain = |c: char| !c.is_whitespace() && !",{}[]#\"'".contains(c);
    matches!(line, "---" | "...") || (!key.is_empty() && key.chars().all(is_plain))
}

fn line_start(chars: &[char], at: usize) -> usize {
    let before = chars[..at].iter().rposition(|c| *c == '\n');
    before.map_or(0, |index| index + 1)
}

fn line_end(chars: &[char], at: usize) -> usize {
    let length = chars[at..].iter().position(|c| *c == '\n');
    length.map_or(chars.len(), |length| at + length)
}

fn quote_at(chars: &[char], at: usize) -> Option<char> {
    let c = chars.get(at).copied();
    c.filter(|c| matches!(c, '"' | '\''))
}

/// Behind the quote that ends the text whose opening quote stands at `start`.
fn after_quote(chars: &[char], start: usize, quote: char) -> Option<usize> {
    let mut index = start + 1;
    while let Some(c) = chars.get(index) {
        let is_pair = *c == quote && quote == '\'' && chars.get(index + 1) == Some(&'\'');
        if is_pair || (*c == '\\' && quote == '"') {
            index += 2;
        } else if *c == quote {
            return Some(index + 1);
        } else {
            index += 1;
        }
    }
    None
}

#[cfg(test)]
mod tests;
