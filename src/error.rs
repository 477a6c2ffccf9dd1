//! `Fault`: what happened, and whether another node may still save the day.
//!
//! It is the one error that crosses modules. It becomes text for a client in exactly one place, that client's dialect
//! (`dialect::refusal`), so a message says what happened, why, and what to do, in one sentence without a dialect's dressing.

use std::fmt;

/// Why a request failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// What becomes of the request; decides the status and the code.
    pub kind: Kind,
    /// For people: what happened, why, what to do.
    pub message: String,
}

/// One variant per way we act.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The client must change its request. `status` is 4xx or 501; `code` is a stable word for programs, such as
    /// `ambiguous_body`.
    Refused {
        /// 4xx or 501.
        status: u16,
        /// Stable, for programs.
        code: &'static str,
    },
    /// 405; `allow` is the value of the `Allow` header.
    MethodNotAllowed {
        /// Methods, separated by commas (RFC 9110).
        allow: &'static str,
    },
    /// No node has the model (404).
    UnknownModel,
    /// The model is known but nobody can take the request now (503).
    Unavailable {
        /// Value of `Retry-After`, seconds.
        retry_after_s: u32,
    },
    /// A node broke its side of the exchange (502).
    NodeFailed,
    /// A node was silent past its deadline (504).
    NodeSilent,
    /// The client left; nobody is there to read an answer (499 in the log).
    ClientGone,
    /// We broke (500).
    Internal,
}

impl Fault {
    /// A fault; `message` is one sentence without a dialect's dressing.
    pub fn new(kind: Kind, message: impl Into<String>) -> Fault {
        Fault {
            kind,
            message: message.into(),
        }
    }

    /// 400 with a stable code.
    pub fn malformed(code: &'static str, message: impl Into<String>) -> Fault {
        Fault::refused(400, code, message)
    }

    /// [`Kind::Refused`]: `status` is 4xx or 501, `code` a stable word for programs.
    pub fn refused(status: u16, code: &'static str, message: impl Into<String>) -> Fault {
        Fault::new(Kind::Refused { status, code }, message)
    }

    /// [`Kind::ClientGone`], which nobody will read.
    pub fn client_gone() -> Fault {
        Fault::new(Kind::ClientGone, "the client left")
    }

    /// The HTTP status a client sees, or that the log shows when nobody is left to see it.
    pub fn status(&self) -> u16 {
        match self.kind {
            Kind::Refused { status, .. } => status,
            Kind::MethodNotAllowed { .. } => 405,
            Kind::UnknownModel => 404,
            Kind::Unavailable { .. } => 503,
            Kind::NodeFailed => 502,
            Kind::NodeSilent => 504,
            Kind::ClientGone => 499,
            Kind::Internal => 500,
        }
    }

    /// A stable word for programs (OpenAI's `code`, a metric's label).
    pub fn code(&self) -> &'static str {
        match self.kind {
            Kind::Refused { code, .. } => code,
            Kind::MethodNotAllowed { .. } => "method_not_allowed",
            Kind::UnknownModel => "model_not_found",
            Kind::Unavailable { .. } => "unavailable",
            Kind::NodeFailed => "node_failed",
            Kind::NodeSilent => "node_silent",
            Kind::ClientGone => "client_gone",
            Kind::Internal => "internal_error",
        }
    }

    /// Whether another node may be tried, given that nothing has reached the client yet.
    pub fn is_safe_to_retry(&self) -> bool {
        matches!(self.kind, Kind::NodeFailed | Kind::NodeSilent)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Fault {}
