//! Answers rendered when first asked for, and kept as long as they are true.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::Bytes;

use crate::dialect::Format;
use crate::fleet::catalogue::{Conflict, Scope};

/// Shared by snapshots that differ in health alone.
#[derive(Debug, Default)]
pub(super) struct Pages {
    pub(super) names: OnceLock<Vec<Arc<str>>>,
    pub(super) conflicts: OnceLock<Vec<Conflict>>,
    pub(super) ps: Rendered<Scope>,
    pub(super) listings: Rendered<(Scope, Format)>,
}

/// Answers of this snapshot alone.
#[derive(Debug, Default)]
pub(super) struct Live {
    pub(super) version: OnceLock<Bytes>,
    pub(super) unified: Rendered<Scope>,
}

/// Pages by what was asked for. There are no more than mounts and formats.
#[derive(Debug)]
pub(super) struct Rendered<K>(Mutex<HashMap<K, Arc<OnceLock<Bytes>>>>);

impl<K> Default for Rendered<K> {
    fn default() -> Rendered<K> {
        Rendered(Mutex::default())
    }
}

impl<K: Hash + Eq> Rendered<K> {
    pub(super) fn get_or_render(&self, key: K, render: impl FnOnce() -> Bytes) -> Bytes {
        let cell = {
            // A cell is added whole or not at all, so a panic elsewhere left the map as good as it was.
            let mut cells = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(cells.entry(key).or_default())
        };
        cell.get_or_init(render).clone()
    }
}
