//! What the nodes do, as seen from here.

use prometheus::{HistogramVec, IntCounterVec, IntGaugeVec};

use super::{DURATION_BUCKETS, Declare};

/// The nodes as seen from here.
pub struct Nodes {
    /// `arriero_upstream_requests_total` by `node` and `code`: heads of answers.
    pub answers: IntCounterVec,
    /// `arriero_upstream_errors_total` by `node` and `kind`: what a node did wrong.
    pub errors: IntCounterVec,
    /// `arriero_loads_total` by `node` and `outcome` (`loaded`, `failed`, `abandoned`): loads of models that we asked for.
    pub loads: IntCounterVec,
    /// `arriero_load_seconds` by `node`: how long those took that went well.
    pub load_time: HistogramVec,
    /// `arriero_placements_total` by `action` (`preload`, `pin`, `unpin`) and `outcome` (`done`, `failed`).
    pub placements: IntCounterVec,
    /// `arriero_upstream_inflight` by `node`: slots taken by this gateway.
    pub in_flight: IntGaugeVec,
    /// `arriero_upstream_health` by `node`: 1 healthy or on trial, 0 in every other state.
    pub health: IntGaugeVec,
    /// `arriero_upstream_state` by `node` and `state`: 1 for the state it is in.
    pub state: IntGaugeVec,
    /// `arriero_ejections_refused_total` by `reason`: failed requests that should have ejected their node and must not.
    pub ejections_refused: IntCounterVec,
    /// `arriero_hedges_total` by `outcome`: second requests whose answer was taken (`won`) or not (`lost`), and those not made
    /// (`refused`).
    pub hedges: IntCounterVec,
    /// `arriero_options_normalized_total` by `option` (`num_ctx`): requests sent with another option than the client's, which would have
    /// cost a reload.
    pub normalized: IntCounterVec,
    /// `arriero_upstream_model_loaded` by `node` and `model`: 1 while it is in memory.
    pub loaded: IntGaugeVec,
}

impl Nodes {
    /// What is known at the moment of asking only is set anew each time.
    pub(super) fn reset(&self) {
        for gauges in [&self.in_flight, &self.health, &self.state, &self.loaded] {
            gauges.reset();
        }
    }

    pub(super) fn declare(declare: &Declare<'_>) -> Result<Nodes, prometheus::Error> {
        let loaded = "1 for each model in a node's memory";
        Ok(Nodes {
            answers: declare.counter(
                "upstream_requests_total",
                "Answers by status",
                &["node", "code"],
            )?,
            errors: declare.counter(
                "upstream_errors_total",
                "Failures by kind",
                &["node", "kind"],
            )?,
            loads: declare.counter(
                "loads_total",
                "Loads of models that the gateway asked for",
                &["node", "outcome"],
            )?,
            load_time: declare.histogram(
                "load_seconds",
                "Loads that went well, the node's own queue included",
                "node",
                DURATION_BUCKETS,
            )?,
            placements: declare.counter(
                "placements_total",
                "Models put into memory, or kept there, ahead of requests",
                &["action", "outcome"],
            )?,
            in_flight: declare.gauges(
                "upstream_inflight",
                "Slots taken by this gateway",
                &["node"],
            )?,
            health: declare.gauges(
                "upstream_health",
                "1 healthy or on trial, 0 in every other state",
                &["node"],
            )?,
            state: declare.gauges(
                "upstream_state",
                "1 for the state each node is in",
                &["node", "state"],
            )?,
            ejections_refused: declare.counter(
                "ejections_refused_total",
                "Failures that would have ejected a node that must stay",
                &["reason"],
            )?,
            hedges: declare.counter(
                "hedges_total",
                "Slow embeddings and their second requests",
                &["outcome"],
            )?,
            normalized: declare.counter(
                "options_normalized_total",
                "Requests sent with another option, since the client's would have cost a reload",
                &["option"],
            )?,
            loaded: declare.gauges("upstream_model_loaded", loaded, &["node", "model"])?,
        })
    }
}
