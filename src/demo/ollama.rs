//! Ollama's own dialect: chat and generate (recordings 101 to 213, 901 to 946).

use std::time::SystemTime;

use super::answer::{Label, Piece, Reason, Said, Stats, ToolCall, Voice};
use super::clock;
use super::http::{Answer, JSON, NDJSON};
use super::json::quote;

/// What a client reads when a runner died.
pub(super) const DIED: &str = "an error was encountered while running the model: unexpected EOF";

/// An error before the first token, in the shape of every native call.
pub(super) fn error(status: u16, message: &str) -> Answer {
    Answer::new(status, JSON, format!("{{\"error\":{}}}", quote(message)))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    Chat,
    Generate,
    /// `raw:true`: no context in the last line.
    GenerateRaw,
}

pub(super) struct Native {
    pub shape: Shape,
    pub label: Label,
}

impl Native {
    /// One object without its closing brace.
    fn open(&self, text: &str, thinking: &str, tool: Option<&ToolCall>) -> String {
        let now = clock::rfc3339(SystemTime::now());
        let thinking = match thinking {
            "" => String::new(),
            t => format!(",\"thinking\":{}", quote(t)),
        };
        let tool = tool.map_or(String::new(), |call| {
            format!(
                ",\"tool_calls\":[{{\"id\":{},\"function\":{{\"index\":0,\"name\":{},\"arguments\":{}}}}}]",
                quote(&call.id),
                quote(&call.name),
                call.arguments
            )
        });
        let (model, text) = (&self.label.model, quote(text));
        match self.shape {
            Shape::Chat => format!(
                "{{\"model\":{model},\"created_at\":\"{now}\",\"message\":{{\"role\":\"assistant\",\"content\":{text}{thinking}{tool}}}"
            ),
            Shape::Generate | Shape::GenerateRaw => format!(
                "{{\"model\":{model},\"created_at\":\"{now}\",\"response\":{text}{thinking}{tool}"
            ),
        }
    }

    fn done(&self, stats: &Stats) -> String {
        // A tool call is an ordinary stop here (recording 118).
        let reason = match stats.reason {
            Reason::Length => "length",
            Reason::Stop | Reason::Tool => "stop",
        };
        let context = match self.shape {
            Shape::Generate => ",\"context\":[1,121,119,105,118]",
            Shape::Chat | Shape::GenerateRaw => "",
        };
        let eval = stats.total.saturating_sub(stats.load).as_nanos();
        format!(
            ",\"done\":true,\"done_reason\":\"{reason}\"{context},\"total_duration\":{},\"load_duration\":{},\
             \"prompt_eval_count\":{},\"prompt_eval_duration\":{},\"eval_count\":{},\"eval_duration\":{}}}",
            stats.total.as_nanos().max(1),
            stats.load.as_nanos().max(1),
            stats.tokens_in,
            (eval / 10).max(1),
            stats.tokens_out,
            (eval - eval / 10).max(1),
        )
    }

    /// The answer to a load or unload request: one object even when a stream was asked for.
    pub(super) fn loaded(&self, reason: &str) -> Answer {
        let mut body = self.open("", "", None);
        body.push_str(&format!(",\"done\":true,\"done_reason\":\"{reason}\"}}"));
        Answer::new(200, JSON, body)
    }
}

impl Voice for Native {
    fn stream_type(&self) -> &'static str {
        NDJSON
    }

    fn piece(&mut self, piece: &Piece, out: &mut Vec<String>) {
        let mut line = match piece {
            Piece::Thinking(t) => self.open("", t, None),
            Piece::Text(t) => self.open(t, "", None),
            Piece::Tool(call) => self.open("", "", Some(call)),
        };
        line.push_str(",\"done\":false}\n");
        out.push(line);
    }

    fn finish(&mut self, stats: &Stats, out: &mut Vec<String>) {
        out.push(self.open("", "", None) + &self.done(stats) + "\n");
    }

    fn died(&mut self, out: &mut Vec<String>) {
        out.push(format!("{{\"error\":{}}}\n", quote(DIED)));
    }

    fn whole(&self, said: &Said, stats: Option<&Stats>) -> Answer {
        let end = match stats {
            Some(stats) => self.done(stats),
            None => ",\"done\":false}".to_owned(),
        };
        let open = self.open(&said.text, &said.thinking, said.tool.as_ref());
        Answer::new(200, JSON, open + &end)
    }

    fn refuse(&self, status: u16, message: &str) -> Answer {
        error(status, message)
    }
}
