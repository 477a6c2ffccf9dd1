//! What a node's type says about it where the operator says nothing, and where its URL and its type's paths meet.

use std::sync::Arc;

use super::credentials::KEY_HEADER;
use super::text::Wrong;
use super::{NodeAuth, NodeConfig, NodeUrl};
use crate::profile::Profile;

/// Of an endpoint that has none, and whose type says none.
const PRIORITY: u32 = 100;

pub(super) fn priority_of(profile: &Profile) -> u32 {
    profile.characteristics.priority.unwrap_or(PRIORITY)
}

/// What `slots: auto` is where the operator limited the type.
pub(super) fn hard_limit(profile: &Profile) -> Option<u32> {
    let limit = profile.characteristics.max_concurrent;
    limit.filter(|limit| limit.hard).map(|limit| limit.requests)
}

/// What an endpoint of `type: auto` leaves to its type; until that is found out our own default stands in the configuration.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Unsaid {
    /// Its `priority`.
    pub priority: bool,
    /// The `header` of its `api_key`.
    pub key_header: bool,
}

/// Why credentials of a kind (the word of `auth.type`) do not suit a type, and what to do; `None` when they do.
pub(super) fn misfit(profile: &Profile, kind: &str) -> Option<Wrong> {
    let rules = &profile.characteristics;
    let allowed = rules.auth_types.as_deref().unwrap_or_default();
    let name = &profile.name;
    if kind == "none" {
        let message = format!("a node of type `{name}` asks for credentials");
        let hint = "write them under its `auth`, or say `characteristics: { auth: { required: false } }` in its profile";
        return (rules.auth_required == Some(true)).then(|| Wrong::new(message, hint));
    }
    if allowed.is_empty() || allowed.iter().any(|word| word == kind) {
        return None;
    }
    let message = format!("a node of type `{name}` takes no credentials of the type `{kind}`");
    let types: Vec<String> = allowed.iter().map(|word| format!("`{word}`")).collect();
    let hint = format!("use {}, which its profile allows", types.join(" or "));
    Some(Wrong::new(message, hint))
}

/// A node's URL without the part that its type's paths have themselves, and its type with that part preferred.
pub(super) struct Seat {
    pub(super) profile: Arc<Profile>,
    pub(super) url: NodeUrl,
    /// What was cut off: paths that the operator writes are meant behind it.
    pub(super) extra: String,
}

pub(super) fn seat(profile: &Arc<Profile>, mut url: NodeUrl) -> Seat {
    let (root, extra) = profile.split_base(&url.base_path);
    let (root, extra) = (root.to_owned(), extra.to_owned());
    let profile = match extra.is_empty() {
        true => profile.clone(),
        false => Arc::new(profile.preferring(&extra)),
    };
    url.base_path = root;
    Seat {
        profile,
        url,
        extra,
    }
}

impl NodeConfig {
    /// The same node, now that its type is known. What the operator wrote stays.
    ///
    /// # Errors
    /// Why its credentials do not suit that type, and what to do: a sentence for people.
    pub fn of_type(&self, found: &Arc<Profile>) -> Result<NodeConfig, String> {
        if let Some(Wrong { message, hint }) = misfit(found, self.auth.word()) {
            return Err(format!("{message}; {hint}"));
        }
        let Seat {
            profile,
            url,
            extra,
        } = seat(found, self.url.clone());
        let before = self.profile.api();
        let path = |written: &str, usual: &str, own: &str| match written == usual {
            true => own.to_owned(),
            false => format!("{extra}{written}"),
        };
        let api = profile.api();
        Ok(NodeConfig {
            url,
            priority: match self.unsaid.priority {
                true => priority_of(&profile),
                false => self.priority,
            },
            slots: self.slots.or_else(|| hard_limit(&profile)),
            health_path: path(&self.health_path, &before.health_path, &api.health_path),
            model_path: path(&self.model_path, &before.model_path, &api.model_path),
            auth: self.auth_of(&profile),
            profile: profile.clone(),
            ..self.clone()
        })
    }

    /// Its credentials, the key in the type's header unless the operator names one.
    fn auth_of(&self, profile: &Profile) -> NodeAuth {
        let usual = profile.characteristics.auth_header.as_deref();
        match &self.auth {
            NodeAuth::ApiKey { key, .. } if self.unsaid.key_header => NodeAuth::ApiKey {
                header: usual.unwrap_or(KEY_HEADER).to_owned(),
                key: key.clone(),
            },
            auth => auth.clone(),
        }
    }
}

impl NodeAuth {
    /// The word of `auth.type`.
    fn word(&self) -> &'static str {
        match self {
            NodeAuth::None => "none",
            NodeAuth::Bearer(_) => "bearer",
            NodeAuth::ApiKey { .. } => "api_key",
            NodeAuth::Basic { .. } => "basic",
        }
    }
}
