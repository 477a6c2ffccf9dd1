//! What it costs to give a request to a node, in seconds: until it has a slot, until its model is in memory, until its prompt is read,
//! and what it takes from those whose model must leave for it.

use std::sync::Arc;
use std::time::Duration;

use crate::fleet::{Holder, Node, NumCtx, Resident, Room, RunnerFit, Traits};
use crate::routing::adaptive::Held;
use crate::routing::{Ask, Session};

/// Costs that differ by less are equal, seconds or a share: then who has least to do is the better one.
const TOLERANCE_S: f32 = 0.05;
const TOLERANCE_SHARE: f32 = 0.1;
/// How fast a prompt is read by nodes of which nothing was seen yet, tokens per second.
const PREFILL_ASSUMED: f32 = 1000.0;
/// How long a request holds a slot until that was seen, seconds.
const HOLD_ASSUMED_S: f32 = 5.0;
/// Who wants an evicted model within that time has to have it loaded again, seconds.
const HORIZON_S: f32 = 60.0;
/// What a model that had to go costs when nobody knows whether one has to.
const UNKNOWN_SHARE: f32 = 0.5;
/// Copies that are busier than this can't take the work of another one as well.
const BUSY_MAX: f32 = 0.8;
/// What the loss of a copy counts when the others can take its work.
const SPARE_SHARE: f32 = 0.2;
/// How many tokens of an answer count when a slower node is weighed against a faster one.
const ANSWER_TOKENS: f32 = 64.0;
/// Prompts of so many other requests a runner keeps for each of its slots. Ollama before 0.30 kept one.
const PROMPTS_PER_SLOT: f32 = 8.0;
/// How many times as long as a prompt a context is that holds it for certain, and its answer: estimates of prompts are rather too small.
const CONTEXT_PER_PROMPT: u64 = 2;

/// What it costs, seconds each.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Cost {
    /// Until a slot is free.
    pub wait_s: f32,
    /// Until the model is in memory, be it that it has to be loaded or is being loaded.
    pub load_s: f32,
    /// Until the part of the prompt that is not in its cache is read.
    pub prefill_s: f32,
    /// What others lose when their model has to leave.
    pub evict_s: f32,
    /// How much longer a slower node takes for the answer.
    pub decode_s: f32,
}

/// What a node would have to do for a request.
#[derive(Debug, Clone, PartialEq)]
pub struct Effort {
    /// What that costs.
    pub cost: Cost,
    /// Whether the runner it needs is there, is on its way, or has to come.
    pub presence: Presence,
    /// What the request has to say of its context for that.
    pub num_ctx: Option<NumCtx>,
    /// The model that is likely to leave for it.
    pub evicts: Option<Arc<Traits>>,
}

/// Where the runner is that a request needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// In memory.
    Loaded,
    /// A load is under way that another request began.
    Loading,
    /// It has to be loaded.
    Absent,
}

impl Cost {
    /// All of it.
    pub fn total_s(&self) -> f32 {
        self.wait_s + self.load_s + self.prefill_s + self.evict_s + self.decode_s
    }

    /// Whether it is hardly more than the least.
    pub(super) fn is_near(&self, least_s: f32) -> bool {
        self.total_s() <= least_s + TOLERANCE_S.max(least_s * TOLERANCE_SHARE)
    }
}

/// Whether a prompt is so long that it matters where it was read before.
pub(super) fn is_worth_keeping(ask: &Ask<'_>, traits: &Traits) -> bool {
    TOLERANCE_S < Rates::default().prefill_s(traits, ask.needs.prompt_tokens)
}

/// Why a node that has a free slot should not have a request all the same: it would wait there, in a line that nobody sees.
#[derive(Debug, Clone)]
pub(super) enum Blocked {
    /// The node loads another model, one at a time, or is about to and keeps this one's place free for it.
    Loading,
    /// Whoever would have to leave is in use.
    InUse(Arc<Traits>),
}

/// The best rates that were seen of a model on any of the nodes: what a node of which nothing was seen is believed to do, or it would
/// never be tried.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Rates {
    prefill: Option<f32>,
    decode: Option<f32>,
}

impl Rates {
    /// Of nodes that have the model in memory: there it was used last.
    pub(super) fn of(candidates: &[Held<'_>]) -> Rates {
        let more = |a: Option<f32>, b: Option<f32>| match (a, b) {
            (Some(a), Some(b)) => Some(a.max(b)),
            (a, b) => a.or(b),
        };
        let warm = candidates.iter().filter(|it| it.holder.warm);
        warm.fold(Rates::default(), |best, it| {
            let ledger = it.holder.traits.ledger();
            Rates {
                prefill: more(best.prefill, ledger.prefill()),
                decode: more(best.decode, ledger.decode()),
            }
        })
    }

    fn prefill_s(&self, traits: &Traits, tokens: u64) -> f32 {
        let rate = traits.ledger().prefill().or(self.prefill);
        tokens as f32 / rate.unwrap_or(PREFILL_ASSUMED)
    }

    fn decode_s(&self, traits: &Traits) -> f32 {
        let rate = traits.ledger().decode().or(self.decode);
        rate.map_or(0.0, |rate| ANSWER_TOKENS / rate)
    }
}

/// What it costs to send a request to a node that has its model and a free slot.
pub(super) fn effort(
    ask: &Ask<'_>,
    node: &Node,
    holder: &Holder,
    rates: Rates,
) -> Result<Effort, Blocked> {
    let traits = &*holder.traits;
    let (presence, num_ctx) = presence(ask, node, holder);
    let mut cost = Cost {
        prefill_s: rates.prefill_s(traits, unread_tokens(ask, node, traits)),
        decode_s: rates.decode_s(traits),
        ..Cost::default()
    };
    let mut evicts = None;
    match presence {
        Presence::Loaded => (),
        Presence::Loading => cost.load_s = remaining_s(ask, traits),
        Presence::Absent => {
            cost.load_s = traits.load_s();
            let leaving = leaving(ask, node, holder)?;
            cost.evict_s = leaving.as_ref().map_or(0.0, |it| it.harm_s);
            // Whoever may not have to leave at all is not kept from its work.
            let certain = leaving.filter(|it| it.is_certain);
            evicts = certain.map(|it| Arc::clone(it.traits));
        }
    }
    Ok(Effort {
        cost,
        presence,
        num_ctx,
        evicts,
    })
}

/// How long a request has to wait for a slot of those that have its model in memory, when they have so many slots together.
pub(super) fn wait_s(ask: &Ask<'_>, traits: &Traits, slots: u32) -> f32 {
    let hold_s = traits.ledger().hold_s().unwrap_or(HOLD_ASSUMED_S);
    let expected = hold_s * ask.circumstances.line.max(1) as f32 / slots.max(1) as f32;
    // Who has waited for long was wrong about how long it takes, and will be for about as long again.
    expected.max(ask.circumstances.waited.as_secs_f32() / 2.0)
}

/// What a request has to say of its context so that a node need not load its model anew, whatever else that costs.
pub(super) fn num_ctx(ask: &Ask<'_>, node: &Node, holder: &Holder) -> Option<NumCtx> {
    presence(ask, node, holder).1
}

fn presence(ask: &Ask<'_>, node: &Node, holder: &Holder) -> (Presence, Option<NumCtx>) {
    if !node.loads_on_demand() {
        let presence = if holder.warm {
            Presence::Loaded
        } else {
            Presence::Absent
        };
        return (presence, None);
    }
    let (traits, uptime) = (&*holder.traits, ask.circumstances.uptime);
    let ledger = traits.ledger();
    let started = ledger.started();
    let there = |presence: Presence, context: Option<u64>| {
        // As nearly always.
        if ask.runner.num_ctx.is_none() && started.is_none_or(|it| it == ask.runner) {
            return (presence, None);
        }
        let fit = ask.runner.fit(started, context, traits.context_max);
        match fit {
            RunnerFit::Same => (presence, None),
            RunnerFit::Covers(num_ctx) if suffices(ask, num_ctx) => (presence, Some(num_ctx)),
            RunnerFit::Covers(_) | RunnerFit::Other => (Presence::Absent, None),
        }
    };
    if ledger.loading_for(uptime).is_some() {
        return match started {
            Some(_) => there(Presence::Loading, None),
            None => (Presence::Absent, None),
        };
    }
    let is_fresh = ledger.is_fresh(uptime);
    if !(holder.warm || is_fresh) || ledger.is_retired(uptime) {
        return (Presence::Absent, None);
    }
    there(Presence::Loaded, holder.context.filter(|_| !is_fresh))
}

/// Whether a request may be given that context. Who asks for none relies on the node to choose one that is long enough, so its prompt
/// must fit well.
fn suffices(ask: &Ask<'_>, num_ctx: NumCtx) -> bool {
    let is_chosen = ask.runner.num_ctx.is_some();
    let fits = |tokens: i64| {
        ask.needs.prompt_tokens <= u64::try_from(tokens).unwrap_or(0) / CONTEXT_PER_PROMPT
    };
    ask.may_take_larger_context && (is_chosen || num_ctx.tokens().is_none_or(fits))
}

/// What is left of a load that others began.
fn remaining_s(ask: &Ask<'_>, traits: &Traits) -> f32 {
    let whole = traits.load_s();
    let under_way = traits.ledger().loading_for(ask.circumstances.uptime);
    let gone = under_way.map_or(0.0, |it| it.as_secs_f32());
    (whole - gone).max(whole / 10.0)
}

/// Tokens of the prompt that the node has to read: of a conversation that it served lately only the new ones, as long as other
/// prompts have not pushed that out of its cache.
fn unread_tokens(ask: &Ask<'_>, node: &Node, traits: &Traits) -> u64 {
    let prompt = ask.needs.prompt_tokens;
    let Some(session) = ask.session.filter(|it| it.node == node.id) else {
        return prompt;
    };
    let cached = session.tokens.min(prompt) as f32 * credit(&session, ask, traits);
    prompt.saturating_sub(cached as u64)
}

/// How likely a conversation is still in the cache: it holds so many prompts, and so many have come since.
fn credit(session: &Session, ask: &Ask<'_>, traits: &Traits) -> f32 {
    let ledger = traits.ledger();
    let since = ledger.wanted(ask.circumstances.uptime) * session.idle.as_secs_f32();
    let kept = traits.slots().unwrap_or(1) as f32 * PROMPTS_PER_SLOT;
    (kept / since.max(1.0)).min(1.0)
}

/// Who has to leave, and what those lose who want it.
struct Leaving<'a> {
    traits: &'a Arc<Traits>,
    harm_s: f32,
    is_certain: bool,
}

/// Who would have to leave for a model that is loaded, be it that model with other options.
fn leaving<'a>(
    ask: &Ask<'_>,
    node: &'a Node,
    holder: &'a Holder,
) -> Result<Option<Leaving<'a>>, Blocked> {
    let (traits, uptime) = (&holder.traits, ask.circumstances.uptime);
    if !node.loads_on_demand() {
        return Ok(None);
    }
    if node.is_loading() || traits.ledger().is_retired(uptime) {
        return Err(Blocked::Loading);
    }
    let others = node.residents().iter().filter(|it| it.traits != *traits);
    let (share, traits, copies) = match (node.room(traits.size_bytes.unwrap_or(0)), victim(others))
    {
        _ if holder.warm => (1.0, traits, 0),
        (Room::Fits, _) | (_, None) => return Ok(None),
        (Room::Unknown, Some(it)) => (UNKNOWN_SHARE, &it.traits, it.copies),
        (Room::Evicts, Some(it)) => (1.0, &it.traits, it.copies),
    };
    let is_certain = share == 1.0;
    if is_certain && 0 < traits.ledger().in_flight() {
        return Err(Blocked::InUse(Arc::clone(traits)));
    }
    Ok(Some(Leaving {
        traits,
        harm_s: harm_s(traits, copies, uptime) * share,
        is_certain,
    }))
}

/// Who leaves first: of those that nobody uses the one that was not used for longest, as the node would choose.
fn victim<'a>(residents: impl Iterator<Item = &'a Resident>) -> Option<&'a Resident> {
    residents.min_by_key(|it| {
        let ledger = it.traits.ledger();
        (0 < ledger.in_flight(), ledger.last_used_ms())
    })
}

/// What those lose who want a model that left: as likely as somebody comes for it, it is loaded again, and others come and wait as well.
/// Where other nodes have it too and can take what it served, that is little.
pub fn harm_s(traits: &Traits, copies: u32, uptime: Duration) -> f32 {
    let ledger = traits.ledger();
    let (wanted, load_s) = (ledger.wanted(uptime), traits.load_s());
    let likely = 1.0 - (-wanted * HORIZON_S).exp();
    let crowd = 1.0 + wanted * load_s / 2.0;
    let hold_s = ledger.hold_s().unwrap_or(HOLD_ASSUMED_S);
    let busy = wanted * hold_s / traits.slots().unwrap_or(1) as f32;
    let others = copies as f32;
    let is_spare = 0.0 < others && busy * (others + 1.0) / others < BUSY_MAX;
    likely * load_s * crowd * if is_spare { SPARE_SHARE } else { 1.0 }
}
