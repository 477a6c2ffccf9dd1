//! `placement`: what is put into the nodes' memory without a request that asks for it.

use std::time::Duration;

use super::NodeConfig;
use super::problem::Problem;
use super::registry::model_key;
use super::schema::Form;
use super::section::Section;
use super::text::{Wrong, nearest, number};
use crate::model::ModelKey;

const PINNED_MAX: usize = 1000;
const NODES_MAX: usize = 1000;
const COPIES_MAX: u32 = 1000;
const ITEM: &str = "placement.pinned[]";

/// What is put into the nodes' memory without a request that asks for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// Whether a model that many wait for is loaded on one more node.
    pub preload: bool,
    /// Requests that must wait for it at once, 1 to 1,000,000.
    pub queue_depth: u32,
    /// For how long so many must have waited without a break. Never 0.
    pub sustained: Duration,
    /// How long a model and a node are left alone after that was done to them. Never 0.
    pub hold: Duration,
    /// Nodes that may have such a model in memory, 2 to 1000.
    pub copies_max: u32,
    /// Models that are kept in memory; no two are the same.
    pub pinned: Vec<Pinned>,
}

/// A model that is kept in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pinned {
    /// As written, for people.
    pub name: String,
    /// A model, or an alias.
    pub model: ModelKey,
    /// Names of the nodes that may keep it; empty is all.
    pub nodes: Vec<String>,
    /// On how many of them. Never 0.
    pub copies: usize,
}

impl Placement {
    /// Whether there is nothing to do.
    pub fn is_off(&self) -> bool {
        !self.preload && self.pinned.is_empty()
    }
}

/// Reads the section. `has_dns`: nodes may exist whose names are not known yet.
pub(super) fn placement(mut s: Section, nodes: &[NodeConfig], has_dns: bool) -> Placement {
    let placement = Placement {
        preload: s.flag("preload", false),
        queue_depth: s.number("queue_depth", 8, 1..=1_000_000),
        sustained: s.duration("sustained", Duration::from_secs(5)),
        hold: s.duration("hold", Duration::from_secs(30)),
        copies_max: s.number("max_copies", 2, 2..=COPIES_MAX),
        pinned: pinned(&mut s, nodes, has_dns),
    };
    s.close();
    placement
}

fn pinned(s: &mut Section, nodes: &[NodeConfig], has_dns: bool) -> Vec<Pinned> {
    s.learn("pinned", Form::Items(ITEM));
    let (items, place) = s.list("pinned").unwrap_or((&[], s.place));
    if items.is_empty() {
        // Reading an absent item makes the keys known, for hints and the documentation's test.
        pin(Section::new(s.reading, ITEM, None), nodes, has_dns, true);
    }
    if PINNED_MAX < items.len() {
        let message = format!("more than {PINNED_MAX} models in `placement.pinned`");
        s.reading.report(Problem::new(place, message));
    }
    let mut out: Vec<Pinned> = Vec::new();
    for item in items.iter().take(PINNED_MAX) {
        let section = Section::new(s.reading, ITEM, Some(item));
        let Some(read) = pin(section, nodes, has_dns, false) else {
            continue;
        };
        if out.iter().any(|other| other.model == read.model) {
            let message = format!("`{}` is pinned twice", read.name);
            let hint = "put the nodes of both into one item";
            s.reading.report(Problem::new(item.at, message).hint(hint));
        }
        out.push(read);
    }
    out
}

/// One pinned model; none without a legal name. `absent` reads only to learn the keys.
fn pin(mut s: Section, nodes: &[NodeConfig], has_dns: bool, absent: bool) -> Option<Pinned> {
    s.need("model");
    let written = s.text("model");
    if !s.is_written("model") && !absent {
        let message = "an item of `placement.pinned` has no `model`";
        let hint = "write one, such as `model: llama3.2:3b`";
        s.reading.report(Problem::new(s.place, message).hint(hint));
    }
    let model = written.and_then(|set| {
        s.judge(&set, None, |text| {
            model_key(text).map(|key| Some((text.to_owned(), key)))
        })
    });
    let names = s.scalars("nodes").unwrap_or_default();
    let names = names.iter().take(NODES_MAX);
    let names: Vec<String> = names
        .filter_map(|set| {
            s.judge(set, None, |text| {
                node_name(text, nodes, has_dns).map(|()| Some(text.to_owned()))
            })
        })
        .collect();
    s.learn("copies", Form::Number(None, 1..=COPIES_MAX, None));
    let copies = s.parse("copies", None, |text| {
        number(text, &(1..=COPIES_MAX)).map(Some)
    });
    s.close();
    let (name, model) = model?;
    // Whoever names nodes means all of them, unless something else is said.
    let copies = copies.map_or(names.len().max(1), |copies| copies as usize);
    Some(Pinned {
        name,
        model,
        nodes: names,
        copies,
    })
}

fn node_name(text: &str, nodes: &[NodeConfig], has_dns: bool) -> Result<(), Wrong> {
    let mut names = nodes.iter().map(|node| node.name.as_str());
    if has_dns || names.clone().any(|name| name == text) {
        return Ok(());
    }
    let hint = match nearest(text, &mut names) {
        Some(near) => format!("did you mean `{near}`?"),
        None => "write the name of an enabled node".to_owned(),
    };
    Err(Wrong::new(format!("no node is named `{text}`"), hint))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Sources;
    use crate::config::check::load;

    fn read(keys: &str) -> Placement {
        let text = format!(
            "endpoints: [{{ url: \"http://a\", name: gpu-1 }}, {{ url: \"http://b\", name: gpu-2 }}]\nplacement: {{ {keys} }}"
        );
        let sources = Sources {
            file: Some(("test.yaml", &text)),
            ..Sources::nothing()
        };
        load(&sources)
            .unwrap_or_else(|error| panic!("{error}"))
            .placement
    }

    #[test]
    fn nothing_is_placed_unless_it_is_said() {
        let off = read("");
        assert!(off.is_off());
        assert!(!read("preload: true").is_off());
        assert!(!read("pinned: [{ model: a }]").is_off());
        let written = read(
            "preload: true, queue_depth: 3, sustained: 20ms, hold: 1m, max_copies: 4, pinned: []",
        );
        let expected = Placement {
            preload: true,
            queue_depth: 3,
            sustained: Duration::from_millis(20),
            hold: Duration::from_secs(60),
            copies_max: 4,
            pinned: Vec::new(),
        };
        assert_eq!(written, expected);
    }

    #[test]
    fn a_pinned_model_has_a_copy_or_one_on_each_named_node_or_as_many_as_are_written() {
        let nodes = "nodes: [gpu-2, gpu-1]";
        for (keys, copies) in [
            ("model: A".to_owned(), 1),
            (format!("model: A, {nodes}"), 2),
            (format!("model: A, {nodes}, copies: 1"), 1),
            ("model: A, copies: 3".to_owned(), 3),
        ] {
            let read = read(&format!("pinned: [{{ {keys} }}]"));
            let pinned = &read.pinned[0];
            assert_eq!(pinned.copies, copies, "{keys}");
            assert_eq!(pinned.model.as_str(), "a:latest");
            assert_eq!(pinned.nodes.is_empty(), !keys.contains("nodes"));
        }
    }
}
