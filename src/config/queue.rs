//! `proxy.queue`: who may wait for a free slot, and who counts as one client there.

use std::time::Duration;

use super::schema::Form;
use super::section::Section;
use super::text::word;

/// `proxy.queue`: who may wait for a free slot.
#[derive(Debug, Clone)]
pub struct Queue {
    /// Requests waiting at once, 0 to 1,000,000; 0 lets nobody wait, one too many gets 503.
    pub length_max: usize,
    /// Longest wait of one request, then 503. Never 0.
    pub wait_max: Duration,
    /// How long a request that needs a model loaded lets those pass that need none.
    pub swap_patience: Duration,
    /// How long background work lets interactive work pass.
    pub background_patience: Duration,
    /// What tells tenants apart, the first that a request has; with none all are one.
    pub tenant_sources: Vec<TenantSource>,
}

/// Something that tells whose request it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TenantSource {
    /// `X-OpenWebUI-User-Id`.
    UserHeader,
    /// The key in `Authorization` or `x-api-key`.
    AuthHeader,
    /// The address of the connection.
    Ip,
}

const SOURCES: &[(&str, TenantSource)] = &[
    ("user_header", TenantSource::UserHeader),
    ("auth_header", TenantSource::AuthHeader),
    ("ip", TenantSource::Ip),
];

impl TenantSource {
    /// The word of `tenant_sources`.
    pub fn word(self) -> &'static str {
        let mut sources = SOURCES.iter();
        let own = sources.find(|(_, source)| *source == self);
        own.map_or("", |(word, _)| word)
    }
}

/// Reads the section.
pub(super) fn queue(mut s: Section) -> Queue {
    let source = Form::word("ip", SOURCES.iter().map(|(word, _)| *word));
    s.learn("tenant_sources", Form::List(Box::new(source)));
    let tenant_sources = match s.scalars("tenant_sources") {
        None => SOURCES.iter().map(|(_, source)| *source).collect(),
        Some(words) => words
            .iter()
            .filter_map(|set| s.judge(set, None, |text| word(text, SOURCES).map(Some)))
            .collect(),
    };
    let queue = Queue {
        length_max: s.count("max_length", 512, 0..=1_000_000),
        wait_max: s.duration("max_wait", Duration::from_secs(60)),
        swap_patience: s.duration_or_none("swap_patience", Duration::from_secs(10)),
        background_patience: s.duration_or_none("background_patience", Duration::from_secs(30)),
        tenant_sources,
    };
    s.close();
    queue
}
