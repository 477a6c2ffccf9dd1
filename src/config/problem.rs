//! What is wrong with a configuration, told with file, line, column, the excerpt, a caret and a hint.

use std::fmt::{self, Write as _};

use super::secrets::{mask, starred};

/// Where something was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    /// Line and column count from 1, in characters.
    At {
        line: usize,
        column: usize,
        chars: usize,
    },
    /// In no line: a default, the environment (the message names the variable), or the file as a whole.
    Nowhere,
}

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) place: Place,
    pub(super) message: String,
    pub(super) hint: Option<String>,
}

impl Problem {
    pub(super) fn new(place: Place, message: impl Into<String>) -> Problem {
        Problem {
            place,
            message: message.into(),
            hint: None,
        }
    }

    pub(super) fn hint(self, hint: impl Into<String>) -> Problem {
        Problem {
            hint: Some(hint.into()),
            ..self
        }
    }
}

/// Why a configuration was refused: every mistake found, ready to print. Values that look like secrets are starred out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    rendered: String,
}

/// More mistakes than this are counted, not shown.
const SHOWN_MAX: usize = 20;

impl ConfigError {
    pub(super) fn new(file: Option<(&str, &str)>, mut problems: Vec<Problem>) -> ConfigError {
        problems.sort_by_key(|problem| problem.place);
        problems.dedup();
        let lines = file.map_or_else(Vec::new, |(_, text)| starred(text));
        let name = file.map(|(name, _)| name);
        let mut parts: Vec<String> = problems
            .iter()
            .take(SHOWN_MAX)
            .map(|problem| render(problem, name, &lines))
            .collect();
        if SHOWN_MAX < problems.len() {
            parts.push(format!("and {} more", problems.len() - SHOWN_MAX));
        }
        ConfigError {
            rendered: parts.join("\n\n"),
        }
    }
}

impl ConfigError {
    /// The mistakes of several files as one error.
    pub(super) fn all(errors: Vec<ConfigError>) -> ConfigError {
        let rendered: Vec<String> = errors.into_iter().map(|error| error.rendered).collect();
        ConfigError {
            rendered: rendered.join("\n\n"),
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.rendered)
    }
}

impl std::error::Error for ConfigError {}

fn render(problem: &Problem, name: Option<&str>, lines: &[String]) -> String {
    let message = printable(&problem.message);
    let mut out = match (problem.place, name) {
        (
            Place::At {
                line,
                column,
                chars,
            },
            Some(name),
        ) => {
            let excerpt = excerpt(lines, line, column, chars);
            format!("{name}:{line}:{column}: {message}{excerpt}")
        }
        (_, Some(name)) => format!("{name}: {message}"),
        (_, None) => format!("configuration: {message}"),
    };
    if let Some(hint) = &problem.hint {
        out.push_str("\n  hint: ");
        out.push_str(&printable(hint));
    }
    out
}

/// Longer lines are generated ones, which no excerpt makes clearer.
const LINE_CHARS_MAX: usize = 400;

/// The line before, the line, and a caret under what is meant.
fn excerpt(lines: &[String], line: usize, column: usize, chars: usize) -> String {
    let width = line.to_string().len();
    let shown = |number: usize| {
        let text = lines.get(number.checked_sub(1)?)?.trim_end();
        (text.chars().take(LINE_CHARS_MAX + 1).count() <= LINE_CHARS_MAX).then_some(text)
    };
    let Some(text) = shown(line) else {
        return String::new();
    };
    let mut out = String::new();
    for (number, text) in [(line - 1, shown(line - 1)), (line, Some(text))] {
        if let Some(text) = text {
            // Writing into a String cannot fail.
            let _ = write!(out, "\n  {number:>width$} | {}", printable(&mask(text)));
        }
    }
    let carets = chars
        .min((text.chars().count() + 1).saturating_sub(column))
        .max(1);
    let blank = " ".repeat(column.saturating_sub(1).min(LINE_CHARS_MAX));
    let _ = write!(out, "\n  {:width$} | {blank}{}", "", "^".repeat(carets));
    out
}

/// Control characters would move the caret or drive a terminal.
fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}
