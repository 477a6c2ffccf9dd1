//! Entries in the order of their last use, each found by its key: every step is O(1).

use std::collections::HashMap;
use std::time::Duration;

use crate::fleet::NodeId;

/// Where an entry stands; another may stand there after a removal.
type Place = usize;

/// A list threaded through a vector without gaps, and an index into it.
///
/// The index hashes keys with a secret of this process, so that nobody can send keys that collide in it.
#[derive(Debug, Default)]
pub(super) struct Shelf {
    places: HashMap<u64, Place>,
    entries: Vec<Entry>,
    newest: Option<Place>,
    oldest: Option<Place>,
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) node: NodeId,
    pub(super) tokens: u64,
    key: u64,
    used_at: Duration,
    newer: Option<Place>,
    older: Option<Place>,
}

impl Shelf {
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn find(&self, key: u64) -> Option<Place> {
        self.places.get(&key).copied()
    }

    /// The one not used for the longest time.
    pub(super) fn oldest(&self) -> Option<Place> {
        self.oldest
    }

    /// Whether an entry was not used for longer than this.
    pub(super) fn is_old(&self, place: Place, idle_ttl: Duration, now: Duration) -> bool {
        idle_ttl < now.saturating_sub(self.entries[place].used_at)
    }

    /// When an entry was used last.
    pub(super) fn used_at(&self, place: Place) -> Duration {
        self.entries[place].used_at
    }

    /// What stands there, as it is.
    pub(super) fn entry(&self, place: Place) -> &Entry {
        &self.entries[place]
    }

    /// Makes an entry the newest.
    pub(super) fn touch(&mut self, place: Place, now: Duration) -> &mut Entry {
        self.unlink(place);
        self.link_newest(place);
        let entry = &mut self.entries[place];
        entry.used_at = now;
        entry
    }

    /// Adds an entry under a key that is not there yet.
    pub(super) fn add(&mut self, key: u64, node: NodeId, tokens: u64, now: Duration) {
        let place = self.entries.len();
        self.entries.push(Entry {
            node,
            tokens,
            key,
            used_at: now,
            newer: None,
            older: None,
        });
        self.places.insert(key, place);
        self.link_newest(place);
    }

    /// Takes an entry out; the last of the vector moves into the gap.
    pub(super) fn remove(&mut self, place: Place) {
        self.unlink(place);
        let gone = self.entries.swap_remove(place);
        self.places.remove(&gone.key);
        let Some(moved) = self.entries.get(place) else {
            return;
        };
        let (key, newer, older) = (moved.key, moved.newer, moved.older);
        self.places.insert(key, place);
        *self.link_from_newer(newer) = Some(place);
        *self.link_from_older(older) = Some(place);
    }

    /// Takes out the entries of nodes that do not stay, and says how many.
    pub(super) fn retain(&mut self, stays: impl Fn(NodeId) -> bool) -> usize {
        let before = self.len();
        // From the end, so that what moves into a gap was looked at already.
        for place in (0..before).rev() {
            if !stays(self.entries[place].node) {
                self.remove(place);
            }
        }
        before - self.len()
    }

    fn link_newest(&mut self, place: Place) {
        let older = self.newest.replace(place);
        *self.link_from_older(older) = Some(place);
        self.entries[place].older = older;
        self.entries[place].newer = None;
    }

    fn unlink(&mut self, place: Place) {
        let (newer, older) = (self.entries[place].newer, self.entries[place].older);
        *self.link_from_newer(newer) = older;
        *self.link_from_older(older) = newer;
    }

    /// The link by which the newer neighbour leads to an entry; for the newest that is where the list begins.
    fn link_from_newer(&mut self, newer: Option<Place>) -> &mut Option<Place> {
        match newer {
            Some(newer) => &mut self.entries[newer].older,
            None => &mut self.newest,
        }
    }

    /// The link by which the older neighbour leads to an entry; for the oldest that is where the list ends.
    fn link_from_older(&mut self, older: Option<Place>) -> &mut Option<Place> {
        match older {
            Some(older) => &mut self.entries[older].newer,
            None => &mut self.oldest,
        }
    }
}
