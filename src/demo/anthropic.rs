//! Anthropic's dialect as Ollama speaks it: messages (recordings 501 to 513, 921, 945).

use super::answer::{Label, Piece, Reason, Said, Stats, Voice};
use super::http::{Answer, BARE_JSON, JSON, SSE};
use super::json::quote;

/// What streams of messages and of responses carry in addition, on a refusal too.
pub(super) const STREAM_HEADERS: &[(&str, &str)] =
    &[("Cache-Control", "no-cache"), ("Connection", "keep-alive")];

/// An error found while the request was read: charset, and no line feed at the end (recording 657).
pub(super) fn early_error(status: u16, message: &str, label: &Label) -> Answer {
    Answer::new(status, JSON, envelope(status, message, label))
}

fn envelope(status: u16, message: &str, label: &Label) -> String {
    let kind = match status {
        400 => "invalid_request_error",
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        429 => "rate_limit_error",
        503 | 529 => "overloaded_error",
        _ => "api_error",
    };
    format!(
        "{{\"type\":\"error\",\"error\":{{\"type\":\"{kind}\",\"message\":{}}},\"request_id\":\"{}\"}}",
        quote(message),
        label.hex("req_")
    )
}

fn event(name: &str, members: &str) -> String {
    format!("event: {name}\ndata: {{\"type\":\"{name}\"{members}}}\n\n")
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Block {
    Thinking,
    Text,
    Tool,
}

/// `/v1/messages`.
pub(super) struct Messages {
    label: Label,
    /// Characters / 4: what `message_start` tells before anything was counted.
    estimate: usize,
    /// The open block and its index.
    block: Option<(Block, usize)>,
}

impl Messages {
    pub(super) fn new(label: Label, estimate: usize) -> Messages {
        Messages {
            label,
            estimate,
            block: None,
        }
    }

    fn start(&self) -> String {
        event(
            "message_start",
            &format!(
                ",\"message\":{{\"id\":\"{}\",\"type\":\"message\",\"role\":\"assistant\",\"model\":{},\"content\":[],\
                 \"usage\":{{\"input_tokens\":{},\"output_tokens\":0}}}}",
                self.label.hex("msg_"),
                self.label.model,
                self.estimate
            ),
        )
    }

    fn close_block(&mut self, out: &mut Vec<String>) {
        if let Some((_, index)) = self.block {
            out.push(event("content_block_stop", &format!(",\"index\":{index}")));
        }
    }

    /// Begins the message or another block when `kind` asks for it; gives the block's index.
    fn block(&mut self, kind: Block, opening: &str, out: &mut Vec<String>) -> usize {
        if let Some((open, index)) = self.block
            && open == kind
        {
            return index;
        }
        let index = match self.block {
            None => {
                out.push(self.start());
                0
            }
            Some((_, index)) => index + 1,
        };
        self.close_block(out);
        let members = format!(",\"index\":{index},\"content_block\":{opening}");
        out.push(event("content_block_start", &members));
        self.block = Some((kind, index));
        index
    }
}

impl Voice for Messages {
    fn stream_type(&self) -> &'static str {
        SSE
    }

    fn stream_headers(&self) -> &'static [(&'static str, &'static str)] {
        STREAM_HEADERS
    }

    fn piece(&mut self, piece: &Piece, out: &mut Vec<String>) {
        let (index, delta) = match piece {
            Piece::Thinking(t) => {
                let opening = "{\"type\":\"thinking\",\"thinking\":\"\"}";
                let delta = format!("\"type\":\"thinking_delta\",\"thinking\":{}", quote(t));
                (self.block(Block::Thinking, opening, out), delta)
            }
            Piece::Text(t) => {
                let opening = "{\"type\":\"text\",\"text\":\"\"}";
                let delta = format!("\"type\":\"text_delta\",\"text\":{}", quote(t));
                (self.block(Block::Text, opening, out), delta)
            }
            Piece::Tool(call) => {
                let opening = format!(
                    "{{\"type\":\"tool_use\",\"id\":{},\"name\":{},\"input\":{{}}}}",
                    quote(&call.id),
                    quote(&call.name)
                );
                let arguments = quote(&call.arguments);
                let delta = format!("\"type\":\"input_json_delta\",\"partial_json\":{arguments}");
                (self.block(Block::Tool, &opening, out), delta)
            }
        };
        let members = format!(",\"index\":{index},\"delta\":{{{delta}}}");
        out.push(event("content_block_delta", &members));
    }

    fn finish(&mut self, stats: &Stats, out: &mut Vec<String>) {
        if self.block.is_none() {
            out.push(self.start());
        }
        self.close_block(out);
        out.push(event(
            "message_delta",
            &format!(
                ",\"delta\":{{\"stop_reason\":\"{}\"}},\"usage\":{{\"input_tokens\":{},\"output_tokens\":{}}}",
                reason(stats),
                stats.tokens_in,
                stats.tokens_out
            ),
        ));
        out.push(event("message_stop", ""));
    }

    /// Silence: the stream just ends (recording 921).
    fn died(&mut self, _: &mut Vec<String>) {}

    fn whole(&self, said: &Said, stats: Option<&Stats>) -> Answer {
        let mut content = Vec::new();
        if !said.thinking.is_empty() {
            content.push(format!(
                "{{\"type\":\"thinking\",\"thinking\":{}}}",
                quote(&said.thinking)
            ));
        }
        if !said.text.is_empty() {
            content.push(format!(
                "{{\"type\":\"text\",\"text\":{}}}",
                quote(&said.text)
            ));
        }
        if let Some(call) = &said.tool {
            content.push(format!(
                "{{\"type\":\"tool_use\",\"id\":{},\"name\":{},\"input\":{}}}",
                quote(&call.id),
                quote(&call.name),
                call.arguments
            ));
        }
        let stop = stats.map_or(String::new(), |s| {
            format!("\"stop_reason\":\"{}\",", reason(s))
        });
        let (tokens_in, tokens_out) = stats.map_or((0, 0), |s| (s.tokens_in, s.tokens_out));
        let body = format!(
            "{{\"id\":\"{}\",\"type\":\"message\",\"role\":\"assistant\",\"model\":{},\"content\":[{}],{stop}\
             \"usage\":{{\"input_tokens\":{tokens_in},\"output_tokens\":{tokens_out}}}}}\n",
            self.label.hex("msg_"),
            self.label.model,
            content.join(",")
        );
        Answer::new(200, BARE_JSON, body)
    }

    fn refuse(&self, status: u16, message: &str) -> Answer {
        let body = envelope(status, message, &self.label) + "\n";
        Answer::new(status, BARE_JSON, body)
    }
}

fn reason(stats: &Stats) -> &'static str {
    match stats.reason {
        Reason::Stop => "end_turn",
        Reason::Length => "max_tokens",
        Reason::Tool => "tool_use",
    }
}
