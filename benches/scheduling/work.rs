//! What is asked of the fleet: conversations of tenants, in bursts, at a chosen share of what the fleet can do.

use std::time::Duration;

use crate::chance::Chance;
use crate::fleet::{MODELS, Model, NodeSpec};

pub(crate) const TENANTS: usize = 10;
/// The one that floods, where one does.
pub(crate) const FLOODER: usize = 0;
/// Every model has one system prompt that all its conversations begin with.
pub(crate) const SYSTEM_TOKENS: u32 = 800;
/// What runners are started with unless the request says otherwise.
pub(crate) const CONTEXT: u32 = 16_384;
/// What some clients ask for although `CONTEXT` would do: each change is a reload.
const CONTEXT_ODD: u32 = 8_192;

const PROMPT_TOKENS_MAX: f64 = 7_500.0;
const TURNS_MEAN: f64 = 4.0;
const TURNS_MAX: usize = 20;
const THINK_SECONDS_MEAN: f64 = 30.0;
const FIRST_TOKENS_MEAN: f64 = 800.0;
const NEXT_TOKENS_MEAN: f64 = 120.0;
const OUTPUT_TOKENS_MEAN: f64 = 150.0;

/// Bursts: for a while more than twice the mean rate, then for longer less than half of it.
const BURST: (f64, f64) = (30.0, 2.2);
const CALM: (f64, f64) = (60.0, 0.4);

/// Enough for the mean to be within a percent.
const PILOT: usize = 20_000;

/// One question of a conversation.
pub(crate) struct Turn {
    /// From the end of the turn before.
    pub(crate) think: Duration,
    /// The whole prompt, with everything said so far.
    pub(crate) prompt_tokens: u32,
    pub(crate) output_tokens: u32,
}

/// Somebody talks to one model.
pub(crate) struct Conversation {
    pub(crate) begins: Duration,
    pub(crate) tenant: usize,
    pub(crate) model: usize,
    pub(crate) context: u32,
    pub(crate) turns: Vec<Turn>,
}

/// How much is asked, and by whom.
#[derive(Clone, Copy)]
pub(crate) struct Demand {
    /// 1 is what the fleet could do with all its slots always busy, nothing to load, and every follow-up's prefix cached.
    pub(crate) utilisation: f64,
    /// How often as much as the others the flooder asks on top of its share.
    pub(crate) flood: f64,
    /// Share of the conversations that ask for another context than the rest.
    pub(crate) odd_contexts: f64,
}

/// All conversations that begin before `until`, in their order. What the light tenants ask does not depend on the flood.
pub(crate) fn conversations(
    demand: &Demand,
    nodes: &[NodeSpec],
    until: Duration,
    seed: u64,
) -> Vec<Conversation> {
    let rate = demand.utilisation * capacity(nodes);
    let all: Vec<usize> = (0..TENANTS).collect();
    let mut work = arrivals(rate, &all, demand, until, &mut Chance::new(seed));
    if 0.0 < demand.flood {
        let rate = rate * demand.flood / TENANTS as f64;
        let mut chance = Chance::new(!seed);
        work.extend(arrivals(rate, &[FLOODER], demand, until, &mut chance));
        work.sort_by_key(|conversation| conversation.begins);
    }
    work
}

/// Conversations per second that keep every slot busy.
fn capacity(nodes: &[NodeSpec]) -> f64 {
    let mut chance = Chance::new(0);
    let pilot: Vec<Conversation> = (0..PILOT)
        .map(|_| conversation(Duration::ZERO, 0, CONTEXT, &mut chance))
        .collect();
    let rate = |node: &NodeSpec| {
        let busy: Duration = pilot.iter().map(|talk| slot_time(talk, node)).sum();
        (node.slots_total() * PILOT) as f64 / busy.as_secs_f64()
    };
    nodes.iter().map(rate).sum()
}

/// How long it keeps a slot of that node while all the others are busy too.
fn slot_time(conversation: &Conversation, node: &NodeSpec) -> Duration {
    let model: &Model = &MODELS[conversation.model];
    let running = node.slots_total();
    let mut cached = SYSTEM_TOKENS;
    let mut busy = Duration::ZERO;
    for turn in &conversation.turns {
        let fresh = turn.prompt_tokens.saturating_sub(cached);
        busy += node.prefill(model, fresh, running);
        busy += node.decode(model, turn.output_tokens, running);
        cached = turn.prompt_tokens + turn.output_tokens;
    }
    busy
}

/// A Poisson process whose rate goes up and down.
fn arrivals(
    rate: f64,
    tenants: &[usize],
    demand: &Demand,
    until: Duration,
    chance: &mut Chance,
) -> Vec<Conversation> {
    let until = until.as_secs_f64();
    let mut all = Vec::new();
    let mut phase_begins = 0.0;
    let mut is_burst = false;
    while phase_begins < until {
        let (lasts, factor) = if is_burst { BURST } else { CALM };
        let phase_ends = phase_begins + chance.exponential(lasts);
        let mut now = phase_begins;
        loop {
            now += chance.exponential(1.0 / (rate * factor));
            if phase_ends.min(until) <= now {
                break;
            }
            // In turn and not by lot: equal demand is what the fairness index presumes.
            let tenant = tenants[all.len() % tenants.len()];
            let is_odd = chance.unit() <= demand.odd_contexts;
            let context = if is_odd { CONTEXT_ODD } else { CONTEXT };
            let begins = Duration::from_secs_f64(now);
            all.push(conversation(begins, tenant, context, chance));
        }
        phase_begins = phase_ends;
        is_burst = !is_burst;
    }
    all
}

fn conversation(
    begins: Duration,
    tenant: usize,
    context: u32,
    chance: &mut Chance,
) -> Conversation {
    let zipf: Vec<f64> = (1..=MODELS.len()).map(|rank| 1.0 / rank as f64).collect();
    let model = chance.weighted(&zipf);
    let mut said = f64::from(SYSTEM_TOKENS) + chance.log_normal(FIRST_TOKENS_MEAN, 1.0);
    let turns = (0..chance.geometric(TURNS_MEAN).min(TURNS_MAX))
        .map(|_| {
            let output = chance.log_normal(OUTPUT_TOKENS_MEAN, 0.8).max(1.0);
            let turn = Turn {
                think: Duration::from_secs_f64(chance.exponential(THINK_SECONDS_MEAN)),
                prompt_tokens: said.min(PROMPT_TOKENS_MAX) as u32,
                output_tokens: output as u32,
            };
            said += output + chance.log_normal(NEXT_TOKENS_MEAN, 0.8);
            turn
        })
        .collect();
    Conversation {
        begins,
        tenant,
        model,
        context,
        turns,
    }
}
