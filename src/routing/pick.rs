//! Which of the nodes that may serve a request should: the balancers.

use std::cmp::Ordering;

use crate::config::Balancer;
use crate::fleet::{Holder, Node};
use crate::routing::fit::Misfit;
use crate::routing::{Ask, Reason, Wait};

use super::adaptive::adaptive;
use super::cost::{Effort, Presence, Rates, effort};

/// Requests at once that an `auto` node is expected to take well of a model of which nothing is known.
const SLOTS_ASSUMED: u32 = 4;

/// A node that may serve the request, with what is live about it read once, so that one decision sees one truth.
#[derive(Debug, Clone, Copy)]
pub(super) struct Candidate<'a, H> {
    pub(super) node: &'a Node,
    pub(super) holder: H,
    /// How badly what it has suits the request, and where it stands among the models of an alias: the least is the best.
    pub(super) preference: (Misfit, usize),
    in_flight: u32,
    pub(super) last_picked: u64,
    priority: u32,
    weight: u32,
    /// Requests it may have at once, those of the model where that is less; `None` is no limit.
    pub(super) slots: Option<u32>,
    /// Whether a lease would be granted.
    pub(super) is_free: bool,
    /// Whether it should take more: as `is_free`, with what is assumed of `auto` nodes.
    pub(super) has_room: bool,
}

impl<'a, H> Candidate<'a, H> {
    /// A node of which nobody knows whether it has the model.
    pub(super) fn new(node: &'a Node, holder: H) -> Candidate<'a, H> {
        let of_type = node.config.profile.characteristics.max_concurrent;
        let assumed = of_type.map_or(SLOTS_ASSUMED, |limit| limit.requests);
        let in_flight = node.in_flight();
        let it = Candidate::seated(node, holder, (0, 0), None);
        Candidate {
            has_room: in_flight < node.slots().unwrap_or(assumed),
            ..it
        }
    }

    /// `seats`: those of the model that are taken, and how many there are.
    fn seated(
        node: &'a Node,
        holder: H,
        preference: (Misfit, usize),
        seats: Option<(u32, u32)>,
    ) -> Candidate<'a, H> {
        let (in_flight, slots) = (node.in_flight(), node.slots());
        let has_seat = seats.is_none_or(|(taken, seats)| taken < seats);
        let is_free = slots.is_none_or(|slots| in_flight < slots) && has_seat;
        let of_model = seats.map(|(_, seats)| seats);
        Candidate {
            node,
            holder,
            preference,
            in_flight,
            last_picked: node.last_picked(),
            priority: node.config.priority,
            weight: node.config.weight.max(1),
            slots: of_model.into_iter().chain(slots).min(),
            is_free,
            has_room: is_free,
        }
    }

    /// Where what it has stands among the models of an alias, best first.
    pub(super) fn rank(&self) -> usize {
        self.preference.1
    }

    pub(super) fn priority(&self) -> u32 {
        self.priority
    }

    fn weight(&self) -> u64 {
        u64::from(self.weight)
    }

    /// Requests it has for its weight, when it gets so many more.
    pub(super) fn share(&self, more: u32) -> f32 {
        (self.in_flight + more) as f32 / self.weight as f32
    }

    /// Compares `(in_flight + more) / weight`, exactly.
    pub(super) fn cmp_share(&self, other: &Self, more: u64) -> Ordering {
        let mine = (u64::from(self.in_flight) + more) * other.weight();
        let theirs = (u64::from(other.in_flight) + more) * self.weight();
        mine.cmp(&theirs)
    }
}

impl<'a> Candidate<'a, &'a Holder> {
    /// A node with a model.
    pub(super) fn holding(
        node: &'a Node,
        holder: &'a Holder,
        misfit: Misfit,
        rank: usize,
    ) -> Candidate<'a, &'a Holder> {
        let traits = &holder.traits;
        let seats = traits
            .slots()
            .map(|seats| (traits.ledger().in_flight(), seats));
        Candidate::seated(node, holder, (misfit, rank), seats)
    }
}

/// The chosen one of the nodes that have what is asked for.
pub(super) struct Choice<'a> {
    pub(super) candidate: Candidate<'a, &'a Holder>,
    pub(super) reason: Reason,
    /// What it has to do; only the adaptive balancer weighs that.
    pub(super) weighed: Option<Effort>,
}

/// The best of the nodes that have what is asked for.
///
/// # Errors
/// None has a free slot, or it is better to wait for one.
pub(super) fn choose<'a>(
    ask: &Ask<'_>,
    candidates: &[Candidate<'a, &'a Holder>],
    balancer: Balancer,
    seed: u64,
) -> Result<Choice<'a>, Wait> {
    let is_only =
        |chosen: &Candidate<'_, &Holder>| candidates.iter().all(|it| it.node.id == chosen.node.id);
    if let Some(choice) = pinned(ask, candidates, balancer) {
        return Ok(choice);
    }
    let choice = match balancer {
        Balancer::Adaptive => {
            let mut choice = adaptive(ask, candidates, seed)?;
            let says_nothing = matches!(choice.reason, Reason::Warm | Reason::Cold);
            if says_nothing && is_only(&choice.candidate) {
                choice.reason = Reason::Only;
            }
            choice
        }
        _ => {
            let picked = pick(candidates, balancer, seed);
            let (chosen, reason) = picked.ok_or(Wait { in_use: None })?;
            Choice {
                candidate: *chosen,
                reason: if is_only(chosen) {
                    Reason::Only
                } else {
                    reason
                },
                weighed: None,
            }
        }
    };
    Ok(choice)
}

/// The node that a session is pinned to, if it has room and bears no more than its share: else all whose prompts begin alike, or who
/// show one key, would queue up at one node while the others idle.
fn pinned<'a>(
    ask: &Ask<'_>,
    candidates: &[Candidate<'a, &'a Holder>],
    balancer: Balancer,
) -> Option<Choice<'a>> {
    let session = ask.session.filter(|session| session.pinned)?;
    let free = preferred(candidates);
    let mut with_room = free.iter().copied().filter(|it| it.has_room);
    let chosen = with_room.find(|it| it.node.id == session.node)?;
    // An alias has a node here once for each of its models there.
    let equals = candidates
        .iter()
        .filter(|it| it.preference == chosen.preference);
    let (in_flight, weight) = equals.fold((0_u128, 0_u128), |(in_flight, weight), it| {
        (
            in_flight + u128::from(it.in_flight),
            weight + u128::from(it.weight),
        )
    });
    let (mine, my_weight) = (u128::from(chosen.in_flight), u128::from(chosen.weight));
    // mine / my_weight ≤ 5/4 × in_flight / weight + 1, without division.
    let is_fair = 4 * mine * weight <= 5 * in_flight * my_weight + 4 * my_weight * weight;
    let weighed = match balancer {
        // What the node had of it is gone with the model.
        Balancer::Adaptive => {
            let effort = effort(ask, chosen.node, chosen.holder, Rates::default()).ok()?;
            Some(effort).filter(|it| it.presence != Presence::Absent)
        }
        _ => None,
    };
    let is_there = balancer != Balancer::Adaptive || weighed.is_some();
    let is_only = candidates.iter().all(|it| it.node.id == chosen.node.id);
    (is_fair && is_there).then_some(Choice {
        candidate: *chosen,
        reason: if is_only {
            Reason::Only
        } else {
            Reason::Sticky
        },
        weighed,
    })
}

/// The best of the nodes by the balancer's rule alone; `None` when none has a free slot.
pub(super) fn pick<'c, 'a, H>(
    candidates: &'c [Candidate<'a, H>],
    balancer: Balancer,
    seed: u64,
) -> Option<(&'c Candidate<'a, H>, Reason)> {
    let free = preferred(candidates);
    Some(match balancer {
        Balancer::Adaptive => (by_tier(&free, seed)?, Reason::Cold),
        Balancer::Priority => (random(&highest_tier(&free), seed)?, Reason::Priority),
        Balancer::RoundRobin => (round_robin(&free, seed)?, Reason::RoundRobin),
        Balancer::LeastConnections => {
            let chosen = least(&free, seed, |a, b| a.cmp_share(b, 0))?;
            (chosen, Reason::LeastConnections)
        }
        Balancer::Random => (random(&free, seed)?, Reason::Random),
    })
}

/// Of those with a free slot what suits the request better, and of that an alias's earlier targets, come first whatever the balancer, as
/// long as one of their nodes has room. When nobody has, what is free is free: as with tiers, room is an assumption that may not cost a
/// slot. Then each node is left with the best of what it has.
pub(super) fn preferred<'c, 'a, H>(
    candidates: &'c [Candidate<'a, H>],
) -> Vec<&'c Candidate<'a, H>> {
    let mut free: Vec<_> = candidates.iter().filter(|it| it.is_free).collect();
    let roomy = free.iter().filter(|it| it.has_room);
    if let Some(best) = roomy.map(|it| it.preference).min() {
        free.retain(|it| it.preference == best);
    } else if free.iter().any(|it| it.rank() != 0) {
        free.sort_by_key(|it| (it.node.id, it.preference));
        free.dedup_by_key(|it| it.node.id);
    }
    free
}

/// The highest tier with room; in it the smallest share of its weight. When nobody has room, `auto` nodes take more than we assume,
/// whatever their tier: the assumption is ours, a written number of slots is the operator's.
fn by_tier<'c, 'a, H>(free: &[&'c Candidate<'a, H>], seed: u64) -> Option<&'c Candidate<'a, H>> {
    let tier = |it: &Candidate<'a, H>| it.has_room.then(|| it.priority());
    least(free, seed, |a, b| {
        let by_tier = tier(b).cmp(&tier(a));
        by_tier.then_with(|| a.cmp_share(b, 1))
    })
}

pub(super) fn highest_tier<'c, 'a, H>(free: &[&'c Candidate<'a, H>]) -> Vec<&'c Candidate<'a, H>> {
    let highest = free.iter().map(|it| it.priority()).max();
    let tier = free.iter().copied();
    tier.filter(|it| Some(it.priority()) == highest).collect()
}

/// The least in `order`; of equals the one not picked for the longest time, of those again the seed's choice.
pub(super) fn least<'c, 'a, H>(
    free: &[&'c Candidate<'a, H>],
    seed: u64,
    order: impl Fn(&Candidate<'a, H>, &Candidate<'a, H>) -> Ordering,
) -> Option<&'c Candidate<'a, H>> {
    let order = |a: &&&Candidate<'a, H>, b: &&&Candidate<'a, H>| {
        order(a, b).then(a.last_picked.cmp(&b.last_picked))
    };
    let best = free.iter().min_by(order)?;
    let mut equals = free.iter().filter(|it| order(it, &best).is_eq());
    let place = scatter(seed) % equals.clone().count().max(1) as u64;
    equals.nth(place as usize).copied()
}

/// Any, each as likely as its weight.
fn random<'c, 'a, H>(free: &[&'c Candidate<'a, H>], seed: u64) -> Option<&'c Candidate<'a, H>> {
    by_weight(free, scatter(seed) % total_weight(free))
}

/// Each as often as its weight in a cycle of `total weight` seeds, without long runs of one node.
fn round_robin<'c, 'a, H>(
    free: &[&'c Candidate<'a, H>],
    seed: u64,
) -> Option<&'c Candidate<'a, H>> {
    let total = total_weight(free);
    // A step prime to the cycle visits every place once; one near the golden section visits them far apart.
    let golden = (total as f64 * 0.618_033_988_75) as u64;
    let step = (golden.max(1)..).find(|step| are_coprime(*step, total))?;
    let place = u128::from(seed % total) * u128::from(step) % u128::from(total);
    by_weight(free, place as u64)
}

/// The candidate at `place` when each takes as many places as its weight.
fn by_weight<'c, 'a, H>(free: &[&'c Candidate<'a, H>], place: u64) -> Option<&'c Candidate<'a, H>> {
    let mut end = 0;
    free.iter().copied().find(|it| {
        end += it.weight();
        place < end
    })
}

/// At least 1, so that it divides.
fn total_weight<H>(free: &[&Candidate<'_, H>]) -> u64 {
    free.iter().map(|it| it.weight()).sum::<u64>().max(1)
}

fn are_coprime(mut a: u64, mut b: u64) -> bool {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a == 1
}

/// Spreads neighbouring seeds over all numbers (the finalizer of SplitMix64).
pub(super) fn scatter(seed: u64) -> u64 {
    let mut x = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}
