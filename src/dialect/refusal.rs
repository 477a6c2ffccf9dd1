//! A fault as a client reads it: the one place where a [`Fault`] becomes text, before an answer or in the middle of one.

use serde::Deserialize;

use super::{Dialect, Framing, Operation};
use crate::error::{Fault, Kind};
use crate::text::quoted;

/// A whole answer that tells a fault. `Content-Length` and headers common to all answers are the sender's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// HTTP status, as [`Fault::status`].
    pub status: u16,
    /// Names in lower case: `content-type`, and what the fault or the dialect asks for, such as `retry-after`.
    pub headers: Vec<(&'static str, String)>,
    /// The dialect's error object, JSON.
    pub body: Vec<u8>,
}

impl Dialect {
    /// The answer to a request that failed before anything reached its client. A `HEAD` gets it without the body.
    pub fn refusal(self, fault: &Fault, request_id: &str) -> Refusal {
        let mut headers = vec![("content-type", "application/json".to_owned())];
        match fault.kind {
            Kind::MethodNotAllowed { allow } => headers.push(("allow", allow.to_owned())),
            Kind::Unavailable { retry_after_s } => {
                headers.push(("retry-after", retry_after_s.to_string()));
            }
            Kind::Refused { status: 401, .. } => {
                headers.push(("www-authenticate", "Bearer".to_owned()));
            }
            _ => {}
        }
        if self != Dialect::Ollama && is_final(fault.status()) {
            headers.push(("x-should-retry", "false".to_owned()));
        }
        if self == Dialect::Anthropic {
            headers.push(("request-id", request_id.to_owned()));
        }
        Refusal {
            status: fault.status(),
            headers,
            body: self.document(fault, Some(request_id)).into_bytes(),
        }
    }

    /// The bytes that tell a fault inside a stream; the connection must be broken off after them. Empty inside a document, which can
    /// only be broken off. When the bytes so far do not end at a frame's border, the broken frame is ended first.
    pub fn in_band(
        self,
        operation: Operation,
        framing: Framing,
        at_frame_border: bool,
        fault: &Fault,
    ) -> Vec<u8> {
        let document = self.document(fault, None);
        let (frame_end, frame) = match (framing, self) {
            (Framing::Whole, _) => return Vec::new(),
            (Framing::Ndjson, _) => ("\n", format!("{document}\n")),
            (Framing::Sse, Dialect::Anthropic) => {
                ("\n\n", format!("event: error\ndata: {document}\n\n"))
            }
            (Framing::Sse, _) if operation == Operation::Responses => {
                let event = responses_error(fault);
                ("\n\n", format!("event: error\ndata: {event}\n\n"))
            }
            (Framing::Sse, _) => ("\n\n", format!("data: {document}\n\n")),
        };
        let frame_end = if at_frame_border { "" } else { frame_end };
        format!("{frame_end}{frame}").into_bytes()
    }

    /// An error as an Ollama node tells it, `{"error":"…"}`, as one of this dialect with the same status; `None` when it is something
    /// else.
    pub fn retold(self, status: u16, body: &[u8]) -> Option<Vec<u8>> {
        #[derive(Deserialize)]
        struct Told {
            error: String,
        }
        let Told { error } = serde_json::from_slice(body).ok()?;
        let message = quoted(&error);
        let document = match self {
            Dialect::Ollama => format!(r#"{{"error":{message}}}"#),
            Dialect::OpenAi => format!(
                r#"{{"error":{{"message":{message},"type":"{}","param":null,"code":null}}}}"#,
                openai_type(status)
            ),
            Dialect::Anthropic => format!(
                r#"{{"type":"error","error":{{"type":"{}","message":{message}}}}}"#,
                anthropic_type(status)
            ),
        };
        Some(document.into_bytes())
    }

    /// The dialect's error object.
    fn document(self, fault: &Fault, request_id: Option<&str>) -> String {
        let message = quoted(&fault.message);
        match self {
            Dialect::Ollama => format!(r#"{{"error":{message}}}"#),
            Dialect::OpenAi => format!(r#"{{"error":{}}}"#, openai_error(fault)),
            Dialect::Anthropic => {
                let kind = anthropic_type(fault.status());
                let request_id = request_id
                    .map(|id| format!(r#","request_id":{}"#, quoted(id)))
                    .unwrap_or_default();
                format!(
                    r#"{{"type":"error","error":{{"type":"{kind}","message":{message}}}{request_id}}}"#
                )
            }
        }
    }
}

/// OpenAI's SDKs raise on a member `error`; the members beside it are those of the documented `error` event of Responses.
fn responses_error(fault: &Fault) -> String {
    format!(
        r#"{{"type":"error","code":"{}","message":{},"param":null,"error":{}}}"#,
        fault.code(),
        quoted(&fault.message),
        openai_error(fault)
    )
}

fn openai_error(fault: &Fault) -> String {
    format!(
        r#"{{"message":{},"type":"{}","param":null,"code":"{}"}}"#,
        quoted(&fault.message),
        openai_type(fault.status()),
        fault.code()
    )
}

/// As Ollama's own `/v1` has it for 400, 404 and 5xx; the rest as OpenAI.
fn openai_type(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        429 => "rate_limit_error",
        400..=499 => "invalid_request_error",
        _ => "api_error",
    }
}

fn anthropic_type(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        408 | 504 => "timeout_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        400..=499 => "invalid_request_error",
        503 | 529 => "overloaded_error",
        _ => "api_error",
    }
}

/// Whether the same request will fail again: SDKs repeat every 5xx twice unless they are told.
fn is_final(status: u16) -> bool {
    match status {
        408 | 429 => false,
        400..=499 | 501 => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests;
