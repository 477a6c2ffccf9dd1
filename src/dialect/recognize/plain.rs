//! Paths that can be read in one way only: no dot segments, no escaped slashes, digests that are digests.

use std::borrow::Cow;

use super::shown;
use crate::error::Fault;

/// Whether no server could read this path in two ways: printable ASCII, no `.`, `..` or empty segments, no encoded slash or dot.
pub(super) fn is_plain(rest: &str) -> bool {
    let inside = rest.strip_prefix('/').unwrap_or(rest);
    rest.bytes()
        .all(|byte| byte.is_ascii_graphic() && byte != b'\\')
        && percent_decoded(rest).is_some()
        && (inside.is_empty()
            || !inside
                .split('/')
                .any(|segment| matches!(segment, "" | "." | "..")))
}

/// Decodes `%3A` and the like; `None` for what has no business in a path here: broken escapes, slashes, dots, percent signs, controls, non-ASCII.
pub(super) fn percent_decoded(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains('%') {
        return Some(Cow::Borrowed(text));
    }
    let mut parts = text.split('%');
    let mut decoded = parts.next().unwrap_or("").to_owned();
    for part in parts {
        let digits = part.get(..2)?;
        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        let byte = u8::from_str_radix(digits, 16).ok()?;
        if !byte.is_ascii_graphic() || b"/\\.%".contains(&byte) {
            return None;
        }
        decoded.push(char::from(byte));
        decoded.push_str(&part[2..]);
    }
    Some(Cow::Owned(decoded))
}

/// `sha256:` or `sha256-` and 64 hexadecimal digits; anything else could become a path on a node's disk.
pub(super) fn digest(tail: &str) -> Result<String, Fault> {
    let text = percent_decoded(tail).unwrap_or(Cow::Borrowed(tail));
    let hex = text
        .strip_prefix("sha256")
        .and_then(|rest| rest.strip_prefix([':', '-']))
        .filter(|hex| hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit()));
    match hex {
        Some(_) => Ok(text.into_owned()),
        None => Err(Fault::malformed(
            "invalid_digest",
            format!(
                "`{}` is not a digest: write `sha256:` and 64 hexadecimal digits",
                shown(tail)
            ),
        )),
    }
}
