//! What a text means: durations, sizes, `${VAR}`, and which known word is nearest to an unknown one.

use std::time::Duration;

use crate::glob::{GLOB_BYTES_MAX, Glob};

/// Why a text means nothing: the message ends a sentence that began with the text, the hint says what to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wrong {
    pub(super) message: String,
    pub(super) hint: String,
}

impl Wrong {
    pub(super) fn new(message: impl Into<String>, hint: impl Into<String>) -> Wrong {
        Wrong {
            message: message.into(),
            hint: hint.into(),
        }
    }
}

/// A year; longer waits are mistakes.
const DURATION_MAX_MS: u64 = 366 * 24 * 3600 * 1000;

const DURATION_UNITS: &[(&str, u64)] = &[
    ("ms", 1),
    ("s", 1000),
    ("m", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
];

/// `250ms`, `2s`, `10m`, `24h`, `7d`, and sums as Go prints them: `1h30m`. A bare `0` is zero.
pub(super) fn duration(text: &str) -> Result<Duration, Wrong> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(Wrong::new(
            format!("`{text}` has no unit"),
            format!("write `{text}s` for seconds or `{text}ms` for milliseconds"),
        ));
    }
    let wrong = || {
        Wrong::new(
            format!("`{text}` is not a duration"),
            "write a whole number and a unit: `250ms`, `2s`, `10m`, `24h`",
        )
    };
    let mut rest = text;
    let mut total_ms: u64 = 0;
    while !rest.is_empty() {
        let (number, after) = leading_number(rest).ok_or_else(wrong)?;
        let unit_length = after
            .find(|c: char| !c.is_ascii_alphabetic())
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_length);
        let (_, unit_ms) = DURATION_UNITS
            .iter()
            .find(|(name, _)| *name == unit)
            .ok_or_else(wrong)?;
        total_ms = number
            .checked_mul(*unit_ms)
            .and_then(|ms| ms.checked_add(total_ms))
            .ok_or_else(wrong)?;
        rest = after;
    }
    if text.is_empty() {
        return Err(wrong());
    }
    if DURATION_MAX_MS < total_ms {
        return Err(Wrong::new(
            format!("`{text}` is longer than a year"),
            "write a shorter duration, such as `24h`",
        ));
    }
    Ok(Duration::from_millis(total_ms))
}

fn leading_number(text: &str) -> Option<(u64, &str)> {
    let length = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (digits, rest) = text.split_at(length);
    Some((digits.parse().ok()?, rest))
}

/// The shortest spelling `duration` reads back: `90s` for a minute and a half, `1h` for an hour.
pub(super) fn spell_duration(duration: Duration) -> String {
    let ms = duration.as_millis();
    match ms {
        0 => "0s".to_owned(),
        _ if ms.is_multiple_of(3_600_000) => format!("{}h", ms / 3_600_000),
        _ if ms.is_multiple_of(60_000) => format!("{}m", ms / 60_000),
        _ if ms.is_multiple_of(1000) => format!("{}s", ms / 1000),
        _ => format!("{ms}ms"),
    }
}

const SIZE_UNITS: &[(&str, u64)] = &[
    ("", 1),
    ("b", 1),
    ("kib", 1 << 10),
    ("mib", 1 << 20),
    ("gib", 1 << 30),
    ("kb", 1000),
    ("mb", 1_000_000),
    ("gb", 1_000_000_000),
];

/// Bytes: `1048576`, `64KiB`, `100MiB`, `2GB`.
pub(super) fn size(text: &str) -> Result<usize, Wrong> {
    let wrong = || {
        Wrong::new(
            format!("`{text}` is not a size"),
            "write bytes or a whole number and a unit: `65536`, `64KiB`, `100MiB`",
        )
    };
    let (number, unit) = leading_number(text).ok_or_else(wrong)?;
    let unit = unit.trim_start().to_ascii_lowercase();
    let (_, factor) = SIZE_UNITS
        .iter()
        .find(|(name, _)| *name == unit)
        .ok_or_else(wrong)?;
    number
        .checked_mul(*factor)
        .and_then(|bytes| usize::try_from(bytes).ok())
        .ok_or_else(wrong)
}

pub(super) fn spell_size(bytes: usize) -> String {
    match bytes {
        _ if bytes >= 1 << 20 && bytes.is_multiple_of(1 << 20) => format!("{} MiB", bytes >> 20),
        _ if bytes >= 1 << 10 && bytes.is_multiple_of(1 << 10) => format!("{} KiB", bytes >> 10),
        _ => format!("{bytes} bytes"),
    }
}

/// A boolean of YAML 1.2. `yes` and `off` are none: what they mean depends on who reads them.
pub(super) fn flag(text: &str) -> Result<bool, Wrong> {
    match text {
        "true" | "True" | "TRUE" => Ok(true),
        "false" | "False" | "FALSE" => Ok(false),
        _ => Err(Wrong::new(
            format!("`{text}` is neither `true` nor `false`"),
            "write `true` or `false`",
        )),
    }
}

/// A whole number inside a range.
pub(super) fn number(text: &str, range: &std::ops::RangeInclusive<u32>) -> Result<u32, Wrong> {
    let hint = || {
        format!(
            "write a whole number from {} to {}",
            range.start(),
            range.end()
        )
    };
    let number = text
        .parse()
        .map_err(|_| Wrong::new(format!("`{text}` is not a whole number"), hint()))?;
    if range.contains(&number) {
        Ok(number)
    } else {
        Err(Wrong::new(format!("`{text}` is out of range"), hint()))
    }
}

/// One of the words of a table.
pub(super) fn word<T: Copy>(text: &str, words: &[(&str, T)]) -> Result<T, Wrong> {
    if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
        return Ok(*value);
    }
    let hint = match nearest(text, words.iter().map(|(word, _)| *word)) {
        Some(near) => format!("did you mean `{near}`?"),
        None => {
            let all: Vec<String> = words.iter().map(|(word, _)| format!("`{word}`")).collect();
            format!("write one of {}", all.join(", "))
        }
    };
    Err(Wrong::new(
        format!("`{text}` is not one of its values"),
        hint,
    ))
}

/// Puts values for `${VAR}` and `${VAR:-default}`; `$${` stands for a literal `${`. An empty variable takes the default, as in
/// a shell. `lookup` is asked once for every reference.
pub(super) fn expand(text: &str, lookup: impl Fn(&str) -> Option<String>) -> Result<String, Wrong> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        if rest[..start].ends_with('$') {
            out.push_str(&rest[..start - 1]);
            out.push_str("${");
            rest = &rest[start + 2..];
            continue;
        }
        out.push_str(&rest[..start]);
        let body = &rest[start + 2..];
        let end = body.find('}').ok_or_else(|| {
            Wrong::new(
                "`${` has no closing `}`",
                "write `${VAR}`, or `$${` for the two characters themselves",
            )
        })?;
        out.push_str(&reference(&body[..end], &lookup)?);
        rest = &body[end + 1..];
    }
    out.push_str(rest);
    Ok(out)
}

fn reference(body: &str, lookup: impl Fn(&str) -> Option<String>) -> Result<String, Wrong> {
    let (name, default) = match body.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (body, None),
    };
    let starts_well = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if !starts_well || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        // What stands there may be part of a secret, so the message does not show it.
        return Err(Wrong::new(
            "what stands in `${…}` is not the name of a variable",
            "write `${VAR}` or `${VAR:-default}`",
        ));
    }
    match (lookup(name), default) {
        (Some(value), Some(default)) if value.is_empty() => Ok(default.to_owned()),
        (Some(value), _) => Ok(value),
        (None, Some(default)) => Ok(default.to_owned()),
        (None, None) => Err(Wrong::new(
            format!("the environment variable `{name}` is not set"),
            format!("set it, or give a default: `${{{name}:-…}}`"),
        )),
    }
}

/// The known word a mistyped one most likely meant, if any is near enough.
pub(super) fn nearest<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let limit = (word.chars().count() / 3).clamp(1, 4);
    let plain = |word: &str| word.to_ascii_lowercase().replace('-', "_");
    known
        .into_iter()
        .map(|candidate| (distance(&plain(word), &plain(candidate)), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Edits between two words, a swap of neighbours counted as one.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) =
        (a.chars().take(80).collect(), b.chars().take(80).collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let substitution = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = substitution.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if 1 < i && 1 < j && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

/// A pattern of names.
pub(super) fn glob(text: &str) -> Result<Glob, Wrong> {
    Glob::new(text).ok_or_else(|| {
        Wrong::new(
            format!("a pattern has 1 to {GLOB_BYTES_MAX} characters"),
            "write one such as `llama3*` or `*embed*`",
        )
    })
}
