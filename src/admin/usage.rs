//! `/internal/stats/…`: what became of requests, by model and by dialect.

use serde_json::{Map, Value, json};

use crate::telemetry::stats::{Counts, ModelFigures, NodeFigures, OTHER, Report};

use super::State;
use super::human::{self, Now};
use super::models;
use super::query::Query;

/// `/internal/stats/models`; with `include_endpoints` by node too, with `include_summary` summed up.
pub(super) fn models(state: &State<'_>, query: Query<'_>) -> Value {
    let report = state.stats.full_report();
    let by_node = query.is_set("include_endpoints");
    let mut names: Vec<&String> = report.models.keys().collect();
    names.sort_unstable();
    let models: Vec<Value> = names
        .into_iter()
        .map(|name| model(name, &report.models[name], state.now, by_node))
        .collect();
    let mut page = json!({
        "timestamp": state.now.timestamp(),
        "endpoints": match by_node {
            true => nodes(&report, state.now),
            false => Value::Object(Map::new()),
        },
        "models": models,
    });
    if query.is_set("include_summary") {
        page["summary"] = summary(state, &report);
    }
    page
}

/// What all entries of these pages say of a number of requests.
fn requests(counts: &Counts, now: Now) -> Value {
    let traffic = counts.bytes_in.saturating_add(counts.bytes_out);
    let last = (0 < counts.last_ms).then(|| human::rfc3339(counts.last_ms));
    json!({
        "total_requests": counts.requests(),
        "successful_requests": counts.succeeded,
        "failed_requests": counts.failed,
        "refused_requests": counts.refused,
        "client_left_requests": counts.left,
        "success_rate": human::percent(counts.success_percent()),
        "success_percent": counts.success_percent(),
        "total_traffic": human::bytes(traffic),
        "total_traffic_bytes": traffic,
        "average_latency": human::millis(counts.avg_ms()),
        "average_latency_ms": counts.avg_ms(),
        "last_requested": now.since_wall(counts.last_ms),
        "last_requested_at": last,
    })
}

fn model(name: &str, figures: &ModelFigures, now: Now, by_node: bool) -> Value {
    let (all, routing) = (&figures.all, figures.routing);
    let mut fields = requests(&all.counts, now);
    fields["name"] = name.into();
    fields["p95_latency"] = human::millis(all.p95_ms).into();
    fields["p99_latency"] = human::millis(all.p99_ms).into();
    fields["p95_latency_ms"] = all.p95_ms.into();
    fields["p99_latency_ms"] = all.p99_ms.into();
    fields["min_latency_ms"] = all.min_ms.into();
    fields["max_latency_ms"] = all.max_ms.into();
    fields["unique_clients"] = figures.clients.into();
    fields["routing_hits"] = routing.hits.into();
    fields["routing_misses"] = routing.misses.into();
    fields["routing_fallbacks"] = routing.fallbacks.into();
    if by_node {
        let nodes = figures.nodes.iter();
        let told = nodes.map(|(name, counts)| (name.clone(), requests(counts, now)));
        fields["endpoint_breakdown"] = Value::Object(told.collect());
    }
    fields
}

/// Nodes that have left are told of as well, the oldest of too many names under [`OTHER`].
fn nodes(report: &Report, now: Now) -> Value {
    let other = OTHER.to_owned();
    let rest = (&other, &report.other_nodes);
    let rest = Some(rest).filter(|(_, figures)| **figures != NodeFigures::default());
    let told = report.nodes.iter().chain(rest).map(|(name, figures)| {
        let mut fields = requests(&figures.all.counts, now);
        fields["success_rate"] = human::percent(figures.success_percent()).into();
        fields["success_percent"] = figures.success_percent().into();
        fields["failed_over_requests"] = figures.failed_over.into();
        (name.clone(), fields)
    });
    Value::Object(told.collect())
}

fn summary(state: &State<'_>, report: &Report) -> Value {
    // By name, so that among equals always the same one is told.
    let mut known: Vec<(&str, u64)> = report
        .models
        .iter()
        .filter(|(name, _)| *name != OTHER)
        .map(|(name, figures)| (name.as_str(), figures.all.counts.requests()))
        .collect();
    known.sort_unstable_by(|(a, many), (b, more)| (more, a).cmp(&(many, b)));
    let name = |model: Option<&(&str, u64)>| model.map_or("", |(name, _)| name).to_owned();
    let total = &report.total.counts;
    let traffic = total.bytes_in.saturating_add(total.bytes_out);
    json!({
        "overall_success_rate": human::percent(total.success_percent()),
        "overall_success_percent": total.success_percent(),
        "total_traffic": human::bytes(traffic),
        "total_traffic_bytes": traffic,
        "most_popular_model": name(known.first()),
        "least_popular_model": name(known.last()),
        "total_models": models::count(state.view),
        "active_models": known.len(),
        "total_requests": total.requests(),
    })
}

/// `/internal/stats/sticky`. Conversations are remembered whether or not they stay with their nodes.
pub(super) fn sticky(state: &State<'_>) -> Value {
    let (rules, figures) = (state.sticky, (state.sessions)());
    let sources: Vec<&str> = rules.sources.iter().map(|source| source.word()).collect();
    json!({
        "enabled": rules.enabled,
        "active_sessions": figures.active,
        "insertions": figures.insertions,
        "hits": figures.hits,
        "misses": figures.misses,
        "repins": figures.repins,
        "evictions": figures.evictions,
        "max_sessions": rules.sessions_max,
        "idle_ttl_seconds": rules.idle_ttl.as_secs(),
        "key_sources": sources,
    })
}

/// `/internal/stats/translators`. Anthropic's calls go out as they came in: this version translates nothing.
pub(super) fn translators(state: &State<'_>) -> Value {
    let anthropic = state.stats.report().anthropic;
    let counts = &anthropic.counts;
    let all = counts.requests();
    let mut fields = requests(counts, state.now);
    let passthrough = human::percent(100.0 * anthropic.passthrough as f64 / all.max(1) as f64);
    fields["translator_name"] = "anthropic".into();
    fields["passthrough_rate"] = passthrough.clone().into();
    fields["passthrough_requests"] = anthropic.passthrough.into();
    fields["translation_requests"] = 0.into();
    fields["streaming_requests"] = anthropic.streaming.into();
    fields["non_streaming_requests"] = (all - anthropic.streaming).into();
    fields["fallback_no_compatible_endpoints"] = anthropic.unspoken.into();
    fields["fallback_translator_does_not_support_passthrough"] = 0.into();
    fields["fallback_cannot_passthrough"] = 0.into();
    json!({
        "timestamp": state.now.timestamp(),
        "translators": [fields],
        "summary": {
            "overall_success_rate": human::percent(counts.success_percent()),
            "overall_passthrough_rate": passthrough,
            "total_translators": 1,
            "active_translators": usize::from(0 < all),
            "total_requests": all,
            "total_passthrough": anthropic.passthrough,
            "total_translations": 0,
            "total_streaming": anthropic.streaming,
            "total_non_streaming": all - anthropic.streaming,
        },
    })
}
