//! The imported file before it is text: keys in order, with what is to be said about them, and lines that can be traced back.

use std::fmt::Write as _;

use super::super::problem::Place;

/// One key, or only what is said about one that is gone.
pub(super) struct Line {
    pub(super) key: String,
    pub(super) value: Written,
    /// One comment each, above the key.
    pub(super) comments: Vec<String>,
    /// Where it stands in Olla's file.
    pub(super) from: Place,
}

/// A key's value.
pub(super) enum Written {
    /// Nothing: the comments stand alone.
    Gone,
    /// As it was written, quotes aside.
    Scalar(String),
    /// Scalars, on one line.
    List(Vec<String>),
    Map(Vec<Line>),
    /// Mappings, one item each.
    Items(Vec<Vec<Line>>),
}

impl Line {
    pub(super) fn new(key: &str, value: Written) -> Line {
        Line {
            key: key.to_owned(),
            value,
            comments: Vec::new(),
            from: Place::Nowhere,
        }
    }

    pub(super) fn gone(comment: String) -> Line {
        Line {
            comments: vec![comment],
            ..Line::new("", Written::Gone)
        }
    }

    pub(super) fn from(self, from: Place) -> Line {
        Line { from, ..self }
    }

    pub(super) fn because(mut self, comment: impl Into<String>) -> Line {
        self.comments.push(comment.into());
        self
    }

    pub(super) fn scalar(&self) -> Option<&str> {
        match &self.value {
            Written::Scalar(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn is_gone(&self) -> bool {
        match &self.value {
            Written::Gone => true,
            Written::Scalar(_) | Written::List(_) => false,
            Written::Map(lines) => lines.iter().all(Line::is_gone),
            Written::Items(items) => items.iter().flatten().all(Line::is_gone),
        }
    }
}

/// Where a line of text came from: the places of the lines in their lists, outermost first. An item counts as one step.
pub(super) type Trail = Vec<usize>;

/// Text, and for each of its lines where it came from.
#[derive(Default)]
pub(super) struct Text {
    pub(super) yaml: String,
    pub(super) trails: Vec<Trail>,
}

impl Text {
    /// Writes lines as YAML. `stand_in` may give another value for a scalar, or leave it out.
    pub(super) fn of(lines: &[Line], stand_in: &dyn Fn(&str, &str) -> Option<String>) -> Text {
        let mut text = Text::default();
        text.lines(lines, 0, "", &mut Vec::new(), stand_in);
        text
    }

    fn lines(
        &mut self,
        lines: &[Line],
        indent: usize,
        first: &str,
        trail: &mut Trail,
        stand_in: &dyn Fn(&str, &str) -> Option<String>,
    ) {
        // A dash stands in front of the first key of an item; comments come before it.
        let mut dash = first;
        for (at, line) in lines.iter().enumerate() {
            trail.push(at);
            let margin = " ".repeat(indent);
            self.comments(line, &margin, trail);
            if !line.is_gone() {
                let lead = match dash {
                    "" => margin,
                    dash => format!("{}{dash}", " ".repeat(indent.saturating_sub(dash.len()))),
                };
                if self.line(line, &lead, indent, trail, stand_in) {
                    dash = "";
                }
            }
            trail.pop();
        }
    }

    /// What is said about a line; where nothing else is left of it, what is said inside it too.
    fn comments(&mut self, line: &Line, margin: &str, trail: &Trail) {
        for comment in &line.comments {
            self.push(&format!("{margin}# olla: {}", one_line(comment)), trail);
        }
        if line.is_gone() {
            let inside: Vec<&Line> = match &line.value {
                Written::Map(lines) => lines.iter().collect(),
                Written::Items(items) => items.iter().flatten().collect(),
                _ => Vec::new(),
            };
            for line in inside {
                self.comments(line, margin, trail);
            }
        }
    }

    /// Whether anything was written.
    fn line(
        &mut self,
        line: &Line,
        lead: &str,
        indent: usize,
        trail: &mut Trail,
        stand_in: &dyn Fn(&str, &str) -> Option<String>,
    ) -> bool {
        let key = scalar(&line.key);
        match &line.value {
            Written::Gone => return false,
            Written::Scalar(text) => match stand_in(&line.key, text) {
                Some(text) => self.push(&format!("{lead}{key}: {}", scalar(&text)), trail),
                None => return false,
            },
            Written::List(items) => {
                let items: Vec<String> = items
                    .iter()
                    .filter_map(|item| stand_in("", item))
                    .map(|item| scalar(&item))
                    .collect();
                self.push(&format!("{lead}{key}: [{}]", items.join(", ")), trail);
            }
            Written::Map(lines) => {
                self.push(&format!("{lead}{key}:"), trail);
                self.lines(lines, indent + 2, "", trail, stand_in);
            }
            Written::Items(items) => {
                self.push(&format!("{lead}{key}:"), trail);
                for (at, lines) in items.iter().enumerate() {
                    trail.push(at);
                    self.lines(lines, indent + 4, "- ", trail, stand_in);
                    trail.pop();
                }
            }
        }
        true
    }

    fn push(&mut self, line: &str, trail: &Trail) {
        self.yaml.push_str(line);
        self.yaml.push('\n');
        self.trails.push(trail.clone());
    }
}

/// The lines of a mapping, which is made if it is not there.
pub(super) fn below(lines: &mut Vec<Line>, key: &str, change: impl FnOnce(&mut Vec<Line>)) {
    let there = lines.iter_mut().find_map(|line| match &mut line.value {
        Written::Map(inner) if line.key == key => Some(inner),
        _ => None,
    });
    match there {
        Some(inner) => change(inner),
        None => {
            let mut inner = Vec::new();
            change(&mut inner);
            lines.push(Line::new(key, Written::Map(inner)));
        }
    }
}

/// Puts a line in place of the one that a trail leads to, and tells where that one stood in Olla's file; of an item's first line,
/// in place of the whole item.
pub(super) fn put(lines: &mut [Line], trail: &[usize], line: Line) -> Option<Place> {
    if let Some(item) = item(lines, trail) {
        let from = item.first()?.from;
        *item = vec![line];
        return Some(from);
    }
    let (at, rest) = trail.split_first()?;
    let old = lines.get_mut(*at)?;
    match (&mut old.value, rest) {
        (_, []) => {
            let from = old.from;
            *old = line;
            Some(from)
        }
        (Written::Map(lines), rest) => put(lines, rest, line),
        (Written::Items(items), [item, rest @ ..]) => put(items.get_mut(*item)?, rest, line),
        _ => None,
    }
}

/// The item whose first line a trail leads to.
pub(super) fn item<'l>(lines: &'l mut [Line], trail: &[usize]) -> Option<&'l mut Vec<Line>> {
    let (at, rest) = trail.split_first()?;
    match (&mut lines.get_mut(*at)?.value, rest) {
        (Written::Items(items), [item, 0]) => items.get_mut(*item),
        (Written::Items(items), [at, rest @ ..]) => item(items.get_mut(*at)?, rest),
        (Written::Map(lines), rest) => item(lines, rest),
        _ => None,
    }
}

/// A text that says the same on one line of a comment.
pub(super) fn one_line(text: &str) -> String {
    text.chars()
        .map(|c| {
            if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}') {
                ' '
            } else {
                c
            }
        })
        .collect()
}

/// A text as a YAML scalar that reads back as the same text.
fn scalar(text: &str) -> String {
    let plain =
        |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-' | '/' | '+' | ':');
    let starts = text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '/');
    let is_null = text.eq_ignore_ascii_case("null");
    if starts && text.chars().all(plain) && !text.ends_with(':') && !is_null {
        return text.to_owned();
    }
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            // Writing into a String cannot fail.
            c if one_line(c.encode_utf8(&mut [0; 4])) == " " && c != ' ' => {
                let _ = write!(out, "\\U{:08x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::super::raw;
    use super::*;

    proptest! {
        #[test]
        fn a_scalar_reads_back(text in "\\PC{0,12}|[ -~\n\t\\x00-\\x1f]{0,12}|[0-9._+:x-]{1,6}|null|true|~|off") {
            let lines = [Line::new("key", Written::Scalar(text.clone()))];
            let yaml = Text::of(&lines, &|_, text| Some(text.to_owned())).yaml;
            let tree = raw::parse(&yaml).map_err(|problem| TestCaseError::fail(problem.message))?;
            let raw::Value::Map(entries) = tree.value else {
                return Err(TestCaseError::fail(yaml));
            };
            match &entries[0].tree.value {
                raw::Value::Scalar(read) => prop_assert_eq!(read, &text),
                other => prop_assert!(false, "{} {:?}", yaml, other),
            }
        }
    }
}
