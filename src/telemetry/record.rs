//! The story of one request, told once, on every way out.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::dialect::{Operation, Usage};
use crate::model::NAME_BYTES_MAX;
use crate::profile::extraction::{Sample, Value};

/// Who ended the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndBy {
    /// It ended as it should: the answer is complete.
    Done,
    /// The client left, or stopped sending or reading.
    Client,
    /// A node failed, was silent or declined, and no other saved the request.
    Node,
    /// We refused it or broke.
    Gateway,
}

/// How far the request had come when it ended, in the order of the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Reading and judging the request's head.
    Head,
    /// Reading and understanding its body.
    Body,
    /// Choosing a node, or waiting for a free slot.
    Queue,
    /// Connecting, sending, waiting for the node's first byte.
    Wait,
    /// The answer flows.
    Stream,
}

impl EndBy {
    /// The word in access lines and in the `end_by` label.
    pub fn as_str(self) -> &'static str {
        match self {
            EndBy::Done => "done",
            EndBy::Client => "client",
            EndBy::Node => "node",
            EndBy::Gateway => "gateway",
        }
    }
}

impl Phase {
    /// The word in access lines and in the `phase` label.
    pub fn as_str(self) -> &'static str {
        match self {
            Phase::Head => "head",
            Phase::Body => "body",
            Phase::Queue => "queue",
            Phase::Wait => "wait",
            Phase::Stream => "stream",
        }
    }
}

/// The story of one request.
#[derive(Debug)]
pub struct Record {
    /// As in the answer's request id header.
    pub request_id: String,
    /// The peer of the connection; `None` when the socket does not tell.
    pub client: Option<SocketAddr>,
    /// As the client wrote it.
    pub method: String,
    /// Without the query, which may hold what is nobody's business.
    pub path: String,
    /// `None` when the path means no call.
    pub operation: Option<Operation>,
    /// The asked name.
    pub model: Option<String>,
    /// The model's one comparable name, when a node is known to have it; only then may it label a metric.
    pub model_label: Option<Arc<str>>,
    /// Whether a stream was asked for, the dialect's default applied.
    pub stream: bool,
    /// The conversation's hash, see [`Facts::affinity`](crate::dialect::Facts::affinity).
    pub affinity: Option<u64>,
    /// Whether its client let others go first.
    pub is_background: bool,
    /// Name of the last node asked; `None` when none was.
    pub node: Option<String>,
    /// Names of the nodes asked before that one, which all failed.
    pub tried: Vec<String>,
    /// The nodes whose models the request changes, such as `gpu-1,gpu-2,gpu-3,+2`.
    pub managed: Option<String>,
    /// Why this node: `warm`, `cold`, `only`, …
    pub route: Option<&'static str>,
    /// Nodes asked, the successful one included; 0 when none was.
    pub attempts: u32,
    /// Time spent waiting for a slot, over all attempts.
    pub queue: Duration,
    /// From the request's head to the first byte of the node's answer.
    pub first_byte: Option<Duration>,
    /// From the request's head to the first thing a model made.
    pub first_token: Option<Duration>,
    /// From the request's head to its end, on whichever way out.
    pub duration: Duration,
    /// 499 when the client left before an answer.
    pub status: u16,
    /// Body bytes read from the client, as sent.
    pub bytes_in: u64,
    /// Body bytes written to the client.
    pub bytes_out: u64,
    /// As the node counted it.
    pub usage: Usage,
    /// What the node's profile takes from answers.
    pub sample: Option<Sample>,
    /// Whether some of that may be lacking, since it stood in too long a frame.
    pub extraction_missed: bool,
    /// Whose doing the end was.
    pub end_by: EndBy,
    /// How far it had come.
    pub phase: Phase,
    /// What went wrong, for people.
    pub fault: Option<String>,
}

impl Record {
    /// A request of which nothing is known yet: ended by the gateway in the head phase, status 0.
    pub fn new(request_id: String) -> Record {
        Record {
            request_id,
            client: None,
            method: String::new(),
            path: String::new(),
            operation: None,
            model: None,
            model_label: None,
            stream: false,
            affinity: None,
            is_background: false,
            node: None,
            tried: Vec::new(),
            managed: None,
            route: None,
            attempts: 0,
            queue: Duration::ZERO,
            first_byte: None,
            first_token: None,
            duration: Duration::ZERO,
            status: 0,
            bytes_in: 0,
            bytes_out: 0,
            usage: Usage::default(),
            sample: None,
            extraction_missed: false,
            end_by: EndBy::Gateway,
            phase: Phase::Head,
            fault: None,
        }
    }

    /// Notes that a node is asked, and why this one.
    pub fn asks(&mut self, node: &str, why: &'static str) {
        self.attempts += 1;
        self.route = Some(why);
        self.tried.extend(self.node.replace(node.to_owned()));
    }

    /// The access line for people: fixed order, `-` for what is not known.
    pub fn text(&self) -> String {
        let mut line = String::with_capacity(256);
        let _ = write!(
            line,
            "{} {} {} {} {}ms",
            self.client
                .map_or_else(|| "-".to_owned(), |addr| addr.ip().to_string()),
            self.method,
            escaped(&self.path),
            self.status,
            self.duration.as_millis(),
        );
        let _ = write!(
            line,
            " end_by={} phase={}",
            self.end_by.as_str(),
            self.phase.as_str()
        );
        for (name, value) in self.details() {
            let _ = write!(line, " {name}={}", quoted(&value));
        }
        for (name, value) in self.sample.iter().flat_map(Sample::values) {
            let _ = write!(line, " metric_{name}={}", quoted(&value.to_string()));
        }
        line
    }

    /// The access line for machines: one JSON object, its keys in the order of the text line.
    pub fn json(&self) -> String {
        let mut line = String::with_capacity(512);
        let text = |value: &str| serde_json::Value::from(value).to_string();
        let client = self
            .client
            .map_or("null".to_owned(), |addr| text(&addr.ip().to_string()));
        let _ = write!(
            line,
            "{{\"client\":{client},\"method\":{},\"path\":{},\"status\":{},\"duration_ms\":{}",
            text(&self.method),
            text(&self.path),
            self.status,
            self.duration.as_millis(),
        );
        let _ = write!(
            line,
            ",\"end_by\":\"{}\",\"phase\":\"{}\"",
            self.end_by.as_str(),
            self.phase.as_str()
        );
        for (name, value) in self.details() {
            let _ = match BARE.contains(&name) {
                true => write!(line, ",\"{name}\":{value}"),
                false => write!(line, ",\"{name}\":{}", text(&value)),
            };
        }
        for (name, value) in self.sample.iter().flat_map(Sample::values) {
            let _ = match value {
                Value::Text(value) => write!(line, ",\"metric_{name}\":{}", text(&value)),
                bare => write!(line, ",\"metric_{name}\":{bare}"),
            };
        }
        line.push('}');
        line
    }

    /// What only some requests have, in the order of the access line.
    fn details(&self) -> Vec<(&'static str, String)> {
        let number = |value: Option<u64>| value.map(|n| n.to_string());
        let all = [
            ("model", self.model.as_deref().map(shown)),
            ("node", self.node.clone()),
            ("nodes", self.managed.clone()),
            ("route", self.route.map(str::to_owned)),
            (
                "attempts",
                (self.attempts > 0).then(|| self.attempts.to_string()),
            ),
            (
                "queue_ms",
                (self.attempts > 0).then(|| self.queue.as_millis().to_string()),
            ),
            (
                "first_byte_ms",
                self.first_byte.map(|d| d.as_millis().to_string()),
            ),
            (
                "first_token_ms",
                self.first_token.map(|d| d.as_millis().to_string()),
            ),
            ("tokens_in", number(self.usage.tokens_in)),
            ("tokens_out", number(self.usage.tokens_out)),
            ("bytes_in", Some(self.bytes_in.to_string())),
            ("bytes_out", Some(self.bytes_out.to_string())),
            ("stream", self.stream.then(|| "true".to_owned())),
            ("class", self.is_background.then(|| "background".to_owned())),
            ("affinity", self.affinity.map(|hash| format!("{hash:016x}"))),
            ("request_id", Some(self.request_id.clone())),
            ("fault", self.fault.clone()),
        ];
        all.into_iter()
            .filter_map(|(name, value)| Some((name, value?)))
            .collect()
    }
}

/// Details whose values stand without quotes in the JSON line.
const BARE: &[&str] = &[
    "attempts",
    "queue_ms",
    "first_byte_ms",
    "first_token_ms",
    "tokens_in",
    "tokens_out",
    "bytes_in",
    "bytes_out",
    "stream",
];

/// A name no longer than names may be: a client may have asked for one of a hundred megabytes.
fn shown(name: &str) -> String {
    match name.len() {
        ..=NAME_BYTES_MAX => name.to_owned(), // as nearly always
        _ => name.chars().take(NAME_BYTES_MAX).chain(['…']).collect(),
    }
}

/// Keeps a hostile path from writing its own log lines.
fn escaped(text: &str) -> String {
    text.chars()
        .take(512)
        .flat_map(char::escape_default)
        .collect()
}

fn quoted(value: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._:/@+-".contains(c);
    match value.chars().all(plain) && !value.is_empty() {
        true => value.to_owned(),
        false => format!("\"{}\"", escaped(value).replace("\\'", "'")),
    }
}

#[cfg(test)]
mod tests;
