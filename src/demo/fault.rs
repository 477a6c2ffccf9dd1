//! What a node can do wrong on cue, and the bytes of it.

use serde::{Deserialize, Serialize};

use super::ask::error;
use super::http::{Answer, JSON};

/// One way to misbehave. It strikes requests other than GET and HEAD, so that probes go on telling that all is well;
/// for a node that fails its probes too see `Node::kill` and `Node::freeze`. `after` counts tokens, or the lines of a
/// pull, push or create; an answer that is not streamed is cut before its head instead.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "fault", rename_all = "snake_case")]
pub enum Fault {
    /// The work begins only `ms` milliseconds later, so the head is late.
    DelayHeaders {
        /// Milliseconds.
        ms: u64,
    },
    /// The whole request is read, and never answered.
    NeverHeaders,
    /// FIN instead of a head, after the whole request was read.
    FinBeforeHead,
    /// Reset instead of a head, after the whole request was read.
    RstBeforeHead,
    /// FIN when a second request comes over the same connection, before its body is read: a stale pooled connection.
    /// A first request is served and does not use up the fault.
    StaleConnection,
    /// As `StaleConnection`, with a reset.
    StaleReset,
    /// A status sent with the body unread, then the connection is closed (the kernel resets what still comes).
    EarlyStatus {
        /// HTTP status.
        status: u16,
    },
    /// A status with this body, whatever the dialect; the connection stays.
    Status {
        /// HTTP status.
        status: u16,
        /// The whole body, sent as it is.
        body: String,
    },
    /// A status with this sentence in the error shape of the call's dialect; the connection stays.
    Refuse {
        /// HTTP status.
        status: u16,
        /// The sentence, unescaped.
        message: String,
    },
    /// Bytes that are no HTTP, then FIN.
    Garbage,
    /// A status line without a number, then FIN.
    BadStatusLine,
    /// Status 700, well formed otherwise.
    Status700,
    /// Reset after so many tokens.
    RstAfter {
        /// Tokens sent before.
        after: usize,
    },
    /// FIN without the terminating chunk after so many tokens, as a killed node does.
    FinAfter {
        /// Tokens sent before.
        after: usize,
    },
    /// Silence after so many tokens, the connection stays open.
    StallAfter {
        /// Tokens sent before.
        after: usize,
    },
    /// A chunk size that is no number after so many tokens, then FIN.
    BadChunk {
        /// Tokens sent before.
        after: usize,
    },
    /// A whole document, shorter than its Content-Length says, then FIN.
    ShortLength,
    /// A whole document and more bytes than its Content-Length says.
    LongLength,
    /// A whole document, followed by a second answer nobody asked for.
    SecondResponse,
    /// A stream that is one line of so many bytes without a line feed.
    GiantLine {
        /// Length of the line.
        bytes: usize,
    },
    /// The request's body is read `bytes` at a time, with `ms` milliseconds between; then it is served.
    SlowRead {
        /// Bytes per read.
        bytes: usize,
        /// Milliseconds between two reads.
        ms: u64,
    },
    /// The runner dies after so many tokens: a native error line, an OpenAI chunk with `"model":""`, silence and a clean
    /// end for Anthropic and Responses (recordings 901 to 922). Not streamed: 500.
    RunnerDies {
        /// Tokens sent before.
        after: usize,
    },
    /// Ollama's repeat guard after so many tokens: a clean end without the terminal chunk (recordings 941 to 946).
    Stuck {
        /// Tokens sent before.
        after: usize,
    },
    /// The head of a stream and not one byte of body.
    HeadersOnly,
    /// A body without length and chunks that ends with the connection.
    CloseDelimited,
    /// The right answer with Server, Set-Cookie and Access-Control-* headers.
    ForeignHeaders,
}

/// How a generation is cut short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut {
    Reset,
    Fin,
    Stall,
    BadChunk,
    RunnerDies,
    Stuck,
}

impl Fault {
    /// Ollama's full queue: 503 with its sentence (recording 811).
    pub fn busy() -> Fault {
        Fault::refuse(
            503,
            "server busy, please try again.  maximum pending requests exceeded",
        )
    }

    /// A client's error that Ollama reports as 500 (recording 641): another node would say the same.
    pub fn wrong_option() -> Fault {
        Fault::refuse(500, "option \"num_ctx\" must be of type integer")
    }

    /// A runner that failed before the first token: another node may do better.
    pub fn runner_failed() -> Fault {
        Fault::refuse(
            500,
            "model runner has unexpectedly stopped, this may be due to resource limitations or an internal error, check ollama server logs for details",
        )
    }

    /// 429 as a rate limited node says it.
    pub fn too_many() -> Fault {
        Fault::refuse(429, "too many requests")
    }

    fn refuse(status: u16, message: &str) -> Fault {
        Fault::Refuse {
            status,
            message: message.to_owned(),
        }
    }

    /// What happens when `sent` tokens are out.
    pub(super) fn cut(&self, sent: usize) -> Option<Cut> {
        let (after, cut) = match *self {
            Fault::RstAfter { after } => (after, Cut::Reset),
            Fault::FinAfter { after } => (after, Cut::Fin),
            Fault::StallAfter { after } => (after, Cut::Stall),
            Fault::BadChunk { after } => (after, Cut::BadChunk),
            Fault::RunnerDies { after } => (after, Cut::RunnerDies),
            Fault::Stuck { after } => (after, Cut::Stuck),
            _ => return None,
        };
        (after <= sent).then_some(cut)
    }

    /// Whether it strikes before the body is read.
    pub(super) fn is_early(&self) -> bool {
        matches!(
            self,
            Fault::StaleConnection | Fault::StaleReset | Fault::EarlyStatus { .. }
        )
    }

    /// Whether it waits for a connection's second request.
    pub(super) fn needs_reuse(&self) -> bool {
        matches!(self, Fault::StaleConnection | Fault::StaleReset)
    }

    /// The answer that replaces the right one whatever was asked, and stays within HTTP's rules.
    pub(super) fn answer(&self, path: &str) -> Option<Answer> {
        match self {
            Fault::Refuse { status, message } => Some(error(path, *status, message)),
            Fault::Status { status, body } => Some(Answer::new(*status, JSON, body.clone())),
            Fault::EarlyStatus { status } => {
                Some(error(path, *status, "refused before the body was read"))
            }
            Fault::Status700 => Some(Answer::new(700, JSON, "{}".to_owned())),
            _ => None,
        }
    }

    /// The bytes that are no right HTTP, to be followed by FIN.
    pub(super) fn broken_head(&self) -> Option<&'static [u8]> {
        match self {
            Fault::Garbage => Some(b"\x16\x03\x01 this is not HTTP\x00\xff\r\n\r\n"),
            Fault::BadStatusLine => Some(b"HTTP/1.1 okay\r\nContent-Length: 2\r\n\r\n{}"),
            _ => None,
        }
    }

    /// Headers that a right answer carries in addition.
    pub(super) fn headers(&self) -> &'static [(&'static str, &'static str)] {
        match self {
            Fault::ForeignHeaders => &[
                ("Access-Control-Allow-Credentials", "true"),
                ("Access-Control-Allow-Origin", "*"),
                ("Server", "demo-node/1"),
                ("Set-Cookie", "node=1; Path=/"),
            ],
            _ => &[],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_written_as_people_type_them() {
        for (typed, meant) in [
            (
                r#"{"fault":"rst_after","after":3}"#,
                Fault::RstAfter { after: 3 },
            ),
            (r#"{"fault":"garbage"}"#, Fault::Garbage),
            (
                r#"{"fault":"giant_line","bytes":1048576}"#,
                Fault::GiantLine { bytes: 1 << 20 },
            ),
        ] {
            assert_eq!(serde_json::from_str::<Fault>(typed).unwrap(), meant);
        }
    }
}
