//! The federated answers: many nodes' models as one big Ollama would list them.
//!
//! Shapes after `/api/tags`, `/api/ps`, `/api/version` and `/v1/models` of Ollama 0.24 to 0.33; `urls`, `connection_type` and
//! the integer `expires_at` are those of Open WebUI's merged list.

use std::collections::HashMap;
use std::fmt::Write;

use bytes::Bytes;

use crate::fleet::listing::{Fields, Installed, Loaded};
use crate::fleet::snapshot::{Holder, Index, Node};
use crate::profile::Listing;

/// `/api/tags`: one entry per model that any node ever told of, newest first.
pub(super) fn tags(nodes: &[Node], index: &Index) -> Bytes {
    let mut entries: Vec<_> = index
        .values()
        .map(|holders| (told(nodes, holders), holders))
        .collect();
    entries.sort_unstable_by(|((_, a), _), ((_, b), _)| {
        (b.modified, &a.name).cmp(&(a.modified, &b.name))
    });
    let expiries = expiries(nodes);
    let entries = entries.iter().map(|((teller, model), holders)| {
        let mut entry = Entry::default();
        match teller.config.profile.listing {
            Listing::Ollama => entry.keep(&model.raw, &["urls", "connection_type", "expires_at"]),
            Listing::OpenAi | Listing::LmStudio => imitate(&mut entry, model),
        }
        entry.name(&model.name);
        entry.field("urls", &urls(holders.iter().map(|holder| holder.at)));
        entry.field("connection_type", "\"local\"");
        let loaded_until = holders.iter().find_map(|holder| {
            let model = &nodes[holder.at].models()[holder.place];
            expiries.get(&(holder.at, runner(&model.digest, model.key.as_str())))
        });
        if let Some(unix_s) = loaded_until {
            entry.field("expires_at", &unix_s.to_string());
        }
        entry.finish()
    });
    list("{\"models\":[", entries, "]}")
}

/// `/api/ps`: what is loaded anywhere, one entry per digest, the one that stays longest first.
pub(super) fn ps(nodes: &[Node]) -> Bytes {
    let mut places: HashMap<&str, usize> = HashMap::new();
    let mut entries: Vec<(&Loaded, Vec<usize>)> = Vec::new();
    for (at, node) in nodes.iter().enumerate() {
        for model in node.loaded.iter() {
            let runner = runner(&model.digest, model.key.as_str());
            let place = *places.entry(runner).or_insert(entries.len());
            match entries.get_mut(place) {
                Some((_, urls)) if urls.last() == Some(&at) => (),
                Some((_, urls)) => urls.push(at),
                None => entries.push((model, vec![at])),
            }
        }
    }
    entries.sort_unstable_by(|(a, _), (b, _)| (b.expires, &a.name).cmp(&(a.expires, &b.name)));
    let entries = entries.into_iter().map(|(model, nodes)| {
        let mut entry = Entry::default();
        entry.keep(&model.raw, &["urls"]);
        entry.name(&model.name);
        entry.field("urls", &urls(nodes.into_iter()));
        entry.finish()
    });
    list("{\"models\":[", entries, "]}")
}

/// `/api/version`: the lowest one among the nodes that are up, so that no client counts on what a node lacks.
pub(super) fn version(nodes: &[Node]) -> Bytes {
    let known = |node: &Node| match node.config.profile.listing {
        Listing::Ollama => dotted(node.version.as_deref()?),
        Listing::OpenAi | Listing::LmStudio => None,
    };
    let up = nodes.iter().filter(|node| node.health.is_up());
    let lowest = up.filter_map(known).min();
    let lowest = lowest.or_else(|| nodes.iter().filter_map(known).min());
    let parts = lowest.unwrap_or_else(|| vec![0, 0, 0]);
    let parts: Vec<String> = parts.iter().map(u32::to_string).collect();
    format!("{{\"version\":\"{}\"}}", parts.join(".")).into()
}

/// `/v1/models`: the same models in OpenAI's shape, newest first.
pub(super) fn v1_models(nodes: &[Node], index: &Index) -> Bytes {
    let mut models: Vec<_> = index.values().map(|holders| told(nodes, holders)).collect();
    models.sort_unstable_by(|(_, a), (_, b)| (b.modified, &a.name).cmp(&(a.modified, &b.name)));
    let entries = models
        .iter()
        .map(|(teller, model)| v1_entry(teller, model, &model.name));
    list("{\"object\":\"list\",\"data\":[", entries, "]}")
}

/// `/v1/models/{asked}`; `holders` is not empty.
pub(super) fn v1_model(nodes: &[Node], holders: &[Holder], asked: &str) -> Bytes {
    let (teller, model) = told(nodes, holders);
    v1_entry(teller, model, asked).into()
}

/// Whose entry speaks for the model: the first Ollama node's, whose listing says most, else the first node's.
fn told<'a>(nodes: &'a [Node], holders: &[Holder]) -> (&'a Node, &'a Installed) {
    let is_ollama = |holder: &&Holder| nodes[holder.at].config.profile.listing == Listing::Ollama;
    let holder = holders.iter().find(is_ollama).unwrap_or(&holders[0]);
    let node = &nodes[holder.at];
    (node, &node.models()[holder.place])
}

/// What two names of one runner have in common: the digest, or the name where a listing has no digest.
fn runner<'a>(digest: &'a str, name: &'a str) -> &'a str {
    if digest.is_empty() { name } else { digest }
}

/// When each loaded model leaves its node's memory, Unix seconds.
fn expiries(nodes: &[Node]) -> HashMap<(usize, &str), i64> {
    let mut expiries = HashMap::new();
    for (at, node) in nodes.iter().enumerate() {
        for model in node.loaded.iter() {
            if let Some(expires) = model.expires {
                let runner = runner(&model.digest, model.key.as_str());
                expiries.insert((at, runner), expires.unix_s);
            }
        }
    }
    expiries
}

/// An entry of `/api/tags` for a model of an OpenAI-type server, which knows neither size nor digest.
fn imitate(entry: &mut Entry, model: &Installed) {
    entry.name(&model.name);
    entry.field("modified_at", &quoted(&model.modified.to_rfc3339()));
    entry.field("size", "0");
    entry.field("digest", &quoted(&digest_of(model.key.as_str())));
    entry.field(
        "details",
        "{\"parent_model\":\"\",\"format\":\"\",\"family\":\"\",\"families\":[],\"parameter_size\":\"\",\"quantization_level\":\"\"}",
    );
}

fn v1_entry(teller: &Node, model: &Installed, id: &str) -> String {
    let mut entry = Entry::default();
    entry.field("id", &quoted(id));
    if teller.config.profile.listing != Listing::Ollama {
        entry.keep(&model.raw, &["id"]);
    }
    entry.default_field("object", "\"model\"");
    entry.default_field("created", &model.modified.unix_s.to_string());
    let owner = model.name.rsplit('/').nth(1).unwrap_or("library");
    entry.default_field("owned_by", &quoted(owner));
    entry.finish()
}

/// `0.33.0-rc2` is `[0, 33, 0]`; `None` for what does not begin with dotted integers.
fn dotted(version: &str) -> Option<Vec<u32>> {
    let version = version.strip_prefix('v').unwrap_or(version);
    let end = version.find(|c: char| c != '.' && !c.is_ascii_digit());
    let numbers = version[..end.unwrap_or(version.len())].split('.');
    numbers.map(|number| number.parse().ok()).collect()
}

/// 64 hex digits that only depend on the name. They identify, they do not prove: four FNV-1a lanes, not a cryptographic hash.
fn digest_of(name: &str) -> String {
    let mut digest = String::with_capacity(64);
    for lane in 0_u64..4 {
        let mut hash = 0xcbf2_9ce4_8422_2325 ^ lane.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        for byte in name.bytes() {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        // Writing to a String cannot fail.
        let _ = write!(digest, "{hash:016x}");
    }
    digest
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn urls(nodes: impl Iterator<Item = usize>) -> String {
    let nodes: Vec<String> = nodes.map(|node| node.to_string()).collect();
    format!("[{}]", nodes.join(","))
}

fn list(head: &str, entries: impl Iterator<Item = String>, tail: &str) -> Bytes {
    let entries: Vec<String> = entries.collect();
    format!("{head}{}{tail}", entries.join(",")).into()
}

/// A JSON object under construction: fields in order, values as they came.
#[derive(Default)]
struct Entry {
    text: String,
    names: Vec<String>,
}

impl Entry {
    /// Takes over all fields of a node's entry but those we say ourselves.
    fn keep(&mut self, raw: &str, ours: &[&str]) {
        // `listing` has parsed this text before, so an error would be our own; the entry then has our fields only.
        let fields = Fields::parse(raw).map_or_else(|_| Vec::new(), |fields| fields.0);
        for (name, value) in fields {
            if !ours.contains(&name.as_str()) {
                self.field(&name, value.get());
            }
        }
    }

    /// `name` and `model`, where the node's entry lacks them.
    fn name(&mut self, name: &str) {
        self.default_field("name", &quoted(name));
        self.default_field("model", &quoted(name));
    }

    fn default_field(&mut self, name: &str, value: &str) {
        if !self.names.iter().any(|known| known == name) {
            self.field(name, value);
        }
    }

    fn field(&mut self, name: &str, value: &str) {
        let comma = if self.names.is_empty() { "" } else { "," };
        // Writing to a String cannot fail.
        let _ = write!(self.text, "{comma}{}:{value}", quoted(name));
        self.names.push(name.to_owned());
    }

    fn finish(self) -> String {
        format!("{{{}}}", self.text)
    }
}

#[cfg(test)]
mod tests;
