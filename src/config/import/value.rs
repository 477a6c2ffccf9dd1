//! Values: mappings with keys of the operator's choice, and what Go spells otherwise.

use std::collections::BTreeSet;
use std::time::Duration;

use super::super::raw::{Entry, Value};
use super::super::schema::Form;
use super::super::text;
use super::yaml::{Line, Written};
use super::{Import, scalars, shown};

impl Import {
    /// Keys of the operator's choice, such as headers and aliases, whose values have one form.
    pub(super) fn free(&mut self, path: &str, values: &Form, entries: &[Entry]) -> Vec<Line> {
        let mut lines: Vec<Line> = Vec::new();
        let mut seen = BTreeSet::new();
        for entry in entries {
            let path = format!("{path}.{}", entry.key);
            if !seen.insert(&entry.key) {
                let what = format!("`{}` is written twice; only the first counts", shown(&path));
                lines.push(self.lose(entry.at, what));
                continue;
            }
            let value = match (values, &entry.tree.value) {
                (Form::List(_), Value::List(items)) => scalars(items).map(Written::List),
                (Form::Text | Form::Decimal, Value::Scalar(text)) => {
                    Some(Written::Scalar(text.clone()))
                }
                _ => None,
            };
            lines.push(match value {
                Some(value) => Line::new(&entry.key, value).from(entry.tree.at),
                None => self.unfit(&path, &entry.tree),
            });
        }
        lines
    }
}

/// Go's units, in nanoseconds; the micro sign has two code points.
const UNITS: &[(&str, u128)] = &[
    ("ns", 1),
    ("us", 1000),
    ("µs", 1000),
    ("μs", 1000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// A duration as we read it: `1500ms` for Go's `1.5s`. What is no duration, or none of whole milliseconds, stays as it is.
pub(super) fn duration(written: &str) -> String {
    let ours = text::duration(written).is_ok();
    match go_duration(written).filter(|_| !ours) {
        Some(duration) => text::spell_duration(duration),
        None => written.to_owned(),
    }
}

fn go_duration(text: &str) -> Option<Duration> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    let in_number = |c: char| c.is_ascii_digit() || c == '.';
    let mut nanos: u128 = 0;
    loop {
        let (number, after) = split(rest, |c| !in_number(c));
        let (unit, after) = split(after, in_number);
        let (_, unit) = UNITS.iter().find(|(name, _)| *name == unit)?;
        let (whole, part) = number.split_once('.').unwrap_or((number, ""));
        let digits: u64 = format!("{whole}{part}").parse().ok()?;
        // Digits that a u64 holds are at most twenty, leading zeros aside.
        let scale = 10_u128.checked_pow(u32::try_from(part.len()).ok()?)?;
        nanos += u128::from(digits) * unit / scale;
        rest = after;
        if rest.is_empty() {
            break;
        }
    }
    let millis = u64::try_from(nanos / 1_000_000).ok()?;
    nanos
        .is_multiple_of(1_000_000)
        .then(|| Duration::from_millis(millis))
}

fn split(text: &str, end: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(end).unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gos_durations_are_spelt_as_ours() {
        for (go, ours) in [
            ("1.5s", "1500ms"),
            ("1h30m", "1h30m"),
            ("2m0.5s", "120500ms"),
            ("1.5h", "90m"),
            (".5m", "30s"),
            ("1.s", "1s"),
            ("+2s", "2s"),
            ("0.0s", "0s"),
            ("2000us", "2ms"),
            ("1000000ns", "1ms"),
            ("3000µs", "3ms"),
            ("0.1μs", "0.1μs"),
            ("1.0005s", "1.0005s"),
            ("0", "0"),
            ("5", "5"),
            ("1.5", "1.5"),
            (".s", ".s"),
            ("1.5.5s", "1.5.5s"),
            ("1.5d", "1.5d"),
            ("-1.5s", "-1.5s"),
            ("s", "s"),
            ("", ""),
            ("99999999999999999999.5s", "99999999999999999999.5s"),
            ("${WAIT:-1.5s}", "${WAIT:-1.5s}"),
        ] {
            assert_eq!(duration(go), ours, "{go}");
        }
    }
}
