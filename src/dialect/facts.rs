//! What routing must know of a body, read in one scan that also proves the body to be unambiguous JSON.
//!
//! A node that reads a body otherwise than we do would run something else than what was allowed and routed. So keys are
//! compared as Ollama compares them (Go's `encoding/json`: any case, `ſ` for s, the Kelvin sign for k, escapes undone), and
//! a body that says the same thing twice is refused rather than guessed at. `Content-Type` is never looked at.

mod conversation;

mod key;

mod num_ctx;

mod runner;

#[cfg(test)]
mod tests;

use std::ops::Range;

use crate::error::Fault;
use crate::model::NAME_BYTES_MAX;

use super::json::{Broken, Scanner, Text, Token};
use super::{Call, Dialect, Facts, Operation, RunnerOptions};

use self::conversation::Conversation;
use self::key::{Folded, Keys};
pub use self::num_ctx::NumCtxAt;

/// Reads a whole body of a call that names its model there. `hashed_bytes_max` is how much of the system prompt, of the first user
/// message and of the tools goes into [`Facts::affinity`], bytes each.
///
/// # Errors
/// 400: `bad_json`, `too_deep` and `too_many_keys` for what is not JSON within limits, `ambiguous_body` when two keys mean one
/// field or `name` contradicts `model`, `wrong_type` for a `model` or `stream` that is none, `model_required`, and
/// `invalid_model_name` for a name over [`NAME_BYTES_MAX`] bytes or with a NUL.
pub fn facts(call: &Call, body: &[u8], hashed_bytes_max: usize) -> Result<Facts, Fault> {
    let found = scan(call, body, hashed_bytes_max)?;
    let name = found.model_text()?;
    let model = name.unescape().into_owned();
    check_name(&model)?;
    let tools = found.tools.map(|span| &body[span]);
    Ok(Facts {
        affinity: found.conversation.affinity(&model, tools),
        model_span: name.span(),
        model,
        stream: found.stream.unwrap_or(streams_unasked(call.operation)),
        runner: found.runner,
        num_ctx_at: found.num_ctx_at,
        images: found.conversation.has_images(),
        tools: tools.is_some(),
        thinking: found.thinking,
        unloads: found.is_over && found.conversation.is_empty(),
        body_bytes: body.len(),
        prompt_bytes: found.conversation.prompt_bytes(),
    })
}

/// What the scan has seen so far.
#[derive(Default)]
struct Found<'a> {
    model: Option<Text<'a>>,
    name: Option<Text<'a>>,
    stream: Option<bool>,
    runner: RunnerOptions,
    num_ctx_at: NumCtxAt,
    tools: Option<Range<usize>>,
    thinking: bool,
    /// Whether `keep_alive` says that the model may leave memory at once.
    is_over: bool,
    conversation: Conversation,
}

fn scan<'a>(call: &Call, body: &'a [u8], hashed_bytes_max: usize) -> Result<Found<'a>, Fault> {
    let mut scanner = Scanner::new(body);
    if scanner.token()? != Token::ObjectStart {
        return Err(Fault::malformed(
            "bad_json",
            "the body is JSON but no object; send one object, such as {\"model\": …}",
        ));
    }
    let mut found = Found {
        num_ctx_at: match call.operation.takes_options() {
            true => NumCtxAt::Body(scanner.at()),
            false => NumCtxAt::Nowhere,
        },
        conversation: Conversation::hashing(hashed_bytes_max),
        ..Found::default()
    };
    let mut keys = Keys::new();
    while let Token::Key(key) = scanner.token()? {
        let folded = Folded::of(&key);
        keys.push(&folded, &key);
        let value = scanner.token()?;
        found.field(call, folded.name(), value, &mut scanner)?;
    }
    scanner.token()?;
    keys.check("the body", body)?;
    Ok(found)
}

impl<'a> Found<'a> {
    /// Reads one top-level field whose value begins with `value`.
    fn field(
        &mut self,
        call: &Call,
        key: &[u8],
        value: Token<'a>,
        scanner: &mut Scanner<'a>,
    ) -> Result<(), Fault> {
        use Operation::*;
        let conversation = &mut self.conversation;
        match (key, call.operation) {
            (b"model", _) => self.model = string_or_null("model", value)?,
            (b"name", _) if call.dialect == Dialect::Ollama => {
                self.name = string_or_null("name", value)?;
            }
            (b"stream", operation) if operation.generates() => self.stream = bool_or_null(value)?,
            (b"options", operation) if operation.takes_options() => {
                self.num_ctx_at = runner::options(scanner, value, &mut self.runner)?;
            }
            (b"shift", Chat | Generate) => {
                self.runner.shift = runner::flag(value);
                scanner.skip(value)?;
            }
            (b"keep_alive", Chat | Generate) => {
                self.is_over = runner::is_zero_time(value);
                scanner.skip(value)?;
            }
            (b"tools", _) => {
                let start = scanner.at() - 1;
                self.tools = has_items(scanner, value)?.then(|| start..scanner.at());
            }
            (b"thinking", Messages) => self.thinking = thinks(scanner, value)?,
            (b"images", Generate) => conversation.images(scanner, value)?,
            (b"system", Generate | Messages | CountTokens) | (b"instructions", Responses) => {
                conversation.system(scanner, value)?;
            }
            (b"prompt", Generate | Completions | Embeddings) | (b"input", Embed | V1Embeddings) => {
                conversation.prompt(scanner, value)?
            }
            (b"input", Responses) if value != Token::ArrayStart => {
                conversation.prompt(scanner, value)?;
            }
            (b"messages", Chat | ChatCompletions | Messages | CountTokens)
            | (b"input", Responses) => conversation.messages(scanner, value)?,
            _ => scanner.skip(value)?,
        }
        Ok(())
    }

    /// The name that the node will use.
    ///
    /// Ollama's CLI sends `{"name": "x", "model": ""}`, Open WebUI sends both with the same name.
    fn model_text(&self) -> Result<Text<'a>, Fault> {
        let model = self.model.filter(|text| !text.is_empty());
        let name = self.name.filter(|text| !text.is_empty());
        match (model, name) {
            (Some(model), Some(name)) if model.unescape() != name.unescape() => {
                let (model_at, name_at) = (model.span().start, name.span().start);
                Err(Fault::malformed(
                    "ambiguous_body",
                    format!(
                        "`model` at byte {model_at} and `name` at byte {name_at} name different models; send only `model`"
                    ),
                ))
            }
            (Some(text), _) | (None, Some(text)) => Ok(text),
            (None, None) => Err(Fault::malformed(
                "model_required",
                "model is required: the body names no model; set `model` to the name of one",
            )),
        }
    }
}

fn check_name(model: &str) -> Result<(), Fault> {
    let what = match model.len() {
        len if NAME_BYTES_MAX < len => format!("is {len} bytes long; at most {NAME_BYTES_MAX} are"),
        _ if model.contains('\0') => "holds a NUL, which is not".to_owned(),
        _ => return Ok(()),
    };
    Err(Fault::malformed(
        "invalid_model_name",
        format!("the name in `model` {what} allowed; check the name"),
    ))
}

/// Only Ollama's own calls stream unless told not to.
fn streams_unasked(operation: Operation) -> bool {
    matches!(operation, Operation::Chat | Operation::Generate)
}

fn string_or_null<'a>(key: &str, value: Token<'a>) -> Result<Option<Text<'a>>, Fault> {
    match value {
        Token::String(text) => Ok(Some(text)),
        Token::Null => Ok(None),
        _ => Err(wrong_type(key, "a string", value)),
    }
}

fn bool_or_null(value: Token<'_>) -> Result<Option<bool>, Fault> {
    match value {
        Token::Bool(stream) => Ok(Some(stream)),
        Token::Null => Ok(None),
        _ => Err(wrong_type("stream", "true or false", value)),
    }
}

fn wrong_type(key: &str, wanted: &str, value: Token<'_>) -> Fault {
    let got = match value {
        Token::String(_) => "a string",
        Token::Number(_) => "a number",
        Token::Bool(_) => "true or false",
        Token::ArrayStart => "an array",
        _ => "an object",
    };
    Fault::malformed(
        "wrong_type",
        format!("`{key}` is {got}, but must be {wanted}; correct it"),
    )
}

/// Goes past Anthropic's `thinking` and says whether it asks for it: `{"type": "disabled"}` does not.
fn thinks<'a>(scanner: &mut Scanner<'a>, value: Token<'a>) -> Result<bool, Broken> {
    if value != Token::ObjectStart {
        scanner.skip(value)?;
        return Ok(false);
    }
    let mut asked = false;
    while let Token::Key(key) = scanner.token()? {
        let value = scanner.token()?;
        match (Folded::of(&key).name(), value) {
            (b"type", Token::String(kind)) => asked = &*kind.unescape() != "disabled",
            _ => scanner.skip(value)?,
        }
    }
    Ok(asked)
}

/// Goes past a value and says whether it is an array with something in it.
fn has_items<'a>(scanner: &mut Scanner<'a>, value: Token<'a>) -> Result<bool, Broken> {
    if value != Token::ArrayStart {
        scanner.skip(value)?;
        return Ok(false);
    }
    let mut any = false;
    loop {
        match scanner.token()? {
            Token::ArrayEnd => return Ok(any),
            item => scanner.skip(item)?,
        }
        any = true;
    }
}
