//! A node's memory: what is in it, what would have to leave it, and how much it was ever seen to hold.
//!
//! Nodes do not tell how much memory they have. What was in it at the same time fits; what pushed something else out does not.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::listing::Loaded;
use super::traits::Traits;

/// A model in a node's memory.
#[derive(Debug, Clone)]
pub struct Resident {
    /// What is known of it there.
    pub traits: Arc<Traits>,
    /// What it takes, bytes; 0 when the node does not say.
    pub bytes: u64,
    /// Other nodes that have it in memory.
    pub copies: u32,
}

/// Whether one more model fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// As much was there already.
    Fits,
    /// Nobody knows.
    Unknown,
    /// As much pushed something out.
    Evicts,
}

/// How much a node was seen to hold. Written by the fleet's one writer.
#[derive(Debug, Default)]
pub(super) struct Memory {
    most: Load,
    /// The least that was too much; 0 is never.
    too_much: Load,
}

#[derive(Debug, Default)]
struct Load {
    bytes: AtomicU64,
    models: AtomicU64,
}

impl Load {
    fn get(&self) -> (u64, u64) {
        let get = |of: &AtomicU64| of.load(Ordering::Relaxed);
        (get(&self.bytes), get(&self.models))
    }

    fn set(&self, (bytes, models): (u64, u64)) {
        self.bytes.store(bytes, Ordering::Relaxed);
        self.models.store(models, Ordering::Relaxed);
    }
}

impl Memory {
    /// The node said what is in its memory, and before that something else. `loading`: the bytes of a model that it is loading and does
    /// not list yet; whoever must leave leaves first.
    pub(super) fn seen(&self, before: &[Loaded], after: &[Loaded], loading: Option<u64>) {
        let is_in = |model: &Loaded, list: &[Loaded]| list.iter().any(|it| it.key == model.key);
        let came = after.iter().any(|model| !is_in(model, before));
        let left = before.iter().filter(|model| !is_in(model, after));
        let (held, most) = (sum(after), self.most.get());
        self.most.set((held.0.max(most.0), held.1.max(most.1)));
        let coming = match (came, loading) {
            (true, _) => (0, 0),
            (false, Some(bytes)) => (bytes, 1),
            (false, None) => return,
        };
        if let Some(left) = left.map(|model| model.bytes).min() {
            // Whoever left while another came had to, most likely. One that had expired by chance makes the node look smaller until
            // it is seen to hold more.
            let tight = (held.0 + left + coming.0, held.1 + 1 + coming.1);
            let known = self.too_much.get();
            let least = |a: u64, b: u64| if a == 0 { b } else { a.min(b) };
            self.too_much
                .set((least(known.0, tight.0), least(known.1, tight.1)));
        }
    }

    /// Whether a model of so many bytes fits beside what is there.
    pub(super) fn room(&self, residents: &[Resident], bytes: u64) -> Room {
        let held: u64 = residents.iter().map(|it| it.bytes).sum();
        let wanted = (held.saturating_add(bytes), residents.len() as u64 + 1);
        let (most, too_much) = (self.most.get(), self.too_much.get());
        if residents.is_empty() || (wanted.0 <= most.0 && wanted.1 <= most.1) {
            return Room::Fits;
        }
        let is_over = |wanted: u64, limit: u64, seen: u64| seen < limit && limit <= wanted;
        let is_tight =
            is_over(wanted.0, too_much.0, most.0) || is_over(wanted.1, too_much.1, most.1);
        if is_tight {
            Room::Evicts
        } else {
            Room::Unknown
        }
    }
}

fn sum(loaded: &[Loaded]) -> (u64, u64) {
    let bytes = loaded.iter().map(|model| model.bytes);
    (bytes.fold(0, u64::saturating_add), loaded.len() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::NodeId;
    use crate::fleet::fixture::{herd, loaded};

    /// Resident models of a real snapshot, with these sizes.
    fn residents(bytes: &[u64]) -> Vec<Resident> {
        let herd = herd("a up 0/3 llama");
        let traits = herd.traits(NodeId(0), "llama");
        let resident = |bytes: &u64| Resident {
            traits: Arc::clone(&traits),
            bytes: *bytes,
            copies: 0,
        };
        bytes.iter().map(resident).collect()
    }

    #[test]
    fn who_leaves_before_the_other_has_come_made_room_for_it() {
        let memory = Memory::default();
        let two = loaded(&["a*", "b*"]);
        memory.seen(&[], &two, None);
        memory.seen(&two, &two[..1], None);
        assert_eq!(
            memory.room(&residents(&[1, 1]), 1),
            Room::Unknown,
            "it had expired"
        );
        memory.seen(&two, &two[..1], Some(1));
        assert_eq!(memory.room(&residents(&[1, 1]), 1), Room::Evicts);
    }

    #[test]
    fn what_was_held_fits_and_what_pushed_something_out_does_not() {
        let memory = Memory::default();
        let held = |models: &[(&str, u64)]| -> Vec<Loaded> {
            let all = models.iter().map(|(name, bytes)| Loaded {
                bytes: *bytes,
                ..loaded(&[&format!("{name}*")]).remove(0)
            });
            all.collect()
        };
        assert_eq!(memory.room(&[], 100), Room::Fits, "an empty node takes one");
        assert_eq!(memory.room(&residents(&[10]), 10), Room::Unknown);
        let (two, other) = (held(&[("a", 10), ("b", 10)]), held(&[("b", 10), ("c", 8)]));
        memory.seen(&[], &two, None);
        assert_eq!(memory.room(&residents(&[10]), 10), Room::Fits);
        assert_eq!(memory.room(&residents(&[10, 10]), 8), Room::Unknown);
        memory.seen(&two, &other, None);
        assert_eq!(memory.room(&residents(&[10, 8]), 10), Room::Evicts);
        assert_eq!(memory.room(&residents(&[10]), 8), Room::Fits);
        // It turns out to hold three: the eviction was none.
        let three = held(&[("b", 10), ("c", 8), ("d", 12)]);
        memory.seen(&other, &three, None);
        assert_eq!(memory.room(&residents(&[10, 8]), 12), Room::Fits);
    }
}
