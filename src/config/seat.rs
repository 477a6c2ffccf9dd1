//! What a node's type says about it where the operator says nothing, and where its URL and its type's paths meet.

use std::sync::Arc;

use super::{NodeConfig, NodeUrl};
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
    #[must_use]
    pub fn of_type(&self, found: &Arc<Profile>) -> NodeConfig {
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
        NodeConfig {
            url,
            slots: self.slots.or_else(|| hard_limit(&profile)),
            health_path: path(&self.health_path, &before.health_path, &api.health_path),
            model_path: path(&self.model_path, &before.model_path, &api.model_path),
            profile: profile.clone(),
            ..self.clone()
        }
    }
}
