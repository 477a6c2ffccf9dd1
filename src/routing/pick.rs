//! Which of the nodes that may serve a request should: the balancers.

use std::cmp::Ordering;

use crate::affinity::Session;
use crate::config::Balancer;
use crate::fleet::{Holder, Node};
use crate::profile::Limit;
use crate::routing::Reason;
use crate::routing::fit::Misfit;

/// Requests at once that an `auto` node is expected to take well, until something is known about it.
pub(super) const SLOTS_ASSUMED: u32 = 4;

/// A node that may serve the request, with what is live about it read once, so that one decision sees one truth.
#[derive(Debug, Clone, Copy)]
pub(super) struct Candidate<'a, H> {
    pub(super) node: &'a Node,
    pub(super) holder: H,
    warm: bool,
    /// How badly what it has suits the request, and where it stands among the models of an alias: the least is the best.
    preference: (Misfit, usize),
    in_flight: u32,
    last_picked: u64,
    priority: u32,
    weight: u32,
    /// Whether a lease would be granted.
    is_free: bool,
    /// Whether it should take more: as `is_free`, with soft limits of `auto` nodes and of models.
    has_room: bool,
}

impl<'a, H> Candidate<'a, H> {
    pub(super) fn new(node: &'a Node, holder: H, warm: bool) -> Candidate<'a, H> {
        Candidate::seated(node, holder, warm, (0, 0), None)
    }

    fn seated(
        node: &'a Node,
        holder: H,
        warm: bool,
        preference: (Misfit, usize),
        seats: Option<(u32, Limit)>,
    ) -> Candidate<'a, H> {
        let (in_flight, slots) = (node.in_flight(), node.slots());
        let is_kept = |(taken, limit): (u32, Limit)| !limit.hard || taken < limit.requests;
        let has_seat = |(taken, limit): (u32, Limit)| taken < limit.requests;
        let of_type = node.config.profile.characteristics.max_concurrent;
        let assumed = of_type.map_or(SLOTS_ASSUMED, |limit| limit.requests);
        Candidate {
            node,
            holder,
            warm,
            preference,
            in_flight,
            last_picked: node.last_picked(),
            priority: node.config.priority,
            weight: node.config.weight.max(1),
            is_free: slots.is_none_or(|slots| in_flight < slots) && seats.is_none_or(is_kept),
            has_room: in_flight < slots.unwrap_or(assumed) && seats.is_none_or(has_seat),
        }
    }

    /// Where what it has stands among the models of an alias, best first.
    pub(super) fn rank(&self) -> usize {
        self.preference.1
    }

    fn priority(&self) -> u32 {
        self.priority
    }

    fn weight(&self) -> u64 {
        u64::from(self.weight)
    }

    /// Compares `(in_flight + more) / weight`, exactly.
    fn cmp_share(&self, other: &Self, more: u64) -> Ordering {
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
        let seats = traits.limit.map(|limit| (traits.in_flight(), limit));
        Candidate::seated(node, holder, holder.warm, (misfit, rank), seats)
    }
}

/// The chosen candidate; `None` when none has a free slot.
pub(super) fn pick<'c, 'a, H>(
    candidates: &'c [Candidate<'a, H>],
    balancer: Balancer,
    session: Option<Session>,
    seed: u64,
) -> Option<(&'c Candidate<'a, H>, Reason)> {
    let mut free: Vec<_> = candidates.iter().filter(|it| it.is_free).collect();
    keep_preferred(&mut free);
    let (chosen, reason) = match pinned(&free, candidates, session) {
        Some(chosen) => (chosen, Reason::Sticky),
        None => balanced(&free, balancer, seed)?,
    };
    let is_only = candidates.iter().all(|it| it.node.id == chosen.node.id);
    let reason = if is_only { Reason::Only } else { reason };
    Some((chosen, reason))
}

fn balanced<'c, 'a, H>(
    free: &[&'c Candidate<'a, H>],
    balancer: Balancer,
    seed: u64,
) -> Option<(&'c Candidate<'a, H>, Reason)> {
    Some(match balancer {
        Balancer::Adaptive => adaptive(free, seed)?,
        Balancer::Priority => (random(&highest_tier(free), seed)?, Reason::Priority),
        Balancer::RoundRobin => (round_robin(free, seed)?, Reason::RoundRobin),
        Balancer::LeastConnections => {
            let chosen = least(free, seed, |a, b| a.cmp_share(b, 0))?;
            (chosen, Reason::LeastConnections)
        }
        Balancer::Random => (random(free, seed)?, Reason::Random),
    })
}

/// The node that a session is pinned to, if it has room and bears no more than its share: else all whose prompts begin alike, or who
/// show one key, would queue up at one node while the others idle.
fn pinned<'c, 'a, H>(
    free: &[&'c Candidate<'a, H>],
    candidates: &[Candidate<'a, H>],
    session: Option<Session>,
) -> Option<&'c Candidate<'a, H>> {
    let session = session.filter(|session| session.pinned)?;
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
    (4 * mine * weight <= 5 * in_flight * my_weight + 4 * my_weight * weight).then_some(chosen)
}

/// What suits the request better, and of that an alias's earlier targets, come first whatever the balancer, as long as one of
/// their nodes has room. When nobody has, what is free is free: as with tiers, room is an assumption that may not cost a slot. Then
/// each node is left with the best of what it has.
fn keep_preferred<H>(free: &mut Vec<&Candidate<'_, H>>) {
    let roomy = free.iter().filter(|it| it.has_room);
    if let Some(best) = roomy.map(|it| it.preference).min() {
        free.retain(|it| it.preference == best);
    } else if free.iter().any(|it| it.rank() != 0) {
        free.sort_by_key(|it| (it.node.id, it.preference));
        free.dedup_by_key(|it| it.node.id);
    }
}

/// The highest tier with room; in it warm before cold, then the smallest share of its weight. When nobody has room, `auto`
/// nodes take more than we assume, whatever their tier: the assumption is ours, a written number of slots is the operator's.
fn adaptive<'c, 'a, H>(
    free: &[&'c Candidate<'a, H>],
    seed: u64,
) -> Option<(&'c Candidate<'a, H>, Reason)> {
    let tier = |it: &Candidate<'a, H>| it.has_room.then(|| it.priority());
    let chosen = least(free, seed, |a, b| {
        let by_tier = tier(b).cmp(&tier(a));
        by_tier
            .then(b.warm.cmp(&a.warm))
            .then_with(|| a.cmp_share(b, 1))
    })?;
    let reason = if chosen.warm {
        Reason::Warm
    } else {
        Reason::Cold
    };
    Some((chosen, reason))
}

fn highest_tier<'c, 'a, H>(free: &[&'c Candidate<'a, H>]) -> Vec<&'c Candidate<'a, H>> {
    let highest = free.iter().map(|it| it.priority()).max();
    let tier = free.iter().copied();
    tier.filter(|it| Some(it.priority()) == highest).collect()
}

/// The least in `order`; of equals the one not picked for the longest time, of those again the seed's choice.
fn least<'c, 'a, H>(
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
fn scatter(seed: u64) -> u64 {
    let mut x = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}
