//! Whether a node may be trusted with a request: a pure machine fed by probes and by traffic alike.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::HealthConfig;

/// Successes under traffic, in a row, after which an earlier ejection is forgiven and a node that came back may have any number of
/// requests at once.
pub const CALM_RUN: u32 = 32;
/// How long a rate-limited node is left alone when it does not say.
const PAUSE_DEFAULT: Duration = Duration::from_secs(30);
/// A node that wants to be asked again at once is not taken at its word.
const PAUSE_MIN: Duration = Duration::from_secs(1);
/// A rate-limited node is believed up to so many times `eject_max`: its word may be a mistake, and nobody but us corrects it.
const PAUSE_EJECTIONS_MAX: u32 = 10;

/// What we believe about a node's health.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// Neither proven nor disproven: routed to only when no node is `Up`.
    Unknown,
    /// Proven by probes or by traffic: routed to.
    Up,
    /// Back from an ejection and not yet proven by traffic: routed to with one request at a time.
    Trial,
    /// Not routed to.
    Down {
        /// When it went down; later failures do not move it.
        since: Instant,
        /// What it suffers from, as far as is known now.
        cause: Cause,
        /// The failure that took it down, for the operator; it holds nothing of what a client sent or got.
        why: Arc<str>,
        /// Probes alone do not bring it back before that moment; `None` when the next good ones do.
        until: Option<Instant>,
    },
}

/// Why a node is down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Its probes fail.
    Probe,
    /// Its probes succeed and its requests fail: it is ejected.
    Traffic,
    /// It answers 401 or 403: our key, or another part of the configuration, is wrong.
    Refused,
    /// It answers 429.
    RateLimited,
}

/// Why a node whose requests fail is in service all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spared {
    /// No other node in service has one of its models, or none is in service at all.
    LastHolder,
    /// `max_ejected_percent` are ejected already.
    Percent,
}

impl Spared {
    /// Label of `arriero_ejections_refused_total`.
    pub fn as_str(self) -> &'static str {
        match self {
            Spared::LastHolder => "last_holder",
            Spared::Percent => "percent",
        }
    }
}

impl Health {
    /// Whether it is routed to like any other: `Up`, or on trial. An unknown node is neither up nor down.
    pub fn is_up(&self) -> bool {
        matches!(self, Health::Up | Health::Trial)
    }

    /// Whether it is `Down`, for whatever cause.
    pub fn is_down(&self) -> bool {
        matches!(self, Health::Down { .. })
    }

    /// Why it is down; `None` when it is not.
    pub fn cause(&self) -> Option<Cause> {
        match self {
            Health::Down { cause, .. } => Some(*cause),
            _ => None,
        }
    }
}

/// A node's health and the counters behind it.
///
/// Failures of probes and of traffic add up. A good probe forgives only failed probes, because a node that answers `/` may
/// still fail every chat; a good request forgives both. For the same reason a node whose requests failed comes back on trial.
#[derive(Debug)]
pub struct Machine {
    health: Health,
    probe_failures: u32,
    traffic_failures: u32,
    probe_successes: u32,
    traffic_successes: u32,
    /// Ejections not yet forgiven; each doubles the next one's length.
    ejections: u32,
    /// Whether a request must succeed before it counts as up again.
    owes_trial: bool,
    /// Whether it has been down and is not yet trusted with any number of requests at once.
    is_returning: bool,
    spared: Option<Spared>,
    /// Since when no request has failed and the node was up.
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
            owes_trial: false,
            is_returning: false,
            spared: None,
            calm_since: None,
        }
    }

    /// As of the last probe or request that was told.
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// Set while its requests fail and it is in service all the same.
    pub fn spared(&self) -> Option<Spared> {
        self.spared
    }

    /// Whether one more success would change nothing, so that it need not be told.
    pub fn is_steady(&self) -> bool {
        self.health == Health::Up
            && self.probe_failures == 0
            && self.traffic_failures == 0
            && self.ejections == 0
            && !self.is_returning
    }

    /// Requests the node may have at once as far as its health goes; `None` is no limit: a node that is down is not asked anyway.
    ///
    /// One that comes back from being down has an empty queue and would be sent everybody who waits. It begins with one request, and
    /// every success in a row allows one more, which doubles their number with each round of them.
    pub fn at_once_max(&self) -> Option<u32> {
        let allowed = self.traffic_successes.saturating_add(1);
        let is_back = self.is_returning && !self.health.is_down();
        is_back.then_some(allowed)
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
                } else {
                    self.is_reachable();
                }
            }
            Err(why) => {
                self.probe_successes = 0;
                self.probe_failures = self.probe_failures.saturating_add(1);
                self.unreachable(why, now, limits);
            }
        }
    }

    /// A request ended; the error says what the node did wrong. `spare` is asked when that should eject the node, and may say why
    /// it must not.
    pub fn served(
        &mut self,
        result: Result<(), &str>,
        now: Instant,
        limits: &HealthConfig,
        spare: impl FnOnce() -> Option<Spared>,
    ) {
        // Whatever ends while the node is down was sent before it went down and tells nothing new.
        if self.health.is_down() {
            return;
        }
        self.forgive(now, limits);
        let Err(why) = result else {
            return self.succeeded(now);
        };
        self.traffic_successes = 0;
        self.traffic_failures = self.traffic_failures.saturating_add(1);
        self.calm_since = Some(now);
        if self.health == Health::Trial || self.has_failed_enough(limits) {
            self.spared = spare();
            if self.spared.is_none() {
                let until = self.eject(now, limits);
                self.fall(Cause::Traffic, why, Some(until), now);
            }
        }
    }

    /// The node answered 401 or 403. That does not heal by itself, so once is enough; the next good probe ends it.
    pub fn refused(&mut self, why: &str, now: Instant) {
        self.fall(Cause::Refused, why, None, now);
    }

    /// The node answered 429, and wants to be left alone for so long if it said so.
    pub fn rate_limited(
        &mut self,
        why: &str,
        retry_after: Option<Duration>,
        now: Instant,
        limits: &HealthConfig,
    ) {
        let longest = limits.eject_max.saturating_mul(PAUSE_EJECTIONS_MAX);
        let pause = retry_after
            .unwrap_or(PAUSE_DEFAULT)
            .min(longest)
            .max(PAUSE_MIN);
        self.fall(Cause::RateLimited, why, Some(now + pause), now);
    }

    /// A node of which nothing bad is known is believed at its first good probe, one that was down must earn it.
    fn may_return(&self, now: Instant, limits: &HealthConfig) -> bool {
        match self.health {
            Health::Unknown => true,
            Health::Up | Health::Trial => false,
            Health::Down { until, .. } => {
                self.probe_successes >= limits.healthy_threshold
                    && until.is_none_or(|until| until <= now)
            }
        }
    }

    fn rise(&mut self, now: Instant) {
        self.health = match self.owes_trial {
            true => Health::Trial,
            false => Health::Up,
        };
        self.probe_failures = 0;
        self.traffic_failures = 0;
        self.traffic_successes = 0;
        self.spared = None;
        self.calm_since = Some(now);
    }

    fn succeeded(&mut self, now: Instant) {
        if !matches!(self.health, Health::Up) {
            self.owes_trial = false;
            self.rise(now);
        }
        self.probe_failures = 0;
        self.traffic_failures = 0;
        self.spared = None;
        self.traffic_successes = self.traffic_successes.saturating_add(1);
        if self.traffic_successes >= CALM_RUN {
            self.ejections = 0;
            self.is_returning = false;
        }
    }

    /// A good probe that does not bring the node back: what keeps it down is its failed requests alone.
    fn is_reachable(&mut self) {
        let owes_trial = self.owes_trial;
        if let Health::Down { cause, .. } = &mut self.health
            && *cause == Cause::Probe
            && owes_trial
        {
            *cause = Cause::Traffic;
        }
    }

    fn unreachable(&mut self, why: &str, now: Instant, limits: &HealthConfig) {
        let is_news = match self.health.cause() {
            // What took it down counts no more as its cause once its probes fail as often as would have sufficed alone.
            Some(cause) => {
                cause != Cause::Probe && limits.unhealthy_threshold <= self.probe_failures
            }
            None => self.has_failed_enough(limits),
        };
        if is_news {
            let failed_requests = !self.health.is_down() && 0 < self.traffic_failures;
            let until = failed_requests.then(|| self.eject(now, limits));
            self.fall(Cause::Probe, why, until, now);
        }
    }

    fn has_failed_enough(&self, limits: &HealthConfig) -> bool {
        let failures = self.probe_failures.saturating_add(self.traffic_failures);
        limits.unhealthy_threshold <= failures
    }

    /// Counts an ejection; returns its end.
    fn eject(&mut self, now: Instant, limits: &HealthConfig) -> Instant {
        self.ejections = self.ejections.saturating_add(1);
        self.owes_trial = true;
        now + ejection(self.ejections, limits)
    }

    /// Down, or down for another cause; what was promised to last longer still does.
    fn fall(&mut self, cause: Cause, why: &str, until: Option<Instant>, now: Instant) {
        let (since, until) = match self.health {
            Health::Down {
                since, until: old, ..
            } => (since, old.max(until)),
            _ => (now, until),
        };
        self.health = Health::Down {
            since,
            cause,
            why: why.into(),
            until,
        };
        self.probe_successes = 0;
        self.traffic_successes = 0;
        self.is_returning = true;
        self.spared = None;
    }

    /// Old sins are forgotten after a calm time as long as the longest ejection. A trial is no calm time: nobody may have asked.
    fn forgive(&mut self, now: Instant, limits: &HealthConfig) {
        let calm = self
            .calm_since
            .map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        let is_calm = matches!(self.health, Health::Up | Health::Unknown);
        if is_calm && limits.eject_max <= calm {
            self.ejections = 0;
            self.is_returning = false;
            self.traffic_failures = 0;
            self.spared = None;
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
