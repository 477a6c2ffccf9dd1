//! `proxy.hedge`: when a second node is asked the same, because the first is slow.

use std::time::Duration;

use super::section::Section;

/// `proxy.hedge`: when a second node is asked the same, because the first is slow.
#[derive(Debug, Clone)]
pub struct Hedge {
    /// Whether embeddings are. Nothing else ever is: they alone come out the same and cost little.
    pub embeddings: bool,
    /// How long the first node may be silent before that. Never 0.
    pub delay: Duration,
    /// Second requests as a share of all embeddings, percent, 0 to 100.
    pub budget_percent: u32,
}

/// Reads the section.
pub(super) fn hedge(mut s: Section) -> Hedge {
    let hedge = Hedge {
        embeddings: s.flag("embeddings", false),
        delay: s.duration("delay", Duration::from_millis(500)),
        budget_percent: s.number("budget_percent", 2, 0..=100),
    };
    s.close();
    hedge
}
