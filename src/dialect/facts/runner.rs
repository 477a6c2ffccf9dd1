//! The options in `options` that make an Ollama node reload a model.

use crate::dialect::RunnerOptions;
use crate::dialect::json::{Scanner, Text, Token};
use crate::error::Fault;

use super::key::{Folded, Keys};
use super::num_ctx::NumCtxAt;

/// Beyond this a float does not hold every integer, so a number like 1e300 is no setting.
const FLOAT_INTEGER_MAX: f64 = 9_007_199_254_740_992.0;
/// The longest number that is worth converting, in bytes.
const NUMBER_LEN_MAX: usize = 32;

/// Reads `options`, whose value begins with `value`, and says where `num_ctx` stands there. An option of a wrong type counts as unset:
/// the node answers for it.
///
/// # Errors
/// 400 when the JSON breaks or a key stands there twice.
pub(super) fn options<'a>(
    scanner: &mut Scanner<'a>,
    value: Token<'a>,
    runner: &mut RunnerOptions,
) -> Result<NumCtxAt, Fault> {
    let inside = scanner.at();
    if value != Token::ObjectStart {
        scanner.skip(value)?;
        return Ok(match value {
            Token::Null => NumCtxAt::Null(inside - "null".len()..inside),
            _ => NumCtxAt::Nowhere,
        });
    }
    let mut keys = Keys::new();
    let mut num_ctx = Finder::new(inside);
    while let Token::Key(key) = scanner.token()? {
        let folded = Folded::of(&key);
        keys.push(&folded, &key);
        let value = scanner.token()?;
        num_ctx.member(&key, &folded, value, scanner.at());
        // Ollama reads `options` as a map, so here a key in other case is another key.
        match &*key.unescape() {
            "num_ctx" => runner.num_ctx = integer(value),
            "num_batch" => runner.num_batch = integer(value),
            "num_gpu" => runner.num_gpu = integer(value),
            "main_gpu" => runner.main_gpu = integer(value),
            "num_thread" => runner.num_thread = integer(value),
            "draft_num_predict" => runner.draft_num_predict = integer(value),
            "use_mmap" => runner.use_mmap = flag(value),
            _ => {}
        }
        scanner.skip(value)?;
        num_ctx.end = scanner.at();
    }
    keys.check("`options`", scanner.body())?;
    Ok(num_ctx.at)
}

/// Looks for `num_ctx` among the options.
struct Finder {
    at: NumCtxAt,
    /// Options before this one.
    before: usize,
    /// Where the last of them ends.
    end: usize,
}

impl Finder {
    fn new(inside: usize) -> Finder {
        let is_empty = true;
        Finder {
            at: NumCtxAt::Object { inside, is_empty },
            before: 0,
            end: inside,
        }
    }

    /// The next option, with the token that its value begins with and where that ends.
    fn member(&mut self, key: &Text<'_>, folded: &Folded<'_>, value: Token<'_>, value_end: usize) {
        let start = key.span().start;
        match &mut self.at {
            NumCtxAt::Object { is_empty, .. } => *is_empty = false,
            // What stands first takes the comma behind it along, everything else the one before it.
            NumCtxAt::Member { whole, .. } if self.before == 1 => whole.end = start,
            _ => {}
        }
        if folded.name() == b"num_ctx" {
            let whole_start = if self.before == 0 { start } else { self.end };
            let value_len = match value {
                Token::Number(digits) if integer(value).is_some() => Some(digits.len()),
                Token::Null => Some("null".len()),
                _ => None,
            };
            // In another spelling it is no option to Ollama, and a second one would make the body ambiguous.
            let value_len = value_len.filter(|_| &*key.unescape() == "num_ctx");
            self.at = match value_len {
                Some(len) => NumCtxAt::Member {
                    value: value_end - len..value_end,
                    whole: whole_start..value_end,
                },
                None => NumCtxAt::Nowhere,
            };
        }
        self.before += 1;
    }
}

pub(super) fn flag(value: Token<'_>) -> Option<bool> {
    match value {
        Token::Bool(flag) => Some(flag),
        _ => None,
    }
}

/// Whether a `keep_alive` is zero: a number of seconds, or a duration of Go such as `0`, `0s` or `0h0m`.
pub(super) fn is_zero_time(value: Token<'_>) -> bool {
    let is_zero = |text: &str| {
        let mut digits = text.bytes().filter(u8::is_ascii_digit).peekable();
        digits.peek().is_some() && digits.all(|digit| digit == b'0')
    };
    match value {
        // Of a number the exponent says nothing when the rest is zero.
        Token::Number(number) => std::str::from_utf8(number)
            .is_ok_and(|number| number.split(['e', 'E']).next().is_some_and(is_zero)),
        Token::String(text) => is_zero(&text.unescape()),
        _ => false,
    }
}

/// An integer, also when written as `8192.0` or `1e3`.
fn integer(value: Token<'_>) -> Option<i64> {
    let Token::Number(digits) = value else {
        return None;
    };
    if NUMBER_LEN_MAX < digits.len() {
        return None;
    }
    let digits = std::str::from_utf8(digits).ok()?;
    if let Ok(number) = digits.parse() {
        return Some(number);
    }
    let number: f64 = digits.parse().ok()?;
    let whole = number.fract() == 0.0 && number.abs() <= FLOAT_INTEGER_MAX;
    whole.then_some(number as i64)
}
