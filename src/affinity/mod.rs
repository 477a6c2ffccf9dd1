//! Which node has a conversation's prompt in its cache: remembered under a key that the conversation's turns share.
//!
//! Pure: time is an argument. What is remembered here is advice for `routing`; it holds no slot and promises nothing.

mod key;
mod shelf;

pub use key::{Clues, Key, key};

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::config::StickySessions;
use crate::fleet::NodeId;

use shelf::Shelf;

/// Sessions whose time is over that one request clears away, so that none pays for all.
const CLEARED_AT_ONCE_MAX: usize = 8;

/// What is remembered of a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Session {
    /// Who answered last.
    pub node: NodeId,
    /// How long the prompt was that it answered, tokens, about.
    pub tokens: u64,
    /// How long ago that was.
    pub idle: Duration,
    /// Whether the operator wants it to stay there while it can.
    pub pinned: bool,
}

/// What became of the sessions since the start. `insertions` − `evictions` is always `active`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Figures {
    /// Sessions remembered now.
    pub active: usize,
    /// Sessions that began.
    pub insertions: u64,
    /// Requests whose conversation was remembered.
    pub hits: u64,
    /// Requests whose conversation was not.
    pub misses: u64,
    /// Sessions that went on at another node.
    pub repins: u64,
    /// Sessions forgotten: idle for too long, crowded out, or because their node left.
    pub evictions: u64,
}

/// All sessions, at most as many as the rules allow; the one not used for the longest time makes room.
///
/// Rules may change from call to call. `now` is the time since the gateway started. A lock is held for a few steps of memory each
/// time, except in [`Sessions::keep`] and [`Sessions::figures`], which may walk through all.
#[derive(Debug, Default)]
pub struct Sessions(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    shelf: Shelf,
    figures: Figures,
}

impl Sessions {
    /// What is remembered under a key. That it was asked for keeps it from growing old.
    pub fn find(&self, key: Key, rules: &StickySessions, now: Duration) -> Option<Session> {
        let mut inner = self.lock();
        inner.clear_old(rules.idle_ttl, now, CLEARED_AT_ONCE_MAX);
        let found = inner.shelf.find(key.hash);
        let found = found.filter(|place| !inner.shelf.is_old(*place, rules.idle_ttl, now));
        let Some(place) = found else {
            inner.figures.misses += 1;
            return None;
        };
        inner.figures.hits += 1;
        let idle = now.saturating_sub(inner.shelf.used_at(place));
        let entry = inner.shelf.touch(place, now);
        Some(Session {
            node: entry.node,
            tokens: entry.tokens,
            idle,
            pinned: rules.enabled,
        })
    }

    /// As [`Sessions::find`], for somebody who only looks: nothing is counted, and nothing is kept from growing old.
    pub fn peek(&self, key: Key, rules: &StickySessions, now: Duration) -> Option<Session> {
        let inner = self.lock();
        let place = inner.shelf.find(key.hash)?;
        if inner.shelf.is_old(place, rules.idle_ttl, now) {
            return None;
        }
        let entry = inner.shelf.entry(place);
        Some(Session {
            node: entry.node,
            tokens: entry.tokens,
            idle: now.saturating_sub(inner.shelf.used_at(place)),
            pinned: rules.enabled,
        })
    }

    /// Remembers who answered, and how long the prompt was, tokens.
    pub fn note(&self, key: Key, by: NodeId, tokens: u64, rules: &StickySessions, now: Duration) {
        let mut inner = self.lock();
        inner.clear_old(rules.idle_ttl, now, CLEARED_AT_ONCE_MAX);
        if let Some(place) = inner.shelf.find(key.hash) {
            let entry = inner.shelf.touch(place, now);
            let moved = entry.node != by;
            (entry.node, entry.tokens) = (by, tokens);
            inner.figures.repins += u64::from(moved);
            return;
        }
        while rules.sessions_max.max(1) <= inner.shelf.len() {
            inner.evict_oldest();
        }
        inner.shelf.add(key.hash, by, tokens, now);
        inner.figures.insertions += 1;
    }

    /// Forgets the sessions of nodes that do not stay.
    pub fn keep(&self, stays: impl Fn(NodeId) -> bool) {
        let mut inner = self.lock();
        let gone = inner.shelf.retain(stays);
        inner.figures.evictions += gone as u64;
    }

    /// What became of the sessions so far.
    pub fn figures(&self, rules: &StickySessions, now: Duration) -> Figures {
        let mut inner = self.lock();
        inner.clear_old(rules.idle_ttl, now, usize::MAX);
        Figures {
            active: inner.shelf.len(),
            ..inner.figures
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing in here calls out while the links are between two states, so a poisoned lock still guards a whole shelf.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn clear_old(&mut self, idle_ttl: Duration, now: Duration, most: usize) {
        for _ in 0..most {
            let oldest = self.shelf.oldest();
            if !oldest.is_some_and(|place| self.shelf.is_old(place, idle_ttl, now)) {
                return;
            }
            self.evict_oldest();
        }
    }

    fn evict_oldest(&mut self) {
        if let Some(place) = self.shelf.oldest() {
            self.shelf.remove(place);
            self.figures.evictions += 1;
        }
    }
}

#[cfg(test)]
mod tests;
