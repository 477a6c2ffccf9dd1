//! Watches an answer pass by: first token, usage, where frames end, and whether it ended as its dialect says it must.
//!
//! A token's frame costs a few searches for byte patterns. Only frames that may matter (the last one, errors, usage) are parsed, and
//! what counts is what the parser finds: text of a model cannot fake a pattern, since its quotes are escaped, but the arguments of
//! a tool call can.

use std::sync::Arc;
use std::time::Duration;

use super::frame::{Event, Events, Lines};
use super::{Ending, Framing, Operation, Usage};
use crate::profile::extraction::{Extraction, Sample};

mod kept;

mod shapes;

mod signs;

mod window;

use kept::Kept;
use shapes::{ErrorText, NativeLine, WithError, WithUsage, is_zero_chunk};
use signs::{DONE, ERROR, MODEL, TYPE, USAGE, has_text, values};
use window::Window;

/// An error text of a node that is worth a log line, in characters.
const MESSAGE_CHARS_MAX: usize = 500;

/// How the bytes of an answer's body ended, as far as HTTP tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Close {
    /// As announced: the last chunk came, or all of Content-Length.
    Framed,
    /// The connection was closed and nothing had announced a length: the body may be whole or cut.
    Unannounced,
    /// Broken off.
    Cut,
}

/// Observes one answer's body.
#[derive(Debug)]
pub struct Meter {
    body: Body,
    seen: Seen,
    /// Only when somebody wants more of the answer than its usage.
    kept: Option<Kept>,
}

#[derive(Debug)]
enum Body {
    Lines(Lines),
    Events(Events, Protocol),
    Whole(Window),
}

/// Which events an event stream is made of.
#[derive(Debug, Clone, Copy)]
enum Protocol {
    /// Chat completions and completions: nameless events, `[DONE]` last.
    Chunks,
    Responses,
    Messages,
}

/// What the frames told so far.
#[derive(Debug, Default)]
struct Seen {
    first_token: bool,
    usage: Usage,
    terminal: bool,
    error: Option<String>,
    /// Ollama's mark of a dead runner: an event of its own zero value.
    died: bool,
}

impl Framing {
    /// The framing that a `Content-Type` announces; anything unknown is one document.
    pub fn of(content_type: Option<&str>) -> Framing {
        let media_type = content_type.unwrap_or("").split(';').next().unwrap_or("");
        match media_type.trim().to_ascii_lowercase().as_str() {
            "application/x-ndjson" | "application/ndjson" | "application/jsonl" => Framing::Ndjson,
            "text/event-stream" => Framing::Sse,
            _ => Framing::Whole,
        }
    }
}

impl Meter {
    /// A meter for one answer, from its first byte on; `framing` is what its `Content-Type` announces.
    pub fn new(operation: Operation, framing: Framing) -> Meter {
        let protocol = match operation {
            Operation::Messages => Protocol::Messages,
            Operation::Responses => Protocol::Responses,
            _ => Protocol::Chunks,
        };
        let body = match framing {
            Framing::Ndjson => Body::Lines(Lines::default()),
            Framing::Sse => Body::Events(Events::default(), protocol),
            Framing::Whole => Body::Whole(Window::default()),
        };
        Meter {
            body,
            seen: Seen::default(),
            kept: None,
        }
    }

    /// The same meter, which also keeps what this extraction reads.
    pub fn keeping(self, extraction: Option<Arc<Extraction>>) -> Meter {
        Meter {
            kept: extraction.map(Kept::new),
            ..self
        }
    }

    /// Looks at bytes of the body, in order, cut anyhow.
    pub fn push(&mut self, chunk: &[u8]) {
        let (seen, kept) = (&mut self.seen, &mut self.kept);
        match &mut self.body {
            Body::Lines(lines) => lines.push(chunk, |line| seen.line(line, kept)),
            Body::Events(events, protocol) => {
                events.push(chunk, |frame| seen.event(*protocol, frame, kept));
            }
            Body::Whole(window) => {
                seen.first_token |= !chunk.is_empty();
                window.push(chunk);
                if let Some(kept) = kept {
                    kept.grow(chunk);
                }
            }
        }
    }

    /// Whether a frame with something a model made has passed (for a whole document: any byte of it).
    pub fn first_token_seen(&self) -> bool {
        self.seen.first_token
    }

    /// Whether another frame may follow the bytes so far without being glued to a half one. Never inside a document.
    pub fn at_frame_border(&self) -> bool {
        match &self.body {
            Body::Lines(lines) => lines.at_border(),
            Body::Events(events, _) => events.at_border(),
            Body::Whole(_) => false,
        }
    }

    /// The tokens that the node has counted so far.
    pub fn usage(&self) -> Usage {
        self.seen.usage
    }

    /// Gives out what it kept of the answer for its extraction; nothing without one. `header` tells the value of a header of the
    /// answer, `took` how long the request has taken. A whole document has values when all of it has passed.
    pub fn take_sample(
        &mut self,
        header: &dyn Fn(&str) -> Option<String>,
        took: Duration,
    ) -> Option<Sample> {
        let kept = self.kept.as_mut()?;
        let frames = kept.take_frames();
        Some(Sample::new(kept.extraction.clone(), frames, header, took))
    }

    /// Whether the answer had a frame with values, or may have had one, that was too long to be kept.
    pub fn has_missed_values(&self) -> bool {
        let skipped = match &self.body {
            Body::Lines(lines) => lines.skipped(),
            Body::Events(events, _) => events.skipped(),
            Body::Whole(_) => 0,
        };
        let kept = self.kept.as_ref();
        kept.is_some_and(|kept| 0 < kept.missed + skipped)
    }

    /// Tells how the answer ended. Call it once, after the last byte.
    pub fn finish(&mut self, close: Close) -> Ending {
        let clean_end = close != Close::Cut;
        let (seen, kept) = (&mut self.seen, &mut self.kept);
        let mut skipped = 0;
        match &mut self.body {
            Body::Lines(lines) => {
                if clean_end {
                    lines.finish(|line| seen.line(line, kept));
                }
                skipped = lines.skipped();
            }
            Body::Events(events, protocol) => {
                if clean_end {
                    events.finish(|frame| seen.event(*protocol, frame, kept));
                }
                skipped = events.skipped();
            }
            Body::Whole(window) => {
                seen.take_usage(window.usage());
                seen.terminal = match close {
                    Close::Framed => true,
                    Close::Unannounced => window.looks_whole(),
                    Close::Cut => false,
                };
            }
        }
        match (&seen.error, seen.terminal) {
            (Some(message), _) => Ending::ErrorTold(message.clone()),
            (None, true) => Ending::Complete,
            (None, false) if close != Close::Framed => {
                Ending::Died("the node broke the answer off")
            }
            (None, false) if seen.died => Ending::Died("the node's runner stopped"),
            // The terminal chunk may have been the one that was too long to look at.
            (None, false) if 0 < skipped => Ending::Complete,
            (None, false) => Ending::GaveUp,
        }
    }
}

impl Seen {
    /// One line of Ollama's native stream.
    fn line(&mut self, line: &[u8], kept: &mut Option<Kept>) {
        if let Some(kept) = kept {
            kept.look(line);
        }
        self.first_token = self.first_token || has_text(line);
        let is_last = values(line, &DONE).any(|value| value.starts_with(b"true"));
        if !is_last && values(line, &ERROR).next().is_none() {
            return;
        }
        let Ok(parsed) = serde_json::from_slice::<NativeLine>(line) else {
            return;
        };
        self.tell_error(parsed.error);
        if parsed.done == Some(true) {
            self.terminal = true;
            self.take_usage(Usage {
                tokens_in: parsed.prompt_eval_count.0,
                tokens_out: parsed.eval_count.0,
            });
        }
    }

    fn event(&mut self, protocol: Protocol, frame: &[u8], kept: &mut Option<Kept>) {
        let event = Event::parse(frame);
        if event.data.is_empty() {
            return;
        }
        if let Some(kept) = kept {
            kept.look(&event.data);
        }
        self.first_token = self.first_token || has_text(&event.data);
        if event.name == b"error" || values(&event.data, &ERROR).next().is_some() {
            self.error_event(&event);
        }
        match protocol {
            Protocol::Chunks => self.chunk(&event.data),
            Protocol::Responses => self.typed_event(&event, &RESPONSES_EVENTS),
            Protocol::Messages => self.typed_event(&event, &MESSAGES_EVENTS),
        }
    }

    /// An event of chat completions or completions.
    fn chunk(&mut self, data: &[u8]) {
        if data.starts_with(b"[DONE]") {
            self.terminal = true;
            return;
        }
        if values(data, &USAGE).any(|value| value.starts_with(b"{"))
            && let Ok(parsed) = serde_json::from_slice::<WithUsage>(data)
        {
            self.take_usage(parsed.usage.unwrap_or_default().into());
        }
        if values(data, &MODEL).any(|value| value.starts_with(b"\"\"")) {
            self.died |= serde_json::from_slice(data).is_ok_and(|chunk| is_zero_chunk(&chunk));
        }
    }

    /// An event with a type: its name, or else the `type` in its data.
    fn typed_event(&mut self, event: &Event<'_>, known: &'static TypedEvents) {
        let name = match event.name {
            b"" => match values(&event.data, &TYPE).find_map(|value| known.find(value)) {
                Some(name) => name,
                None => return,
            },
            name => name,
        };
        if known.terminal.contains(&name) {
            self.terminal = true;
        }
        if known.with_usage.contains(&name)
            && let Ok(parsed) = serde_json::from_slice::<WithUsage>(&event.data)
        {
            let inner = parsed.response.or(parsed.message);
            let usage = parsed.usage.or(inner.and_then(|inner| inner.usage));
            self.take_usage(usage.unwrap_or_default().into());
        }
    }

    /// An event that may tell an error: named so, or with a member `error` that is not null, also in a failed response.
    fn error_event(&mut self, event: &Event<'_>) {
        let parsed: WithError = serde_json::from_slice(&event.data).unwrap_or_default();
        let inner = parsed.response.and_then(|response| response.error);
        let told = parsed.error.or(inner);
        if event.name == b"error" && told.is_none() {
            let text = parsed.message.unwrap_or(ErrorText(String::new()));
            self.tell_error(Some(text));
        } else {
            self.tell_error(told);
        }
    }

    /// The first error counts, unless the answer was complete before it.
    fn tell_error(&mut self, error: Option<ErrorText>) {
        if let Some(ErrorText(text)) = error
            && self.error.is_none()
            && !self.terminal
        {
            self.error = Some(text.chars().take(MESSAGE_CHARS_MAX).collect());
        }
    }

    /// Later counts replace earlier ones: Anthropic's first is an estimate, continuous usage grows.
    fn take_usage(&mut self, usage: Usage) {
        self.usage.tokens_in = usage.tokens_in.or(self.usage.tokens_in);
        self.usage.tokens_out = usage.tokens_out.or(self.usage.tokens_out);
    }
}

/// The events that matter in a protocol of typed events.
struct TypedEvents {
    terminal: &'static [&'static [u8]],
    with_usage: &'static [&'static [u8]],
}

static MESSAGES_EVENTS: TypedEvents = TypedEvents {
    terminal: &[b"message_stop"],
    with_usage: &[b"message_start", b"message_delta"],
};

static RESPONSES_EVENTS: TypedEvents = TypedEvents {
    terminal: &[
        b"response.completed",
        b"response.failed",
        b"response.incomplete",
    ],
    with_usage: &[
        b"response.completed",
        b"response.failed",
        b"response.incomplete",
    ],
};

impl TypedEvents {
    fn find(&self, value: &[u8]) -> Option<&'static [u8]> {
        let value = value.strip_prefix(b"\"")?;
        self.terminal
            .iter()
            .chain(self.with_usage)
            .find(|name| {
                value
                    .strip_prefix(**name)
                    .is_some_and(|rest| rest.starts_with(b"\""))
            })
            .copied()
    }
}

#[cfg(test)]
mod tests;
