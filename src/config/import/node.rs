//! What Olla means by an endpoint's keys where that is not what we mean.

use super::super::node::NODES_MAX;
use super::super::problem::Place;
use super::super::profiles::builtin;
use super::super::raw::{Tree, Value};
use super::super::{NodeUrl, text, url};
use super::yaml::{Line, Written};
use super::{Import, NODES, at};

impl Import {
    pub(super) fn items(&mut self, path: &str, below: &str, items: &[Tree]) -> Vec<Vec<Line>> {
        let mut out: Vec<Vec<Line>> = Vec::new();
        for item in items.iter().take(NODES_MAX) {
            let Value::Map(entries) = &item.value else {
                let why = format!("it cannot be {}", item.value.noun());
                out.push(vec![match path {
                    NODES => self.lose_node(&[], item.at, &why),
                    _ => self.lose(item.at, format!("an item of `{path}` is left out: {why}")),
                }]);
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
        for item in items.iter().skip(NODES_MAX) {
            let why = format!("only {NODES_MAX} are served");
            out.push(vec![self.lose_node(&[], item.at, &why)]);
        }
        out
    }

    /// A comment in place of a node, which is told to whoever imports.
    pub(super) fn lose_node(&mut self, lines: &[Line], place: Place, why: &str) -> Line {
        let node = called(lines, place);
        let line = self.lose(place, format!("{node} is left out: {why}"));
        self.lost_nodes.push(node);
        line
    }

    /// Says so where all nodes are gone, since ours then serves another.
    pub(super) fn warn_of_no_node(&mut self, lines: &mut Vec<Line>) {
        let left = at(lines, &["discovery", "static", "endpoints"]);
        if !self.lost_nodes.is_empty() && left.is_none_or(Line::is_gone) {
            let what = "no node is left: the nodes are those of `OLLAMA_BASE_URLS`, else http://127.0.0.1:11434";
            let line = self.lose(Place::Nowhere, what.to_owned());
            lines.insert(0, line);
        }
    }

    /// Of two nodes with one URL the later is the one that Olla keeps. A name that is taken is no name.
    fn overwrite(&mut self, out: &mut [Vec<Line>], later: &mut [Line], place: Place) {
        let address = |lines: &[Line]| find(lines, "url").and_then(|url| url::parse(&url).ok());
        let url = address(later);
        for lines in out.iter_mut().filter(|_| url.is_some()) {
            if address(lines) == url {
                let what = format!(
                    "{} is left out: a later one has the same URL, and Olla keeps the last of them",
                    called(lines, place)
                );
                *lines = vec![self.lose(place, what)];
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
        let Some(written) = find(lines, "url") else {
            *lines = vec![self.lose_node(lines, place, "it has no `url`")];
            return;
        };
        let written = without_v1(lines, written, place);
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
        let url = url::parse(&written).ok();
        // What a variable holds may have a path.
        let may_have_path = match &url {
            Some(url) => !url.base_path.is_empty(),
            None => written.contains("${"),
        };
        if may_have_path {
            self.settle_path(lines, place);
        }
        if let Some(url) = url {
            self.probe_paths(lines, &url, place);
        }
    }

    /// Where `preserve_path` says nothing, Olla and we mean opposite things.
    fn settle_path(&mut self, lines: &mut Vec<Line>, place: Place) {
        if let Some(said) = find(lines, "preserve_path") {
            match text::flag(&said) {
                Err(wrong) if !said.contains("${") => {
                    let what = format!(
                        "`preserve_path`: {}; false is Olla's default",
                        wrong.message
                    );
                    let gone = self.lose(place, what);
                    replace(lines, "preserve_path", gone);
                }
                _ => return,
            }
        }
        let line = Line::new("preserve_path", Written::Scalar("false".to_owned()));
        lines.push(line.because(
            "what it is in Olla when not written; true puts the URL's path in front of calls",
        ));
    }

    /// Olla takes whole URLs for its probes, too.
    fn probe_paths(&mut self, lines: &mut [Line], url: &NodeUrl, place: Place) {
        for key in PROBES {
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

/// The keys whose paths Olla puts behind the URL.
const PROBES: [&str; 2] = ["health_check_url", "model_url"];

/// The node's URL, without a `/v1` at its end: here that is part of the paths.
fn without_v1(lines: &mut [Line], written: String, place: Place) -> String {
    let cut = written.trim_end_matches('/').strip_suffix("/v1");
    // `http://v1` is a host.
    let Some(cut) = cut.filter(|cut| !cut.ends_with('/')).map(str::to_owned) else {
        return written;
    };
    let line = Line::new("url", Written::Scalar(cut.clone()));
    replace(lines, "url", line);
    let node = called(lines, place);
    if let Some(url) = lines.iter_mut().find(|line| line.key == "url") {
        let what = format!("of {node}'s URL `/v1` is left out, which is part of the paths here");
        url.comments.push(what);
    }
    for key in PROBES {
        let path = find(lines, key).filter(|path| path.starts_with('/'));
        if let Some(path) = path.filter(|path| !path.starts_with("/v1/")) {
            let line = Line::new(key, Written::Scalar(format!("/v1{path}")));
            replace(lines, key, line.because("behind the URL's `/v1` in Olla"));
        }
    }
    cut
}

/// How people call a node: by its name, else its address, else its place in the file.
pub(super) fn called(lines: &[Line], place: Place) -> String {
    let url = || find(lines, "url").and_then(|url| url::parse(&url).ok());
    match (find(lines, "name"), place) {
        (Some(name), _) => format!("node `{name}`"),
        (None, Place::At { line, .. }) => match url() {
            Some(url) => format!("node `{}`", url.authority()),
            None => format!("the node of line {line}"),
        },
        (None, Place::Nowhere) => "a node".to_owned(),
    }
}

fn find(lines: &[Line], key: &str) -> Option<String> {
    let line = lines.iter().find(|line| line.key == key);
    line.and_then(Line::scalar).map(str::to_owned)
}

/// Puts a line in a key's place, and keeps where that stood in Olla's file.
fn replace(lines: &mut [Line], key: &str, line: Line) {
    if let Some(old) = lines.iter_mut().find(|line| line.key == key) {
        *old = line.from(old.from);
    }
}
