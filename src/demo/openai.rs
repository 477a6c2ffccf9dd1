//! OpenAI's dialect as Ollama speaks it: chat completions and completions (recordings 410 to 434, 911 to 915).

use super::answer::{Label, Piece, Reason, Said, Stats, ToolCall, Voice};
use super::clock;
use super::http::{Answer, BARE_JSON, JSON, SSE};
use super::json::quote;

/// An error found while the request was read: charset, and no line feed at the end (recording 443).
pub(super) fn early_error(status: u16, message: &str) -> Answer {
    Answer::new(status, JSON, envelope(status, message))
}

/// An error of the node itself: no charset, and a line feed (recording 608).
pub(super) fn error(status: u16, message: &str) -> Answer {
    Answer::new(status, BARE_JSON, envelope(status, message) + "\n")
}

fn envelope(status: u16, message: &str) -> String {
    let kind = match status {
        400 => "invalid_request_error",
        404 => "not_found_error",
        _ => "api_error",
    };
    format!(
        "{{\"error\":{{\"message\":{},\"type\":\"{kind}\",\"param\":null,\"code\":null}}}}",
        quote(message)
    )
}

fn usage(stats: Option<&Stats>) -> String {
    let (tokens_in, tokens_out) = stats.map_or((0, 0), |s| (s.tokens_in, s.tokens_out));
    format!(
        "{{\"prompt_tokens\":{tokens_in},\"completion_tokens\":{tokens_out},\"total_tokens\":{}}}",
        tokens_in + tokens_out
    )
}

fn reason(stats: Option<&Stats>) -> &'static str {
    match stats.map(|s| s.reason) {
        None => "null",
        Some(Reason::Stop) => "\"stop\"",
        Some(Reason::Length) => "\"length\"",
        Some(Reason::Tool) => "\"tool_calls\"",
    }
}

fn tool_calls(call: &ToolCall) -> String {
    format!(
        ",\"tool_calls\":[{{\"id\":{},\"index\":0,\"type\":\"function\",\"function\":{{\"name\":{},\"arguments\":{}}}}}]",
        quote(&call.id),
        quote(&call.name),
        quote(&call.arguments)
    )
}

/// `/v1/chat/completions`.
pub(super) struct Chat {
    pub label: Label,
    pub include_usage: bool,
    /// The role stands in the first delta only.
    pub has_begun: bool,
}

impl Chat {
    fn open(&self, object: &str, model: &str) -> String {
        format!(
            "{{\"id\":\"chatcmpl-{}\",\"object\":\"{object}\",\"created\":{},\"model\":{model},\"system_fingerprint\":\"fp_ollama\",\"choices\":[",
            self.label.number % 999,
            clock::unix_s(self.label.began)
        )
    }

    fn event(&self, model: &str, choices: &str, rest: &str) -> String {
        let open = self.open("chat.completion.chunk", model);
        format!("data: {open}{choices}]{rest}}}\n\n")
    }
}

impl Voice for Chat {
    fn stream_type(&self) -> &'static str {
        SSE
    }

    fn piece(&mut self, piece: &Piece, out: &mut Vec<String>) {
        let role = if self.has_begun {
            ""
        } else {
            "\"role\":\"assistant\","
        };
        self.has_begun = true;
        let delta = match piece {
            Piece::Text(t) => format!("\"content\":{}", quote(t)),
            Piece::Thinking(t) => format!("\"content\":\"\",\"reasoning\":{}", quote(t)),
            Piece::Tool(call) => format!("\"content\":\"\"{}", tool_calls(call)),
        };
        let choices = format!("{{\"index\":0,\"delta\":{{{role}{delta}}},\"finish_reason\":null}}");
        out.push(self.event(&self.label.model, &choices, ""));
    }

    fn finish(&mut self, stats: &Stats, out: &mut Vec<String>) {
        let choices = format!(
            "{{\"index\":0,\"delta\":{{}},\"finish_reason\":{}}}",
            reason(Some(stats))
        );
        let mut last = self.event(&self.label.model, &choices, "");
        if self.include_usage {
            let usage = format!(",\"usage\":{}", usage(Some(stats)));
            last.push_str(&self.event(&self.label.model, "", &usage));
        }
        out.push(last + "data: [DONE]\n\n");
    }

    fn died(&mut self, out: &mut Vec<String>) {
        let choices = "{\"index\":0,\"delta\":{\"content\":\"\"},\"finish_reason\":null}";
        out.push(self.event("\"\"", choices, ""));
    }

    fn whole(&self, said: &Said, stats: Option<&Stats>) -> Answer {
        let reasoning = match said.thinking.as_str() {
            "" => String::new(),
            t => format!(",\"reasoning\":{}", quote(t)),
        };
        let tool = said.tool.as_ref().map_or(String::new(), tool_calls);
        let body = format!(
            "{}{{\"index\":0,\"message\":{{\"role\":\"assistant\",\"content\":{}{reasoning}{tool}}},\"finish_reason\":{}}}],\"usage\":{}}}\n",
            self.open("chat.completion", &self.label.model),
            quote(&said.text),
            reason(stats),
            usage(stats)
        );
        Answer::new(200, BARE_JSON, body)
    }

    fn refuse(&self, status: u16, message: &str) -> Answer {
        error(status, message)
    }
}

/// `/v1/completions`.
pub(super) struct Completions {
    pub label: Label,
    pub include_usage: bool,
}

impl Completions {
    fn open(&self) -> String {
        format!(
            "{{\"id\":\"cmpl-{}\",\"object\":\"text_completion\",\"created\":{}",
            self.label.number % 999,
            clock::unix_s(self.label.began)
        )
    }

    /// With usage asked for, every chunk but the last carries a usage of zeros (recording 432).
    fn event(&self, model: &str, choices: &str, stats: Option<&Stats>) -> String {
        let usage = if self.include_usage {
            format!(",\"usage\":{}", usage(stats))
        } else {
            String::new()
        };
        format!(
            "data: {},\"choices\":[{choices}],\"model\":{model},\"system_fingerprint\":\"fp_ollama\"{usage}}}\n\n",
            self.open()
        )
    }
}

impl Voice for Completions {
    fn stream_type(&self) -> &'static str {
        SSE
    }

    fn piece(&mut self, piece: &Piece, out: &mut Vec<String>) {
        let (Piece::Text(text) | Piece::Thinking(text)) = piece else {
            return;
        };
        let choices = format!(
            "{{\"text\":{},\"index\":0,\"finish_reason\":null}}",
            quote(text)
        );
        out.push(self.event(&self.label.model, &choices, None));
    }

    fn finish(&mut self, stats: &Stats, out: &mut Vec<String>) {
        let choices = format!(
            "{{\"text\":\"\",\"index\":0,\"finish_reason\":{}}}",
            reason(Some(stats))
        );
        let mut last = self.event(&self.label.model, &choices, None);
        if self.include_usage {
            last.push_str(&self.event(&self.label.model, "", Some(stats)));
        }
        out.push(last + "data: [DONE]\n\n");
    }

    fn died(&mut self, out: &mut Vec<String>) {
        let choices = "{\"text\":\"\",\"index\":0,\"finish_reason\":null}";
        out.push(self.event("\"\"", choices, None));
    }

    fn whole(&self, said: &Said, stats: Option<&Stats>) -> Answer {
        let body = format!(
            "{},\"model\":{},\"system_fingerprint\":\"fp_ollama\",\"choices\":[{{\"text\":{},\"index\":0,\"finish_reason\":{}}}],\"usage\":{}}}\n",
            self.open(),
            self.label.model,
            quote(&said.text),
            reason(stats),
            usage(stats)
        );
        Answer::new(200, BARE_JSON, body)
    }

    fn refuse(&self, status: u16, message: &str) -> Answer {
        error(status, message)
    }
}
