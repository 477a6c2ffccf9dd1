//! What the commented example says about each key: the schema's descriptions, and the proof that no key goes unexplained.

use std::collections::BTreeMap;

/// The example, which the program carries with it.
pub(super) const EXAMPLE: &str = include_str!("../../conf/arriero.yaml");

/// A DNS name takes an endpoint's keys, which are explained there.
const SHARED: (&str, &str) = ("discovery.dns[].", "discovery.static.endpoints[].");

/// Comments by path, such as `discovery.static.endpoints[].url`.
pub(super) struct Comments(BTreeMap<String, String>);

impl Comments {
    /// Reads a file with two spaces per level and one key per line; keys that are commented out count if they have a comment
    /// themselves.
    pub(super) fn of(text: &str) -> Comments {
        let mut out = BTreeMap::new();
        let mut stack: Vec<(usize, String)> = Vec::new();
        for line in text.lines() {
            let line = uncommented(line);
            let dash = indentation(&line);
            let line = if line.trim_start().starts_with("- ") {
                stack.retain(|(depth, _)| *depth < dash);
                if let Some((_, list)) = stack.last_mut().filter(|(_, key)| !key.ends_with("[]")) {
                    list.push_str("[]");
                }
                line.replacen("- ", "  ", 1)
            } else {
                line
            };
            let Some((key, rest)) = line.trim_start().split_once(':') else {
                continue;
            };
            if !is_key(key) {
                continue;
            }
            let indent = indentation(&line);
            stack.retain(|(depth, _)| *depth < indent);
            stack.push((indent, key.to_owned()));
            if let Some((_, comment)) = rest.split_once(" # ") {
                let path: Vec<&str> = stack.iter().map(|(_, key)| key.as_str()).collect();
                out.insert(path.join("."), comment.trim().to_owned());
            }
        }
        Comments(out)
    }

    /// What is said about a key.
    pub(super) fn about(&self, path: &str) -> Option<&str> {
        let (shares, with) = SHARED;
        let shared = || {
            let key = path.strip_prefix(shares)?;
            self.0.get(&format!("{with}{key}"))
        };
        self.0.get(path).or_else(shared).map(String::as_str)
    }

    #[cfg(test)]
    pub(super) fn paths(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

/// A line without its `# `, if what stands behind that is a key with a comment of its own.
fn uncommented(line: &str) -> String {
    let indent = indentation(line);
    let without = line[indent..].strip_prefix("# ").filter(|rest| {
        let inner = rest.trim_start();
        let inner = inner.strip_prefix("- ").unwrap_or(inner);
        inner
            .split_once(':')
            .is_some_and(|(key, value)| is_key(key) && value.contains(" # "))
    });
    match without {
        Some(rest) => format!("{}{rest}", &line[..indent]),
        None => line.to_owned(),
    }
}

fn indentation(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

fn is_key(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b == b'_' || b.is_ascii_digit())
}
