//! An Olla configuration as one of ours: what means the same is carried over as written, and of the rest it is told what became of it.
//!
//! Which keys mean the same is not listed here: Olla's keys kept their names and places where they did, so the keys that the
//! readers know decide, and `keys` knows about the others. What is left for this module are the few that need a thought.

mod node;
mod value;
mod yaml;

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::check::read;
use super::keys;
use super::problem::{ConfigError, Place, Problem};
use super::raw::{self, Entry, Tree, Value};
use super::schema::{Form, Known};
use super::{Sources, text};
use yaml::{Line, Text, Trail, Written, below, item, put};

/// What became of an Olla configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// A configuration of ours, with a comment `# olla: …` wherever it says something else than Olla's did.
    pub yaml: String,
    /// What Olla's file said and ours cannot, one sentence each.
    pub notes: Vec<String>,
    /// Nodes of Olla's file that ours is without, as people call them; `notes` tells why.
    pub lost_nodes: Vec<String>,
}

const HEAD: &str = "# Made by `arriero import-olla`. `# olla:` tells what became of keys that are not the same here.\n";
const NODES: &str = "discovery.static.endpoints";
/// What one refusal hides shows in the next round; files take two or three.
const ROUNDS_MAX: usize = 64;

/// Keys that do something in Olla and have no counterpart here; other keys that `keys` knows as Olla's are dead there.
const LOST: &[&str] = &[
    "server.read_timeout",
    "proxy.tls_handshake_timeout",
    "discovery.model_discovery.enabled",
    "translators",
    "logging.output",
];

/// Reads an Olla configuration and writes ours.
///
/// The result loads, unless a `${VAR}` in it is not set or a file with a secret cannot be read: neither is looked at here.
///
/// # Errors
/// The text is not YAML, or no mapping.
pub fn import_olla(name: &str, text: &str) -> Result<Imported, ConfigError> {
    let error = |problem| ConfigError::new(Some((name, text)), vec![problem]);
    let tree = raw::parse(text).map_err(error)?;
    let entries: &[Entry] = match &tree.value {
        Value::Map(entries) => entries,
        Value::Null => &[],
        other => {
            let message = format!(
                "an Olla configuration is a mapping of keys, and this is {}",
                other.noun()
            );
            return Err(error(Problem::new(tree.at, message)));
        }
    };
    let known = read(&nothing_set(None)).map_err(error)?.known;
    let mut import = Import {
        known,
        notes: Vec::new(),
        lost_nodes: Vec::new(),
    };
    let mut lines = import.mapping("", entries);
    trust_the_network(&mut lines);
    keep_admin_apart(&mut lines);
    import.refuse(&mut lines).map_err(error)?;
    import.warn_of_no_node(&mut lines);
    let body = Text::of(&lines, &|_, text| Some(text.to_owned())).yaml;
    Ok(Imported {
        yaml: format!("{HEAD}{body}"),
        notes: import.notes,
        lost_nodes: import.lost_nodes,
    })
}

fn nothing_set<'a>(file: Option<(&'a str, &'a str)>) -> Sources<'a> {
    Sources {
        file,
        read_file: &|_| Ok(b"secret".to_vec()),
        list_dir: &|_| Ok(Vec::new()),
        ..Sources::nothing()
    }
}

struct Import {
    known: Known,
    notes: Vec<String>,
    lost_nodes: Vec<String>,
}

impl Import {
    /// A comment that is also told to whoever imports.
    fn lose(&mut self, place: Place, what: String) -> Line {
        let line = match place {
            Place::At { line, .. } => format!("line {line}: "),
            Place::Nowhere => String::new(),
        };
        self.notes.push(yaml::one_line(&format!("{line}{what}")));
        Line::gone(what)
    }

    fn mapping(&mut self, path: &str, entries: &[Entry]) -> Vec<Line> {
        let mut lines: Vec<Line> = Vec::new();
        let mut short = None;
        let mut seen = BTreeSet::new();
        for entry in entries {
            let full = match path {
                "" => entry.key.clone(),
                _ => format!("{path}.{}", entry.key),
            };
            if !seen.insert(&entry.key) {
                let what = format!("`{}` is written twice; only the first counts", shown(&full));
                lines.push(self.lose(entry.at, what));
            } else if full == "endpoints" {
                short = Some(&entry.tree);
            } else {
                lines.extend(self.entry(&full, entry));
            }
        }
        if let Some(tree) = short {
            self.short_list(&mut lines, tree);
        }
        lines
    }

    /// What stands at the top level goes where Olla itself looks for it.
    fn short_list(&mut self, lines: &mut Vec<Line>, tree: &Tree) {
        let Some(list) = self.value(NODES, "endpoints", tree) else {
            return;
        };
        below(lines, "discovery", |lines| {
            below(lines, "static", |lines| {
                let there = lines.iter_mut().find(|line| line.key == "endpoints");
                match (there.map(|line| &mut line.value), list.value) {
                    (Some(Written::Items(others)), Written::Items(items)) => others.extend(items),
                    (_, value) => lines.push(Line { value, ..list }),
                }
            });
        });
    }

    fn entry(&mut self, path: &str, entry: &Entry) -> Option<Line> {
        let known = self.known.forms.contains_key(path);
        if known {
            return self.value(path, &entry.key, &entry.tree);
        }
        let name = shown(path);
        if let Some(advice) = keys::olla(path) {
            let why = advice
                .strip_prefix("remove it")
                .map_or(advice, |why| why.trim_start_matches([':', ';', ' ']));
            let what = format!("`{name}` is left out: {why}");
            // To discover models is what Olla does too unless told not to.
            let is_on = scalar(&entry.tree).is_some_and(|text| text::flag(text) == Ok(true));
            let as_before = path.ends_with(".enabled") && is_on;
            if LOST.contains(&path) && !as_before {
                return Some(self.lose(entry.at, what));
            }
            return Some(Line::gone(what));
        }
        let what = if keys::is_later(path) {
            format!("`{name}` is left out: it is not in this version yet")
        } else {
            format!("`{name}` is left out: neither Olla nor this version knows it")
        };
        Some(self.lose(entry.at, what))
    }

    /// A value of a key that is known here; none where nothing was written.
    fn value(&mut self, path: &str, key: &str, tree: &Tree) -> Option<Line> {
        let form = self.known.forms.get(path)?.clone();
        let value = match (&form, &tree.value) {
            (_, Value::Null) => return None,
            (Form::Mapping, Value::Map(entries)) => Written::Map(self.mapping(path, entries)),
            (Form::Free(values), Value::Map(entries)) => {
                Written::Map(self.free(path, values, entries))
            }
            (Form::Items(below), Value::List(items)) => {
                Written::Items(self.items(path, below, items))
            }
            (Form::List(_), Value::List(items)) => match scalars(items) {
                Some(items) => Written::List(items),
                None => return Some(self.unfit(path, tree)),
            },
            (Form::Mapping | Form::Free(_) | Form::Items(_) | Form::List(_), _) => {
                return Some(self.unfit(path, tree));
            }
            (Form::Duration { .. }, Value::Scalar(written)) => {
                return Some(self.single(path, key, value::duration(written), tree.at));
            }
            (_, Value::Scalar(written)) => {
                return Some(self.single(path, key, written.clone(), tree.at));
            }
            _ => return Some(self.unfit(path, tree)),
        };
        Some(Line::new(key, value).from(tree.at))
    }

    fn unfit(&mut self, path: &str, tree: &Tree) -> Line {
        let name = shown(path);
        let what = format!("`{name}` is left out: it cannot be {}", tree.value.noun());
        if NODES.starts_with(path) {
            self.lost_nodes.push(format!("all in `{name}`"));
        }
        self.lose(tree.at, what)
    }

    fn single(&mut self, path: &str, key: &str, written: String, place: Place) -> Line {
        let no_limit = text::duration(&written).is_ok_and(|limit| limit.is_zero());
        let line = Line::new(key, Written::Scalar(written)).from(place);
        match path {
            "server.write_timeout" if !no_limit => {
                let what = "`server.write_timeout` is left out: it ends whole answers in Olla, streams too; here it is how long a client may stop reading, and `proxy.response_timeout` ends whole answers";
                self.lose(place, what.to_owned())
            }
            "proxy.response_timeout" if !no_limit => {
                line.because("never in force in Olla; here an exchange that lasts longer is ended")
            }
            _ => line,
        }
    }

    /// Takes out what our own reader refuses, until it refuses nothing.
    fn refuse(&mut self, lines: &mut [Line]) -> Result<(), Problem> {
        for _ in 0..ROUNDS_MAX {
            let text = Text::of(lines, &stand_in);
            let mut problems = read(&nothing_set(Some(("imported", &text.yaml))))?.problems;
            problems.sort_by_key(|problem| problem.place);
            let Some(first) = problems.first() else {
                return Ok(());
            };
            let lost = Problem::new(Place::Nowhere, first.message.clone());
            let mut seen: BTreeSet<&Trail> = BTreeSet::new();
            for problem in problems {
                let trail = match problem.place {
                    Place::At { line, .. } => text.trails.get(line - 1),
                    Place::Nowhere => None,
                };
                if let Some(trail) = trail.filter(|trail| seen.insert(trail)) {
                    self.leave_out(lines, trail, &problem.message);
                }
            }
            if seen.is_empty() {
                return Err(lost);
            }
        }
        let message = "too much in the file is not legal here";
        Err(Problem::new(Place::Nowhere, message).hint("mend it by hand first"))
    }

    /// Takes out what a trail leads to. Of a node's URL that is the node, which nothing reaches without.
    fn leave_out(&mut self, lines: &mut [Line], trail: &Trail, why: &str) {
        if let Some(item) = item(lines, trail)
            && let Some(url) = item.first().filter(|line| line.key == "url")
        {
            *item = vec![self.lose_node(item, url.from, why)];
            return;
        }
        let what = format!("{why}; it is left out");
        if let Some(place) = put(lines, trail, Line::gone(what.clone())) {
            self.lose(place, what);
        }
    }
}

fn set(lines: &mut Vec<Line>, section: &str, key: &str, value: &str, why: &str) {
    below(lines, section, |lines| {
        if !lines.iter().any(|line| line.key == key) {
            lines.push(Line::new(key, Written::Scalar(value.to_owned())).because(why));
        }
    });
}

fn at<'l>(lines: &'l [Line], path: &[&str]) -> Option<&'l Line> {
    let (key, rest) = path.split_first()?;
    let line = lines.iter().find(|line| line.key == *key)?;
    match (&line.value, rest) {
        (_, []) => Some(line),
        (Written::Map(lines), rest) => at(lines, rest),
        _ => None,
    }
}

fn written<'l>(lines: &'l [Line], section: &str, key: &str) -> Option<&'l str> {
    at(lines, &[section, key])?.scalar()
}

/// Olla asks nobody for a key, wherever it listens.
fn trust_the_network(lines: &mut Vec<Line>) {
    let Some(host) = written(lines, "server", "host") else {
        return;
    };
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let open = bare
        .parse::<IpAddr>()
        .map_or(host.contains("${"), |address| !address.is_loopback());
    if open {
        let why =
            "Olla asks nobody for a key; to listen beyond this machine that must be said here";
        set(lines, "auth", "allow_open", "true", why);
    }
}

/// Olla has one listener, so its port may be the one that our second has unless told otherwise.
fn keep_admin_apart(lines: &mut Vec<Line>) {
    if written(lines, "server", "port") == Some("40115") {
        let why = "the second listener's own port, 40115, is taken by `server.port`";
        set(lines, "admin", "port", "40116", why);
    }
}

/// What a value with a variable in it may stand for while the rest is checked.
fn stand_in(key: &str, text: &str) -> Option<String> {
    if !text.contains("${") {
        return Some(text.to_owned());
    }
    text::expand(text, |_| Some("7".to_owned())).map_or_else(
        // The check is to find what is wrong with it.
        |_| Some(text.to_owned()),
        |_| match key {
            // Nodes must not become twins by what stands in.
            "url" => {
                let host = text.chars().filter(char::is_ascii_alphanumeric);
                Some(format!("http://{}", host.collect::<String>()))
            }
            "token" | "key" | "username" | "password" => Some("secret".to_owned()),
            _ => None,
        },
    )
}

fn scalar(tree: &Tree) -> Option<&str> {
    match &tree.value {
        Value::Scalar(text) => Some(text),
        _ => None,
    }
}

/// All items, if all are single values.
fn scalars(items: &[Tree]) -> Option<Vec<String>> {
    let items = items.iter().map(|item| scalar(item).map(str::to_owned));
    items.collect()
}

fn shown(path: &str) -> String {
    path.replace("[]", "")
}
