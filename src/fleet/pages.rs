//! Answers rendered when first asked for, and kept as long as they are true.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::Bytes;

use crate::dialect::Format;
use crate::fleet::catalogue::{Conflict, Groups, Scope};

/// Shared by snapshots that have the same models, equally warm.
#[derive(Debug, Default)]
pub(super) struct Pages {
    pub(super) names: OnceLock<Vec<Arc<str>>>,
    pub(super) conflicts: OnceLock<Vec<Conflict>>,
    pub(super) groups: Kept<Scope, Arc<Groups>>,
    pub(super) listings: Kept<(Scope, Format), Bytes>,
}

/// Pages that tell when models leave memory, which under traffic is another moment with every look: shared by snapshots that differ
/// in health alone.
#[derive(Debug, Default)]
pub(super) struct Expiring {
    pub(super) ps: Kept<Scope, Bytes>,
    pub(super) tags: Kept<Scope, Bytes>,
}

/// Pages that tell of health: shared by snapshots that differ in what expires alone.
#[derive(Debug, Default)]
pub(super) struct Live {
    pub(super) version: OnceLock<Bytes>,
    pub(super) unified: Kept<Scope, Bytes>,
}

/// What was made, by what was asked for. There is no more of it than mounts and formats.
#[derive(Debug)]
pub(super) struct Kept<K, V>(Mutex<HashMap<K, Arc<OnceLock<V>>>>);

impl<K, V> Default for Kept<K, V> {
    fn default() -> Kept<K, V> {
        Kept(Mutex::default())
    }
}

impl<K: Hash + Eq, V: Clone> Kept<K, V> {
    pub(super) fn get_or_make(&self, key: K, make: impl FnOnce() -> V) -> V {
        let cell = {
            // A cell is added whole or not at all, so a panic elsewhere left the map as good as it was.
            let mut cells = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(cells.entry(key).or_default())
        };
        cell.get_or_init(make).clone()
    }
}
