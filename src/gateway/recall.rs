//! Where a conversation was: looked up before a node is chosen, noted when one has answered.

use std::net::IpAddr;

use http::{HeaderMap, HeaderValue};
use pingora::http::ResponseHeader;

use crate::affinity::{Clues, Key, Session, key};
use crate::config::StickySessions;
use crate::dialect::{Call, Facts};
use crate::error::Fault;
use crate::fleet::NodeId;
use crate::model::ModelKey;

use super::Gateway;
use super::admin::Visit;
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
        let headers = client.headers();
        let ip = ctx.record.client.map(|client| client.ip());
        let clues = clues(headers, ip, facts, model);
        let key = key_for(call, rules, &clues);
        let session = key.and_then(|key| self.sessions.find(key, rules, self.uptime()));
        let id = header(headers, SESSION_HEADERS);
        let id = id.filter(|id| call.olla && is_fit(id)).cloned();
        Recalled { key, session, id }
    }

    /// The same for a request that is only asked about: nothing is counted, and no session is kept from growing old.
    pub(super) fn recall_quietly(
        &self,
        visit: &Visit<'_>,
        call: &Call,
        facts: &Facts,
        model: &ModelKey,
        rules: &StickySessions,
    ) -> Recalled {
        let clues = clues(visit.headers, visit.ip, facts, model);
        let key = key_for(call, rules, &clues);
        let session = key.and_then(|key| self.sessions.peek(key, rules, self.uptime()));
        Recalled {
            key,
            session,
            id: None,
        }
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

fn header<'a>(headers: &'a HeaderMap, names: &[&str]) -> Option<&'a HeaderValue> {
    let found = names.iter().find_map(|name| headers.get(*name));
    found.filter(|value| !value.is_empty())
}

fn clues<'a>(
    headers: &'a HeaderMap,
    ip: Option<IpAddr>,
    facts: &Facts,
    model: &'a ModelKey,
) -> Clues<'a> {
    let said = |names| header(headers, names).map(HeaderValue::as_bytes);
    Clues {
        model: model.as_str(),
        session: said(SESSION_HEADERS),
        chat: said(CHAT_HEADERS),
        prompt: facts.affinity,
        credential: said(KEY_HEADERS),
        ip,
    }
}

/// A vector or a description leaves nothing in a node that the next request could use.
fn key_for(call: &Call, rules: &StickySessions, clues: &Clues<'_>) -> Option<Key> {
    match call.operation.generates() {
        true => key(&rules.sources, clues),
        false => None,
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
