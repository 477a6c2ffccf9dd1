//! What Olla means by an endpoint's keys where that is not what we mean.

use super::super::node::NODES_MAX;
use super::super::problem::Place;
use super::super::profiles::builtin;
use super::super::raw::{Tree, Value};
use super::super::url;
use super::yaml::{Line, Written};
use super::{Import, NODES};

impl Import {
    pub(super) fn items(&mut self, path: &str, below: &str, items: &[Tree]) -> Vec<Vec<Line>> {
        let mut out: Vec<Vec<Line>> = Vec::new();
        for item in items.iter().take(NODES_MAX) {
            let Value::Map(entries) = &item.value else {
                let what = format!(
                    "an item of `{path}` is left out: it cannot be {}",
                    item.value.noun()
                );
                out.push(vec![self.lose(item.at, what)]);
                continue;
            };
            let mut lines = self.mapping(below, entries);
            if path == NODES {
                // An item is known by its first line.
                lines.sort_by_key(|line| line.key != "url");
                self.node(&mut lines, item.at);
                self.overwrite(&mut out, &mut lines, item.at);
            }
            out.push(lines);
        }
        if let Some(item) = items.get(NODES_MAX) {
            let what = format!("`{path}` goes on here; only {NODES_MAX} are served");
            out.push(vec![self.lose(item.at, what)]);
        }
        out
    }

    /// Of two nodes with one URL the later is the one that Olla keeps. A name that is taken is no name.
    fn overwrite(&mut self, out: &mut [Vec<Line>], later: &mut [Line], place: Place) {
        let address = |lines: &[Line]| find(lines, "url").and_then(|url| url::parse(&url).ok());
        let url = address(later);
        for lines in out.iter_mut().filter(|_| url.is_some()) {
            if address(lines) == url {
                let what =
                    "an earlier node with the same URL is left out: Olla keeps the last of them";
                *lines = vec![self.lose(place, what.to_owned())];
            }
        }
        let name = find(later, "name");
        if name.is_some() && out.iter().any(|lines| find(lines, "name") == name) {
            let what = "`name` is left out: another node has it, and `host:port` is a node's own";
            let gone = self.lose(place, what.to_owned());
            replace(later, "name", gone);
        }
    }

    /// What Olla means by a node's keys where that differs.
    fn node(&mut self, lines: &mut Vec<Line>, place: Place) {
        if find(lines, "url").is_none() {
            let what = "a node without `url` is left out".to_owned();
            *lines = vec![self.lose(place, what)];
            return;
        }
        if let Some(kind) = find(lines, "type")
            && kind != "openai"
            && builtin().find(&kind).is_none()
        {
            let line = Line::new("type", Written::Scalar("openai-compatible".to_owned()));
            let what = format!(
                "Olla does not know the type `{kind}` either and takes the node for an OpenAI-compatible one"
            );
            replace(lines, "type", line.because(what));
        }
        let url = find(lines, "url").and_then(|url| url::parse(&url).ok());
        let Some(url) = url else {
            return;
        };
        let asks = lines.iter().any(|line| line.key == "preserve_path");
        if !url.base_path.is_empty() && !asks {
            let line = Line::new("preserve_path", Written::Scalar("false".to_owned()));
            lines.push(line.because(
                "what it is in Olla when not written; true puts the URL's path in front of calls",
            ));
        }
        for key in ["health_check_url", "model_url"] {
            let Some(written) = find(lines, key).filter(|written| written.contains("://")) else {
                continue;
            };
            let same = url::parse(&written).ok().filter(|other| {
                (&other.host, other.port, other.tls) == (&url.host, url.port, url.tls)
            });
            let path = same.and_then(|other| {
                let rest = other.base_path.strip_prefix(&url.base_path)?;
                (rest.is_empty() || rest.starts_with('/'))
                    .then(|| format!("/{}", rest.trim_start_matches('/')))
            });
            let line = match path {
                Some(path) => Line::new(key, Written::Scalar(path))
                    .because("a path of the node here, not a URL"),
                None => self.lose(
                    place,
                    format!(
                        "`{key}` is left out: it leads to another server than the node's `url`"
                    ),
                ),
            };
            replace(lines, key, line);
        }
    }
}

fn find(lines: &[Line], key: &str) -> Option<String> {
    let line = lines.iter().find(|line| line.key == key);
    line.and_then(Line::scalar).map(str::to_owned)
}

fn replace(lines: &mut [Line], key: &str, line: Line) {
    if let Some(old) = lines.iter_mut().find(|line| line.key == key) {
        *old = line;
    }
}
