//! `management`: what may be changed on nodes through the gateway, where, and from whom files may be fetched.

use super::NodeConfig;
use super::problem::Problem;
use super::section::Section;
use super::text::{Wrong, nearest};

const HOSTS_MAX: usize = 64;
const PREFIX_BYTES_MAX: usize = 1024;

/// What may be changed on nodes, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Management {
    /// Whether pull, push, create, copy, delete, blobs, unload, download and upload are let through; 403 otherwise.
    pub enabled: bool,
    /// Where a call goes that names no node.
    pub default_target: DefaultTarget,
    /// URL prefixes that downloads may come from: `http(s)://host[:port]/[path/]`, always with a slash at the end. The
    /// scheme and the host are in lower case; compare with a URL whose own are, too.
    pub download_hosts: Vec<String>,
}

/// `management.default_target`: where a call goes that names no node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DefaultTarget {
    /// To every node that is up.
    All,
    /// To the first node, in the order of the file, that is up.
    First,
    /// To the node of this name, which is one of `Config::nodes` unless DNS finds nodes too.
    Node(String),
}

/// Reads `management`. `has_dns`: nodes may exist whose names are not known yet.
pub(super) fn management(mut s: Section, nodes: &[NodeConfig], has_dns: bool) -> Management {
    let management = Management {
        enabled: s.flag("enabled", false),
        default_target: s.parse("default_target", DefaultTarget::All, |text| {
            default_target(text, nodes, has_dns)
        }),
        download_hosts: download_hosts(&mut s),
    };
    s.close();
    management
}

fn default_target(text: &str, nodes: &[NodeConfig], has_dns: bool) -> Result<DefaultTarget, Wrong> {
    match text {
        "all" => return Ok(DefaultTarget::All),
        "first" => return Ok(DefaultTarget::First),
        _ => {}
    }
    let named = nodes.iter().find(|node| node.name == text);
    if let Some(node) = named.filter(|node| !can_be_managed(node)) {
        return Err(Wrong::new(
            format!(
                "`{text}` is of type {}, whose models can't be managed",
                node.profile.name
            ),
            "name a node of type ollama",
        ));
    }
    let mut names = nodes.iter().map(|node| node.name.as_str());
    if has_dns || names.clone().any(|name| name == text) {
        return Ok(DefaultTarget::Node(text.to_owned()));
    }
    let hint = match nearest(text, ["all", "first"].into_iter().chain(&mut names)) {
        Some(near) => format!("did you mean `{near}`?"),
        None => "write `all`, `first`, or the name of an enabled node".to_owned(),
    };
    Err(Wrong::new(format!("no node is named `{text}`"), hint))
}

/// What a node of `type: auto` will turn out to be is not known here.
fn can_be_managed(node: &NodeConfig) -> bool {
    node.type_is_found || node.profile.has_management()
}

fn download_hosts(s: &mut Section) -> Vec<String> {
    let Some(hosts) = s.scalars("download_hosts") else {
        return ["https://huggingface.co/", "https://github.com/"]
            .map(str::to_owned)
            .into();
    };
    if HOSTS_MAX < hosts.len() {
        let place = s.place_of("download_hosts");
        let message = format!("more than {HOSTS_MAX} `download_hosts`");
        s.reading.report(Problem::new(place, message));
    }
    hosts
        .iter()
        .take(HOSTS_MAX)
        .filter_map(|set| s.judge(set, None, |text| prefix(text).map(Some)))
        .collect()
}

fn prefix(text: &str) -> Result<String, Wrong> {
    let wrong = |why: &str| {
        Wrong::new(
            why,
            "write `https://`, a host and a slash, such as `https://huggingface.co/`",
        )
    };
    if text.contains('@') {
        return Err(wrong(
            "an address with a login in it is no prefix of others",
        ));
    }
    if PREFIX_BYTES_MAX < text.len() || !text.chars().all(|c| c.is_ascii_graphic()) {
        return Err(wrong("this is no address, or too long a one"));
    }
    let (scheme, rest) = text
        .split_once("://")
        .map(|(scheme, rest)| (scheme.to_ascii_lowercase(), rest))
        .filter(|(scheme, _)| scheme == "http" || scheme == "https")
        .ok_or_else(|| {
            wrong(&format!(
                "`{text}` begins with neither `http://` nor `https://`"
            ))
        })?;
    // Without the slash, `https://github.com` would be a prefix of `https://github.com.example.org/` too.
    let (host, path) = rest
        .split_once('/')
        .filter(|(host, path)| !host.is_empty() && (path.is_empty() || path.ends_with('/')))
        .ok_or_else(|| {
            wrong(&format!(
                "`{text}` does not end with a slash behind the host"
            ))
        })?;
    let legal =
        |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '[' | ']');
    if !host.chars().all(legal) || path.contains(['?', '#', '\\', '%']) || path.contains("..") {
        return Err(wrong(&format!(
            "`{text}` is more than a host and a plain path"
        )));
    }
    Ok(format!("{scheme}://{}/{path}", host.to_ascii_lowercase()))
}
