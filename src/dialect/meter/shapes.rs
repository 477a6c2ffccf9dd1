//! The few members that the meter reads of a frame worth parsing; everything else in it is passed over.

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::dialect::Usage;

#[derive(Deserialize)]
pub(super) struct NativeLine {
    pub(super) done: Option<bool>,
    pub(super) error: Option<ErrorText>,
    #[serde(default)]
    pub(super) prompt_eval_count: Count,
    #[serde(default)]
    pub(super) eval_count: Count,
}

/// An event that carries usage: at the top, or in Anthropic's `message` or the `response` of Responses.
#[derive(Deserialize)]
pub(super) struct WithUsage {
    pub(super) usage: Option<Counts>,
    pub(super) message: Option<InnerUsage>,
    pub(super) response: Option<InnerUsage>,
}

#[derive(Deserialize)]
pub(super) struct InnerUsage {
    pub(super) usage: Option<Counts>,
}

/// A number of tokens. A strange one is no number, but it must not spoil the frame around it.
#[derive(Deserialize, Default)]
#[serde(from = "Number")]
pub(super) struct Count(pub(super) Option<u64>);

#[derive(Deserialize)]
#[serde(untagged)]
enum Number {
    Whole(u64),
    Other(IgnoredAny),
}

impl From<Number> for Count {
    fn from(number: Number) -> Count {
        match number {
            Number::Whole(tokens) => Count(Some(tokens)),
            Number::Other(_) => Count(None),
        }
    }
}

/// Token counts under the names of both families; servers exist that send both.
#[derive(Deserialize, Default)]
pub(super) struct Counts {
    #[serde(default)]
    prompt_tokens: Count,
    #[serde(default)]
    completion_tokens: Count,
    #[serde(default)]
    input_tokens: Count,
    #[serde(default)]
    output_tokens: Count,
}

impl From<Counts> for Usage {
    fn from(counts: Counts) -> Usage {
        Usage {
            tokens_in: counts.input_tokens.0.or(counts.prompt_tokens.0),
            tokens_out: counts.output_tokens.0.or(counts.completion_tokens.0),
        }
    }
}

#[derive(Deserialize, Default)]
pub(super) struct WithError {
    pub(super) error: Option<ErrorText>,
    pub(super) message: Option<ErrorText>,
    pub(super) response: Option<InnerError>,
}

#[derive(Deserialize)]
pub(super) struct InnerError {
    pub(super) error: Option<ErrorText>,
}

/// An error's text, whether it is told as a string or as an object with a `message`.
#[derive(Deserialize)]
#[serde(from = "Told")]
pub(super) struct ErrorText(pub(super) String);

#[derive(Deserialize)]
#[serde(untagged)]
enum Told {
    Text(String),
    Object { message: Option<String> },
    Other(IgnoredAny),
}

impl From<Told> for ErrorText {
    fn from(told: Told) -> ErrorText {
        ErrorText(match told {
            Told::Text(text) => text,
            Told::Object { message } => message.unwrap_or_default(),
            Told::Other(_) => String::new(),
        })
    }
}

/// The parts of a chunk that its zero value leaves empty.
#[derive(Deserialize)]
pub(super) struct Chunk {
    model: String,
    #[serde(default)]
    choices: Vec<Choice>,
}

#[derive(Deserialize)]
struct Choice {
    finish_reason: Option<String>,
    #[serde(default)]
    text: String,
    #[serde(default)]
    delta: Delta,
}

#[derive(Deserialize, Default)]
struct Delta {
    content: Option<String>,
}

/// What Ollama sends on `/v1` when its runner is gone: no model, no text, no reason to finish.
pub(super) fn is_zero_chunk(chunk: &Chunk) -> bool {
    chunk.model.is_empty()
        && chunk.choices.iter().all(|choice| {
            choice.finish_reason.is_none()
                && choice.text.is_empty()
                && choice.delta.content.as_deref().unwrap_or("").is_empty()
        })
}
