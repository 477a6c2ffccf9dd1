//! Bells that have a node's models asked for at once, for those who can't stay to ask themselves.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::Notify;

use crate::fleet::NodeId;

/// One bell for each node that is watched.
#[derive(Default)]
pub(super) struct Wakes(Mutex<HashMap<NodeId, Weak<Notify>>>);

impl Wakes {
    /// The bell of a node, for whoever watches it; it is there as long as somebody holds it.
    pub(super) fn bell(&self, node: NodeId) -> Arc<Notify> {
        let mut bells = self.lock();
        bells.retain(|_, bell| 0 < bell.strong_count());
        if let Some(bell) = bells.get(&node).and_then(Weak::upgrade) {
            return bell;
        }
        let bell = Arc::new(Notify::new());
        bells.insert(node, Arc::downgrade(&bell));
        bell
    }

    /// Rings it; a node that nobody watches has no bell.
    pub(super) fn ring(&self, node: NodeId) {
        if let Some(bell) = self.lock().get(&node).and_then(Weak::upgrade) {
            bell.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<NodeId, Weak<Notify>>> {
        // Entries are put in whole, so a panic elsewhere left the map as good as it was.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_bell_that_rang_before_anybody_listened_is_heard_and_lives_as_long_as_its_holder() {
        let wakes = Wakes::default();
        wakes.ring(NodeId(1));
        let bell = wakes.bell(NodeId(1));
        wakes.ring(NodeId(1));
        wakes.ring(NodeId(2));
        bell.notified().await;
        assert!(Arc::ptr_eq(&bell, &wakes.bell(NodeId(1))));
        drop(bell);
        let other = wakes.bell(NodeId(2));
        assert_eq!(
            wakes.lock().len(),
            1,
            "that of a node that is not watched is gone"
        );
        drop(other);
    }
}
