//! What the turns of one conversation share, as a number that every replica works out alike.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;

use crate::config::KeySource;

/// What a request lets us know its conversation by. Values go into a hash and nowhere else: some are secrets.
#[derive(Debug, Clone, Copy, Default)]
pub struct Clues<'a> {
    /// The asked model, spelled the same whenever it is the same: another model keeps nothing of a conversation.
    pub model: &'a str,
    /// The client's own name of the session.
    pub session: Option<&'a [u8]>,
    /// Open WebUI's name of the chat.
    pub chat: Option<&'a [u8]>,
    /// A hash of the conversation's head, the `affinity` of what `dialect` found in the body.
    pub prompt: Option<u64>,
    /// What the client shows to be let in.
    pub credential: Option<&'a [u8]>,
    /// Where it calls from.
    pub ip: Option<IpAddr>,
}

/// What a conversation is known by, and what that was made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// The same on every replica of one build: the hasher's key is fixed.
    pub(super) hash: u64,
    /// The clue that was used.
    pub source: KeySource,
}

/// The key by the first of these sources that the request has anything for; an empty value is none.
pub fn key(sources: &[KeySource], clues: &Clues<'_>) -> Option<Key> {
    sources.iter().find_map(|source| {
        let mut hasher = DefaultHasher::new();
        // The word and not the place in the enum, so that a new source changes nobody's key.
        (source.word(), clues.model).hash(&mut hasher);
        match source {
            KeySource::SessionHeader => said(clues.session)?.hash(&mut hasher),
            KeySource::ChatId => said(clues.chat)?.hash(&mut hasher),
            KeySource::PrefixHash => clues.prompt?.hash(&mut hasher),
            KeySource::AuthHeader => said(clues.credential)?.hash(&mut hasher),
            KeySource::Ip => clues.ip?.to_canonical().hash(&mut hasher),
        }
        let (hash, source) = (hasher.finish(), *source);
        Some(Key { hash, source })
    })
}

fn said(value: Option<&[u8]>) -> Option<&[u8]> {
    value.filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use KeySource::*;

    const FULL: Clues<'_> = Clues {
        model: "llama3",
        session: Some(b"s"),
        chat: Some(b"c"),
        prompt: Some(7),
        credential: Some(b"Bearer k"),
        ip: Some(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST)),
    };

    #[test]
    fn the_first_source_that_yields_wins() {
        let order = [SessionHeader, ChatId, PrefixHash, AuthHeader, Ip];
        let without = [
            FULL,
            Clues {
                session: Some(b""),
                ..FULL
            },
            Clues {
                session: None,
                chat: None,
                ..FULL
            },
            Clues {
                session: None,
                chat: Some(b""),
                prompt: None,
                ..FULL
            },
            Clues {
                model: "llama3",
                ip: FULL.ip,
                ..Clues::default()
            },
        ];
        for (clues, expected) in without.iter().zip(order) {
            assert_eq!(key(&order, clues).unwrap().source, expected);
        }
        assert_eq!(key(&order, &Clues::default()), None);
        assert_eq!(key(&[], &FULL), None);
        assert_eq!(key(&[Ip, SessionHeader], &FULL).unwrap().source, Ip);
    }

    #[test]
    fn the_model_the_source_and_the_whole_value_count() {
        let of = |source, clues| key(&[source], &clues).unwrap().hash;
        for source in [SessionHeader, ChatId, PrefixHash, AuthHeader, Ip] {
            let model = "qwen3";
            assert_eq!(of(source, FULL), of(source, FULL), "{source:?}");
            assert_ne!(of(source, FULL), of(source, Clues { model, ..FULL }));
        }
        let session = Some(&b"same"[..]);
        let chat = session;
        let same = Clues {
            session,
            chat,
            ..FULL
        };
        assert_ne!(of(SessionHeader, same), of(ChatId, same));
        let long = |end: u8| {
            let mut value = vec![b'x'; 5000];
            value.push(end);
            value
        };
        let (a, b) = (long(b'a'), long(b'b'));
        let with = |session| Clues {
            session: Some(session),
            ..FULL
        };
        assert_ne!(of(SessionHeader, with(&a)), of(SessionHeader, with(&b)));
    }

    #[test]
    fn an_address_is_one_however_it_is_written() {
        let from = |ip: &str| Clues {
            ip: ip.parse().ok(),
            ..FULL
        };
        let of = |clues| key(&[Ip], &clues).unwrap().hash;
        assert_eq!(of(from("10.0.0.1")), of(from("::ffff:10.0.0.1")));
        assert_ne!(of(from("10.0.0.1")), of(from("10.0.0.2")));
    }

    #[test]
    fn every_replica_works_out_the_same_key() {
        // A figure and not a formula: it must not change between two builds that run beside each other without somebody noticing.
        assert_eq!(
            key(&[SessionHeader], &FULL).unwrap().hash,
            11_654_383_833_020_704_296
        );
    }
}
