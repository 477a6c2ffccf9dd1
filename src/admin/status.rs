//! `/internal/status` and `/internal/status/endpoints`: the gateway and its nodes at a glance.

use serde_json::{Value, json};

use crate::fleet::Node;
use crate::telemetry::stats::{Report, percent};

use super::endpoint::Endpoint;
use super::human;
use super::{About, State};

/// `/internal/status`.
pub(super) fn overview(state: &State<'_>) -> Value {
    let (report, about) = (state.stats.report(), (state.about)());
    let endpoints = endpoints(state, &report, |endpoint| endpoint.brief());
    json!({
        "timestamp": state.now.timestamp(),
        "proxy": {
            "engine": "arriero",
            "profile": "auto",
            "balancer": about.balancer,
        },
        "endpoints": endpoints,
        "security": security(&report),
        "system": system(state, &report, &about),
    })
}

/// `/internal/status/endpoints`.
pub(super) fn all_endpoints(state: &State<'_>) -> Value {
    let endpoints = endpoints(state, &state.stats.report(), |endpoint| endpoint.whole());
    let view = state.view;
    json!({
        "timestamp": state.now.timestamp(),
        "endpoints": endpoints,
        "total_count": view.nodes.len(),
        "healthy_count": healthy(state),
        "routable_count": view.nodes.iter().filter(|node| node.is_open()).count(),
        "leaving_count": view.leaving().count(),
    })
}

/// All nodes, then those that are leaving.
fn endpoints(
    state: &State<'_>,
    report: &Report,
    told: impl Fn(&Endpoint<'_>) -> Value,
) -> Vec<Value> {
    let of = |node: &Node, leaving| {
        let figures = report.nodes.get(&node.config.name);
        told(&Endpoint {
            node,
            figures: figures.copied().unwrap_or_default(),
            now: state.now,
            leaving,
        })
    };
    let staying = state.view.nodes.iter().map(|node| of(node, false));
    let leaving = state.view.leaving().map(|node| of(node, true));
    staying.chain(leaving).collect()
}

fn healthy(state: &State<'_>) -> usize {
    let nodes = state.view.nodes.iter();
    nodes.filter(|node| node.health.is_up()).count()
}

fn security(report: &Report) -> Value {
    let refusals = report.refusals;
    let sizes = refusals.body_too_large + refusals.head_too_large;
    json!({
        "status": match sizes + refusals.too_many {
            0 => "normal",
            _ => "refusing",
        },
        "blocked_ips": 0, // nobody is ever blocked, only single requests are refused
        "violations": {
            "rate_limits": refusals.too_many,
            "size_limits": sizes,
        },
        "body_too_large": refusals.body_too_large,
        "head_too_large": refusals.head_too_large,
    })
}

fn system(state: &State<'_>, report: &Report, about: &About) -> Value {
    let counts = report.total.counts;
    let (up, all) = (healthy(state), state.view.nodes.len());
    let refusals = report.refusals;
    let traffic = counts.bytes_in.saturating_add(counts.bytes_out);
    json!({
        "start_time": human::rfc3339(about.started_ms),
        "status": verdict(up, all, counts.success_percent()),
        "endpoints_up": format!("{up}/{all}"),
        "success_rate": human::percent(counts.success_percent()),
        "success_percent": counts.success_percent(),
        "avg_latency": human::millis(counts.avg_ms()),
        "avg_latency_ms": counts.avg_ms(),
        "total_traffic": human::bytes(traffic),
        "total_traffic_bytes": traffic,
        "uptime": human::duration(state.now.uptime),
        "uptime_s": state.now.uptime.as_secs(),
        "version": about.version,
        "commit": about.commit,
        "active_connections": about.connections,
        "active_requests": about.requests,
        "security_violations": refusals.too_many + refusals.body_too_large + refusals.head_too_large,
        "total_requests": counts.requests(),
        "total_succeeded": counts.succeeded,
        "total_failures": counts.failed,
        "total_refused": counts.refused,
        "total_client_left": counts.left,
        "has_traffic": 0 < counts.requests(),
        "is_draining": state.draining,
    })
}

/// One word for the whole: by the share of healthy nodes and by the share of successes, whichever is worse.
fn verdict(up: usize, all: usize, success_percent: f64) -> &'static str {
    let up_percent = match all {
        0 => 0.0, // without a node nobody is served
        _ => percent(up as u64, (all - up) as u64),
    };
    if up_percent < 50.0 || success_percent < 90.0 {
        "critical"
    } else if up_percent < 80.0 || success_percent < 95.0 {
        "degraded"
    } else {
        "healthy"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verdict_is_the_worse_of_the_two_shares() {
        let cases = [
            (2, 2, 100.0, "healthy"),
            (0, 0, 100.0, "critical"),
            (4, 5, 95.0, "healthy"),
            (3, 4, 100.0, "degraded"),
            (2, 2, 94.9, "degraded"),
            (1, 2, 100.0, "degraded"),
            (1, 3, 100.0, "critical"),
            (2, 2, 89.9, "critical"),
            (0, 1, 100.0, "critical"),
        ];
        for (up, all, success, expected) in cases {
            assert_eq!(verdict(up, all, success), expected, "{up}/{all} {success}");
        }
    }
}
