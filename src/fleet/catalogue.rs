//! The federated answers: many nodes' models as one big Ollama would list them.
//!
//! Shapes after `/api/tags`, `/api/ps`, `/api/version` and `/v1/models` of Ollama 0.24 to 0.33; `urls`, `connection_type` and
//! the integer `expires_at` are those of Open WebUI's merged list.

mod conflict;
mod entry;
mod fields;
mod line;
mod openai;
mod unified;

pub use conflict::Conflict;
pub(super) use conflict::conflicts;
pub use line::{Line, Scope};
pub(super) use unified::Groups;
pub use unified::{Moment, Unified};

use std::collections::HashMap;
use std::fmt::Write;

use bytes::Bytes;

use crate::dialect::{Filter, Format};
use crate::fleet::listing::{Installed, Loaded};
use crate::fleet::offer;
use crate::fleet::snapshot::{Node, Snapshot};
use crate::fleet::unify::About;
use crate::profile::Listing;
use crate::text::quoted;
use entry::{Entry, array, list};

/// A listing of the models that a filter lets through.
pub(super) fn page(view: &Snapshot, scope: &Scope, format: Format, filter: &Filter) -> Bytes {
    if format == Format::Unified {
        return unified::page(view, scope, filter);
    }
    let mut lines = view.lines(scope);
    lines.retain(|line| line.fits(filter, view));
    match format {
        Format::Ollama => tags(view, &lines),
        _ => openai::page(format, &lines),
    }
}

/// The entry of one model, under the asked spelling; `None` when nobody offers it.
pub(super) fn item(
    view: &Snapshot,
    scope: &Scope,
    format: Format,
    asked: &str,
    moment: Moment,
) -> Option<Bytes> {
    match format {
        Format::Unified => unified::detail(view, scope, asked, moment),
        _ => Some(openai::item(format, &view.line(asked, scope)?, asked).into()),
    }
}

/// `/api/tags`: one entry per name.
fn tags(view: &Snapshot, lines: &[Line<'_>]) -> Bytes {
    let expiries = expiries(&view.nodes);
    let entries = lines.iter().map(|line| {
        let config = &line.teller.config;
        let mut ours = vec!["urls", "connection_type", "expires_at"];
        if !config.tags.is_empty() {
            ours.push("tags");
        }
        let mut entry = Entry::default();
        match config.profile.listing {
            Listing::Ollama => {
                let raw = &line.model.raw;
                entry.keep(raw, &ours, line.renamed(), fields::ollama);
            }
            Listing::OpenAi | Listing::LmStudio => (),
        }
        complete(&mut entry, line);
        if !config.tags.is_empty() {
            entry.field("tags", &tag_objects(&config.tags));
        }
        entry.field("urls", &urls(line.holders.iter().map(|holder| holder.at)));
        entry.text("connection_type", config.connection.word());
        let loaded_until = line.holders.iter().find_map(|holder| {
            let model = view.model_of(holder);
            expiries.get(&(holder.at, runner(&model.digest, model.key.as_str())))
        });
        if let Some(unix_s) = loaded_until {
            entry.field("expires_at", &unix_s.to_string());
        }
        entry.finish()
    });
    list("{\"models\":[", entries, "]}")
}

fn tag_objects(tags: &[String]) -> String {
    array(
        tags.iter()
            .map(|tag| format!("{{\"name\":{}}}", quoted(tag))),
    )
}

/// `/api/ps`: what is loaded anywhere, one entry per digest, the one that stays longest first.
pub(super) fn ps(view: &Snapshot, scope: &Scope) -> Bytes {
    let mut places: HashMap<(&str, Option<&str>), usize> = HashMap::new();
    let mut entries: Vec<Resident<'_>> = Vec::new();
    for (at, node) in view.nodes.iter().enumerate() {
        if !scope.shows(node) {
            continue;
        }
        let names = node.loaded.iter().map(|model| (&model.key, &model.name));
        let names = offer::public_names(&node.config, names);
        for (model, name) in node.loaded.iter().zip(names) {
            let Some(name) = name else { continue };
            // Behind a prefix it is a model of its own, whatever the file.
            let runner = runner(&model.digest, model.key.as_str());
            let prefix = node.config.prefix_id.as_deref();
            let place = *places.entry((runner, prefix)).or_insert(entries.len());
            match entries.get_mut(place) {
                Some(known) if known.nodes.last() == Some(&at) => (),
                Some(known) => known.nodes.push(at),
                None => entries.push(Resident {
                    name,
                    model,
                    nodes: vec![at],
                }),
            }
        }
    }
    entries.sort_unstable_by(|a, b| (b.model.expires, &a.name).cmp(&(a.model.expires, &b.name)));
    let entries = entries.into_iter().map(|it| {
        let renamed = (it.name != it.model.name).then_some(&*it.name);
        let mut entry = Entry::default();
        entry.keep(&it.model.raw, &["urls"], renamed, fields::ollama);
        entry.name(&it.name);
        let expires = it.model.expires.unwrap_or_default().to_rfc3339();
        entry.default_field("size", "0");
        entry.default_field("digest", &quoted(&digest_of(it.model.key.as_str())));
        entry.default_field("details", &details(&About::default()));
        entry.default_field("expires_at", &quoted(&expires));
        entry.default_field("size_vram", "0");
        entry.field("urls", &urls(it.nodes.into_iter()));
        entry.finish()
    });
    list("{\"models\":[", entries, "]}")
}

/// A model in memory, under its public name, and the nodes that hold it.
struct Resident<'a> {
    name: std::sync::Arc<str>,
    model: &'a Loaded,
    nodes: Vec<usize>,
}

/// `/api/version`: the lowest one among the nodes that are up, so that no client counts on what a node lacks.
pub(super) fn version(nodes: &[Node]) -> Bytes {
    let known = |node: &Node| {
        let place = node.config.profile.api().version.as_ref()?;
        let version = node.version.as_deref().filter(|_| place.is_ollamas);
        dotted(version?)
    };
    let up = nodes.iter().filter(|node| node.health.is_up());
    let lowest = up.filter_map(known).min();
    let lowest = lowest.or_else(|| nodes.iter().filter_map(known).min());
    let parts = lowest.unwrap_or_else(|| vec![0, 0, 0]);
    let parts: Vec<String> = parts.iter().map(u32::to_string).collect();
    format!("{{\"version\":\"{}\"}}", parts.join(".")).into()
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

/// What clients expect in an entry of `/api/tags` and the node did not tell, or not so that they can read it. OpenAI-type servers
/// know no digest and often no size.
fn complete(entry: &mut Entry, line: &Line<'_>) {
    let Installed {
        key,
        modified,
        about,
        ..
    } = line.model;
    entry.name(line.name);
    entry.default_field("modified_at", &quoted(&modified.to_rfc3339()));
    let size = about.size_bytes.unwrap_or_default();
    entry.default_field("size", &size.to_string());
    entry.default_field("digest", &quoted(&digest_of(key.as_str())));
    entry.default_field("details", &details(about));
}

fn details(about: &About) -> String {
    let families = match &*about.family {
        "" => "[]".to_owned(),
        family => array([quoted(family)].into_iter()),
    };
    let mut details = Entry::default();
    details.text("parent_model", "");
    details.text("format", &about.format);
    details.text("family", &about.family);
    details.field("families", &families);
    details.text("parameter_size", &about.size_word.to_ascii_uppercase());
    details.text("quantization_level", &about.quantization_word);
    details.number("context_length", about.context_max);
    details.finish()
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

fn urls(nodes: impl Iterator<Item = usize>) -> String {
    array(nodes.map(|node| node.to_string()))
}

#[cfg(test)]
mod tests;
