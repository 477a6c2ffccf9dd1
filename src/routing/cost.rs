//! What it costs to give a request to a node, in seconds: until it has a slot, until its model is in memory, until its prompt is read,
//! and what it takes from those whose model must leave for it.

use std::time::Duration;

use crate::fleet::{Holder, Node, NumCtx, Resident, Room, RunnerFit, Traits};
use crate::routing::{Ask, Session};

/// Costs that differ by less are equal, seconds or a share: then who has least to do is the better one.
const TOLERANCE_S: f32 = 0.05;
const TOLERANCE_SHARE: f32 = 0.1;
/// How long a request holds a slot until that was seen, seconds.
const HOLD_ASSUMED_S: f32 = 5.0;
/// Who wants an evicted model within that time has to have it loaded again, seconds.
const HORIZON_S: f32 = 60.0;
/// What a model that had to go costs when nobody knows whether one has to.
const UNKNOWN_SHARE: f32 = 0.5;
/// How many tokens of an answer count when a slower node is weighed against a faster one.
const ANSWER_TOKENS: f32 = 64.0;
/// Prompts of so many other requests a runner keeps for each of its slots. Ollama before 0.30 kept one.
const PROMPTS_PER_SLOT: f32 = 8.0;

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
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Effort {
    /// What that costs.
    pub cost: Cost,
    /// Whether the runner it needs is there, is on its way, or has to come.
    pub presence: Presence,
    /// What the request has to say of its context for that.
    pub num_ctx: Option<NumCtx>,
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
    TOLERANCE_S < traits.prefill_s(ask.needs.prompt_tokens)
}

/// What it costs to send a request to a node that has its model and a free slot.
pub(super) fn effort(ask: &Ask<'_>, node: &Node, holder: &Holder) -> Effort {
    let traits = &*holder.traits;
    let (presence, num_ctx) = presence(ask, node, holder);
    let mut cost = Cost {
        prefill_s: traits.prefill_s(unread_tokens(ask, node, traits)),
        decode_s: traits.ledger().decode().map_or(0.0, |rate| ANSWER_TOKENS / rate),
        ..Cost::default()
    };
    match presence {
        Presence::Loaded => (),
        Presence::Loading => cost.load_s = remaining_s(ask, traits),
        Presence::Absent => {
            cost.load_s = traits.load_s() * (1.0 + node.loads_under_way() as f32);
            let evicted = match holder.warm {
                // Its own runner has to go, and only when nobody uses it any more.
                true => own_runner_s(ask, traits),
                false => evicted_s(ask, node, traits),
            };
            cost.evict_s = evicted;
        }
    }
    Effort {
        cost,
        presence,
        num_ctx,
    }
}

/// How long a request has to wait for a slot of those that have its model in memory, when they have so many slots together.
pub(super) fn wait_s(ask: &Ask<'_>, traits: &Traits, slots: u32) -> f32 {
    let hold_s = traits.ledger().hold_s().unwrap_or(HOLD_ASSUMED_S);
    let expected = hold_s * ask.circumstances.line.max(1) as f32 / slots.max(1) as f32;
    // Who has waited for long was wrong about how long it takes, and will be for about as long again.
    expected.max(ask.circumstances.waited.as_secs_f32() / 2.0)
}

fn presence(ask: &Ask<'_>, node: &Node, holder: &Holder) -> (Presence, Option<NumCtx>) {
    if !node.loads_on_demand() {
        let presence = if holder.warm { Presence::Loaded } else { Presence::Absent };
        return (presence, None);
    }
    let (traits, uptime) = (&*holder.traits, ask.circumstances.uptime);
    let ledger = traits.ledger();
    let started = ledger.started();
    if ledger.loading_for(uptime).is_some() {
        let is_ours = started.is_some_and(|it| {
            ask.runner.fit(Some(it), None, traits.context_max) == RunnerFit::Same
        });
        return (if is_ours { Presence::Loading } else { Presence::Absent }, None);
    }
    let is_fresh = ledger.is_fresh(uptime);
    if !(holder.warm || is_fresh) {
        return (Presence::Absent, None);
    }
    let context = holder.context.filter(|_| !is_fresh);
    match ask.runner.fit(started, context, traits.context_max) {
        _ if is_leaving(ask, node, traits) => (Presence::Absent, None),
        RunnerFit::Same => (Presence::Loaded, None),
        RunnerFit::Covers(num_ctx) if ask.may_take_larger_context => {
            (Presence::Loaded, Some(num_ctx))
        }
        RunnerFit::Covers(_) | RunnerFit::Other => (Presence::Absent, None),
    }
}

/// Whether the node waits for this model to be idle so that it can make room for another: who keeps using it keeps that one waiting.
fn is_leaving(ask: &Ask<'_>, node: &Node, traits: &Traits) -> bool {
    if !node.is_loading() || traits.ledger().is_fresh(ask.circumstances.uptime) {
        return false;
    }
    let others = || node.residents().iter();
    let is_crowded = others().count() > 1 && node.room(1) == Room::Evicts;
    let all_busy = others().all(|it| 0 < it.traits.ledger().in_flight());
    is_crowded && all_busy && victim(node.residents().iter()).is_some_and(|it| *it.traits == *traits)
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

/// What it costs those who use the model's runner as it is to have it reloaded with other options.
fn own_runner_s(ask: &Ask<'_>, traits: &Traits) -> f32 {
    let uptime = ask.circumstances.uptime;
    busy_s(traits) + harm_s(traits, 0, uptime)
}

/// What the models that would have to leave cost those who want them.
fn evicted_s(ask: &Ask<'_>, node: &Node, traits: &Traits) -> f32 {
    let bytes = traits.size_bytes.unwrap_or(0);
    let share = match node.room(bytes) {
        Room::Fits => return 0.0,
        Room::Unknown => UNKNOWN_SHARE,
        Room::Evicts => 1.0,
    };
    let others = node.residents().iter().filter(|it| *it.traits != *traits);
    let victim = victim(others);
    let cost = victim.map_or(0.0, |it| {
        busy_s(&it.traits) + harm_s(&it.traits, it.copies, ask.circumstances.uptime)
    });
    cost * share
}

/// Who leaves first: of those that nobody uses the one that was not used for longest, as the node would choose.
fn victim<'a>(residents: impl Iterator<Item = &'a Resident>) -> Option<&'a Resident> {
    residents.min_by_key(|it| {
        let ledger = it.traits.ledger();
        (0 < ledger.in_flight(), ledger.last_wanted_ms())
    })
}

/// Until nobody uses it any more.
fn busy_s(traits: &Traits) -> f32 {
    match traits.ledger().in_flight() {
        0 => 0.0,
        _ => traits.ledger().hold_s().unwrap_or(HOLD_ASSUMED_S),
    }
}

/// What those lose who want a model that left: as likely as somebody comes for it, and has nowhere else to go, it is loaded again.
fn harm_s(traits: &Traits, copies: u32, uptime: Duration) -> f32 {
    let wanted = traits.ledger().wanted(uptime);
    let load_s = traits.load_s();
    let likely = 1.0 - (-wanted * HORIZON_S).exp();
    // While it is loaded again others come for it and wait as well.
    let crowd = 1.0 + wanted * load_s / 2.0;
    likely * load_s * crowd / (1.0 + copies as f32)
}
