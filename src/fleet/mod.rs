//! What we believe about the nodes: health, models, slots. One `ArcSwap<Snapshot>` with a single writer.
//!
//! Stub: the signatures other modules count on stand here, their meaning in `docs/architecture.md`.

/// A node, by its place in the configuration. Stable while the process lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub usize);
