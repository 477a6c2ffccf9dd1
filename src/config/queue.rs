//! `proxy.queue`: who may wait for a free slot.

use std::time::Duration;

use super::section::Section;

/// `proxy.queue`: who may wait for a free slot.
#[derive(Debug, Clone)]
pub struct Queue {
    /// Requests waiting at once, 0 to 1,000,000; 0 lets nobody wait, one too many gets 503.
    pub length_max: usize,
    /// Longest wait of one request, then 503. Never 0.
    pub wait_max: Duration,
}

/// Reads the section.
pub(super) fn queue(mut s: Section) -> Queue {
    let queue = Queue {
        length_max: s.count("max_length", 512, 0..=1_000_000),
        wait_max: s.duration("max_wait", Duration::from_secs(60)),
    };
    s.close();
    queue
}
