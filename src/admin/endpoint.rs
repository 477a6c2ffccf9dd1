//! One node, as the status pages tell of it.

use std::time::Duration;

use serde_json::{Value, json};

use crate::fleet::{Health, Node};
use crate::telemetry::stats::NodeFigures;

use super::human::{self, Now};

/// Longest reason shown, characters: a path or a name in it may be of any length.
const ISSUE_CHARS_MAX: usize = 300;

/// A node, what became of its requests, and when this is told.
pub(super) struct Endpoint<'a> {
    pub(super) node: &'a Node,
    pub(super) figures: NodeFigures,
    pub(super) now: Now,
    /// No longer in the configuration, but requests are still with it.
    pub(super) leaving: bool,
}

impl Endpoint<'_> {
    /// As `/internal/status` lists it.
    pub(super) fn brief(&self) -> Value {
        let (node, counts) = (self.node, self.figures.all.counts);
        let mut fields = json!({
            "models": {
                "count": node.models().len(),
                "last_updated": self.synced_at(),
            },
            "avg_latency": human::millis(counts.avg_ms()),
            "traffic": human::bytes(self.traffic()),
            "traffic_bytes": self.traffic(),
            "last_check": self.now.ago(self.checked()),
            "next_check": match self.leaving {
                true => "never".to_owned(),
                false => self.now.until(self.next_check()),
            },
            "issues": issues(node).unwrap_or_default(),
            "connections": node.in_flight(),
            "requests": counts.requests(),
        });
        self.add_common(&mut fields);
        fields
    }

    /// As `/internal/status/endpoints` lists it.
    pub(super) fn whole(&self) -> Value {
        let (node, counts) = (self.node, self.figures.all.counts);
        let moments = node.moments();
        let took_ms = moments
            .probed()
            .map(|probed| probed.took.as_millis() as u64);
        let loaded: Vec<&str> = node.in_memory().collect();
        let lost = moments.lost();
        let mut fields = json!({
            "last_model_sync_at": self.synced_at(),
            "last_model_sync": self.now.ago(moments.listed()),
            "health_check": self.now.ago(self.checked()),
            "response_time": took_ms.map_or_else(String::new, human::millis),
            "response_time_ms": took_ms,
            "model_count": node.models().len(),
            "loaded": loaded,
            "lost_model_count": lost.count,
            "lost_models": lost.names,
            "request_count": counts.requests(),
            "succeeded_count": counts.succeeded,
            "failed_count": counts.failed,
            "client_left_count": counts.left,
            "failed_over_count": self.figures.failed_over,
            "active_connections": node.in_flight(),
            "slots": node.config.slots,
            "weight": node.config.weight,
            "version": node.version.as_deref(),
            "p95_latency_ms": self.figures.all.p95_ms,
            "p99_latency_ms": self.figures.all.p99_ms,
            "traffic_bytes": self.traffic(),
        });
        if let Some(issues) = issues(node) {
            fields["issues"] = issues.into();
        }
        self.add_common(&mut fields);
        fields
    }

    /// What both pages have.
    fn add_common(&self, fields: &mut Value) {
        let (node, all) = (self.node, self.figures.all);
        let at = |moment: Option<Duration>| moment.map(|moment| self.now.at(moment));
        let common = json!({
            "id": id(node),
            "name": node.config.name,
            "type": &*node.config.profile.name,
            "url": node.config.url.to_string(),
            "priority": node.config.priority,
            "status": match self.leaving {
                true => "leaving",
                false => node.state().as_str(),
            },
            "is_routable": !self.leaving && node.is_open(),
            "is_draining": node.draining,
            "health_check_at": at(self.checked()),
            "next_check_at": at(self.next_check()),
            "success_rate": human::percent(self.figures.success_percent()),
            "success_percent": self.figures.success_percent(),
            "avg_latency_ms": all.counts.avg_ms(),
            "min_latency_ms": all.min_ms,
            "max_latency_ms": all.max_ms,
        });
        if let (Value::Object(fields), Value::Object(common)) = (fields, common) {
            fields.extend(common);
        }
    }

    fn checked(&self) -> Option<Duration> {
        self.node.moments().probed().map(|probed| probed.at)
    }

    /// A node that is leaving is not probed any more.
    fn next_check(&self) -> Option<Duration> {
        let interval = self.node.config.check_interval;
        let next = self.checked().map(|at| at + interval);
        next.filter(|_| !self.leaving)
    }

    fn synced_at(&self) -> Option<String> {
        Some(self.now.at(self.node.moments().listed()?))
    }

    fn traffic(&self) -> u64 {
        let counts = self.figures.all.counts;
        counts.bytes_in.saturating_add(counts.bytes_out)
    }
}

/// Why the node is not used; `None` when nothing is wrong with it.
fn issues(node: &Node) -> Option<String> {
    let Health::Down { why, .. } = &node.health else {
        return None;
    };
    Some(why.chars().take(ISSUE_CHARS_MAX).collect())
}

/// A short name for a node that stays the same as long as its address does: FNV-1a of its URL, to the base of 36.
pub(super) fn id(node: &Node) -> String {
    let url = node.config.url.to_string();
    let mut hash = url.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mut digits = Vec::with_capacity(13);
    while digits.is_empty() || 0 < hash {
        digits.push(b"0123456789abcdefghijklmnopqrstuvwxyz"[(hash % 36) as usize]);
        hash /= 36;
    }
    digits
        .iter()
        .rev()
        .map(|digit| char::from(*digit))
        .collect()
}
