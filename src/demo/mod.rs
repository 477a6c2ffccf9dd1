//! A faithful simulated node: `arriero demo`, the tests and the benches all use it.
//!
//! It speaks Ollama's three dialects over real sockets, with slots, queues, loads and evictions as Ollama 0.33 has them
//! (`tests/golden/ollama-wire/` holds recordings of the real one), and fails in every way of [`Fault`] on cue.

mod answer;
mod anthropic;
mod ask;
mod clock;
mod embed;
mod engine;
mod exchange;
mod fault;
mod http;
mod json;
mod library;
mod ollama;
mod openai;
mod responses;
mod routes;
mod seen;
mod server;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};

pub use self::fault::Fault;
pub use self::seen::{Outcome, Seen};

use self::engine::{Engine, Limits};
use self::http::{Head, lock};
use self::library::{Model, Use};
use self::seen::Journal;

/// Which server a node imitates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Ollama,
    /// llama.cpp's server: `/v1/*` and `/health`, no `/api/*`; all its models are always in memory.
    OpenAi,
}

/// What a node says and how fast; it never changes while it runs.
#[derive(Debug, Clone)]
struct Settings {
    name: String,
    kind: Kind,
    version: String,
    says: Vec<Arc<str>>,
    thoughts: Vec<Arc<str>>,
    tokens: Option<usize>,
    token_delay: Duration,
}

/// A node that does not run yet.
#[derive(Debug, Clone)]
pub struct NodeBuilder {
    settings: Settings,
    limits: Limits,
    models: Vec<(String, Use)>,
    loaded: Vec<String>,
}

impl NodeBuilder {
    /// For people, in `GET /demo/seen`.
    pub fn name(mut self, name: &str) -> Self {
        self.settings.name = name.to_owned();
        self
    }

    pub fn kind(mut self, kind: Kind) -> Self {
        self.settings.kind = kind;
        self
    }

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

    pub fn load_delay(mut self, delay: Duration) -> Self {
        self.limits.load_delay = delay;
        self
    }

    /// The time before each token, default none.
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
        let mut models: Vec<Model> = Vec::new();
        let loaded = self.loaded.iter().map(|name| (name.clone(), Use::Chat));
        for (name, purpose) in self.models.iter().cloned().chain(loaded) {
            let mut model = Model::new(&name, purpose, now);
            if self.settings.kind == Kind::OpenAi {
                model.name.clone_from(&name); // such servers know no tags
            }
            if !models.iter().any(|m| m.key == model.key) {
                models.push(model);
            }
        }
        let mut limits = self.limits;
        if self.settings.kind == Kind::OpenAi {
            limits.loaded_max = usize::MAX;
        }
        let shared = Arc::new(Shared {
            engine: Arc::new(Engine::new(limits, Arc::clone(&changed))),
            journal: Arc::new(Journal::new(Arc::clone(&changed))),
            loaded: self.loaded,
            settings: self.settings,
            models: Mutex::new(models),
            blobs: Mutex::default(),
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

/// A running node; dropping it ends it as [`Node::kill`] does.
pub struct Node {
    addr: SocketAddr,
    shared: Arc<Shared>,
}

impl Node {
    pub fn builder() -> NodeBuilder {
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
                version: "0.33.0".to_owned(),
                says: words.map(Arc::from).to_vec(),
                thoughts: thoughts.map(Arc::from).to_vec(),
                tokens: None,
                token_delay: Duration::ZERO,
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

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Such as `http://127.0.0.1:40001`.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// The last 4096 requests, oldest first.
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.journal.all()
    }

    /// Generations that hold a slot now.
    pub fn generating(&self) -> usize {
        self.shared.engine.generating()
    }

    /// Generations that wait for a slot or for a load now; a load in hand counts.
    pub fn waiting(&self) -> usize {
        self.shared.engine.waiting()
    }

    /// How often a model was put into memory since the start, those from the start included.
    pub fn loads(&self) -> usize {
        self.shared.engine.loads()
    }

    /// Resolves when the condition holds; it is looked at again after every change of the node's state.
    pub async fn until(&self, holds: impl Fn(&Node) -> bool) {
        loop {
            let changed = self.shared.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if holds(self) {
                return;
            }
            changed.await;
        }
    }

    /// Every request fails like this from now on, see [`Fault`] for which ones.
    pub fn fault(&self, fault: Fault) {
        self.shared.set_fault(Some((fault, None)));
    }

    /// As [`Node::fault`] for so many requests.
    pub fn fault_times(&self, fault: Fault, times: usize) {
        self.shared.set_fault(Some((fault, Some(times))));
    }

    pub fn clear_fault(&self) {
        self.shared.set_fault(None);
    }

    /// Every generation stops after so many tokens until [`Node::resume`].
    pub fn pause_after(&self, tokens: usize) {
        self.shared.paused_after.store(tokens, Ordering::SeqCst);
    }

    pub fn resume(&self) {
        self.shared.paused_after.store(usize::MAX, Ordering::SeqCst);
        self.shared.changed.notify_waiters();
    }

    /// Generations that [`Node::pause_after`] holds back now.
    pub fn paused(&self) -> usize {
        self.shared.paused.load(Ordering::SeqCst)
    }

    /// Puts a chat model on the disk, as `ollama pull` at the node itself would.
    pub fn install(&self, name: &str) {
        lock(&self.shared.models).push(Model::new(name, Use::Chat, SystemTime::now()));
    }

    /// As SIGKILL: the listener is closed on return, every connection is cut, the memory is empty.
    pub fn kill(&self) {
        *lock(&self.shared.listener) = None;
        self.shared.life.send_modify(|life| *life += 1);
        self.shared.engine.clear();
    }

    /// Listens again on the same address, with the models in memory that were there at the start.
    ///
    /// # Errors
    /// The address cannot be bound.
    pub async fn revive(&self) -> io::Result<()> {
        let listener = TcpListener::bind(self.addr).await?;
        self.shared.fill_memory();
        server::listen(&self.shared, listener);
        Ok(())
    }

    /// As SIGSTOP: the kernel accepts connections, nobody answers.
    pub fn freeze(&self) {
        self.shared.frozen.send_replace(true);
    }

    pub fn thaw(&self) {
        self.shared.frozen.send_replace(false);
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
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

/// What a node's tasks have in common.
struct Shared {
    settings: Settings,
    engine: Arc<Engine>,
    journal: Arc<Journal>,
    models: Mutex<Vec<Model>>,
    loaded: Vec<String>,
    blobs: Mutex<HashSet<String>>,
    /// With the number of requests it still strikes; `None`: all of them.
    fault: Mutex<Option<(Fault, Option<usize>)>>,
    paused_after: AtomicUsize,
    paused: AtomicUsize,
    changed: Arc<Notify>,
    frozen: watch::Sender<bool>,
    /// Counts the kills; every task ends when it changes.
    life: watch::Sender<u64>,
    listener: Mutex<Option<TcpListener>>,
    numbers: AtomicU64,
}

impl Shared {
    fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    fn fill_memory(&self) {
        let names: Vec<String> = match self.settings.kind {
            Kind::Ollama => self.loaded.clone(),
            Kind::OpenAi => lock(&self.models).iter().map(|m| m.name.clone()).collect(),
        };
        for name in names {
            self.engine.preload(&library::key(&name));
        }
    }

    fn set_fault(&self, fault: Option<(Fault, Option<usize>)>) {
        *lock(&self.fault) = fault;
    }

    /// The fault that strikes this request, one time less to come.
    fn take_fault(&self, head: &Head, reused: bool) -> Option<Fault> {
        let is_probe = matches!(head.method.as_str(), "GET" | "HEAD");
        if is_probe || head.path().starts_with("/demo/") {
            return None;
        }
        let mut slot = lock(&self.fault);
        let (fault, times) = slot.as_mut()?;
        if fault.needs_reuse() && !reused {
            return None;
        }
        let struck = fault.clone();
        if let Some(times) = times {
            *times = times.saturating_sub(1);
            if *times == 0 {
                *slot = None;
            }
        }
        Some(struck)
    }

    /// Waits, counted, while generations are paused at or before this token.
    async fn gate(&self, sent: usize) {
        if sent < self.paused_after.load(Ordering::SeqCst) {
            return;
        }
        let _held = Held::new(self);
        while self.paused_after.load(Ordering::SeqCst) <= sent {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if self.paused_after.load(Ordering::SeqCst) <= sent {
                changed.await;
            }
        }
    }
}

/// A generation that is held back, counted until it goes on or is given up.
struct Held<'a>(&'a Shared);

impl Held<'_> {
    fn new(shared: &Shared) -> Held<'_> {
        shared.paused.fetch_add(1, Ordering::SeqCst);
        shared.changed.notify_waiters();
        Held(shared)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.paused.fetch_sub(1, Ordering::SeqCst);
        self.0.changed.notify_waiters();
    }
}
