//! The options in `options` that make an Ollama node reload a model.

use crate::dialect::RunnerOptions;
use crate::dialect::json::{Scanner, Token};
use crate::error::Fault;

use super::key::{Folded, Keys};

/// Beyond this a float does not hold every integer, so a number like 1e300 is no setting.
const FLOAT_INTEGER_MAX: f64 = 9_007_199_254_740_992.0;
/// The longest number that is worth converting, in bytes.
const NUMBER_LEN_MAX: usize = 32;

/// Reads `options`, whose value begins with `value`. An option of a wrong type counts as unset: the node answers for it.
///
/// # Errors
/// 400 when the JSON breaks or a key stands there twice.
pub(super) fn options<'a>(
    scanner: &mut Scanner<'a>,
    value: Token<'a>,
    runner: &mut RunnerOptions,
) -> Result<(), Fault> {
    if value != Token::ObjectStart {
        return Ok(scanner.skip(value)?);
    }
    let mut keys = Keys::new();
    while let Token::Key(key) = scanner.token()? {
        keys.push(&Folded::of(&key), &key);
        let value = scanner.token()?;
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
    }
    keys.check("`options`", scanner.body())
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
