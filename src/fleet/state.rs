//! A node's health in the one word that operators read, on pages and in metrics.

use crate::fleet::health::{Cause, Health};

/// What a node is to the operator, in one word. Where Olla has a state for the same thing it has Olla's word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Neither proven nor disproven yet.
    Unknown,
    /// In service.
    Healthy,
    /// Back from an ejection, in service with one request at a time until one succeeds.
    Trial,
    /// Its probes succeed and its requests fail.
    Ejected,
    /// Its probes fail.
    Offline,
    /// It refuses our key.
    ConfigError,
    /// It asked to be left alone for a while.
    RateLimited,
    /// The operator has taken it out of service, whatever its health.
    Draining,
}

impl State {
    /// The word on status pages and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Unknown => "unknown",
            State::Healthy => "healthy",
            State::Trial => "trial",
            State::Ejected => "ejected",
            State::Offline => "offline",
            State::ConfigError => "config_error",
            State::RateLimited => "rate_limited",
            State::Draining => "draining",
        }
    }
}

impl Health {
    /// The operator's word for it, unless the operator has taken the node out of service.
    pub fn state(&self) -> State {
        match self {
            Health::Unknown => State::Unknown,
            Health::Up => State::Healthy,
            Health::Trial => State::Trial,
            Health::Down { cause, .. } => match cause {
                Cause::Probe => State::Offline,
                Cause::Traffic => State::Ejected,
                Cause::Refused => State::ConfigError,
                Cause::RateLimited => State::RateLimited,
            },
        }
    }
}
