//! A node that behaves as Ollama does: a line per runner, one line for everything that needs a load, the idle runner longest unused goes first.

use std::collections::VecDeque;
use std::time::Duration;

use crate::fleet::{MODELS, NodeSpec};
use crate::work::SYSTEM_TOKENS;

/// `OLLAMA_MAX_QUEUE`: it limits only what waits for a load.
const PENDING_MAX: usize = 512;
/// `OLLAMA_KEEP_ALIVE`.
const KEEP_ALIVE: Duration = Duration::from_secs(300);

/// A request as the node sees it.
pub(crate) struct Job {
    pub(crate) id: usize,
    pub(crate) conversation: usize,
    pub(crate) model: usize,
    pub(crate) context: u32,
    pub(crate) prompt_tokens: u32,
    pub(crate) output_tokens: u32,
    pub(crate) accepted: Duration,
}

/// What a slot was given; the times are those the node would report.
pub(crate) struct Started {
    pub(crate) job: Job,
    /// From acceptance until the runner was there: 0 if it was.
    pub(crate) load: Duration,
    pub(crate) prefill: Duration,
    pub(crate) decode: Duration,
}

/// What follows from something that happened to the node.
pub(crate) enum Effect {
    Loading { until: Duration },
    Started(Started),
}

/// A line of `/api/ps`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Loaded {
    /// Its index in [`MODELS`].
    pub(crate) model: usize,
    pub(crate) bytes: u64,
    pub(crate) context: u32,
    /// End of its last request and the keep-alive; for a busy runner, from now.
    pub(crate) expires: Duration,
}

struct Runner {
    model: usize,
    context: u32,
    /// None while it is being loaded.
    ready: Option<Duration>,
    running: usize,
    waiting: VecDeque<Job>,
    used: Duration,
    /// Whose prefix it still has, most recent last, with how many tokens.
    cached: VecDeque<(usize, u32)>,
}

impl Runner {
    fn is_idle(&self) -> bool {
        self.ready.is_some() && self.running == 0 && self.waiting.is_empty()
    }

    fn cached_tokens(&self, conversation: usize) -> u32 {
        let own = self.cached.iter().find(|(of, _)| *of == conversation);
        // Every conversation with this model begins with the same system prompt.
        let shared = if self.cached.is_empty() {
            0
        } else {
            SYSTEM_TOKENS
        };
        own.map_or(shared, |(_, tokens)| *tokens)
    }

    fn remember(&mut self, conversation: usize, tokens: u32, max: usize) {
        self.cached.retain(|(of, _)| *of != conversation);
        self.cached.push_back((conversation, tokens));
        while max < self.cached.len() {
            self.cached.pop_front();
        }
    }
}

/// One node at work.
pub(crate) struct Node {
    spec: NodeSpec,
    runners: Vec<Runner>,
    pending: VecDeque<Job>,
    pub(crate) loads: usize,
}

impl Node {
    pub(crate) fn new(spec: NodeSpec) -> Self {
        Self {
            spec,
            runners: Vec::new(),
            pending: VecDeque::new(),
            loads: 0,
        }
    }

    /// False where its pending line is full: Ollama's 503.
    pub(crate) fn accept(&mut self, job: Job, now: Duration, effects: &mut Vec<Effect>) -> bool {
        if let Some(index) = self.runner(job.model, job.context) {
            self.runners[index].waiting.push_back(job);
            self.start(index, now, effects);
            return true;
        }
        if PENDING_MAX <= self.pending.len() {
            return false;
        }
        self.pending.push_back(job);
        self.advance(now, effects);
        true
    }

    /// The load under way is done.
    pub(crate) fn loaded(&mut self, now: Duration, effects: &mut Vec<Effect>) {
        let loading = self.runners.iter().position(|r| r.ready.is_none());
        debug_assert!(loading.is_some(), "a load ended that nobody began");
        if let Some(index) = loading {
            self.runners[index].ready = Some(now);
            self.start(index, now, effects);
        }
        self.advance(now, effects);
    }

    /// A request is answered.
    pub(crate) fn ended(&mut self, job: &Job, now: Duration, effects: &mut Vec<Effect>) {
        let index = self.runner(job.model, job.context);
        debug_assert!(index.is_some(), "a busy runner was unloaded");
        if let Some(index) = index {
            let runner = &mut self.runners[index];
            runner.running -= 1;
            runner.used = now;
            let tokens = job.prompt_tokens + job.output_tokens;
            runner.remember(job.conversation, tokens, self.spec.conversations_max);
            self.start(index, now, effects);
        }
        self.advance(now, effects);
    }

    /// What `/api/ps` says; a model is in it once it is loaded.
    pub(crate) fn poll(&mut self, now: Duration) -> Vec<Loaded> {
        self.runners
            .retain(|runner| !runner.is_idle() || now < runner.used + KEEP_ALIVE);
        let ready = self.runners.iter().filter(|r| r.ready.is_some());
        let line = |runner: &Runner| Loaded {
            model: runner.model,
            bytes: MODELS[runner.model].bytes,
            context: runner.context,
            expires: if runner.is_idle() { runner.used } else { now } + KEEP_ALIVE,
        };
        ready.map(line).collect()
    }

    fn runner(&self, model: usize, context: u32) -> Option<usize> {
        self.runners
            .iter()
            .position(|runner| runner.model == model && runner.context == context)
    }

    /// Works off the pending line until its first request has to wait for something; all behind it wait too.
    fn advance(&mut self, now: Duration, effects: &mut Vec<Effect>) {
        while let Some(first) = self.pending.front() {
            let (model, context) = (first.model, first.context);
            if let Some(index) = self.runner(model, context) {
                self.runners[index].waiting.extend(self.pending.pop_front());
                self.start(index, now, effects);
                continue;
            }
            let is_loading = self.runners.iter().any(|r| r.ready.is_none());
            if is_loading || !self.make_room(model) {
                return;
            }
            self.loads += 1;
            effects.push(Effect::Loading {
                until: now + self.spec.load(&MODELS[model]),
            });
            self.runners.push(Runner {
                model,
                context,
                ready: None,
                running: 0,
                waiting: self.pending.pop_front().into_iter().collect(),
                used: now,
                cached: VecDeque::new(),
            });
        }
    }

    /// False while there is a runner in the way that is not idle.
    fn make_room(&mut self, model: usize) -> bool {
        // The same model with another context: it is that runner which has to go.
        if let Some(same) = self.runners.iter().position(|r| r.model == model) {
            let is_idle = self.runners[same].is_idle();
            if is_idle {
                self.runners.remove(same);
            }
            return is_idle;
        }
        if self.runners.len() < self.spec.holds {
            return true;
        }
        let idle = self.runners.iter().enumerate().filter(|(_, r)| r.is_idle());
        let Some((oldest, _)) = idle.min_by_key(|(_, runner)| runner.used) else {
            return false;
        };
        self.runners.remove(oldest);
        true
    }

    /// Gives the runner's free slots to those first in its line.
    fn start(&mut self, index: usize, now: Duration, effects: &mut Vec<Effect>) {
        let mut busy: usize = self.runners.iter().map(|r| r.running).sum();
        let runner = &mut self.runners[index];
        let Some(ready) = runner.ready else {
            return;
        };
        while runner.running < self.spec.slots {
            let Some(job) = runner.waiting.pop_front() else {
                return;
            };
            runner.running += 1;
            busy += 1;
            let model = &MODELS[job.model];
            let fresh = job.prompt_tokens
                - runner
                    .cached_tokens(job.conversation)
                    .min(job.prompt_tokens - 1);
            effects.push(Effect::Started(Started {
                load: ready.max(job.accepted).min(now) - job.accepted,
                prefill: self.spec.prefill(model, fresh, busy),
                decode: self.spec.decode(model, job.output_tokens, busy),
                job,
            }));
        }
    }
}
