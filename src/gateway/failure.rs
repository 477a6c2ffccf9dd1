//! Why an attempt at a node failed before the client saw anything, and what that allows.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use pingora::http::ResponseHeader;
use pingora::{Error, ErrorType};

use crate::dialect::Dialect;
use crate::error::{Fault, Kind};

use super::credentials::tls_failure;
use super::retry_after::retry_after;

/// A failed attempt.
#[derive(Clone)]
pub(super) struct Failed {
    /// For the client whose request it was, and for that request's own line in the log.
    pub(super) fault: Fault,
    /// The same for everybody else, never in the node's words: those may repeat what this client sent.
    pub(super) symptom: String,
    /// Label of `retries_total` and `upstream_errors_total`.
    pub(super) reason: &'static str,
    /// The node may have begun to generate, so a retry may double the work: it costs budget.
    pub(super) may_have_run: bool,
    /// Whether the node's health suffers; a busy node is not a sick one.
    pub(super) blames_node: bool,
    /// The node asked to be left alone for so long (429).
    pub(super) retry_after: Option<Duration>,
    /// What the node said, if it answered.
    pub(super) declined: Option<Box<Declined>>,
}

/// What a 401 of a node means, to whoever asks for it.
pub(super) const WRONG_KEY: &str =
    "does not accept our key; correct its `auth` in the configuration";

/// An answer that asks to go elsewhere (503, 429, a failed runner), whole.
#[derive(Clone)]
pub(super) struct Declined {
    pub(super) status: u16,
    pub(super) head: ResponseHeader,
    pub(super) body: Bytes,
    /// Whether the body is all that the node said.
    pub(super) whole: bool,
}

/// How a stream broke.
#[derive(Debug)]
pub(super) enum Broken {
    Silent,
    Cut(String),
}

impl Failed {
    /// `deed` is what the node did, as in `node `gpu-1` answered 502`.
    fn new(kind: Kind, name: &str, deed: &str, reason: &'static str) -> Failed {
        Failed {
            fault: Fault::new(kind, format!("node `{name}` {deed}")),
            symptom: symptom(deed),
            reason,
            may_have_run: true,
            blames_node: true,
            retry_after: None,
            declined: None,
        }
    }

    /// Nothing reached the node.
    pub(super) fn before_sending(name: &str, why: &str) -> Failed {
        let deed = format!("can't be reached: {why}");
        Failed {
            may_have_run: false,
            ..Failed::new(Kind::NodeFailed, name, &deed, "connect")
        }
    }

    /// The request went out, at least in part, and no whole answer began.
    pub(super) fn after_sending(name: &str, error: &Error) -> Failed {
        let deed = format!("broke off before its answer: {}", plain(error));
        Failed::new(Kind::NodeFailed, name, &deed, "broke_off")
    }

    /// The deadline for the first byte passed; `key` is the configuration's name for it.
    pub(super) fn silent(name: &str, limit: Duration, key: &str) -> Failed {
        let deed = format!("sent no byte within {} s ({key})", limit.as_secs_f32());
        Failed {
            // It may be busy with what others asked; whether it lives, the probes find out.
            blames_node: false,
            ..Failed::new(Kind::NodeSilent, name, &deed, "silent")
        }
    }

    /// The same for a request that waited for work of ours which failed at an Ollama node: the node has been blamed already, and what it
    /// said was in its own dialect.
    pub(super) fn passed_on(&self, dialect: Dialect) -> Failed {
        let retold = |declined: &Declined| {
            let body = dialect.retold(declined.status, &declined.body)?;
            let body = body.into();
            Some(Box::new(Declined {
                body,
                ..declined.clone()
            }))
        };
        Failed {
            blames_node: false,
            retry_after: None,
            declined: self.declined.as_deref().and_then(retold),
            ..self.clone()
        }
    }

    /// The node answered that it will not, or cannot, serve this.
    pub(super) fn declined(
        name: &str,
        reason: &'static str,
        blames_node: bool,
        declined: Declined,
    ) -> Failed {
        let deed = match (declined.status, reason) {
            (401, _) => WRONG_KEY.into(),
            (status, "runner_failed") => format!("answered {status}: its runner failed"),
            (status, _) => format!("answered {status}"),
        };
        let failed = Failed::new(Kind::NodeFailed, name, &deed, reason);
        let fault = match declined.status {
            401 => failed.fault,
            _ => {
                let message = format!("node `{name}` answered {}", declined.gist());
                Fault::new(Kind::NodeFailed, message)
            }
        };
        let presentable = declined.is_presentable();
        let retry_after = match declined.status {
            429 => retry_after(&declined.head.headers, SystemTime::now()),
            _ => None,
        };
        Failed {
            may_have_run: reason == "runner_failed",
            blames_node,
            retry_after,
            declined: presentable.then(|| Box::new(declined)),
            fault,
            ..failed
        }
    }
}

impl Failed {
    /// Whether the node said that it has too much to do.
    pub(super) fn is_busy(&self) -> bool {
        // What it said with that may not be fit for a client, so the label is all that is always there.
        matches!(self.reason, "status_429" | "status_503")
    }
}

/// A request that we could not build; no other node would fare better.
impl From<Fault> for Failed {
    fn from(fault: Fault) -> Failed {
        Failed {
            symptom: fault.message.clone(),
            fault,
            reason: "internal",
            may_have_run: false,
            blames_node: false,
            retry_after: None,
            declined: None,
        }
    }
}

impl Declined {
    /// Whether a client may get it. Not half an answer, a status that HTTP does not know, some proxy's page in HTML, or a 401,
    /// which speaks of our key.
    fn is_presentable(&self) -> bool {
        let is_json = serde_json::from_slice::<serde::de::IgnoredAny>(&self.body).is_ok();
        self.whole && is_json && (200..=599).contains(&self.status) && self.status != 401
    }

    /// The start of what the node said, for the client and its own line in the log.
    pub(super) fn gist(&self) -> String {
        let start = &self.body[..self.body.len().min(200)];
        let text = String::from_utf8_lossy(start);
        format!("{} {}", self.status, text.trim())
    }
}

/// What is wrong with a node that did this, for all who ask why it is down.
pub(super) fn symptom(deed: &str) -> String {
    format!("it {deed}")
}

/// An error of Pingora's in a few words, without addresses and source positions.
pub(super) fn plain(error: &Error) -> String {
    use ErrorType as E;
    if error.etype() == &E::TLSHandshakeFailure {
        return tls_failure(&error.to_string());
    }
    let words = match error.etype() {
        E::ConnectRefused => "connection refused",
        E::ConnectTimedout => "no connection within proxy.connection_timeout",
        E::ConnectNoRoute => "no route to it",
        E::ConnectionClosed => "it closed the connection",
        E::ReadError => "the connection was reset",
        E::WriteError => "the connection was closed while the request was sent",
        E::ReadTimedout => "it was silent too long",
        E::WriteTimedout => "it stopped reading the request",
        E::InvalidHTTPHeader | E::H1Error => "its answer is not HTTP",
        E::InvalidCert => "its certificate is not trusted",
        other => other.as_str(),
    };
    words.to_owned()
}
