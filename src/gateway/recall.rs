//! Where a conversation was: looked up before a node is chosen, noted when one has answered.

use http::HeaderValue;
use pingora::http::ResponseHeader;

use crate::affinity::{Clues, Key, Session, key};
use crate::dialect::{Call, Facts};
use crate::error::Fault;
use crate::fleet::NodeId;
use crate::model::ModelKey;

use super::Gateway;
use super::client::{Client, broken, insert};
use super::outgoing::Asked;
use super::proxy::Context;

/// In which clients name their sessions, the plainest word first.
const SESSION_HEADERS: &[&str] = &["x-arriero-session-id", "x-olla-session-id", "x-session-id"];
/// In which Open WebUI names a chat.
const CHAT_HEADERS: &[&str] = &["x-openwebui-chat-id"];
/// In which clients show a key.
const KEY_HEADERS: &[&str] = &["authorization", "x-api-key", "api-key"];
/// Longest name of a session that is said back to its client, bytes.
const ECHO_BYTES_MAX: usize = 128;

/// What a request is known by and what was remembered of it.
#[derive(Clone)]
pub(super) struct Recalled {
    /// None when nothing tells the conversation, or the call has none.
    key: Option<Key>,
    pub(super) session: Option<Session>,
    /// The client's own name of the session, where it is fit to be said back to a client of Olla's.
    id: Option<HeaderValue>,
}

/// What became of a session, in Olla's words, for the head of an answer.
pub(super) struct Stickiness {
    result: &'static str,
    source: &'static str,
    id: Option<HeaderValue>,
}

impl Gateway {
    /// What is remembered of the conversation that a request belongs to.
    pub(super) fn recall(
        &self,
        client: &Client<'_>,
        call: &Call,
        facts: &Facts,
        model: &ModelKey,
        ctx: &Context,
    ) -> Recalled {
        let rules = &ctx.config.proxy.sticky;
        let header = |names: &[&str]| {
            let found = names.iter().find_map(|name| client.headers().get(*name));
            found.filter(|value| !value.is_empty())
        };
        let id = header(SESSION_HEADERS);
        let clues = Clues {
            model: model.as_str(),
            session: id.map(HeaderValue::as_bytes),
            chat: header(CHAT_HEADERS).map(HeaderValue::as_bytes),
            prompt: facts.affinity,
            credential: header(KEY_HEADERS).map(HeaderValue::as_bytes),
            ip: ctx.record.client.map(|client| client.ip()),
        };
        // A vector or a description leaves nothing in a node that the next request could use.
        let key = match call.operation.generates() {
            true => key(&rules.sources, &clues),
            false => None,
        };
        let session = key.and_then(|key| self.sessions.find(key, rules, self.uptime()));
        let id = id.filter(|id| call.olla && is_fit(id)).cloned();
        Recalled { key, session, id }
    }

    /// Notes which node answers, if it does so with more than an error, and says what that is to the session.
    pub(super) fn remember(
        &self,
        asked: &Asked,
        node: NodeId,
        head: &ResponseHeader,
        ctx: &Context,
    ) -> Option<Stickiness> {
        let rules = &ctx.config.proxy.sticky;
        if let Some(key) = asked.recalled.key.filter(|_| head.status.is_success()) {
            let tokens = asked.facts.prompt_tokens();
            self.sessions.note(key, node, tokens, rules, self.uptime());
        }
        rules.enabled.then(|| asked.recalled.compared_with(node))
    }
}

impl Recalled {
    /// How much of the prompt a node has read before, tokens, about.
    pub(super) fn tokens_at(&self, node: NodeId) -> u64 {
        let here = self.session.filter(|session| session.node == node);
        here.map_or(0, |session| session.tokens)
    }

    fn compared_with(&self, node: NodeId) -> Stickiness {
        Stickiness {
            result: match self.session {
                _ if self.key.is_none() => "disabled",
                None => "miss",
                Some(session) if session.node == node => "hit",
                Some(_) => "repin",
            },
            source: self.key.map_or("none", |key| key.source.word()),
            id: self.id.clone(),
        }
    }
}

impl Stickiness {
    /// Puts the words on an answer's head.
    pub(super) fn mark(&self, head: &mut ResponseHeader) -> Result<(), Fault> {
        insert(head, "x-olla-sticky-session", self.result)?;
        insert(head, "x-olla-sticky-key-source", self.source)?;
        match &self.id {
            Some(id) => head
                .insert_header("x-olla-session-id", id.clone())
                .map_err(broken),
            None => Ok(()),
        }
    }
}

fn is_fit(id: &HeaderValue) -> bool {
    let bytes = id.as_bytes();
    (1..=ECHO_BYTES_MAX).contains(&bytes.len()) && bytes.iter().all(u8::is_ascii_graphic)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_sane_name_of_a_session_is_said_back() {
        let long = "x".repeat(ECHO_BYTES_MAX);
        let too_long = format!("{long}x");
        let cases = [
            ("a-1_b.c", true),
            (&long, true),
            (&too_long, false),
            ("", false),
            ("two words", false),
            ("tab\there", false),
            ("grüß", false),
        ];
        for (id, expected) in cases {
            let value = HeaderValue::from_bytes(id.as_bytes()).unwrap();
            assert_eq!(is_fit(&value), expected, "{id}");
        }
    }
}
