//! What bytes mean: which call a path is, what routing must know of a body, how a stream ends, how a fault is told.
//!
//! Pure: values in, values out. Three wire formats known at compile time are an enum, not a trait.

pub mod recognize;

pub mod listing;

pub mod json;

pub mod facts;

pub mod splice;

pub mod encoding;

pub mod frame;

pub mod meter;

pub mod verdict;

pub mod refusal;

#[cfg(test)]
mod testing;

pub use encoding::{Encoding, decode_zstd, encoding};
pub use facts::{NumCtxAt, facts};
pub use listing::{Filter, Format};
pub use meter::{Close, Meter};
pub use recognize::{dialect_of, recognize};
pub use refusal::Refusal;
pub use verdict::{MODEL_GONE, Verdict, counts_against_node, verdict};

use std::ops::Range;

/// A wire format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// Ollama's own API, `/api/*`: NDJSON streams, errors as `{"error":"…"}`.
    Ollama,
    /// OpenAI's API, `/v1/*`: SSE streams, errors as `{"error":{"message":…,"type":…}}`.
    OpenAi,
    /// Anthropic's Messages API, `/v1/messages*`: SSE with named events, errors as `{"type":"error",…}`.
    Anthropic,
}

/// What a client wants, whatever mount it came through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// `GET HEAD /`
    Root,
    /// `GET HEAD /api/version`
    Version,
    /// `GET HEAD /api/tags`
    Tags,
    /// `GET /api/ps`
    Ps,
    /// `POST /api/show`
    Show,
    /// `POST /api/chat`
    Chat,
    /// `POST /api/generate`
    Generate,
    /// `POST /api/embed`
    Embed,
    /// `POST /api/embeddings`
    Embeddings,
    /// `POST /v1/chat/completions`
    ChatCompletions,
    /// `POST /v1/completions`
    Completions,
    /// `POST /v1/embeddings`
    V1Embeddings,
    /// `POST /v1/responses`
    Responses,
    /// `POST /v1/messages`
    Messages,
    /// `POST /v1/messages/count_tokens`
    CountTokens,
    /// `GET /v1/models`
    Models,
    /// `GET /v1/models/{m}`
    Model,
    /// `POST /api/pull`
    Pull,
    /// `POST /api/push`, and `DELETE` as Open WebUI has it
    Push,
    /// `POST /api/create`
    Create,
    /// `POST /api/copy`
    Copy,
    /// `DELETE /api/delete`
    Delete,
    /// `POST /api/unload`
    Unload,
    /// `HEAD POST /api/blobs/{digest}`
    Blob,
    /// `POST /models/download`
    Download,
    /// `POST /models/upload`
    Upload,
}

impl Operation {
    /// Whether it is about the models of nodes rather than for a model.
    pub fn changes_models(self) -> bool {
        use Operation::*;
        matches!(
            self,
            Pull | Push | Create | Copy | Delete | Unload | Blob | Download | Upload
        )
    }

    /// Whether a model writes the answer: such an answer may be streamed, and its prompt is worth keeping.
    pub fn generates(self) -> bool {
        use Operation::*;
        matches!(
            self,
            Chat | Generate | ChatCompletions | Completions | Responses | Messages
        )
    }

    /// Whether a body may hold `options`, which say how the model is loaded.
    pub fn takes_options(self) -> bool {
        use Operation::*;
        matches!(self, Chat | Generate | Embed | Embeddings)
    }

    /// Whether a model works for the answer, so that the answer tells how.
    pub fn runs_model(self) -> bool {
        use Operation as O;
        match self {
            O::Chat | O::Generate | O::Embed | O::Embeddings => true,
            O::ChatCompletions | O::Completions | O::V1Embeddings => true,
            O::Responses | O::Messages => true,
            O::Root | O::Version | O::Tags | O::Ps | O::Show => false,
            O::Pull | O::Push | O::Create | O::Copy | O::Delete | O::Unload => false,
            O::Blob | O::Download | O::Upload => false,
            O::CountTokens | O::Models | O::Model => false,
        }
    }
}

/// Where a call came in; decides which nodes may serve it and which extra headers the answer carries.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Mount {
    /// `/`, `/ollama`, `/anthropic`: every node that can serve the call.
    All,
    /// `/openai`: nodes whose type says that it is compatible.
    OpenAi,
    /// `/{prefix}`: nodes of one profile, named by `Profile::name`.
    Profile(std::sync::Arc<str>),
}

/// How a call is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Serve {
    /// From the catalogue, never by asking a node at request time.
    Catalogue,
    /// By a node that has the model named in the body.
    ByModel,
    /// By the one node whose index the path names.
    ByIndex,
    /// By all nodes whose models it changes.
    Manage,
}

/// What a request line means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// The wire format of its body and of its answer, errors included.
    pub dialect: Dialect,
    /// What is wanted.
    pub operation: Operation,
    /// Where the answer comes from.
    pub serve: Serve,
    /// Which nodes may serve it.
    pub mount: Mount,
    /// Came in under `/olla/…`: the answer also carries Olla's header names.
    pub olla: bool,
    /// Open WebUI's node index at the end of the path, such as the 2 of `/api/chat/2`.
    pub node_index: Option<usize>,
    /// The path a node is asked for, such as `/api/chat`. Never holds the mount, the index or a query.
    pub node_path: std::borrow::Cow<'static, str>,
    /// The model id of `GET /v1/models/{m}`, percent-decoded, or the digest of a blob.
    pub argument: Option<String>,
}

/// What routing must know of a request's body, nothing more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The asked name, unescaped; Ollama's answers echo exactly this.
    pub model: String,
    /// Where the name stands in the body, quotes included: what `splice` replaces.
    pub model_span: Range<usize>,
    /// Whether a stream is asked for, the dialect's default applied.
    pub stream: bool,
    /// Load-time options that were set; a change makes an Ollama node reload the model.
    pub runner: RunnerOptions,
    /// Where the body says how long a context it wants, or could say it.
    pub num_ctx_at: NumCtxAt,
    /// Whether the conversation holds an image, so that a vision model is needed.
    pub images: bool,
    /// Whether `tools` holds at least one.
    pub tools: bool,
    /// Whether Anthropic's `thinking` is asked for.
    pub thinking: bool,
    /// Whether it asks an Ollama node to take the model out of memory: nothing to say, and a `keep_alive` of zero.
    pub unloads: bool,
    /// A hash of what later turns of the same conversation share (model, system prompt, tools, first user message).
    pub affinity: Option<u64>,
    /// Size of the body, bytes.
    pub body_bytes: usize,
    /// Text that has to fit the model's context at once, bytes as written: no images, no tools, and of several prompts the longest.
    pub prompt_bytes: usize,
}

/// Bytes of English prose that make a token, about; other text takes more tokens, so the estimate is rather too small.
const TOKEN_BYTES: u64 = 4;

impl Facts {
    /// How long the prompt is, tokens, about.
    pub fn prompt_tokens(&self) -> u64 {
        self.prompt_bytes as u64 / TOKEN_BYTES
    }
}

/// Ollama's load-time options (`options.num_ctx` …): `None` where the client did not set one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RunnerOptions {
    /// `num_ctx`: context length, tokens.
    pub num_ctx: Option<i64>,
    /// `num_batch`: prompt tokens worked on at once.
    pub num_batch: Option<i64>,
    /// `num_gpu`: layers on GPUs; negative lets Ollama decide.
    pub num_gpu: Option<i64>,
    /// `main_gpu`: index of the GPU for what is not split.
    pub main_gpu: Option<i64>,
    /// `num_thread`: CPU threads; 0 lets Ollama decide.
    pub num_thread: Option<i64>,
    /// `draft_num_predict`: tokens that a draft model guesses ahead.
    pub draft_num_predict: Option<i64>,
    /// `use_mmap`: whether the weights are mapped instead of read.
    pub use_mmap: Option<bool>,
    /// `shift`: whether old tokens make room when the context is full.
    pub shift: Option<bool>,
}

/// Tokens as a node counted them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Of the prompt; `None` when the answer did not say.
    pub tokens_in: Option<u64>,
    /// Generated; `None` when the answer did not say.
    pub tokens_out: Option<u64>,
}

/// How an answer's body is cut into frames, known from its `Content-Type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// One JSON object per line.
    Ndjson,
    /// Server-sent events.
    Sse,
    /// One document.
    Whole,
}

/// How an answer ended, as far as its bytes tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// The terminal chunk was there (`done:true`, `[DONE]`, `message_stop`, `response.completed`), or the document is whole.
    Complete,
    /// The node told an error inside the stream; the client has seen it.
    ErrorTold(String),
    /// The node's runner or the node died: no terminal chunk, and a sign of death (no clean end, or a `"model":""` event).
    Died(&'static str),
    /// A clean end without a terminal chunk: Ollama's repeat guard. Not a failure of the node.
    GaveUp,
}
