//! `proxy.sticky_sessions`: by what a conversation is known, and whether it stays with its node.

use std::time::Duration;

use super::problem::Problem;
use super::schema::Form;
use super::section::Section;
use super::text::word;

const IDLE_TTL_S: u32 = 600;
const SESSIONS_MAX: u32 = 10_000;
const HASHED_BYTES_MAX: u32 = 8 * 1024;

/// How conversations are told apart, and how long it is remembered who answered them. As it is in force: with `enabled: false` the
/// other keys have no say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StickySessions {
    /// Whether a conversation stays with its node while that can take it; otherwise it is but one of the things that count.
    pub enabled: bool,
    /// For how long an unused session is remembered. Never 0.
    pub idle_ttl: Duration,
    /// Sessions remembered at the same time, 1 to 1,000,000.
    pub sessions_max: usize,
    /// What a conversation is known by, best first; never empty, each once.
    pub sources: Vec<KeySource>,
    /// How much of the system prompt, of the tools and of the first user message [`KeySource::PrefixHash`] looks at, bytes each,
    /// 1 to 65,536.
    pub hashed_bytes_max: usize,
}

/// One of `key_sources`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeySource {
    /// A header in which the client names its session.
    SessionHeader,
    /// The header in which Open WebUI names the chat.
    ChatId,
    /// The head of the conversation itself: system prompt, tools, first user message.
    PrefixHash,
    /// What the client shows to be let in.
    AuthHeader,
    /// The client's address.
    Ip,
}

const SOURCES: &[(&str, KeySource)] = &[
    ("session_header", KeySource::SessionHeader),
    ("chat_id", KeySource::ChatId),
    ("prefix_hash", KeySource::PrefixHash),
    ("auth_header", KeySource::AuthHeader),
    ("ip", KeySource::Ip),
];

impl KeySource {
    /// The word in `key_sources`.
    pub fn word(self) -> &'static str {
        let found = SOURCES.iter().find(|(_, source)| *source == self);
        found.map_or("", |(word, _)| word)
    }

    /// Whether what it yields tells of a conversation, and not only of a client, who may have many.
    fn tells_conversation(self) -> bool {
        match self {
            KeySource::SessionHeader | KeySource::ChatId | KeySource::PrefixHash => true,
            KeySource::AuthHeader | KeySource::Ip => false,
        }
    }
}

impl StickySessions {
    /// Nobody is bound to a node; that a node may still have a prompt in its cache is worth knowing.
    fn off() -> StickySessions {
        let sources = SOURCES.iter().map(|(_, source)| *source);
        StickySessions {
            enabled: false,
            idle_ttl: Duration::from_secs(IDLE_TTL_S.into()),
            sessions_max: SESSIONS_MAX as usize,
            sources: sources.filter(|it| it.tells_conversation()).collect(),
            hashed_bytes_max: HASHED_BYTES_MAX as usize,
        }
    }
}

/// Reads `proxy.sticky_sessions`.
pub(super) fn sticky_sessions(mut s: Section) -> StickySessions {
    let idle_ttl_s = s.number("idle_ttl_seconds", IDLE_TTL_S, 1..=2_592_000);
    let read = StickySessions {
        enabled: s.flag("enabled", false),
        idle_ttl: Duration::from_secs(idle_ttl_s.into()),
        sessions_max: s.count("max_sessions", SESSIONS_MAX, 1..=1_000_000),
        sources: sources(&mut s),
        hashed_bytes_max: s.count("prefix_hash_bytes", HASHED_BYTES_MAX, 1..=65_536),
    };
    s.close();
    match read.enabled {
        true => read,
        false => StickySessions::off(),
    }
}

fn sources(s: &mut Section) -> Vec<KeySource> {
    let words = SOURCES.iter().map(|(word, _)| *word);
    s.learn(
        "key_sources",
        Form::List(Box::new(Form::word("session_header", words))),
    );
    let Some(written) = s.scalars("key_sources") else {
        return SOURCES.iter().map(|(_, source)| *source).collect();
    };
    if written.is_empty() {
        let message = "`proxy.sticky_sessions.key_sources` is empty, so no conversation could be told from another";
        let hint = "name at least one source, or write `enabled: false`";
        let place = s.place_of("key_sources");
        s.reading.report(Problem::new(place, message).hint(hint));
    }
    let mut sources = Vec::new();
    for set in written {
        let read = s.judge(&set, None, |text| word(text, SOURCES).map(Some));
        let new = read.filter(|source| !sources.contains(source));
        sources.extend(new);
    }
    sources
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Sources;
    use crate::config::check::load;
    use KeySource::*;

    fn read(keys: &str) -> StickySessions {
        let text = format!("proxy: {{ sticky_sessions: {{ {keys} }} }}");
        let sources = Sources {
            file: Some(("test.yaml", &text)),
            ..Sources::nothing()
        };
        load(&sources).unwrap().proxy.sticky
    }

    #[test]
    fn what_is_written_counts_where_it_is_on() {
        let on = StickySessions {
            enabled: true,
            idle_ttl: Duration::from_secs(600),
            sessions_max: 10_000,
            sources: vec![SessionHeader, ChatId, PrefixHash, AuthHeader, Ip],
            hashed_bytes_max: 8192,
        };
        assert_eq!(read("enabled: true"), on);
        let written = "enabled: true, idle_ttl_seconds: 9, max_sessions: 8, key_sources: [ip, chat_id, ip], prefix_hash_bytes: 512";
        let expected = StickySessions {
            enabled: true,
            idle_ttl: Duration::from_secs(9),
            sessions_max: 8,
            sources: vec![Ip, ChatId],
            hashed_bytes_max: 512,
        };
        assert_eq!(read(written), expected);
        let off = StickySessions {
            enabled: false,
            sources: vec![SessionHeader, ChatId, PrefixHash],
            ..on
        };
        assert_eq!(read(""), off);
        assert_eq!(read(&written.replace("true", "false")), off);
    }
}
