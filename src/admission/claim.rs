//! Who asks, and how urgently: what the queue is fair between.

/// Whoever shares are counted for: requests of one tenant compete with each other before they compete with others'.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tenant(pub u64);

/// How urgent a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// Somebody waits for the answer.
    Interactive,
    /// Nobody does: it gets what interactive work leaves over.
    Background,
}

/// What a request may claim in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// Whose it is.
    pub tenant: Tenant,
    /// How urgent.
    pub class: Class,
}
