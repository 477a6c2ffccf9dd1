//! What a run comes to in numbers.

use std::time::Duration;

use crate::engine::{Outcome, Story};
use crate::work::{FLOODER, TENANTS};

/// An answer that begins later than this is of no use to anybody.
const IN_TIME: Duration = Duration::from_secs(30);

/// The part of a run that counts: before it the fleet is still cold, after it nobody new comes.
#[derive(Clone, Copy)]
pub(crate) struct Window {
    pub(crate) begins: Duration,
    pub(crate) ends: Duration,
}

impl Window {
    fn has(&self, moment: Duration) -> bool {
        self.begins <= moment && moment < self.ends
    }

    fn seconds(&self) -> f64 {
        (self.ends - self.begins).as_secs_f64()
    }
}

/// One run's figures, or the medians of several.
#[derive(Clone, Copy)]
pub(crate) struct Figures {
    pub(crate) loads: f64,
    /// Seconds from arrival to first token, of requests that arrived in the window and were not refused.
    pub(crate) p50: f64,
    pub(crate) p95: f64,
    pub(crate) p99: f64,
    /// p95 of all tenants but the flooder.
    pub(crate) light_p95: f64,
    /// Share of their requests that were refused.
    pub(crate) light_refused: f64,
    /// Answered tokens per second of requests that arrived in the window and began to be answered in time.
    pub(crate) goodput: f64,
    /// Jain's index over the tenants with equal demand, on the tokens they were given within the window.
    pub(crate) jain: f64,
    /// Share of the requests that arrived in the window.
    pub(crate) refused: f64,
}

impl Figures {
    pub(crate) fn of(story: &Story, window: Window, is_flood: bool) -> Self {
        let inside: Vec<&Outcome> = story
            .outcomes
            .iter()
            .filter(|outcome| window.has(outcome.arrived))
            .collect();
        let is_light = |outcome: &&&Outcome| outcome.tenant != FLOODER;
        let all = waits(inside.iter().copied());
        let light = waits(inside.iter().filter(is_light).copied());
        let light_count = inside.iter().filter(is_light).count();
        let in_time = |outcome: &&&Outcome| wait(outcome).is_some_and(|wait| wait <= IN_TIME);
        let good: u64 = inside
            .iter()
            .filter(in_time)
            .map(|outcome| u64::from(outcome.output_tokens))
            .sum();
        let served = served(&story.outcomes, window);
        let equal = if is_flood {
            &served[FLOODER + 1..]
        } else {
            &served[..]
        };
        Self {
            loads: story.loads.iter().filter(|at| window.has(**at)).count() as f64,
            p50: percentile(&all, 0.50),
            p95: percentile(&all, 0.95),
            p99: percentile(&all, 0.99),
            light_p95: percentile(&light, 0.95),
            light_refused: 1.0 - light.len() as f64 / light_count.max(1) as f64,
            goodput: good as f64 / window.seconds(),
            jain: jain(equal),
            refused: 1.0 - all.len() as f64 / inside.len().max(1) as f64,
        }
    }

    /// Column by column, so that no row need be one that happened.
    pub(crate) fn median(runs: &[Self]) -> Self {
        Self::each(runs, |values| percentile(values, 0.5))
    }

    /// The worst of each column.
    pub(crate) fn worst(runs: &[Self]) -> Self {
        let most = Self::each(runs, |values| percentile(values, 1.0));
        let least = Self::each(runs, |values| percentile(values, 0.0));
        Self {
            goodput: least.goodput,
            jain: least.jain,
            ..most
        }
    }

    fn each(runs: &[Self], of: impl Fn(&[f64]) -> f64) -> Self {
        let column = |value: fn(&Self) -> f64| {
            let mut values: Vec<f64> = runs.iter().map(value).collect();
            values.sort_by(f64::total_cmp);
            of(&values)
        };
        Self {
            loads: column(|run| run.loads),
            p50: column(|run| run.p50),
            p95: column(|run| run.p95),
            p99: column(|run| run.p99),
            light_p95: column(|run| run.light_p95),
            light_refused: column(|run| run.light_refused),
            goodput: column(|run| run.goodput),
            jain: column(|run| run.jain),
            refused: column(|run| run.refused),
        }
    }
}

/// Middle of the values, which need not be in order.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    percentile(&values, 0.5)
}

fn wait(outcome: &Outcome) -> Option<Duration> {
    outcome.first_token.map(|first| first - outcome.arrived)
}

/// In seconds, shortest first.
fn waits<'a>(outcomes: impl Iterator<Item = &'a Outcome>) -> Vec<f64> {
    let mut waits: Vec<f64> = outcomes
        .filter_map(wait)
        .map(|wait| wait.as_secs_f64())
        .collect();
    waits.sort_by(f64::total_cmp);
    waits
}

/// Tokens of each tenant that were answered within the window, whenever they had been asked for.
fn served(outcomes: &[Outcome], window: Window) -> [f64; TENANTS] {
    let mut served = [0.0; TENANTS];
    for outcome in outcomes {
        if outcome.first_token.is_some() && window.has(outcome.ended) {
            served[outcome.tenant] += f64::from(outcome.output_tokens);
        }
    }
    served
}

/// The nearest rank; 0 where there are none.
fn percentile(sorted: &[f64], share: f64) -> f64 {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0.0)
}

/// 1 where all have the same, 1/n where one has everything.
fn jain(shares: &[f64]) -> f64 {
    let sum: f64 = shares.iter().sum();
    let squares: f64 = shares.iter().map(|share| share * share).sum();
    if squares == 0.0 {
        return 1.0;
    }
    sum * sum / (shares.len() as f64 * squares)
}
