//! What requests have shown of one model on one node: how many are under way, how long things take, how many it serves at once.
//!
//! It outlives the listings that tell of the model, and is shared by all names that mean the same file there, since those share one
//! runner. Everything is written without a lock held for longer than a few additions, and read as advice: a figure may be a moment old.

use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::limiter::{Limiter, Speed};
use super::runner::RunnerKey;

/// How much of a learned time is the latest sample.
const WEIGHT: f32 = 0.2;
/// A sample that is more than so many times the mean was lengthened by something else: it counts as so many times.
const TIME_FACTOR_MAX: f32 = 2.0;
/// Requests are remembered with this time constant when it is asked how much a model is wanted.
const MEMORY_S: f32 = 60.0;
/// How long a load is known of before the node's own listing must tell of it, milliseconds.
const FRESH_MS: u64 = 3000;
/// How long a model is kept free for another that waits to take its place, milliseconds. Whoever waits says so again every second, and
/// of what has left the node's listing tells sooner.
const RETIRED_MS: u64 = 5000;
/// Written for `None` where an option is a number.
const UNSET: i64 = i64::MIN;

/// One model on one node.
#[derive(Debug, Default)]
pub struct Ledger {
    in_flight: AtomicU32,
    /// Loads under way, and when the first of them began: uptime in milliseconds.
    loading: AtomicU32,
    loading_since: AtomicU64,
    /// When the last load ended, one more than uptime in milliseconds; 0 is never.
    loaded_at: AtomicU64,
    /// Until when nobody new may use it, uptime in milliseconds.
    retired_until: AtomicU64,
    load_s: Mean,
    hold_s: Mean,
    prefill: Mean,
    decode: Mean,
    /// Requests per second, decayed up to `wanted_at`, uptime in milliseconds.
    wanted: Mean,
    wanted_at: AtomicU64,
    /// When a request ended last, uptime in milliseconds.
    used_at: AtomicU64,
    /// Requests it serves at once, as far as was learned; 0 is not yet.
    slots: AtomicU32,
    limiter: Mutex<Limiter>,
    started: Started,
}

/// With which options its runner was started, as far as we did it; `rest` is 0 while nobody knows.
#[derive(Debug, Default)]
struct Started {
    rest: AtomicU64,
    num_ctx: AtomicI64,
    num_gpu: AtomicI64,
}

/// A mean that forgets; NaN-free `f32` bits, 0 is never sampled.
#[derive(Debug, Default)]
struct Mean(AtomicU32);

impl Mean {
    fn get(&self) -> Option<f32> {
        let bits = self.0.load(Ordering::Relaxed);
        (bits != 0).then(|| f32::from_bits(bits))
    }

    fn set(&self, value: f32) {
        self.0
            .store(value.max(f32::MIN_POSITIVE).to_bits(), Ordering::Relaxed);
    }

    /// A sample that comes at the same moment as another may be lost.
    fn learn(&self, sample: f32) {
        if sample.is_finite() && 0.0 < sample {
            let mean = self
                .get()
                .map_or(sample, |mean| mean + WEIGHT * (sample - mean));
            self.set(mean);
        }
    }

    /// As [`Mean::learn`], for a time that a wait nobody sees can only make longer.
    fn learn_time(&self, sample: f32) {
        let most = self.get().map_or(f32::MAX, |mean| mean * TIME_FACTOR_MAX);
        self.learn(sample.min(most));
    }

    /// As [`Mean::learn`], for a rate that such a wait can only make smaller.
    fn learn_rate(&self, sample: f32) {
        let least = self.get().map_or(0.0, |mean| mean / TIME_FACTOR_MAX);
        self.learn(sample.max(least));
    }
}

/// What a request that ended has shown.
#[derive(Debug, Clone, Copy, Default)]
pub struct Shown {
    /// From the decision to send it, or from the end of the load it waited for, to its first token; `None` without a stream.
    pub first_token: Option<Duration>,
    /// From the same moment to its end.
    pub whole: Duration,
    /// Of its prompt, tokens, as the node counted them or else about.
    pub tokens_in: u64,
    /// Of that, what the node is likely to have had in its cache.
    pub tokens_cached: u64,
    /// Made, tokens; `None` when nobody counted.
    pub tokens_out: Option<u64>,
    /// Requests for the model that were under way when it was sent, itself included.
    pub at_once: u32,
    /// The gateway's uptime when it ended.
    pub uptime: Duration,
}

impl Ledger {
    /// Requests under way, from the decision to send on.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// How long a load takes, seconds; `None` before the first.
    pub fn load_s(&self) -> Option<f32> {
        self.load_s.get()
    }

    /// How long a request holds its slot, seconds; `None` before the first has ended.
    pub fn hold_s(&self) -> Option<f32> {
        self.hold_s.get()
    }

    /// Tokens of a prompt it reads per second; `None` before it was seen.
    pub fn prefill(&self) -> Option<f32> {
        self.prefill.get()
    }

    /// Tokens it makes per second and request; `None` before it was seen.
    pub fn decode(&self) -> Option<f32> {
        self.decode.get()
    }

    /// Whether a load is under way.
    pub fn is_loading(&self) -> bool {
        0 < self.loading.load(Ordering::Relaxed)
    }

    /// How long a load has been under way, if one is.
    pub fn loading_for(&self, uptime: Duration) -> Option<Duration> {
        if !self.is_loading() {
            return None;
        }
        let since = Duration::from_millis(self.loading_since.load(Ordering::Relaxed));
        Some(uptime.saturating_sub(since))
    }

    /// Requests per second that came for it here lately.
    pub fn wanted(&self, uptime: Duration) -> f32 {
        let at = self.wanted_at.load(Ordering::Relaxed);
        let idle_s = millis(uptime).saturating_sub(at) as f32 / 1000.0;
        self.wanted.get().unwrap_or(0.0) * (-idle_s / MEMORY_S).exp()
    }

    /// When a request for it was sent or ended last, as uptime in milliseconds.
    pub fn last_used_ms(&self) -> u64 {
        let used_at = self.used_at.load(Ordering::Relaxed);
        used_at.max(self.wanted_at.load(Ordering::Relaxed))
    }

    /// Requests it serves at once: what was learned, or until then `assumed`.
    pub fn slots(&self, assumed: u32) -> u32 {
        match self.slots.load(Ordering::Relaxed) {
            0 => assumed,
            learned => learned,
        }
    }

    /// The options its runner was started with; `None` when it was not us, or nobody knows any more.
    pub fn started(&self) -> Option<RunnerKey> {
        let rest = self.started.rest.load(Ordering::Relaxed);
        let number = |of: &AtomicI64| Some(of.load(Ordering::Relaxed)).filter(|it| *it != UNSET);
        (rest != 0).then(|| RunnerKey {
            rest,
            num_ctx: number(&self.started.num_ctx),
            num_gpu: number(&self.started.num_gpu),
        })
    }

    /// Takes a seat unless `max` are taken. How many are taken then.
    pub(super) fn enter(&self, max: u32) -> Option<u32> {
        let taken = |in_flight: u32| (in_flight < max).then(|| in_flight + 1);
        let before = self
            .in_flight
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, taken);
        before.ok().map(|before| before + 1)
    }

    pub(super) fn leave(&self) {
        self.in_flight.fetch_sub(1, Ordering::AcqRel);
    }

    /// A request is sent that wants this runner: from now on it is the one there is, or will be.
    pub(super) fn asks(&self, runner: RunnerKey, uptime: Duration) {
        let rate = self.wanted(uptime) + 1.0 / MEMORY_S;
        self.wanted.set(rate);
        self.wanted_at.store(millis(uptime), Ordering::Relaxed);
        self.starts(runner);
    }

    /// This runner is asked for, be it for a request or ahead of any.
    pub(super) fn starts(&self, runner: RunnerKey) {
        let started = &self.started;
        started
            .num_ctx
            .store(runner.num_ctx.unwrap_or(UNSET), Ordering::Relaxed);
        started
            .num_gpu
            .store(runner.num_gpu.unwrap_or(UNSET), Ordering::Relaxed);
        started.rest.store(runner.rest, Ordering::Relaxed);
    }

    /// Nobody knows any more how its runner was started: a request failed, or somebody else reloaded it.
    pub fn forget_runner(&self) {
        self.started.rest.store(0, Ordering::Relaxed);
    }

    pub(super) fn begin_load(&self, uptime: Duration) {
        if self.loading.fetch_add(1, Ordering::Relaxed) == 0 {
            self.loading_since.store(millis(uptime), Ordering::Relaxed);
        }
    }

    pub(super) fn end_load(&self) {
        self.loading.fetch_sub(1, Ordering::Relaxed);
    }

    /// A load ended and took so long.
    pub fn loaded(&self, took: Duration, uptime: Duration) {
        self.load_s.learn_time(took.as_secs_f32());
        self.loaded_at.store(1 + millis(uptime), Ordering::Relaxed);
        self.retired_until.store(0, Ordering::Relaxed);
    }

    /// It was told to leave the node's memory.
    pub fn unloaded(&self) {
        self.loaded_at.store(0, Ordering::Relaxed);
        self.forget_runner();
    }

    /// Lets nobody new use its runner for a while, so that it gets idle and can make room for one that has waited for too long.
    pub fn retire(&self, uptime: Duration) {
        let until = millis(uptime) + RETIRED_MS;
        self.retired_until.store(until, Ordering::Relaxed);
    }

    /// Whether it shall make room.
    pub fn is_retired(&self, uptime: Duration) -> bool {
        millis(uptime) < self.retired_until.load(Ordering::Relaxed)
    }

    /// Whether a load ended so lately that the node's listings may not tell of it yet.
    pub fn is_fresh(&self, uptime: Duration) -> bool {
        let at = self.loaded_at.load(Ordering::Relaxed);
        at != 0 && millis(uptime).saturating_sub(at) < FRESH_MS
    }

    /// A request ended well. `assumed`: the slots it has until others are learned.
    pub fn served(&self, shown: &Shown, assumed: u32) {
        self.used_at.store(millis(shown.uptime), Ordering::Relaxed);
        self.hold_s.learn_time(shown.whole.as_secs_f32());
        let read = shown.tokens_in.saturating_sub(shown.tokens_cached) as f32;
        if let Some(first) = shown.first_token {
            let first_s = first.as_secs_f32();
            // Alone, or the time is that of others too; and a short prompt tells nothing.
            if shown.at_once <= 1 && 64.0 <= read {
                self.prefill.learn_rate(read / first_s.max(0.001));
            }
            let rest_s = shown.whole.saturating_sub(first).as_secs_f32();
            if let Some(made @ 8..) = shown.tokens_out {
                self.decode.learn_rate(made as f32 / rest_s.max(0.001));
            }
        }
        let speed = match shown.first_token {
            Some(first) => Speed::FirstToken(first, read),
            None => Speed::Whole(shown.whole, shown.tokens_out.unwrap_or(0) as f32),
        };
        let limit = self.slots(assumed);
        let learned = self.limiter().served(speed, shown.at_once, limit);
        self.slots.store(learned, Ordering::Relaxed);
    }

    /// The node said that it has too much to do while so many requests for the model were under way.
    pub fn refused(&self, at_once: u32, assumed: u32) {
        let limit = self.slots(assumed).min(at_once.max(1));
        let learned = self.limiter().refused(limit);
        self.slots.store(learned, Ordering::Relaxed);
    }

    fn limiter(&self) -> std::sync::MutexGuard<'_, Limiter> {
        // A few additions cannot panic half-way, so a poisoned limiter is still a good one.
        self.limiter.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
