//! What is simulated: the models, the nodes that may hold them, and how long either takes.

use std::time::Duration;

/// What a node reads from its disk while it loads a model.
const DISK_BYTES_PER_SECOND: f64 = 1.5e9;
/// What a load takes besides: starting the runner, finding the memory.
const LOAD_BASE: Duration = Duration::from_secs(1);
/// Streams on one GPU slow each other down, but together they get more done than one.
const SHARE: f64 = 0.15;

/// A model as every node has it on its disk. Rates are those of one stream alone on a node of speed 1.
#[derive(Clone, Copy)]
pub(crate) struct Model {
    pub(crate) name: &'static str,
    pub(crate) bytes: u64,
    pub(crate) prefill_tokens_per_second: f64,
    pub(crate) decode_tokens_per_second: f64,
}

/// Most wanted first: the mix is Zipf's, and what people want most is not what is largest.
pub(crate) const MODELS: [Model; 6] = [
    model("llama3.1:8b", 9, 3000.0, 60.0),
    model("qwen3:32b", 20, 1200.0, 40.0),
    model("gemma3:4b", 6, 5000.0, 80.0),
    model("mistral-small:24b", 14, 1600.0, 45.0),
    model("llama3.3:70b", 42, 700.0, 28.0),
    model("gpt-oss:120b", 58, 900.0, 35.0),
];

const fn model(name: &'static str, gigabytes: u64, prefill: f64, decode: f64) -> Model {
    Model {
        name,
        bytes: gigabytes * 1_000_000_000,
        prefill_tokens_per_second: prefill,
        decode_tokens_per_second: decode,
    }
}

/// One Ollama node.
#[derive(Clone, Copy)]
pub(crate) struct NodeSpec {
    /// Models in memory at once (`OLLAMA_MAX_LOADED_MODELS`).
    pub(crate) holds: usize,
    /// Requests that one runner serves at once (`OLLAMA_NUM_PARALLEL`).
    pub(crate) slots: usize,
    /// Its rates as a multiple of those in [`Model`].
    pub(crate) speed: f64,
    /// Conversations whose prefix one runner keeps: its slots up to Ollama 0.24, more since.
    pub(crate) conversations_max: usize,
    /// For the policies that take an operator's word for which node is better.
    pub(crate) priority: u32,
}

impl NodeSpec {
    /// What it can run at once, over all runners.
    pub(crate) fn slots_total(&self) -> usize {
        self.holds * self.slots
    }

    /// `running` counts the request itself.
    pub(crate) fn prefill(&self, model: &Model, tokens: u32, running: usize) -> Duration {
        self.seconds(tokens, model.prefill_tokens_per_second, running)
    }

    /// `running` counts the request itself.
    pub(crate) fn decode(&self, model: &Model, tokens: u32, running: usize) -> Duration {
        self.seconds(tokens, model.decode_tokens_per_second, running)
    }

    pub(crate) fn load(&self, model: &Model) -> Duration {
        LOAD_BASE + Duration::from_secs_f64(model.bytes as f64 / DISK_BYTES_PER_SECOND)
    }

    fn seconds(&self, tokens: u32, rate: f64, running: usize) -> Duration {
        let share = 1.0 + SHARE * (running as f64 - 1.0);
        Duration::from_secs_f64(f64::from(tokens) * share / (rate * self.speed))
    }
}

/// Six models on four equal nodes that hold two each.
pub(crate) fn equal_nodes() -> Vec<NodeSpec> {
    let node = NodeSpec {
        holds: 2,
        slots: 4,
        speed: 1.0,
        conversations_max: 8,
        priority: 100,
    };
    vec![node; 4]
}

/// Two fast nodes that hold three models, and two of half their speed and with an older Ollama that hold two and one.
pub(crate) fn unequal_nodes() -> Vec<NodeSpec> {
    let fast = NodeSpec {
        holds: 3,
        slots: 4,
        speed: 1.0,
        conversations_max: 8,
        priority: 200,
    };
    let slow = NodeSpec {
        holds: 2,
        slots: 2,
        speed: 0.5,
        conversations_max: 2,
        priority: 100,
    };
    vec![fast, fast, slow, NodeSpec { holds: 1, ..slow }]
}
