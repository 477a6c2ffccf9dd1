//! One class's tenants and what each of them has in the queue, in the order of a round robin.

use std::collections::{HashMap, VecDeque};

use super::claim::Tenant;
use super::queue::{LineId, Ticket};

/// The most a request is charged when it is placed, tokens: what it used beyond that is settled later.
const COST_MAX: i64 = 16_000;
/// The most a tenant can owe: with more, one long answer would keep it out for minutes.
const DEBT_MAX: i64 = 4 * COST_MAX;
/// Tenants that owe something and have nothing in the queue, at most; a flood of forged names shall not fill the memory.
const DEBTORS_MAX: usize = 1024;

/// The tenants of one class.
#[derive(Default)]
pub(super) struct Flows {
    /// Those that have something in the queue; the first is whose turn it is.
    ring: VecDeque<Tenant>,
    flows: HashMap<Tenant, Flow>,
    debtors: usize,
}

#[derive(Default)]
struct Flow {
    /// What it may spend, tokens; below 0 it owes.
    deficit: i64,
    count: usize,
    /// Its requests in order of arrival, line by line.
    lines: Vec<(LineId, VecDeque<Ticket>)>,
}

/// A request that could be placed and can't be paid for, of the tenant at this place of the ring.
#[derive(Debug, Clone, Copy)]
pub(super) struct Short {
    pub(super) tenant: Tenant,
    pub(super) cost: u64,
}

fn charge(cost: u64) -> i64 {
    i64::try_from(cost).unwrap_or(COST_MAX).clamp(1, COST_MAX)
}

impl Flows {
    pub(super) fn is_empty(&self) -> bool {
        self.ring.is_empty()
    }

    /// How many have something in the queue.
    pub(super) fn tenants(&self) -> usize {
        self.ring.len()
    }

    /// Whose turns it is, in order.
    pub(super) fn turns(&self) -> impl Iterator<Item = Tenant> {
        self.ring.iter().copied()
    }

    /// The first of each of a tenant's lines, in order of arrival.
    pub(super) fn heads(&self, tenant: Tenant) -> Vec<(Ticket, LineId)> {
        let lines = self.flows.get(&tenant).map_or(&[][..], |flow| &flow.lines);
        let heads = lines
            .iter()
            .filter_map(|(line, tickets)| Some((*tickets.front()?, *line)));
        let mut heads: Vec<_> = heads.collect();
        heads.sort_unstable_by_key(|(ticket, _)| *ticket);
        heads
    }

    /// Whether a tenant can pay.
    pub(super) fn affords(&self, tenant: Tenant, cost: u64) -> bool {
        let flow = self.flows.get(&tenant);
        flow.is_some_and(|flow| charge(cost) <= flow.deficit)
    }

    pub(super) fn push(&mut self, tenant: Tenant, line: LineId, ticket: Ticket) {
        let flow = self.flows.entry(tenant).or_default();
        if flow.count == 0 {
            self.debtors -= usize::from(flow.deficit < 0);
            self.ring.push_back(tenant);
        }
        flow.count += 1;
        match flow.lines.iter_mut().find(|(known, _)| *known == line) {
            // Nearly always the youngest; one that is promoted may be older than some.
            Some((_, tickets)) => {
                let at = tickets.partition_point(|known| *known < ticket);
                tickets.insert(at, ticket);
            }
            None => flow.lines.push((line, VecDeque::from([ticket]))),
        }
    }

    pub(super) fn remove(&mut self, tenant: Tenant, line: LineId, ticket: Ticket) {
        let Some(flow) = self.flows.get_mut(&tenant) else {
            return;
        };
        let Some(at) = flow.lines.iter().position(|(known, _)| *known == line) else {
            return;
        };
        let tickets = &mut flow.lines[at].1;
        let Ok(place) = tickets.binary_search(&ticket) else {
            return;
        };
        tickets.remove(place);
        if tickets.is_empty() {
            flow.lines.swap_remove(at);
        }
        flow.count -= 1;
        if flow.count == 0 {
            self.ring.retain(|known| *known != tenant);
            self.rest(tenant);
        }
    }

    /// A tenant with nothing in the queue keeps its debts, never its savings.
    fn rest(&mut self, tenant: Tenant) {
        let owes = self.flows.get(&tenant).is_some_and(|flow| flow.deficit < 0);
        if owes && self.debtors < DEBTORS_MAX {
            self.debtors += 1;
        } else {
            self.flows.remove(&tenant);
        }
    }

    /// Takes what a request costs from its tenant. The others come first now: many small requests that one round pays for shall not keep
    /// them waiting.
    pub(super) fn pay(&mut self, tenant: Tenant, cost: u64) {
        if let Some(flow) = self.flows.get_mut(&tenant) {
            flow.deficit = (flow.deficit - charge(cost)).max(-DEBT_MAX);
        }
        if let Some(at) = self.ring.iter().position(|known| *known == tenant) {
            self.ring.remove(at);
            self.ring.push_back(tenant);
        }
    }

    /// Charges what a request used beyond what was paid for it. Less is not given back: a request takes a slot however short its answer
    /// is, and what is given back to those who have more in the queue keeps those away who have not.
    pub(super) fn settle(&mut self, tenant: Tenant, beyond: u64) {
        let is_waiting = self.flows.get(&tenant).is_some_and(|flow| 0 < flow.count);
        if !is_waiting && self.flows.contains_key(&tenant) {
            self.debtors -= 1;
        }
        let flow = self.flows.entry(tenant).or_default();
        let beyond = i64::try_from(beyond).unwrap_or(DEBT_MAX);
        flow.deficit = flow.deficit.saturating_sub(beyond).max(-DEBT_MAX);
        if !is_waiting {
            self.rest(tenant);
        }
    }

    /// Everybody who could be placed gets as much as it takes for one of them to pay: the smallest round there can be, so that nobody
    /// saves up. Who competes for nothing gets nothing.
    pub(super) fn begin_round(&mut self, short: &[Short]) {
        let lacks = |it: &Short| {
            let deficit = self.flows.get(&it.tenant).map_or(0, |flow| flow.deficit);
            (charge(it.cost) - deficit).max(1)
        };
        let least = short.iter().map(lacks).min().unwrap_or(0);
        for it in short {
            if let Some(flow) = self.flows.get_mut(&it.tenant) {
                flow.deficit += least;
            }
        }
    }

    /// The tenant with most requests in the queue, and how many.
    pub(super) fn longest(&self) -> Option<(Tenant, usize)> {
        let counts = self
            .ring
            .iter()
            .map(|tenant| (*tenant, self.length_of(*tenant)));
        counts.max_by_key(|(_, count)| *count)
    }

    pub(super) fn length_of(&self, tenant: Tenant) -> usize {
        self.flows.get(&tenant).map_or(0, |flow| flow.count)
    }

    /// A tenant's youngest request.
    pub(super) fn last_of(&self, tenant: Tenant) -> Option<Ticket> {
        let flow = self.flows.get(&tenant)?;
        let lasts = flow.lines.iter().filter_map(|(_, tickets)| tickets.back());
        lasts.max().copied()
    }
}
