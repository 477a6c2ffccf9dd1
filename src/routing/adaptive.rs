//! The adaptive balancer: the highest tier with room, in it the node where the request costs least, and sometimes nobody yet.

use std::sync::Arc;

use crate::fleet::{Holder, LOAD_MIN_S, NodeId, Traits};
use crate::routing::cost::{
    Blocked, Effort, Presence, Rates, effort, harm_s, is_worth_keeping, wait_s,
};
use crate::routing::{Ask, Reason, Wait};

use super::pick::{Candidate, Choice, least, preferred, scatter};

/// What a second of waiting counts against a second of loading: a load ends when most of those who wait have been served without it, and
/// bursts pass.
const PATIENCE: f32 = 0.5;
/// How much more than the mean a node may have for its weight before new conversations go elsewhere (bounded loads, Mirrokni 2016).
const LOAD_FACTOR: f32 = 1.25;

pub(super) type Held<'a> = Candidate<'a, &'a Holder>;

/// The best candidate; none when none is free, or when a slot of a node that has the model in memory is worth waiting for.
pub(super) fn adaptive<'a>(
    ask: &Ask<'_>,
    candidates: &[Held<'a>],
    seed: u64,
) -> Result<Choice<'a>, Wait> {
    let free = preferred(candidates);
    let tier = tier(&free);
    let mut weighed: Vec<(&Held<'a>, Effort)> = Vec::new();
    let mut in_use: Vec<Arc<Traits>> = Vec::new();
    let rates = Rates::of(candidates);
    for warm in [true, false] {
        for it in free
            .iter()
            .filter(|it| it.holder.warm == warm && is_in(tier, it))
        {
            match effort(ask, it.node, it.holder, rates) {
                Ok(effort) => weighed.push((it, effort)),
                Err(Blocked::InUse(traits)) => in_use.push(traits),
                Err(Blocked::Loading) => (),
            }
        }
        let mut totals = weighed.iter().map(|(_, effort)| effort.cost.total_s());
        // No load is as quick as that, so nobody who needs one has to be looked at.
        if totals.any(|total_s| total_s < LOAD_MIN_S) {
            break;
        }
    }
    let choice = best(ask, candidates, &weighed, rates, seed);
    choice.ok_or_else(|| {
        // Who is missed least.
        let harm = |it: &Arc<Traits>| harm_s(it, 0, ask.circumstances.uptime);
        let least = in_use
            .into_iter()
            .min_by(|a, b| harm(a).total_cmp(&harm(b)));
        Wait { in_use: least }
    })
}

/// The highest tier in which somebody has room; none when nobody has.
pub(super) fn tier(free: &[&Held<'_>]) -> Option<u32> {
    let roomy = free.iter().filter(|it| it.has_room);
    roomy.map(|it| it.priority()).max()
}

/// Whether it is weighed when that is the highest tier with room.
pub(super) fn is_in(tier: Option<u32>, it: &Held<'_>) -> bool {
    tier.is_none_or(|tier| it.has_room && it.priority() == tier)
}

fn best<'a>(
    ask: &Ask<'_>,
    candidates: &[Held<'a>],
    weighed: &[(&Held<'a>, Effort)],
    rates: Rates,
    seed: u64,
) -> Option<Choice<'a>> {
    let (_, best) = weighed
        .iter()
        .min_by(|(_, a), (_, b)| a.cost.total_s().total_cmp(&b.cost.total_s()))?;
    let is_near = |effort: &Effort| {
        effort.presence == best.presence && effort.cost.is_near(best.cost.total_s())
    };
    let near = weighed.iter().filter(|(_, effort)| is_near(effort));
    let near: Vec<&Held<'a>> = near.map(|(candidate, _)| *candidate).collect();
    let chosen = among_equals(ask, &near, seed)?;
    let (_, effort) = weighed.iter().find(|(it, _)| std::ptr::eq(*it, chosen))?;
    if effort.presence == Presence::Absent && waits(ask, candidates, chosen, effort, rates) {
        return None;
    }
    let is_session = ask.session.is_some_and(|it| it.node == chosen.node.id);
    let reason = match effort.presence {
        Presence::Loaded if is_session && is_worth_keeping(ask, &chosen.holder.traits) => {
            Reason::Sticky
        }
        Presence::Loaded => Reason::Warm,
        Presence::Loading => Reason::Joins,
        Presence::Absent => Reason::Cold,
    };
    Some(Choice {
        candidate: *chosen,
        reason,
        weighed: Some(effort.clone()),
    })
}

/// Of nodes that cost the same: for a long prompt the one that everybody who sees this conversation would choose, as long as it has no
/// more to do than others, so that the next turn finds it too; else who has least to do.
fn among_equals<'c, 'a>(ask: &Ask<'_>, near: &[&'c Held<'a>], seed: u64) -> Option<&'c Held<'a>> {
    let by_share = || least(near, seed, |a, b| a.cmp_share(b, 1));
    let [first, _, ..] = near else {
        return near.first().copied();
    };
    let Some(key) = ask
        .affinity
        .filter(|_| is_worth_keeping(ask, &first.holder.traits))
    else {
        return by_share();
    };
    let mean = near.iter().map(|it| it.share(1)).sum::<f32>() / near.len() as f32;
    let is_within = |it: &&&Held<'a>| it.share(1) <= mean * LOAD_FACTOR;
    let within = near.iter().filter(is_within).copied();
    within
        .max_by_key(|it| draw(key, it.node.id))
        .or_else(by_share)
}

/// What a node draws for a conversation (rendezvous hashing): the highest wins, and only its conversations move when it leaves.
fn draw(key: u64, node: NodeId) -> u64 {
    scatter(key ^ scatter(node.0 as u64))
}

/// Whether a request that would need a load should rather wait: it may not have one yet, or a node that has the model in memory, and
/// whose tier is no lower, will have a slot sooner than the load would take and the others would lose.
fn waits(
    ask: &Ask<'_>,
    candidates: &[Held<'_>],
    chosen: &Held<'_>,
    effort: &Effort,
    rates: Rates,
) -> bool {
    if !ask.circumstances.may_swap {
        return true;
    }
    let is_like = |it: &&Held<'_>| {
        !it.is_free && it.preference == chosen.preference && chosen.priority() <= it.priority()
    };
    let full = candidates.iter().filter(is_like);
    let warm = full.filter_map(|it| {
        Some((
            it,
            super::cost::effort(ask, it.node, it.holder, rates).ok()?,
        ))
    });
    let warm: Vec<_> = warm
        .filter(|(_, effort)| effort.presence != Presence::Absent)
        .collect();
    let slots = warm.iter().map(|(it, _)| it.slots.unwrap_or(1)).sum();
    let worth = warm.iter().map(|(it, there)| {
        let traits = &it.holder.traits;
        wait_s(ask, traits, slots) * PATIENCE + there.cost.total_s()
    });
    worth
        .min_by(f32::total_cmp)
        .is_some_and(|waiting| waiting < effort.cost.total_s())
}
