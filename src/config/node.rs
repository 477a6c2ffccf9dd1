//! Nodes: the list in the file, or the addresses in the environment when no file lists any.

use std::sync::Arc;
use std::time::Duration;

use super::credentials::{auth, headers, learn_type, tls};
use super::discovery::Kind;
use super::problem::{Place, Problem};
use super::raw::{Tree, Value};
use super::schema::Form;
use super::seat::{Seat, Unsaid, hard_limit, misfit, priority_of, seat};
use super::section::Section;
use super::text::{Wrong, number};
use super::{Connection, NodeAuth, NodeConfig, NodeUrl, offer, url};
use crate::profile::{Profile, Profiles};

/// The path of an item of the list, long or short.
pub(super) const ENDPOINT: &str = "discovery.static.endpoints[]";
pub(super) const NODES_MAX: usize = 1000;
pub(super) const PRIORITY_MAX: u32 = 1_000_000;
const NAME_BYTES_MAX: usize = 128;
const CHECK_INTERVAL: Duration = Duration::from_secs(5);
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);

/// A list of the file and where it stands, if it is there.
type Listed<'t> = Option<(&'t [Tree], Place)>;

/// All enabled nodes, in the order written. `short` is the top level's list, which stands for the long one.
pub(super) fn nodes<'t>(
    fixed: &mut Section<'_, 't>,
    short: Listed<'t>,
    kind: Kind,
    profiles: &Profiles,
) -> Vec<NodeConfig> {
    let Some((items, place)) = one_of(fixed, short) else {
        // Reading an absent item makes an endpoint's keys known, for hints and the documentation's test.
        let known = Section::new(fixed.reading, ENDPOINT, None);
        node(known, profiles, true);
        return from_environment(fixed, kind, profiles);
    };
    if kind == Kind::Dns && !items.is_empty() {
        let message = "nodes are listed by address and `discovery.type` is `dns`";
        let hint = "write `type: both`, or remove the list";
        fixed
            .reading
            .report(Problem::new(place, message).hint(hint));
    }
    if NODES_MAX < items.len() {
        fixed.reading.report(Problem::new(
            place,
            format!(
                "{} nodes are listed; at most {NODES_MAX} are served",
                items.len()
            ),
        ));
    }
    let mut seen: Vec<(NodeConfig, Place)> = Vec::new();
    for item in items.iter().take(NODES_MAX) {
        let section = Section::new(fixed.reading, ENDPOINT, Some(item));
        if let Some(node) = node(section, profiles, false) {
            refuse_twins(fixed, &seen, &node, item.at);
            seen.push((node, item.at));
        }
    }
    let nothing = items
        .iter()
        .all(|item| !matches!(item.value, Value::Map(_)));
    if kind == Kind::Static && nothing {
        let hint = "list one, such as `- url: http://127.0.0.1:11434`, or remove the key for the nodes of OLLAMA_BASE_URLS";
        fixed
            .reading
            .report(Problem::new(place, "`discovery.static.endpoints` lists no node").hint(hint));
    }
    seen.into_iter().map(|(node, _)| node).collect()
}

fn one_of<'t>(fixed: &mut Section<'_, 't>, short: Listed<'t>) -> Listed<'t> {
    fixed.learn("endpoints", Form::Items(ENDPOINT));
    let long = fixed.list("endpoints");
    if let (Some(_), Some((_, place))) = (&long, &short) {
        let message = "`endpoints` and `discovery.static.endpoints` are both set";
        let hint = "move all nodes into one of the two lists";
        fixed
            .reading
            .report(Problem::new(*place, message).hint(hint));
    }
    long.or(short)
}

fn refuse_twins(fixed: &Section, seen: &[(NodeConfig, Place)], node: &NodeConfig, place: Place) {
    for (other, at) in seen {
        let line = match at {
            Place::At { line, .. } => format!(" (line {line})"),
            Place::Nowhere => String::new(),
        };
        if other.url == node.url {
            let message = format!(
                "two nodes have the URL `{}`: their slots and health would be counted apart{line}",
                node.url
            );
            fixed.reading.report(
                Problem::new(place, message)
                    .hint("remove one; `slots` and `weight` give a node a larger share"),
            );
        } else if other.name == node.name {
            let message = format!("two nodes are named `{}`{line}", node.name);
            fixed
                .reading
                .report(Problem::new(place, message).hint("give every node its own `name`"));
        }
    }
}

/// Open WebUI's variables, else Ollama's own address, which nobody means who has DNS find the nodes.
fn from_environment(fixed: &Section, kind: Kind, profiles: &Profiles) -> Vec<NodeConfig> {
    if kind == Kind::Dns {
        return Vec::new();
    }
    let env = fixed.reading.sources.env;
    let found = ["OLLAMA_BASE_URLS", "OLLAMA_BASE_URL"]
        .into_iter()
        .find_map(|name| Some((name, env(name).filter(|value| !value.trim().is_empty())?)));
    let (name, urls) = match (found, kind) {
        (Some(found), _) => found,
        (None, Kind::Static) => ("the built-in default", "http://127.0.0.1:11434".to_owned()),
        (None, _) => return Vec::new(),
    };
    let mut nodes: Vec<NodeConfig> = Vec::new();
    for text in urls
        .split(';')
        .map(str::trim)
        .filter(|text| !text.is_empty())
    {
        match url::parse(text) {
            // The same address twice is harmless in a variable that programs put together.
            Ok(url) if nodes.iter().any(|node| node.url == url) => {}
            Ok(url) => nodes.extend(plain(fixed, url, profiles)),
            Err(wrong) => fixed.reading.wrong(
                Place::Nowhere,
                &format!("environment variable `{name}`"),
                wrong,
            ),
        }
    }
    nodes
}

fn plain(fixed: &Section, url: NodeUrl, profiles: &Profiles) -> Option<NodeConfig> {
    let mut nothing = Section::new(fixed.reading, ENDPOINT, None);
    template(&mut nothing, url, true, profiles)
}

/// One node; none when it is disabled or has no URL to send to. `absent` reads only to learn the keys.
fn node(mut s: Section, profiles: &Profiles, absent: bool) -> Option<NodeConfig> {
    s.need("url");
    let written = s.text("url");
    let url = written
        .as_ref()
        .and_then(|set| s.judge(set, None, |text| url::parse(text).map(Some)));
    if !s.is_written("url") && !absent {
        s.reading.report(
            Problem::new(s.place, "an endpoint has no `url`")
                .hint("write one, such as `url: http://gpu-1:11434`"),
        );
    }
    let name = s
        .text("name")
        .map(|set| s.judge(&set, set.text.clone(), node_name));
    let enabled = s.flag("enabled", true);
    let preserve_path = s.flag("preserve_path", true);
    let uses_tls = url.as_ref().is_none_or(|url| url.tls);
    // Without a URL the other keys are read all the same, for their mistakes.
    let nowhere = NodeUrl {
        tls: false,
        host: String::new(),
        port: 0,
        base_path: String::new(),
    };
    let node = template(&mut s, url.clone().unwrap_or(nowhere), uses_tls, profiles);
    s.close();
    url.filter(|_| enabled)?;
    let node = node?;
    Some(NodeConfig {
        name: name.unwrap_or_else(|| node.url.authority()),
        preserve_path,
        ..node
    })
}

/// What a node listed by address and those found by name have in common. Named as the URL says.
pub(super) fn template(
    s: &mut Section,
    url: NodeUrl,
    uses_tls: bool,
    profiles: &Profiles,
) -> Option<NodeConfig> {
    let ollama = profiles.find("ollama")?.clone();
    let written = s.parse("type", ollama, |text| node_type(text, profiles));
    let (check_interval, check_timeout) = check_times(s);
    let priority = s.number("priority", priority_of(&written), 0..=PRIORITY_MAX);
    s.learn("slots", Form::Number(Some(1), 1..=10_000, Some("auto")));
    let slots = s.parse("slots", None, slots);
    // An absent item is read for its keys only and asks for nothing.
    let is_absent = url.host.is_empty();
    let (auth, own_header) = credentials(s, &written, is_absent);
    let unsaid = Unsaid {
        priority: written.is_auto() && !s.is_written("priority"),
        key_header: written.is_auto() && !own_header,
    };
    let Seat {
        profile,
        url,
        extra,
    } = seat(&written, url);
    let below = |path: Option<String>, usual: &str| {
        path.map_or_else(|| usual.to_owned(), |path| format!("{extra}{path}"))
    };
    let health_path = s.parse("health_check_url", None, |text| path(text).map(Some));
    let model_path = s.parse("model_url", None, |text| path(text).map(Some));
    Some(NodeConfig {
        name: url.authority(),
        url,
        priority,
        weight: s.number("weight", 1, 1..=1_000_000),
        slots: slots.or_else(|| hard_limit(&profile)),
        check_interval,
        check_timeout,
        health_path: below(health_path, &profile.api().health_path),
        model_path: below(model_path, &profile.api().model_path),
        type_is_found: profile.is_auto(),
        unsaid,
        profile,
        headers: headers(s),
        auth,
        tls: tls(s.section("tls"), uses_tls),
        model_filter: offer::filter(s.section("model_filter")),
        model_ids: offer::model_ids(s),
        prefix_id: offer::prefix_id(s),
        tags: offer::tags(s),
        connection: s.word("connection_type", Connection::Local, CONNECTIONS),
        preserve_path: true,
    })
}

const CONNECTIONS: &[(&str, Connection)] = &[
    ("local", Connection::Local),
    ("external", Connection::External),
];

impl Connection {
    /// The word of `connection_type`.
    pub fn word(self) -> &'static str {
        match self {
            Connection::Local => "local",
            Connection::External => "external",
        }
    }
}

/// An endpoint's `auth`, judged by what its type says of credentials, and whether it names a header of its own.
fn credentials(s: &mut Section, profile: &Profile, is_absent: bool) -> (NodeAuth, bool) {
    let mut written = s.section("auth");
    learn_type(&written);
    let (kind, place) = (written.text("type"), written.place_of("type"));
    let kind = kind.map_or_else(|| "none".to_owned(), |set| set.text);
    if let Some(misfit) = misfit(profile, &kind).filter(|_| !is_absent) {
        let place = match kind == "none" {
            true => s.place,
            false => place,
        };
        s.reading
            .report(Problem::new(place, misfit.message).hint(misfit.hint));
    }
    let own_header = written.is_written("header");
    let header = profile.characteristics.auth_header.as_deref();
    (auth(written, header), own_header)
}

fn node_type(text: &str, profiles: &Profiles) -> Result<Arc<Profile>, Wrong> {
    if let Some(profile) = profiles.find(text) {
        return Ok(profile.clone());
    }
    let words = profiles.iter().flat_map(|profile| {
        let prefixes = profile.prefixes.iter().map(String::as_str);
        prefixes.chain([&*profile.name])
    });
    let hint = match super::text::nearest(text, words) {
        Some(near) => format!("did you mean `{near}`?"),
        None => {
            let names: Vec<String> = profiles
                .iter()
                .map(|profile| format!("`{}`", profile.name))
                .collect();
            format!("write one of {}", names.join(", "))
        }
    };
    Err(Wrong::new(format!("`{text}` is not a type of node"), hint))
}

fn node_name(text: &str) -> Result<String, Wrong> {
    // The name goes into headers, metrics and log lines.
    let legal = text
        .chars()
        .all(|c| c.is_ascii_graphic() && !matches!(c, '"' | '\\' | ',' | '/' | '?' | '#'));
    if legal && text.len() <= NAME_BYTES_MAX {
        return Ok(text.to_owned());
    }
    Err(Wrong::new(
        "the name cannot stand in headers and paths",
        format!("write at most {NAME_BYTES_MAX} letters, digits and `-._:`, without spaces"),
    ))
}

fn slots(text: &str) -> Result<Option<u32>, Wrong> {
    if text == "auto" {
        return Ok(None);
    }
    number(text, &(1..=10_000)).map(Some).map_err(|wrong| {
        Wrong::new(
            wrong.message,
            "write `auto` or a whole number from 1 to 10000",
        )
    })
}

fn check_times(s: &mut Section) -> (Duration, Duration) {
    let interval = s.duration("check_interval", CHECK_INTERVAL);
    let timeout = s.duration("check_timeout", CHECK_TIMEOUT.min(interval));
    if interval < timeout {
        let place = s.place_of("check_timeout");
        let hint = "a probe must end before the next begins: lower `check_timeout` or raise `check_interval`";
        s.reading.report(
            Problem::new(place, "`check_timeout` is longer than `check_interval`").hint(hint),
        );
    }
    (interval, timeout)
}

pub(super) fn path(text: &str) -> Result<String, Wrong> {
    let clean = text.starts_with('/') && text.chars().all(|c| c.is_ascii_graphic() && c != '#');
    if clean {
        return Ok(text.to_owned());
    }
    Err(Wrong::new(
        format!("`{text}` is not a path"),
        "write a path of the node itself that starts with `/`, such as `/health`",
    ))
}
