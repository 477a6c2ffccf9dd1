//! What a node shall be, until it starts.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};

use super::engine::{Engine, Limits};
use super::library::{Facts, Model, Use, key};
use super::seen::Journal;
use super::{Kind, Node, Settings, Shared, server};

/// A node that does not run yet.
#[derive(Debug, Clone)]
pub struct NodeBuilder {
    settings: Settings,
    limits: Limits,
    models: Vec<(String, Use)>,
    loaded: Vec<String>,
}

impl NodeBuilder {
    pub(super) fn new() -> NodeBuilder {
        let words = [
            "A", " herd", " of", " llamas", " finds", " its", " way", " home", " before", " the",
            " snow", ".",
        ];
        let thoughts = [
            "The", " user", " asks", ",", " so", " I", " answer", ".", "\n",
        ];
        NodeBuilder {
            settings: Settings {
                name: "node".to_owned(),
                kind: Kind::Ollama,
                version: String::new(),
                says: words.map(Arc::from).to_vec(),
                thoughts: thoughts.map(Arc::from).to_vec(),
                tokens: None,
                token_delay: Duration::ZERO,
                facts: HashMap::new(),
                registry: None,
                pull_steps: 4,
            },
            limits: Limits {
                slots: 1,
                queue_max: 512,
                loaded_max: 3,
                load_delay: Duration::ZERO,
            },
            models: Vec::new(),
            loaded: Vec::new(),
        }
    }

    /// For people, in `GET /demo/seen`.
    pub fn name(mut self, name: &str) -> Self {
        self.settings.name = name.to_owned();
        self
    }

    /// Which server to imitate, default [`Kind::Ollama`].
    pub fn kind(mut self, kind: Kind) -> Self {
        self.settings.kind = kind;
        self
    }

    /// What the server says that its version is, without a leading `v`; default: a recent one of its kind.
    pub fn version(mut self, version: &str) -> Self {
        self.settings.version = version.to_owned();
        self
    }

    /// Installs a chat model; `llama3` is listed as `llama3:latest`.
    pub fn model(mut self, name: &str) -> Self {
        self.models.push((name.to_owned(), Use::Chat));
        self
    }

    /// Installs a chat model that thinks unless the request says otherwise.
    pub fn thinker(mut self, name: &str) -> Self {
        self.models.push((name.to_owned(), Use::Thinking));
        self
    }

    /// Installs an embedding model.
    pub fn embedder(mut self, name: &str) -> Self {
        self.models.push((name.to_owned(), Use::Embedding));
        self
    }

    /// Puts a model into memory from the start, and installs it as a chat model unless it is installed already.
    pub fn loaded(mut self, name: &str) -> Self {
        self.loaded.push(name.to_owned());
        self
    }

    /// What a model's `details` say, such as `qwen3`, `8.2B` and `Q4_K_M`; the size in bytes follows.
    pub fn details(
        self,
        name: &str,
        family: &str,
        parameter_size: &str,
        quantization: &str,
    ) -> Self {
        self.fact(name, |facts| {
            facts.family = Some(family.to_owned());
            facts.parameter_size = Some(parameter_size.to_owned());
            facts.quantization = Some(quantization.to_owned());
        })
    }

    /// What a model says that it can do, in Ollama's words: `completion`, `tools`, `insert`, `vision`, `embedding`, `thinking`.
    /// It refuses what is not among them, whereas a model that was told none takes everything.
    pub fn capabilities(self, name: &str, capabilities: &[&str]) -> Self {
        let capabilities = capabilities.iter().map(|c| (*c).to_owned()).collect();
        self.fact(name, |facts| facts.capabilities = Some(capabilities))
    }

    /// Tokens that a model was trained for, default 131072.
    pub fn context(self, name: &str, tokens: i64) -> Self {
        self.fact(name, |facts| facts.context_length = Some(tokens))
    }

    /// 64 hexadecimal digits in place of those that a model of this name has on every other node.
    pub fn digest(self, name: &str, digest: &str) -> Self {
        self.fact(name, |facts| facts.digest = Some(digest.to_owned()))
    }

    fn fact(mut self, name: &str, tell: impl FnOnce(&mut Facts)) -> Self {
        tell(self.settings.facts.entry(key(name)).or_default());
        self
    }

    /// What can be pulled; by default anything can.
    pub fn registry(mut self, names: &[&str]) -> Self {
        self.settings.registry = Some(names.iter().map(|n| key(n)).collect());
        self
    }

    /// Lines that tell how far the pull of a model's weights is, default 4, at least 1.
    pub fn pull_steps(mut self, lines: u32) -> Self {
        self.settings.pull_steps = u64::from(lines.max(1));
        self
    }

    /// Requests at once per loaded model, default 1; further ones wait in an invisible queue without limit.
    pub fn slots(mut self, slots: usize) -> Self {
        self.limits.slots = slots.max(1);
        self
    }

    /// Requests that may wait behind the one that loads a model, default 512; beyond: 503.
    pub fn queue_max(mut self, requests: usize) -> Self {
        self.limits.queue_max = requests;
        self
    }

    /// Models in memory at once, default 3; the idle one used longest ago makes room.
    pub fn loaded_max(mut self, models: usize) -> Self {
        self.limits.loaded_max = models.max(1);
        self
    }

    /// How long a model takes into memory, default zero; requests for it wait meanwhile.
    pub fn load_delay(mut self, delay: Duration) -> Self {
        self.limits.load_delay = delay;
        self
    }

    /// The time before each token, and before each line of a pull, default none.
    pub fn token_delay(mut self, delay: Duration) -> Self {
        self.settings.token_delay = delay;
        self
    }

    /// Length of an answer when the request sets no limit; the words of [`NodeBuilder::says`] repeat.
    pub fn tokens(mut self, tokens: usize) -> Self {
        self.settings.tokens = Some(tokens);
        self
    }

    /// The tokens of every answer.
    pub fn says(mut self, tokens: &[&str]) -> Self {
        self.settings.says = tokens.iter().map(|t| Arc::from(*t)).collect();
        self
    }

    /// Starts on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// No port can be bound.
    pub async fn start(self) -> io::Result<Node> {
        self.start_on(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
            .await
    }

    /// # Errors
    /// The address cannot be bound.
    pub async fn start_on(self, addr: SocketAddr) -> io::Result<Node> {
        let listener = TcpListener::bind(addr).await?;
        let addr = listener.local_addr()?;
        let changed = Arc::new(Notify::new());
        let now = SystemTime::now();
        let mut settings = self.settings;
        if settings.version.is_empty() {
            usual_version(settings.kind).clone_into(&mut settings.version);
        }
        let mut models: Vec<Model> = Vec::new();
        let loaded = self.loaded.iter().map(|name| (name.clone(), Use::Chat));
        for (name, purpose) in self.models.iter().cloned().chain(loaded) {
            let model = settings.model(&name, purpose, now);
            if !models.iter().any(|m| m.key == model.key) {
                models.push(model);
            }
        }
        let mut limits = self.limits;
        if !settings.kind.loads_on_demand() {
            limits.loaded_max = usize::MAX;
        }
        let shared = Arc::new(Shared {
            engine: Arc::new(Engine::new(limits, Arc::clone(&changed))),
            journal: Arc::new(Journal::new(Arc::clone(&changed))),
            loaded: self.loaded,
            settings,
            models: Mutex::new(models),
            blobs: Mutex::default(),
            probes: Mutex::default(),
            pulls_held: watch::Sender::new(false),
            pulling: AtomicUsize::new(0),
            fault: Mutex::new(None),
            paused_after: AtomicUsize::new(usize::MAX),
            paused: AtomicUsize::new(0),
            changed,
            frozen: watch::Sender::new(false),
            life: watch::Sender::new(0),
            listener: Mutex::new(None),
            numbers: AtomicU64::new(1),
        });
        shared.fill_memory();
        server::listen(&shared, listener);
        Ok(Node { addr, shared })
    }
}

fn usual_version(kind: Kind) -> &'static str {
    match kind {
        Kind::Ollama => "0.33.0",
        Kind::OpenAi => "b6100-1a2b3c4d",
        Kind::Vllm => "0.11.1",
        Kind::SgLang => "0.5.3",
        Kind::LmStudio => "0.4.1",
    }
}

/// The herd of `arriero demo`: two chat models on all three nodes, each warm on one, and an embedder on the third.
pub fn trio() -> [NodeBuilder; 3] {
    let node = |name: &str| {
        Node::builder()
            .name(name)
            .model("llama3.2")
            .model("qwen3")
            .load_delay(Duration::from_millis(1500))
            .token_delay(Duration::from_millis(30))
    };
    [
        node("gpu-1").loaded("llama3.2"),
        node("gpu-2").loaded("qwen3"),
        node("gpu-3").embedder("nomic-embed-text"),
    ]
}
