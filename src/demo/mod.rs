//! A faithful simulated node: `arriero demo`, the tests and the benches all use it.
//!
//! It speaks Ollama's three dialects over real sockets, with slots, queues, loads and evictions as Ollama 0.33 has them
//! (`tests/golden/ollama-wire/` holds recordings of the real one), and fails in every way of [`Fault`] on cue.

mod answer;
mod anthropic;
mod ask;
mod blobs;
mod body;
mod builder;
mod clock;
mod conn;
mod control;
mod embed;
mod engine;
mod exchange;
mod fault;
mod http;
mod json;
mod library;
mod manage;
mod ollama;
mod openai;
mod others;
mod probes;
mod progress;
mod responses;
mod routes;
mod script;
mod seen;
mod server;
#[cfg(test)]
mod tests;
mod wire;

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};

pub use self::builder::{NodeBuilder, trio};
pub use self::fault::Fault;
pub use self::probes::ListingFault;
pub use self::seen::{Outcome, Seen};

use self::engine::Engine;
use self::http::{Head, lock};
use self::library::{Facts, Model, Use};
use self::probes::Probes;
use self::progress::Counted;
use self::seen::Journal;

/// Which server a node imitates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Ollama: `/api/*`, `/v1/*` and `/`; models are loaded when asked for.
    Ollama,
    /// llama.cpp's server: `/v1/*` and `/health`, no `/api/*`; all its models are always in memory.
    OpenAi,
    /// vLLM: `/v1/*`, `/health` and `/version`; all its models are always in memory.
    Vllm,
    /// SGLang: as vLLM, with `/get_model_info`.
    SgLang,
    /// LM Studio: `/v1/*` and `/api/v0/models`; models are loaded when asked for, and what it doesn't know gets status 200.
    LmStudio,
}

impl Kind {
    /// Whether models are in memory only when somebody asked for them.
    fn loads_on_demand(self) -> bool {
        matches!(self, Kind::Ollama | Kind::LmStudio)
    }
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
    /// By the key of the model's name.
    facts: HashMap<String, Facts>,
    /// The keys of what can be pulled; `None`: anything.
    registry: Option<HashSet<String>>,
    /// Progress lines of a pull's weights, at least one.
    pull_steps: u64,
}

impl Settings {
    fn model(&self, name: &str, purpose: Use, modified: SystemTime) -> Model {
        let mut model = Model::new(name, purpose, modified, &self.facts(name));
        if self.kind != Kind::Ollama {
            name.clone_into(&mut model.name); // such servers know no tags
        }
        model
    }

    /// Whether the node is older than this version; a text that is none counts as new.
    fn is_before(&self, major: u64, minor: u64) -> bool {
        let mut parts = self.version.split('.').map_while(|p| p.parse().ok());
        match (parts.next(), parts.next()) {
            (Some(x), Some(y)) => (x, y) < (major, minor),
            _ => false,
        }
    }
}

/// A running node; dropping it ends it as [`Node::kill`] does.
pub struct Node {
    addr: SocketAddr,
    shared: Arc<Shared>,
}

impl Node {
    /// A node to be, with the defaults of [`NodeBuilder`].
    pub fn builder() -> NodeBuilder {
        NodeBuilder::new()
    }

    /// Where it listens; the same after [`Node::kill`] and [`Node::revive`].
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

    /// Requests succeed again; those that a fault holds already stay held.
    pub fn clear_fault(&self) {
        self.shared.set_fault(None);
    }

    /// Every generation stops after so many tokens until [`Node::resume`].
    pub fn pause_after(&self, tokens: usize) {
        self.shared.paused_after.store(tokens, Ordering::SeqCst);
        self.shared.changed.notify_waiters();
    }

    /// Undoes [`Node::pause_after`]: held generations go on.
    pub fn resume(&self) {
        self.pause_after(usize::MAX);
    }

    /// Generations that [`Node::pause_after`] holds back now.
    pub fn paused(&self) -> usize {
        self.shared.paused.load(Ordering::SeqCst)
    }

    /// Puts a chat model on the disk, as `ollama pull` at the node itself would.
    pub fn install(&self, name: &str) {
        let settings = &self.shared.settings;
        let model = settings.model(name, Use::Chat, SystemTime::now());
        self.shared.put(model);
    }

    /// Takes a model from the memory and from the disk, as `ollama rm` at the node itself would.
    pub fn uninstall(&self, name: &str) {
        if let Some(model) = self.shared.take_out(name) {
            self.shared.engine.unload(&model);
        }
    }

    /// The listed names of the models on the disk, oldest first.
    pub fn installed(&self) -> Vec<String> {
        let models = lock(&self.shared.models);
        models.iter().map(|m| m.name.clone()).collect()
    }

    /// Every load stops short of its end until [`Node::release_loads`].
    pub fn hold_loads(&self) {
        self.shared.engine.held.send_replace(true);
    }

    /// Undoes [`Node::hold_loads`]: held loads end.
    pub fn release_loads(&self) {
        self.shared.engine.held.send_replace(false);
    }

    /// Every pull stops after its first line with a digest until [`Node::release_pulls`].
    pub fn hold_pulls(&self) {
        self.shared.pulls_held.send_replace(true);
    }

    /// Undoes [`Node::hold_pulls`]: held pulls go on.
    pub fn release_pulls(&self) {
        self.shared.pulls_held.send_replace(false);
    }

    /// Pulls that run now, held ones included.
    pub fn pulling(&self) -> usize {
        self.shared.pulling.load(Ordering::SeqCst)
    }

    /// The size of an uploaded blob, if the node has it; `digest` as in the path, such as `sha256:…`.
    pub fn blob_bytes(&self, digest: &str) -> Option<u64> {
        let hex = blobs::hex(digest)?;
        lock(&self.shared.blobs).get(&hex).copied()
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

    /// Undoes [`Node::freeze`]: what came in meanwhile is answered.
    pub fn thaw(&self) {
        self.shared.frozen.send_replace(false);
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}

/// What a node's tasks have in common.
struct Shared {
    settings: Settings,
    engine: Arc<Engine>,
    journal: Arc<Journal>,
    models: Mutex<Vec<Model>>,
    loaded: Vec<String>,
    /// Bytes of every uploaded blob, by the digits of its digest.
    blobs: Mutex<HashMap<String, u64>>,
    probes: Mutex<Probes>,
    pulls_held: watch::Sender<bool>,
    pulling: AtomicUsize,
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
        let models = lock(&self.models).clone();
        let wanted: Vec<&Model> = if self.settings.kind.loads_on_demand() {
            let keys = self.loaded.iter().map(|name| library::key(name));
            keys.filter_map(|key| models.iter().find(|m| m.key == key))
                .collect()
        } else {
            models.iter().collect()
        };
        for model in wanted {
            self.engine.preload(model);
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
        let _held = Counted::new(self, |s| &s.paused);
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
