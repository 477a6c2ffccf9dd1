//! Those who wait for a slot, and who of them goes next: interactive work before background work, in each a deficit round robin over
//! tenants in estimated tokens (Shreedhar & Varghese 1995), and of one tenant first come first served in every line.
//!
//! Requests stand in one line when the same nodes could serve them (`L` says so): when its first can't be placed, nobody in it can.
//! Work for a model in memory may pass work that needs a swap, until that has waited for [`Limits::swap_age_max`].

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use super::claim::{Claim, Class, Tenant};
use super::flow::{Flows, Short};
use super::full::Full;
use super::pace::Pace;

/// A place in the queue, in order of arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(u64);

/// What bounds the queue.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Requests that may wait at once.
    pub length_max: usize,
    /// How long a request that needs a swap lets others pass.
    pub swap_age_max: Duration,
    /// How long background work lets interactive work pass.
    pub background_age_max: Duration,
    /// How long a request may wait; a line in which somebody has stood for as long is no burst any more, and in it nobody waits for
    /// longer than a third of that.
    pub wait_max: Duration,
}

/// Under too much work somebody has to be turned away, and whoever waited until the last moment was turned away too late or is served
/// too late: shorter waits serve as many.
const OVERLOAD_SHARE: f64 = 1.0 / 3.0;
/// How often it is looked who has waited for too long.
const EXPIRE_EVERY: Duration = Duration::from_secs(1);

/// A request that wants to wait.
#[derive(Debug, Clone)]
pub struct Wish<L> {
    /// Whose it is and how urgent.
    pub claim: Claim,
    /// With whom it stands in line.
    pub line: L,
    /// What it costs, tokens, about.
    pub tokens: u64,
}

/// The circumstances under which a request may be placed now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chance {
    /// How long it has waited.
    pub waited: Duration,
    /// How many stand in its line, itself included.
    pub line: u32,
    /// Whether a node may load a model for it.
    pub may_swap: bool,
    /// Whether it has let others pass for so long that room must be made for it.
    pub is_due: bool,
    /// Whether it is its turn: else it is only looked whether it could be placed.
    pub may_take: bool,
}

/// What came of a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tried {
    /// It has its slot, or was told why it can't have one, and waits no more; its tenant pays for it and so many tokens on top.
    Placed(u64),
    /// It could be placed, were it its turn.
    Could,
    /// Nobody in its line can be placed now.
    Later,
    /// It waits no more, and nothing was used.
    Gone,
}

struct Entry<J> {
    claim: Claim,
    line: LineId,
    tokens: u64,
    since: Duration,
    job: J,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct LineId(u64);

/// A line in which somebody stands.
struct Standing<L> {
    line: L,
    count: u32,
    /// Since when somebody has stood in it.
    since: Duration,
}

/// Requests that wait. `J` is what is handed back of each.
pub struct Queue<L, J> {
    limits: Limits,
    issued: u64,
    expired_at: Duration,
    entries: HashMap<Ticket, Entry<J>>,
    /// Ids of the lines in which somebody stands, and how many.
    ids: HashMap<L, LineId>,
    lines: HashMap<LineId, Standing<L>>,
    interactive: Flows,
    background: Flows,
    pace: Pace,
}

impl<L: Clone + Eq + Hash, J> Queue<L, J> {
    /// An empty queue.
    pub fn new(limits: Limits) -> Queue<L, J> {
        Queue {
            limits,
            issued: 0,
            expired_at: Duration::ZERO,
            entries: HashMap::new(),
            ids: HashMap::new(),
            lines: HashMap::new(),
            interactive: Flows::default(),
            background: Flows::default(),
            pace: Pace::default(),
        }
    }

    /// From now on; those who wait already stay.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Requests that wait.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The lines in which somebody stands, and how many in each.
    pub fn lines(&self) -> impl Iterator<Item = (&L, u32)> {
        self.lines.values().map(|it| (&it.line, it.count))
    }

    /// When somebody who is turned away now should come back, whole seconds: as long as those who wait will take, about.
    pub fn retry_after_s(&self) -> u32 {
        self.pace.retry_after_s(self.len() + 1)
    }

    /// Takes a place at the end of its line, whether there is room or not: a request that can be placed at once needs none. Who
    /// could not be is judged by [`Queue::make_room`].
    pub fn enter(&mut self, wish: Wish<L>, job: J, now: Duration) -> Ticket {
        self.issued += 1;
        let ticket = Ticket(self.issued);
        let line = self.stand(wish.line, now);
        let Claim { tenant, class } = wish.claim;
        self.flows(class).push(tenant, line, ticket);
        let entry = Entry {
            claim: wish.claim,
            line,
            tokens: wish.tokens,
            since: now,
            job,
        };
        self.entries.insert(ticket, entry);
        ticket
    }

    fn stand(&mut self, line: L, now: Duration) -> LineId {
        let fresh = LineId(self.issued);
        let id = *self.ids.entry(line.clone()).or_insert(fresh);
        let new = Standing {
            line,
            count: 0,
            since: now,
        };
        self.lines.entry(id).or_insert(new).count += 1;
        id
    }

    /// Gives a place back. `None` when it is not in the queue any more.
    pub fn leave(&mut self, ticket: Ticket) -> Option<J> {
        let entry = self.entries.remove(&ticket)?;
        let Claim { tenant, class } = entry.claim;
        self.flows(class).remove(tenant, entry.line, ticket);
        if let Some(standing) = self.lines.get_mut(&entry.line) {
            standing.count -= 1;
            if standing.count == 0 {
                self.ids.remove(&standing.line);
                self.lines.remove(&entry.line);
            }
        }
        if self.entries.is_empty() {
            // Nobody competes any more: old debts would only punish.
            self.interactive = Flows::default();
            self.background = Flows::default();
            self.pace.pause();
        }
        Some(entry.job)
    }

    /// When more wait than may, the one that has to go: background work before interactive work, and of that the last request of the
    /// tenant that has most in the queue, so that a flood drowns only itself.
    pub fn make_room(&mut self, newcomer: Ticket) -> Option<J> {
        if self.entries.len() <= self.limits.length_max {
            return None;
        }
        let came = self.entries.get(&newcomer)?.claim;
        let class = match self.background.is_empty() {
            true => Class::Interactive,
            false => Class::Background,
        };
        let flows = self.flows(class);
        let (greedy, most) = flows.longest()?;
        let is_greedy = came.class == class && most <= flows.length_of(came.tenant);
        let goes = match is_greedy {
            true => newcomer,
            false => flows.last_of(greedy)?,
        };
        self.leave(goes)
    }

    /// Takes out those who have waited for too long, in order of arrival, with how long they have.
    pub fn expire(&mut self, now: Duration) -> Vec<(J, Duration)> {
        if now < self.expired_at + EXPIRE_EVERY {
            return Vec::new(); // all have to be looked at
        }
        self.expired_at = now;
        let wait_max = self.limits.wait_max;
        let patience = |entry: &Entry<J>| {
            let standing = self.lines.get(&entry.line);
            let is_burst = standing.is_none_or(|it| now.saturating_sub(it.since) < wait_max);
            // Whoever has little in the queue is not why there is too much.
            match is_burst || self.is_modest(entry.claim) {
                true => wait_max,
                false => wait_max.mul_f64(OVERLOAD_SHARE),
            }
        };
        let waited = |entry: &Entry<J>| now.saturating_sub(entry.since);
        let late = self
            .entries
            .iter()
            .filter(|(_, it)| patience(it) <= waited(it));
        let mut late: Vec<(Ticket, Duration)> =
            late.map(|(ticket, it)| (*ticket, waited(it))).collect();
        late.sort_unstable();
        let left = late.into_iter();
        left.filter_map(|(ticket, waited)| Some((self.leave(ticket)?, waited)))
            .collect()
    }

    /// Whether a tenant has less than half of what tenants have in the queue on average.
    fn is_modest(&self, claim: Claim) -> bool {
        let flows = match claim.class {
            Class::Interactive => &self.interactive,
            Class::Background => &self.background,
        };
        let tenants = self.interactive.tenants() + self.background.tenants();
        2 * flows.length_of(claim.tenant) * tenants < self.len()
    }

    /// Charges a tenant what a request used beyond what was paid for it. It matters only while others compete.
    pub fn settle(&mut self, claim: Claim, paid: u64, used: u64) {
        if self.entries.is_empty() {
            return;
        }
        let beyond = used.saturating_sub(paid);
        if 0 < beyond {
            self.flows(claim.class).settle(claim.tenant, beyond);
        }
    }

    /// Places all who can be placed now, each in its turn. `look` is told of one request at a time and what it may have.
    pub fn dispatch(&mut self, now: Duration, mut look: impl FnMut(&mut J, Chance) -> Tried) {
        self.promote(now);
        for class in [Class::Interactive, Class::Background] {
            let mut full = Full::default();
            // Who needs no swap comes first; whoever has waited too long for one comes with them.
            for swaps in [false, true] {
                while self.place_one(class, swaps, now, &mut full, &mut look) {}
            }
        }
    }

    /// Background work that has waited for too long is treated as if somebody waited for it.
    fn promote(&mut self, now: Duration) {
        let age_max = self.limits.background_age_max;
        let tenants: Vec<Tenant> = self.background.turns().collect();
        for tenant in tenants {
            for (ticket, line) in self.background.heads(tenant) {
                let Some(entry) = self.entries.get_mut(&ticket) else {
                    continue;
                };
                if now.saturating_sub(entry.since) < age_max {
                    continue;
                }
                entry.claim.class = Class::Interactive;
                self.background.remove(tenant, line, ticket);
                self.interactive.push(tenant, line, ticket);
            }
        }
    }

    /// Goes round the tenants once, and places the first request that can be placed and paid for; `false` when none can be placed.
    fn place_one(
        &mut self,
        class: Class,
        swaps: bool,
        now: Duration,
        full: &mut Full,
        look: &mut impl FnMut(&mut J, Chance) -> Tried,
    ) -> bool {
        let mut short: Vec<Short> = Vec::new();
        let turns: Vec<Tenant> = self.flows(class).turns().collect();
        for tenant in turns {
            for (ticket, line) in self.flows(class).heads(tenant) {
                let Some(mut chance) = self.chance(ticket, swaps, now) else {
                    continue;
                };
                if full.has(line, chance.may_swap) {
                    continue;
                }
                let tokens = self.entries.get(&ticket).map_or(0, |entry| entry.tokens);
                chance.may_take = self.flows(class).affords(tenant, tokens);
                let Some(entry) = self.entries.get_mut(&ticket) else {
                    continue;
                };
                match look(&mut entry.job, chance) {
                    Tried::Placed(more) => {
                        self.flows(class).pay(tenant, tokens.saturating_add(more));
                        self.pace.placed(now);
                        self.leave(ticket);
                        return true;
                    }
                    Tried::Gone => {
                        self.leave(ticket);
                        return true;
                    }
                    Tried::Could => {
                        short.push(Short {
                            tenant,
                            cost: tokens,
                        });
                        break; // its next must not pass it for being cheaper
                    }
                    Tried::Later => full.add(line, chance.may_swap),
                }
            }
        }
        if short.is_empty() {
            return false;
        }
        self.flows(class).begin_round(&short);
        true
    }

    fn chance(&self, ticket: Ticket, swaps: bool, now: Duration) -> Option<Chance> {
        let entry = self.entries.get(&ticket)?;
        let waited = now.saturating_sub(entry.since);
        let is_due = self.limits.swap_age_max <= waited;
        Some(Chance {
            waited,
            line: self.lines.get(&entry.line).map_or(1, |it| it.count),
            may_swap: swaps || is_due,
            is_due,
            may_take: false,
        })
    }

    fn flows(&mut self, class: Class) -> &mut Flows {
        match class {
            Class::Interactive => &mut self.interactive,
            Class::Background => &mut self.background,
        }
    }
}

#[cfg(test)]
mod tests;
