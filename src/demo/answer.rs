//! What a node says, before any dialect puts it into bytes: thoughts, words, a tool call, and how it ends.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::engine::Wish;
use super::http::Answer;
use super::manage::Work;

/// One unit of language.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    Thinking(Arc<str>),
    Text(Arc<str>),
    Tool(ToolCall),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ToolCall {
    pub id: String,
    pub name: String,
    /// A JSON object.
    pub arguments: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    Stop,
    Length,
    Tool,
}

/// Ollama's statistics of an answer that ended well.
#[derive(Debug, Clone)]
pub(super) struct Stats {
    pub reason: Reason,
    pub total: Duration,
    pub load: Duration,
    pub tokens_in: usize,
    pub tokens_out: usize,
}

/// All of an answer that is not streamed.
#[derive(Debug, Clone, Default)]
pub(super) struct Said {
    pub thinking: String,
    pub text: String,
    pub tool: Option<ToolCall>,
}

impl Said {
    pub(super) fn add(&mut self, piece: &Piece) {
        match piece {
            Piece::Thinking(t) => self.thinking.push_str(t),
            Piece::Text(t) => self.text.push_str(t),
            Piece::Tool(call) => self.tool = Some(call.clone()),
        }
    }
}

/// How one operation of one dialect tells an answer. A stream's chunks are pushed to `out`, one HTTP chunk each.
pub(super) trait Voice: Send + Sync {
    /// The `Content-Type` of a stream.
    fn stream_type(&self) -> &'static str;
    /// Headers of a stream besides `Content-Type`; they stay on a late error too.
    fn stream_headers(&self) -> &'static [(&'static str, &'static str)] {
        &[]
    }
    fn piece(&mut self, piece: &Piece, out: &mut Vec<String>);
    /// The end of a stream that ended well.
    fn finish(&mut self, stats: &Stats, out: &mut Vec<String>);
    /// What a stream shows of a runner that died.
    fn died(&mut self, out: &mut Vec<String>);
    /// The whole answer; no statistics when the node gave up (repeat guard).
    fn whole(&self, said: &Said, stats: Option<&Stats>) -> Answer;
    /// An error told after the request was understood.
    fn refuse(&self, status: u16, message: &str) -> Answer;
}

/// A generation that was understood and may begin.
pub(super) struct Job {
    pub wish: Wish,
    pub voice: Box<dyn Voice>,
    pub is_stream: bool,
    pub pieces: Vec<Piece>,
    pub reason: Reason,
    pub tokens_in: usize,
}

/// The answer once the model was there or was not: the sentence why not, else what the dialect must know.
pub(super) type Then<T> = Box<dyn Fn(Result<T, &str>) -> Answer + Send>;

/// What comes of a request that was understood.
pub(super) enum Act {
    Say(Answer),
    /// Before the body was read; the connection serves nothing more.
    SayEarly(Answer),
    Work(Work),
    Generate(Job),
    /// A load request; the answer follows when the model is there.
    WarmUp(Wish, Then<()>),
    /// An answer that takes a slot, but has no tokens: embeddings.
    Compute(Wish, Then<Duration>),
}

/// What every chunk of one answer has in common.
#[derive(Debug, Clone)]
pub(super) struct Label {
    /// As the client wrote it, already a JSON string.
    pub model: String,
    pub began: SystemTime,
    /// A number that differs from answer to answer.
    pub number: u64,
}

impl Label {
    pub(super) fn hex(&self, prefix: &str) -> String {
        let high = super::library::mix(self.number);
        let low = super::library::mix(high) >> 32;
        format!("{prefix}{high:016x}{low:08x}")
    }
}
