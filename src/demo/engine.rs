//! A node's memory: which models are loaded with which options, who holds a slot, who waits and where.
//!
//! Two queues, as Ollama has them. A request that needs a load goes through one line for the whole node, of limited
//! length. A request to a loaded model waits for its slot in a line without limit that nobody outside can see.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use serde_json::Value;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::Instant;

use super::http::lock;
use super::library::Model;

/// Ollama's default keep_alive.
pub(super) const KEEP_ALIVE: Duration = Duration::from_secs(300);
/// What a node with little memory gives a model whose client set no `num_ctx`.
const NUM_CTX: i64 = 4096;

/// The options that a runner is started with, in a fixed order; a change is a reload.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct RunnerOptions {
    pub num_ctx: Option<i64>,
    /// -1 or absent: whatever the runner has.
    pub num_gpu: Option<i64>,
    /// num_batch, main_gpu, num_thread, draft_num_predict, use_mmap, shift.
    pub rest: [Option<Value>; 6],
}

impl RunnerOptions {
    fn fits(&self, wish: &RunnerOptions) -> bool {
        let gpu_fits = match wish.num_gpu {
            None | Some(-1) => true,
            wanted => self.num_gpu == wanted,
        };
        gpu_fits && self.num_ctx == wish.num_ctx && self.rest == wish.rest
    }

    fn context_length(&self, trained: i64) -> i64 {
        self.num_ctx.unwrap_or(NUM_CTX).clamp(4, trained.max(4))
    }
}

/// What a request asks of the node's memory.
#[derive(Debug, Clone)]
pub(super) struct Wish {
    pub model: Model,
    pub options: RunnerOptions,
    /// Sticks to the runner until another request sets it.
    pub keep_alive: Option<Duration>,
}

/// The node's limits.
#[derive(Debug, Clone)]
pub(super) struct Limits {
    pub slots: usize,
    pub queue_max: usize,
    pub loaded_max: usize,
    pub load_delay: Duration,
}

/// The queue for loads is full.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Busy;

struct Runner {
    id: u64,
    /// As it was when it was loaded: it stays listed when its name is deleted, and for all its copies.
    model: Model,
    options: RunnerOptions,
    slots: Arc<Semaphore>,
    users: usize,
    last_used: u64,
    keep_alive: Duration,
    expires: SystemTime,
}

impl Runner {
    fn holds(&self, wish: &Wish) -> bool {
        self.model.weights == wish.model.weights
    }
}

#[derive(Default)]
struct Memory {
    runners: Vec<Runner>,
    /// Requests in hand or in line for a load.
    loading: usize,
    /// Loads finished since the start.
    loads: usize,
    generating: usize,
    waiting: usize,
    tick: u64,
}

pub(super) struct Engine {
    limits: Limits,
    memory: Mutex<Memory>,
    /// One load at a time, first come first served.
    loader: tokio::sync::Mutex<()>,
    pub held: watch::Sender<bool>,
    pub changed: Arc<Notify>,
}

enum Room {
    Loaded(Seat),
    Free,
    Full,
}

impl Engine {
    pub(super) fn new(limits: Limits, changed: Arc<Notify>) -> Engine {
        Engine {
            limits,
            memory: Mutex::default(),
            loader: tokio::sync::Mutex::default(),
            held: watch::Sender::new(false),
            changed,
        }
    }

    /// Loads the model if need be, and waits for a slot. Dropping the future leaves every queue and aborts the load.
    ///
    /// # Errors
    /// The model needs a load and the queue for loads is full.
    pub(super) async fn enter(self: &Arc<Engine>, wish: &Wish) -> Result<Turn, Busy> {
        let began = Instant::now();
        let seat = match self.join(wish) {
            Some(seat) => seat,
            None => self.load(wish).await?,
        };
        let load = began.elapsed();
        // A slot that is free is taken without ever being counted as waiting.
        let permit = match Arc::clone(&seat.slots).try_acquire_owned() {
            Ok(permit) => Some(permit),
            Err(_) => {
                let _waiting = self.count(|m| &mut m.waiting);
                Arc::clone(&seat.slots).acquire_owned().await.ok()
            }
        };
        Ok(Turn {
            _generating: self.count(|m| &mut m.generating),
            _permit: permit,
            _seat: seat,
            load,
        })
    }

    /// Loads the model without asking for a slot.
    ///
    /// # Errors
    /// As [`Engine::enter`].
    pub(super) async fn warm_up(self: &Arc<Engine>, wish: &Wish) -> Result<(), Busy> {
        if self.join(wish).is_none() {
            self.load(wish).await?;
        }
        Ok(())
    }

    /// Puts the model into memory at once.
    pub(super) fn preload(self: &Arc<Engine>, model: &Model) {
        let wish = Wish {
            model: model.clone(),
            options: RunnerOptions::default(),
            keep_alive: None,
        };
        drop(self.start_runner(&wish));
    }

    /// Unloads the model as soon as nobody uses it.
    pub(super) fn unload(&self, model: &Model) {
        let now = SystemTime::now();
        for runner in lock(&self.memory)
            .runners
            .iter_mut()
            .filter(|r| r.model.weights == model.weights)
        {
            runner.keep_alive = Duration::ZERO;
            runner.expires = now;
        }
        self.changed.notify_waiters();
    }

    /// As SIGKILL: nothing is in memory afterwards.
    pub(super) fn clear(&self) {
        lock(&self.memory).runners.clear();
        self.changed.notify_waiters();
    }

    pub(super) fn has_loaded(&self, model: &Model) -> bool {
        let mut memory = lock(&self.memory);
        memory.sweep();
        let mut runners = memory.runners.iter();
        runners.any(|r| r.model.weights == model.weights)
    }

    pub(super) fn slots(&self) -> usize {
        self.limits.slots
    }

    pub(super) fn generating(&self) -> usize {
        lock(&self.memory).generating
    }

    pub(super) fn waiting(&self) -> usize {
        lock(&self.memory).waiting
    }

    /// How often a model was put into memory since the start.
    pub(super) fn loads(&self) -> usize {
        lock(&self.memory).loads
    }

    /// The elements of `/api/ps`, the one that expires last first.
    pub(super) fn ps(&self) -> Vec<String> {
        let mut memory = lock(&self.memory);
        memory.sweep();
        let mut runners: Vec<&Runner> = memory.runners.iter().collect();
        runners.sort_by_key(|r| std::cmp::Reverse(r.expires));
        let describe = |runner: &Runner| {
            let context = runner.options.context_length(runner.model.context_length);
            runner.model.loaded(runner.expires, context)
        };
        runners.into_iter().map(describe).collect()
    }

    fn join(self: &Arc<Engine>, wish: &Wish) -> Option<Seat> {
        let mut memory = lock(&self.memory);
        memory.sweep();
        self.seat(&mut memory, wish)
    }

    fn seat(self: &Arc<Engine>, memory: &mut Memory, wish: &Wish) -> Option<Seat> {
        memory.tick += 1;
        let tick = memory.tick;
        let mut runners = memory.runners.iter_mut();
        let runner = runners.find(|r| r.holds(wish) && r.options.fits(&wish.options))?;
        runner.users += 1;
        runner.last_used = tick;
        runner.keep_alive = wish.keep_alive.unwrap_or(runner.keep_alive);
        Some(Seat {
            engine: Arc::clone(self),
            runner: runner.id,
            slots: Arc::clone(&runner.slots),
        })
    }

    async fn load(self: &Arc<Engine>, wish: &Wish) -> Result<Seat, Busy> {
        let _in_line = self.line_up()?;
        let _waiting = self.count(|m| &mut m.waiting);
        let _loader = self.loader.lock().await;
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            match self.make_room(wish) {
                Room::Loaded(seat) => return Ok(seat),
                Room::Free => break,
                Room::Full => changed.await,
            }
        }
        if !self.limits.load_delay.is_zero() {
            tokio::time::sleep(self.limits.load_delay).await;
        }
        let _ = self.held.subscribe().wait_for(|held| !held).await;
        Ok(self.start_runner(wish))
    }

    fn make_room(self: &Arc<Engine>, wish: &Wish) -> Room {
        let mut memory = lock(&self.memory);
        memory.sweep();
        if let Some(seat) = self.seat(&mut memory, wish) {
            return Room::Loaded(seat);
        }
        if let Some(at) = memory.runners.iter().position(|r| r.holds(wish)) {
            // The same model with other options: it must be idle to be replaced.
            if memory.runners[at].users > 0 {
                return Room::Full;
            }
            memory.runners.remove(at);
        }
        if memory.runners.len() < self.limits.loaded_max {
            return Room::Free;
        }
        let idle = memory.runners.iter().filter(|r| r.users == 0);
        match idle.min_by_key(|r| r.last_used).map(|r| r.id) {
            Some(id) => {
                memory.runners.retain(|r| r.id != id);
                Room::Free
            }
            None => Room::Full,
        }
    }

    fn start_runner(self: &Arc<Engine>, wish: &Wish) -> Seat {
        let mut memory = lock(&self.memory);
        memory.tick += 1;
        memory.loads += 1;
        let keep_alive = wish.keep_alive.unwrap_or(KEEP_ALIVE);
        let runner = Runner {
            id: memory.tick,
            model: wish.model.clone(),
            options: wish.options.clone(),
            slots: Arc::new(Semaphore::new(self.limits.slots)),
            users: 1,
            last_used: memory.tick,
            keep_alive,
            expires: SystemTime::now() + keep_alive,
        };
        let seat = Seat {
            engine: Arc::clone(self),
            runner: runner.id,
            slots: Arc::clone(&runner.slots),
        };
        memory.runners.push(runner);
        drop(memory);
        self.changed.notify_waiters();
        seat
    }

    /// One request is in hand, `queue_max` may stand behind it.
    fn line_up(self: &Arc<Engine>) -> Result<Counted, Busy> {
        let mut memory = lock(&self.memory);
        if self.limits.queue_max < memory.loading {
            return Err(Busy);
        }
        memory.loading += 1;
        Ok(Counted {
            engine: Arc::clone(self),
            what: |m| &mut m.loading,
        })
    }

    fn count(self: &Arc<Engine>, what: fn(&mut Memory) -> &mut usize) -> Counted {
        *what(&mut lock(&self.memory)) += 1;
        self.changed.notify_waiters();
        Counted {
            engine: Arc::clone(self),
            what,
        }
    }
}

impl Memory {
    /// Time does not run by itself here: whoever looks first sees that a model has expired.
    fn sweep(&mut self) {
        let now = SystemTime::now();
        self.runners.retain(|r| r.users > 0 || now < r.expires);
    }
}

/// A slot; dropping it gives it back.
///
/// The count goes down before the slot is free, so that nobody ever sees more generations than slots.
pub(super) struct Turn {
    _generating: Counted,
    _permit: Option<OwnedSemaphorePermit>,
    _seat: Seat,
    /// How long the model took to be there, the wait in the line for loads included.
    pub load: Duration,
}

/// Keeps a runner from being unloaded.
struct Seat {
    engine: Arc<Engine>,
    runner: u64,
    slots: Arc<Semaphore>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        {
            let mut memory = lock(&self.engine.memory);
            if let Some(runner) = memory.runners.iter_mut().find(|r| r.id == self.runner) {
                runner.users -= 1;
                runner.expires = SystemTime::now() + runner.keep_alive;
            }
            memory.sweep();
        }
        self.engine.changed.notify_waiters();
    }
}

struct Counted {
    engine: Arc<Engine>,
    what: fn(&mut Memory) -> &mut usize,
}

impl Drop for Counted {
    fn drop(&mut self) {
        *(self.what)(&mut lock(&self.engine.memory)) -= 1;
        self.engine.changed.notify_waiters();
    }
}
