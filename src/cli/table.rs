//! Tables for people at a terminal: aligned, plain ASCII.

use std::fmt::Write as _;

/// Longest name shown, characters.
pub(super) const NAME_CHARS_MAX: usize = 40;

/// Lines of cells, each column as wide as its widest cell.
pub(super) fn aligned<const N: usize>(lines: &[[String; N]]) -> String {
    let width = |column: usize| {
        let lengths = lines.iter().map(|cells| cells[column].len());
        lengths.max().unwrap_or_default()
    };
    let widths: [usize; N] = std::array::from_fn(width);
    let mut text = String::new();
    for cells in lines {
        let mut line = String::new();
        for (cell, width) in cells.iter().zip(widths) {
            // Writing into a String cannot fail.
            let _ = write!(line, "{cell:width$}  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// A node may have written the text; it must not steer the terminal.
pub(super) fn plain(text: &str, chars_max: usize) -> String {
    let shown = |c: char| match c {
        ' '..='~' => c,
        _ => '?',
    };
    text.chars().take(chars_max).map(shown).collect()
}

/// As a part of a path or a query.
pub(super) fn percent_encoded(name: &str) -> String {
    name.bytes().fold(String::new(), |mut text, byte| {
        match byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            true => text.push(char::from(byte)),
            // Writing into a String cannot fail.
            false => drop(write!(text, "%{byte:02X}")),
        }
        text
    })
}

/// What to say of an answer that cannot be read.
pub(super) fn unreadable(error: &serde_json::Error) -> String {
    format!(
        "the gateway's answer can't be read: {error}; its version may be another one than this command's"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_words_stay_in_their_cell() {
        assert_eq!(plain("a\u{1b}[31m\nb\u{e9}", 40), "a?[31m?b?");
        assert_eq!(plain(&"x".repeat(1000), 40).len(), 40);
        assert_eq!(percent_encoded("a/b c\u{e9}"), "a%2Fb%20c%C3%A9");
    }
}
