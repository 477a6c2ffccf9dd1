//! Through which mount a path comes in: a handful of fixed ones, and the prefixes of the node types.

use std::borrow::Cow;

use super::{Row, listings};
use crate::dialect::{Dialect, Mount};
use crate::profile::Profiles;

/// Where a path comes in, and what is left of it.
pub(super) struct Place<'a> {
    pub(super) mount: Mount,
    pub(super) olla: bool,
    /// The one dialect of a dialect mount; its rows are the only ones there.
    pub(super) only: Option<Dialect>,
    /// Calls that are served nowhere else.
    pub(super) own: &'static [Row],
    /// `None` where nothing is mounted.
    pub(super) rest: Option<Cow<'a, str>>,
}

pub(super) fn place<'a>(path: &'a str, profiles: &Profiles) -> Place<'a> {
    // Open WebUI joins its base URL and a path into `//api/tags`; Ollama answers that with a redirect few clients follow.
    let slashes = path.len() - path.trim_start_matches('/').len();
    let path = &path[slashes.saturating_sub(1)..];
    let all = Place {
        mount: Mount::All,
        olla: false,
        only: None,
        own: &[],
        rest: path.starts_with('/').then_some(Cow::Borrowed(path)),
    };
    let (head, rest) = split_segment(path);
    match head {
        "api" | "v1" | "" => all,
        "ollama" => Place {
            rest: Some(rest.into()),
            ..all
        },
        "openai" => Place {
            mount: Mount::OpenAi,
            only: Some(Dialect::OpenAi),
            rest: Some(rest.into()),
            ..all
        },
        "anthropic" => Place {
            only: Some(Dialect::Anthropic),
            rest: Some(rest.into()),
            ..all
        },
        "olla" => olla_place(rest, profiles),
        _ => match profiles.mount(head) {
            Some(profile) => Place {
                mount: Mount::Profile(profile.name.clone()),
                own: listings::of(&profile.name),
                rest: Some(rest.into()),
                ..all
            },
            None => all,
        },
    }
}

/// Olla's URLs. There `ollama` means the nodes of that type, and `openai-compatible` all that speak OpenAI's dialect.
fn olla_place<'a>(path: &'a str, profiles: &Profiles) -> Place<'a> {
    let (head, rest) = split_segment(path);
    let all = Place {
        mount: Mount::All,
        olla: true,
        only: None,
        own: &[],
        rest: Some(rest.into()),
    };
    match head {
        "proxy" => all,
        "openai" | "openai-compatible" => Place {
            mount: Mount::OpenAi,
            only: Some(Dialect::OpenAi),
            ..all
        },
        "anthropic" => Place {
            only: Some(Dialect::Anthropic),
            ..all
        },
        // Olla's unified listing lies where others have a provider; its entries are OpenAI's with more in them.
        "models" => Place {
            only: Some(Dialect::OpenAi),
            own: listings::UNIFIED,
            rest: Some(path.into()),
            ..all
        },
        _ => match profiles.mount(head) {
            Some(profile) => Place {
                mount: Mount::Profile(profile.name.clone()),
                own: listings::of(&profile.name),
                ..all
            },
            None => Place { rest: None, ..all },
        },
    }
}

/// `/a/b/c` → (`a`, `/b/c`).
fn split_segment(path: &str) -> (&str, &str) {
    let path = path.strip_prefix('/').unwrap_or("");
    path.split_at(path.find('/').unwrap_or(path.len()))
}
