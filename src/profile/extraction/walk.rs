//! Follows many paths through one document in one pass; what no path leads to is skipped, not held.

use std::iter;

use super::path::{Path, Step};
use super::value::Value;
use crate::dialect::json::{Broken, Scanner, Text, Token};

/// The values that the paths lead to. A document that is no JSON has none; null, a list and an object are no values.
pub(super) fn values(document: &[u8], paths: &[Path]) -> Vec<Option<Value>> {
    let mut walk = Walk {
        paths,
        scanner: Scanner::new(document),
        found: vec![None; paths.len()],
    };
    match walk.whole() {
        Ok(()) => walk.found,
        Err(_) => vec![None; paths.len()],
    }
}

/// Paths are told apart by a bit each; there are at most 64.
pub(super) fn bit(at: usize) -> u64 {
    1 << at
}

/// The places of the bits that are set.
fn each(mut bits: u64) -> impl Iterator<Item = usize> {
    iter::from_fn(move || {
        let at = bits.trailing_zeros();
        bits &= bits.wrapping_sub(1);
        (at < u64::BITS).then_some(at as usize)
    })
}

struct Walk<'a> {
    paths: &'a [Path],
    scanner: Scanner<'a>,
    found: Vec<Option<Value>>,
}

impl<'a> Walk<'a> {
    fn whole(&mut self) -> Result<(), Broken> {
        let all = (0..self.paths.len()).fold(0, |all, at| all | bit(at));
        let first = self.scanner.token()?;
        self.value(first, all, 0)?;
        // The end, or what stands in its place.
        self.scanner.token().map(drop)
    }

    /// One value, the paths that lead to it or through it, and how many steps they have taken.
    fn value(&mut self, token: Token<'a>, open: u64, depth: usize) -> Result<(), Broken> {
        let value = match token {
            // No deeper than the longest path has steps.
            _ if open == 0 => return self.scanner.skip(token),
            Token::ObjectStart => return self.members(open, depth),
            Token::ArrayStart => return self.items(open, depth),
            Token::String(text) => Some(Value::text(&text.unescape())),
            Token::Number(number) => std::str::from_utf8(number)
                .ok()
                .and_then(|number| Value::number(number.parse().ok()?)),
            Token::Bool(truth) => Some(Value::Bool(truth)),
            Token::Null | Token::Key(_) | Token::ObjectEnd | Token::ArrayEnd | Token::End => None,
        };
        for at in each(open).filter(|at| self.paths[*at].steps().len() == depth) {
            self.found[at].clone_from(&value);
        }
        Ok(())
    }

    fn members(&mut self, open: u64, depth: usize) -> Result<(), Broken> {
        while let Token::Key(key) = self.scanner.token()? {
            let is_it = |step: &Step| matches!(step, Step::Member(name) if says(&key, name));
            let open = self.towards(open, depth, is_it);
            let token = self.scanner.token()?;
            self.value(token, open, depth + 1)?;
        }
        Ok(())
    }

    fn items(&mut self, open: u64, depth: usize) -> Result<(), Broken> {
        for item in 0_usize.. {
            let token = self.scanner.token()?;
            if token == Token::ArrayEnd {
                break;
            }
            let is_it = |step: &Step| matches!(step, Step::Item(at) if *at == item);
            self.value(token, self.towards(open, depth, is_it), depth + 1)?;
        }
        Ok(())
    }

    /// Which of the paths go on to a member or an item.
    fn towards(&self, open: u64, depth: usize, leads_there: impl Fn(&Step) -> bool) -> u64 {
        let step = |at: &usize| self.paths[*at].steps().get(depth);
        let there = each(open).filter(|at| step(at).is_some_and(&leads_there));
        there.fold(0, |there, at| there | bit(at))
    }
}

fn says(key: &Text<'_>, name: &str) -> bool {
    key.raw() == name.as_bytes() || (key.raw().contains(&b'\\') && key.unescape() == name)
}
