//! What a node says to a request, and what a request says about how: limits, thinking, tools, runner options.

use serde_json::Value;

use super::answer::{Piece, Reason, ToolCall};
use super::ask::{Ask, Call};
use super::engine::RunnerOptions;
use super::json::{field, quote};
use super::library::{self, Model};

impl Ask<'_> {
    pub(super) fn tool(&self, body: &Value) -> Option<ToolCall> {
        let tool = field(body, "tools")?.as_array()?.first()?;
        let function = field(tool, "function").unwrap_or(tool);
        let id = format!("{:08x}", library::mix(self.number) >> 32);
        Some(ToolCall {
            id: format!("call_{id}"),
            name: field(function, "name")?.as_str()?.to_owned(),
            arguments: "{\"city\":\"Paris\",\"days\":3}".to_owned(),
        })
    }

    /// The first thing that a request wants and the model cannot do (recordings 665 to 675).
    pub(super) fn beyond(&self, body: &Value, asked: &str, model: &Model) -> Option<String> {
        if !model.is_strict {
            return None;
        }
        let has_tools =
            field(body, "tools").is_some_and(|t| t.as_array().is_some_and(|t| !t.is_empty()));
        if has_tools && !model.can("tools") {
            let defaults = match model.name.matches('/').count() {
                0 => "registry.ollama.ai/library/",
                1 => "registry.ollama.ai/",
                _ => "",
            };
            return Some(format!("{defaults}{} does not support tools", model.name));
        }
        let wants_thought = field(body, "think").is_some_and(|t| t != &Value::Bool(false));
        if wants_thought && !model.can("thinking") {
            return Some(format!("{} does not support thinking", quote(asked)));
        }
        if has_image(body) && !model.can("vision") {
            // The engine's own envelope, as a string.
            return Some("{\"error\":{\"code\":400,\"message\":\"Multimodal data provided, but model does not support multimodal requests.\",\"type\":\"invalid_request_error\"}}".to_owned());
        }
        None
    }

    fn limit(&self, body: &Value) -> Option<usize> {
        let found = match self.call {
            Call::Chat | Call::Generate => {
                field(body, "options").and_then(|o| field(o, "num_predict"))
            }
            Call::V1Responses => field(body, "max_output_tokens"),
            // max_completion_tokens is ignored, as Ollama does.
            _ => field(body, "max_tokens"),
        };
        let limit = found.and_then(Value::as_i64).filter(|n| *n > 0)?;
        usize::try_from(limit).ok()
    }

    pub(super) fn pieces(
        &self,
        body: &Value,
        thinks: bool,
        tool: Option<ToolCall>,
    ) -> (Vec<Piece>, Reason) {
        let mut pieces = Vec::new();
        if thinks {
            let thoughts = self.settings.thoughts.iter().cloned();
            pieces.extend(thoughts.map(Piece::Thinking));
        }
        if let Some(call) = tool {
            pieces.push(Piece::Tool(call));
            return (pieces, Reason::Tool);
        }
        let says = &self.settings.says;
        let natural = self.settings.tokens.unwrap_or(says.len());
        let (count, reason) = match self.limit(body) {
            Some(limit) if limit < natural => (limit, Reason::Length),
            _ => (natural, Reason::Stop),
        };
        pieces.extend(says.iter().cycle().take(count).cloned().map(Piece::Text));
        (pieces, reason)
    }
}

/// Whether a prompt shows a picture, in any dialect's way.
fn has_image(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.iter().any(has_image),
        Value::Object(_) => {
            let kind = field(value, "type").and_then(Value::as_str);
            let images = field(value, "images").and_then(Value::as_array);
            matches!(kind, Some("image" | "image_url" | "input_image"))
                || images.is_some_and(|i| !i.is_empty())
                || ["messages", "content", "input"]
                    .iter()
                    .any(|name| field(value, name).is_some_and(has_image))
        }
        _ => false,
    }
}

/// About as many tokens as so many characters have.
pub(super) fn tokens(characters: usize) -> usize {
    characters / 4 + 1
}

/// Whether the request wants thinking, in any dialect's way to say so.
pub(super) fn thinks(body: &Value) -> Option<bool> {
    if let Some(think) = field(body, "think") {
        return Some(think != &Value::Bool(false));
    }
    let reasoning = field(body, "reasoning").and_then(|r| field(r, "effort"));
    if let Some(effort) = field(body, "reasoning_effort").or(reasoning) {
        return Some(effort.as_str() != Some("none"));
    }
    let thinking = field(body, "thinking").and_then(|t| field(t, "type"))?;
    Some(thinking.as_str() == Some("enabled"))
}

pub(super) fn has_tool_result(body: &Value) -> bool {
    let items = field(body, "messages").or_else(|| field(body, "input"));
    let Some(Value::Array(items)) = items else {
        return false;
    };
    let is =
        |v: &Value, name: &str, word: &str| field(v, name).and_then(Value::as_str) == Some(word);
    items.iter().any(|item| {
        let blocks = field(item, "content").and_then(Value::as_array);
        is(item, "role", "tool")
            || is(item, "type", "function_call_output")
            || blocks.is_some_and(|b| b.iter().any(|b| is(b, "type", "tool_result")))
    })
}

/// # Errors
/// Ollama's sentence about an option of the wrong type, which it sends with status 500.
pub(super) fn options(body: &Value) -> Result<RunnerOptions, String> {
    const REST: [&str; 6] = [
        "num_batch",
        "main_gpu",
        "num_thread",
        "draft_num_predict",
        "use_mmap",
        "shift",
    ];
    let none = Value::Null;
    let given = field(body, "options").unwrap_or(&none);
    let mut rest: [Option<Value>; 6] = Default::default();
    for (slot, name) in rest.iter_mut().zip(REST) {
        // `shift` stands beside the options, not among them.
        let source = if name == "shift" { body } else { given };
        *slot = field(source, name).cloned();
    }
    for name in [
        "num_ctx",
        "num_gpu",
        "num_batch",
        "main_gpu",
        "num_thread",
        "draft_num_predict",
        "num_predict",
        "seed",
        "top_k",
    ] {
        if field(given, name).is_some_and(|v| !v.is_number()) {
            return Err(format!("option \"{name}\" must be of type integer"));
        }
    }
    let number = |name: &str| field(given, name).and_then(Value::as_i64);
    Ok(RunnerOptions {
        num_ctx: number("num_ctx"),
        num_gpu: number("num_gpu"),
        rest,
    })
}
