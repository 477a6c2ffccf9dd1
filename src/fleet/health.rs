//! Whether a node may be trusted with a request: a pure machine fed by probes and by traffic alike.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::HealthConfig;

/// Successes under traffic after which an earlier ejection is forgiven.
pub const CALM_RUN: u32 = 32;

/// What we believe about a node's health.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// Neither proven nor disproven: routed to only when no node is `Up`.
    Unknown,
    /// Proven by probes or by traffic: routed to.
    Up,
    /// `until` is set when requests failed: probes alone do not bring the node back before that moment.
    Down {
        /// When it went down; later failures do not move it.
        since: Instant,
        /// The failure that took it down, for people.
        why: Arc<str>,
        /// End of the ejection; `None` when only probes failed.
        until: Option<Instant>,
    },
}

impl Health {
    /// Whether it is `Up`; an unknown node is neither up nor down.
    pub fn is_up(&self) -> bool {
        matches!(self, Health::Up)
    }

    /// Whether it is `Down`, ejected or not.
    pub fn is_down(&self) -> bool {
        matches!(self, Health::Down { .. })
    }
}

/// A node's health and the counters behind it.
///
/// Failures of probes and of traffic add up. A good probe forgives only failed probes, because a node that answers `/` may
/// still fail every chat; a good request forgives both.
#[derive(Debug)]
pub struct Machine {
    health: Health,
    probe_failures: u32,
    traffic_failures: u32,
    probe_successes: u32,
    traffic_successes: u32,
    /// Ejections not yet forgiven; each doubles the next one's length.
    ejections: u32,
    /// Since when no request has failed and the node was not down.
    calm_since: Option<Instant>,
}

impl Default for Machine {
    fn default() -> Machine {
        Machine::new()
    }
}

impl Machine {
    /// Health `Unknown`, nothing counted.
    pub fn new() -> Machine {
        Machine {
            health: Health::Unknown,
            probe_failures: 0,
            traffic_failures: 0,
            probe_successes: 0,
            traffic_successes: 0,
            ejections: 0,
            calm_since: None,
        }
    }

    /// As of the last probe or request that was told.
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// Whether one more success would change nothing, so that it need not be told.
    pub fn is_steady(&self) -> bool {
        self.health == Health::Up
            && self.probe_failures == 0
            && self.traffic_failures == 0
            && self.ejections == 0
    }

    /// A probe ended; the error says why it failed.
    pub fn probed(&mut self, result: Result<(), &str>, now: Instant, limits: &HealthConfig) {
        self.forgive(now, limits);
        match result {
            Ok(()) => {
                self.probe_failures = 0;
                self.probe_successes = self.probe_successes.saturating_add(1);
                if self.may_return(now, limits) {
                    self.rise(now);
                }
            }
            Err(why) => {
                self.probe_successes = 0;
                self.probe_failures = self.probe_failures.saturating_add(1);
                self.trip(why, now, limits);
            }
        }
    }

    /// A request ended; the error says what the node did wrong.
    pub fn served(&mut self, result: Result<(), &str>, now: Instant, limits: &HealthConfig) {
        // Whatever ends while the node is down was sent before it went down and tells nothing new.
        if matches!(self.health, Health::Down { .. }) {
            return;
        }
        self.forgive(now, limits);
        match result {
            Ok(()) => {
                self.probe_failures = 0;
                self.traffic_failures = 0;
                self.traffic_successes = self.traffic_successes.saturating_add(1);
                if self.traffic_successes >= CALM_RUN {
                    self.ejections = 0;
                }
                if self.health == Health::Unknown {
                    self.rise(now);
                }
            }
            Err(why) => {
                self.traffic_successes = 0;
                self.traffic_failures = self.traffic_failures.saturating_add(1);
                self.calm_since = Some(now);
                self.trip(why, now, limits);
            }
        }
    }

    /// A node of which nothing bad is known is believed at its first good probe, one that was down must earn it.
    fn may_return(&self, now: Instant, limits: &HealthConfig) -> bool {
        match self.health {
            Health::Unknown => true,
            Health::Up => false,
            Health::Down { until, .. } => {
                self.probe_successes >= limits.healthy_threshold
                    && until.is_none_or(|until| until <= now)
            }
        }
    }

    fn rise(&mut self, now: Instant) {
        self.health = Health::Up;
        self.probe_failures = 0;
        self.traffic_failures = 0;
        self.traffic_successes = 0;
        self.calm_since = Some(now);
    }

    fn trip(&mut self, why: &str, now: Instant, limits: &HealthConfig) {
        let failures = self.probe_failures.saturating_add(self.traffic_failures);
        let is_down = matches!(self.health, Health::Down { .. });
        if is_down || failures < limits.unhealthy_threshold {
            return;
        }
        let until = (self.traffic_failures > 0).then(|| {
            self.ejections = self.ejections.saturating_add(1);
            now + ejection(self.ejections, limits)
        });
        self.health = Health::Down {
            since: now,
            why: why.into(),
            until,
        };
        self.probe_successes = 0;
    }

    /// Old sins are forgotten after a calm time as long as the longest ejection.
    fn forgive(&mut self, now: Instant, limits: &HealthConfig) {
        let is_down = matches!(self.health, Health::Down { .. });
        let calm = self
            .calm_since
            .map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        if !is_down && limits.eject_max <= calm {
            self.ejections = 0;
            self.traffic_failures = 0;
        }
    }
}

/// How long the `nth` ejection in a row lasts, counted from 1.
fn ejection(nth: u32, limits: &HealthConfig) -> Duration {
    let doublings = nth.saturating_sub(1).min(31);
    limits
        .eject_base
        .saturating_mul(1 << doublings)
        .min(limits.eject_max)
}

#[cfg(test)]
mod tests;
