//! From a request's body to what the node does: every call that works with a model is read here.

use std::time::{Duration, SystemTime};

use serde_json::Value;

use super::Settings;
use super::answer::{Act, Job, Label, Voice};
use super::anthropic::{self, Messages};
use super::clock;
use super::engine::{RunnerOptions, Wish};
use super::http::Answer;
use super::json::{decode, field, flag, integer, list, mistyped, quote, text, texts};
use super::library::{self, Model, Use};
use super::ollama::{self, Native, Shape};
use super::openai::{self, Chat, Completions};
use super::responses::Responses;
use super::script::{has_tool_result, options, thinks, tokens};

/// A call that works with a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Call {
    Chat,
    Generate,
    Embed,
    Embeddings,
    V1Chat,
    V1Completions,
    V1Embeddings,
    V1Responses,
    V1Messages,
}

/// Everything an answer may depend on besides the body.
pub(super) struct Ask<'a> {
    pub call: Call,
    pub body: &'a [u8],
    pub settings: &'a Settings,
    pub models: &'a [Model],
    pub number: u64,
}

/// A refusal on the way to an [`Act`].
pub(super) type Read<T> = Result<T, Answer>;

impl Ask<'_> {
    pub(super) fn read(&self) -> Act {
        self.act().unwrap_or_else(Act::Say)
    }

    fn act(&self) -> Read<Act> {
        let empty_text = if self.is_native() {
            "missing request body"
        } else {
            "EOF"
        };
        if self.body.is_empty() {
            return Err(self.early(400, empty_text));
        }
        let body = decode(self.body).map_err(|e| self.early(400, &e))?;
        self.check_types(&body).map_err(|e| self.early(400, &e))?;
        let asked = text(&body, self.shape(), "model").map_err(|e| self.early(400, &e))?;
        self.check_shape(&body, asked)?;
        let model = self.find(asked)?;
        let wish = self.wish(&body, model)?;
        match self.call {
            Call::Embed | Call::Embeddings | Call::V1Embeddings => {
                self.embed(&body, asked, model, wish)
            }
            _ => self.say(&body, asked, model, wish),
        }
    }

    fn is_native(&self) -> bool {
        matches!(
            self.call,
            Call::Chat | Call::Generate | Call::Embed | Call::Embeddings
        )
    }

    /// The name of Ollama's struct, which its error texts show.
    fn shape(&self) -> &'static str {
        match self.call {
            Call::Chat => "ChatRequest",
            Call::Generate => "GenerateRequest",
            Call::Embed => "EmbedRequest",
            Call::Embeddings => "EmbeddingRequest",
            Call::V1Chat => "ChatCompletionRequest",
            Call::V1Completions => "CompletionRequest",
            Call::V1Embeddings => "EmbedRequest",
            Call::V1Responses => "ResponsesRequest",
            Call::V1Messages => "MessagesRequest",
        }
    }

    fn label(&self, asked: &str) -> Label {
        Label {
            model: quote(asked),
            began: SystemTime::now(),
            number: self.number,
        }
    }

    pub(super) fn early(&self, status: u16, message: &str) -> Answer {
        match self.call {
            Call::V1Messages => anthropic::early_error(status, message, &self.label("")),
            _ if self.is_native() => ollama::error(status, message),
            _ => openai::early_error(status, message),
        }
    }

    /// An error of the node behind the dialect; a stream's headers stay on it.
    pub(super) fn late(&self, status: u16, message: &str) -> Answer {
        let voice = self.voice(&Value::Null, "");
        let is_stream =
            decode(self.body).is_ok_and(|b| field(&b, "stream") == Some(&Value::Bool(true)));
        refusal(&*voice, is_stream, status, message)
    }

    fn check_types(&self, body: &Value) -> Result<(), String> {
        let shape = self.shape();
        if !body.is_object() {
            return Err(mistyped(body, "", shape, "object"));
        }
        flag(body, shape, "stream")?;
        for name in ["max_tokens", "max_output_tokens"] {
            integer(body, shape, name)?;
        }
        match self.call {
            Call::Chat => {
                for message in list(body, shape, "messages", "[]api.Message")? {
                    text(message, "ChatRequest.messages", "content")?;
                }
            }
            Call::V1Chat => {
                list(body, shape, "messages", "[]openai.Message")?;
            }
            Call::V1Messages => {
                list(body, shape, "messages", "[]anthropic.MessageParam")?;
            }
            Call::Generate | Call::V1Completions => {
                text(body, shape, "prompt")?;
            }
            _ => {}
        }
        Ok(())
    }

    /// What the dialects demand before the node looks for the model.
    fn check_shape(&self, body: &Value, asked: &str) -> Read<()> {
        let has_messages = field(body, "messages")
            .and_then(Value::as_array)
            .is_some_and(|m| !m.is_empty());
        match self.call {
            Call::Chat | Call::V1Responses if asked.is_empty() => {
                return Err(self.late(400, "model is required"));
            }
            Call::V1Messages if asked.is_empty() => {
                return Err(self.early(400, "model is required"));
            }
            Call::V1Messages
                if field(body, "max_tokens")
                    .and_then(Value::as_i64)
                    .unwrap_or(0)
                    <= 0 =>
            {
                return Err(self.early(400, "max_tokens is required and must be positive"));
            }
            Call::V1Messages if !has_messages => {
                return Err(self.early(400, "messages is required"));
            }
            Call::V1Chat if !has_messages => {
                return Err(self.early(400, "[] is too short - 'messages'"));
            }
            Call::V1Chat if asked.is_empty() => return Err(self.late(400, "model is required")),
            Call::V1Embeddings if field(body, "input").is_none() => {
                return Err(self.early(400, "invalid input"));
            }
            _ => {}
        }
        if field(body, "think").is_some_and(|t| {
            !t.is_boolean() && !matches!(t.as_str(), Some("high" | "medium" | "low" | "max"))
        }) {
            let think = field(body, "think").unwrap_or(&Value::Null);
            let message = format!(
                "invalid think value: {think} (must be \"high\", \"medium\", \"low\", \"max\", true, or false)"
            );
            return Err(self.early(400, &message));
        }
        Ok(())
    }

    fn find(&self, asked: &str) -> Read<&Model> {
        if !asked.is_empty() && !library::is_valid(asked) {
            return Err(self.late(400, "invalid model name"));
        }
        let key = library::key(asked);
        let found = self
            .models
            .iter()
            .find(|m| !asked.is_empty() && m.key == key);
        found.ok_or_else(|| match self.call {
            Call::Embed | Call::Embeddings | Call::V1Embeddings if !asked.is_empty() => self.late(
                404,
                &format!("model \"{asked}\" not found, try pulling it first"),
            ),
            _ => self.late(404, &format!("model '{asked}' not found")),
        })
    }

    /// Runner options and keep_alive exist in the native dialect only.
    fn wish(&self, body: &Value, model: &Model) -> Read<Wish> {
        let mut wish = Wish {
            model: model.clone(),
            options: RunnerOptions::default(),
            keep_alive: None,
        };
        if !self.is_native() {
            return Ok(wish);
        }
        if let Some(value) = field(body, "keep_alive") {
            wish.keep_alive = Some(clock::keep_alive(value).map_err(|e| self.early(400, &e))?);
        }
        wish.options = options(body).map_err(|e| self.late(500, &e))?;
        Ok(wish)
    }

    fn say(&self, body: &Value, asked: &str, model: &Model, wish: Wish) -> Read<Act> {
        if model.purpose == Use::Embedding {
            let what = if matches!(self.call, Call::Generate | Call::V1Completions) {
                "generate"
            } else {
                "chat"
            };
            return Err(self.late(400, &format!("{} does not support {what}", quote(asked))));
        }
        if let Some(sentence) = self.beyond(body, asked, model) {
            return Err(self.late(400, &sentence));
        }
        if let Some(act) = self.load_request(body, asked, &wish) {
            return Ok(act);
        }
        let mut characters = 0;
        let mut speaks_of_weather = false;
        for name in ["messages", "prompt", "input", "system", "instructions"] {
            if let Some(prompt) = field(body, name) {
                texts(prompt, &mut |t| {
                    characters += t.len();
                    speaks_of_weather |= t.contains("weather") || t.contains("Weather");
                });
            }
        }
        let tool = if speaks_of_weather && !has_tool_result(body) {
            self.tool(body)
        } else {
            None
        };
        let thinks = thinks(body).unwrap_or(model.purpose == Use::Thinking);
        let (pieces, reason) = self.pieces(body, thinks, tool);
        Ok(Act::Generate(Job {
            wish,
            voice: self.voice_for(body, asked, characters / 4),
            is_stream: flag(body, "", "stream")
                .ok()
                .flatten()
                .unwrap_or(self.is_native()),
            pieces,
            reason,
            tokens_in: tokens(characters),
        }))
    }

    /// Empty messages or an empty prompt load the model, or unload it with keep_alive 0.
    fn load_request(&self, body: &Value, asked: &str, wish: &Wish) -> Option<Act> {
        let (shape, is_load) = match self.call {
            Call::Chat => (
                Shape::Chat,
                field(body, "messages")
                    .and_then(Value::as_array)
                    .is_none_or(Vec::is_empty),
            ),
            Call::Generate => (
                Shape::Generate,
                field(body, "prompt")
                    .and_then(Value::as_str)
                    .is_none_or(str::is_empty),
            ),
            _ => return None,
        };
        if !is_load {
            return None;
        }
        let native = Native {
            shape,
            label: self.label(asked),
        };
        let reason = if wish.keep_alive == Some(Duration::ZERO) {
            "unload"
        } else {
            "load"
        };
        Some(Act::WarmUp(
            wish.clone(),
            Box::new(move |loaded| match loaded {
                Ok(()) => native.loaded(reason),
                Err(message) => ollama::error(503, message),
            }),
        ))
    }

    pub(super) fn voice(&self, body: &Value, asked: &str) -> Box<dyn Voice> {
        self.voice_for(body, asked, 0)
    }

    fn voice_for(&self, body: &Value, asked: &str, estimate: usize) -> Box<dyn Voice> {
        let label = self.label(asked);
        let include_usage = field(body, "stream_options").and_then(|o| field(o, "include_usage"))
            == Some(&Value::Bool(true));
        let raw = field(body, "raw") == Some(&Value::Bool(true));
        match self.call {
            Call::Chat | Call::Embed | Call::Embeddings => Box::new(Native {
                shape: Shape::Chat,
                label,
            }),
            Call::Generate if raw => Box::new(Native {
                shape: Shape::GenerateRaw,
                label,
            }),
            Call::Generate => Box::new(Native {
                shape: Shape::Generate,
                label,
            }),
            Call::V1Chat | Call::V1Embeddings => Box::new(Chat {
                label,
                include_usage,
                has_begun: false,
            }),
            Call::V1Completions => Box::new(Completions {
                label,
                include_usage,
            }),
            Call::V1Responses => {
                let limit = field(body, "max_output_tokens").and_then(Value::as_i64);
                Box::new(Responses::new(label, limit))
            }
            Call::V1Messages => Box::new(Messages::new(label, estimate)),
        }
    }
}

/// An error of the node itself, in the shape of the dialect that a path belongs to.
pub(super) fn error(path: &str, status: u16, message: &str) -> Answer {
    if path.starts_with("/v1/messages") {
        let label = Label {
            model: String::new(),
            began: SystemTime::UNIX_EPOCH,
            number: 0,
        };
        return Messages::new(label, 0).refuse(status, message);
    }
    if path.starts_with("/v1/") {
        return openai::error(status, message);
    }
    ollama::error(status, message)
}

/// An error in place of an answer; the headers that a stream would have had stay on it (recording 818).
pub(super) fn refusal(voice: &dyn Voice, is_stream: bool, status: u16, message: &str) -> Answer {
    let mut answer = voice.refuse(status, message);
    if is_stream {
        for (name, value) in voice.stream_headers() {
            answer = answer.with(name, *value);
        }
    }
    answer
}
