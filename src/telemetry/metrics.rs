//! Counters, gauges and histograms in a registry of our own, so that two gateways in one process do not share figures.
//!
//! Labels come from closed sets: operations, node names, and model names that a node really has (`other` else), so that a
//! client cannot mint series.

use prometheus::{
    Encoder, GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder,
};

use super::record::{EndBy, Record};

/// All metrics of one gateway.
pub struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    duration: HistogramVec,
    first_byte: HistogramVec,
    tokens: IntCounterVec,
    client_aborts: IntCounterVec,
    pub retries: IntCounterVec,
    pub node_requests: IntCounterVec,
    pub node_errors: IntCounterVec,
    pub connections_rejected: IntCounterVec,
    pub connections: IntGauge,
    pub in_flight: IntGauge,
    pub queue_depth: IntGauge,
    pub queue_rejected: IntCounterVec,
    queue_wait: HistogramVec,
    pub node_in_flight: IntGaugeVec,
    pub node_health: IntGaugeVec,
    pub node_model_loaded: GaugeVec,
    pub draining: IntGauge,
}

/// Seconds; long at the top, since a cold model takes minutes.
const DURATION_BUCKETS: &[f64] = &[
    0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92, 163.84,
    327.68, 655.36,
];
const FIRST_BYTE_BUCKETS: &[f64] = &[
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
    15.0, 20.0, 30.0, 45.0, 60.0, 120.0,
];

impl Metrics {
    /// # Errors
    /// Only when a metric is declared twice, which is a bug.
    pub fn new() -> Result<Metrics, prometheus::Error> {
        let registry = Registry::new();
        let declare = Declare(&registry);
        let metrics = Metrics {
            requests: declare.counter(
                "http_requests_total",
                "Requests by how they ended",
                &["call", "code", "end_by"],
            )?,
            duration: declare.histogram(
                "http_request_duration_seconds",
                "Whole exchange",
                &["call"],
                DURATION_BUCKETS,
            )?,
            first_byte: declare.histogram(
                "time_to_first_byte_seconds",
                "From the request's head to the node's first body byte",
                &["model"],
                FIRST_BYTE_BUCKETS,
            )?,
            tokens: declare.counter(
                "tokens_total",
                "Tokens as the nodes counted them",
                &["model", "direction"],
            )?,
            client_aborts: declare.counter(
                "client_aborts_total",
                "Clients that left, by phase",
                &["phase"],
            )?,
            retries: declare.counter(
                "retries_total",
                "Attempts at another node, by reason",
                &["reason"],
            )?,
            node_requests: declare.counter(
                "upstream_requests_total",
                "Answers of nodes by status",
                &["node", "code"],
            )?,
            node_errors: declare.counter(
                "upstream_errors_total",
                "Failures of nodes by kind",
                &["node", "kind"],
            )?,
            connections_rejected: declare.counter(
                "connections_rejected_total",
                "Client connections closed",
                &["reason"],
            )?,
            connections: declare.gauge("active_connections", "Open client connections")?,
            in_flight: declare.gauge("active_requests", "Requests in work")?,
            queue_depth: declare.gauge("queue_depth", "Requests waiting for a slot")?,
            queue_rejected: declare.counter(
                "queue_rejected_total",
                "Requests not queued or queued too long",
                &["reason"],
            )?,
            queue_wait: declare.histogram(
                "queue_wait_seconds",
                "Time in the queue",
                &["model"],
                FIRST_BYTE_BUCKETS,
            )?,
            node_in_flight: declare.gauges(
                "upstream_inflight",
                "Slots taken by this gateway",
                &["node"],
            )?,
            node_health: declare.gauges("upstream_health", "1 up, 0 down or unknown", &["node"])?,
            node_model_loaded: declare.loaded()?,
            draining: declare.gauge("draining", "1 from SIGTERM on")?,
            registry: registry.clone(),
        };
        let info = declare.gauges("build_info", "The running version", &["version"])?;
        info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        Ok(metrics)
    }

    /// Counts a finished request.
    pub fn record(&self, record: &Record) {
        let call = record.operation.map_or("none", operation_label);
        let code = record.status.to_string();
        let seconds = record.duration.as_secs_f64();
        self.requests
            .with_label_values(&[call, &code, record.end_by.as_str()])
            .inc();
        self.duration.with_label_values(&[call]).observe(seconds);
        if record.end_by == EndBy::Client {
            self.client_aborts
                .with_label_values(&[record.phase.as_str()])
                .inc();
        }
        if record.model.is_none() {
            return;
        }
        let model = record.model_label.as_deref().unwrap_or("other");
        if let Some(first) = record.first_byte {
            self.first_byte
                .with_label_values(&[model])
                .observe(first.as_secs_f64());
        }
        if !record.queue.is_zero() {
            self.queue_wait
                .with_label_values(&[model])
                .observe(record.queue.as_secs_f64());
        }
        for (direction, count) in [
            ("in", record.usage.tokens_in),
            ("out", record.usage.tokens_out),
        ] {
            self.tokens
                .with_label_values(&[model, direction])
                .inc_by(count.unwrap_or(0));
        }
    }

    /// The Prometheus text format, 0.0.4.
    pub fn render(&self) -> Vec<u8> {
        let mut text = Vec::new();
        // Writing to memory cannot fail; a metric without a family would be a bug that an empty page shows.
        if let Err(error) = TextEncoder::new().encode(&self.registry.gather(), &mut text) {
            log::error!("metrics can't be written: {error}");
        }
        text
    }
}

/// Declares metrics under our prefix in one registry.
struct Declare<'a>(&'a Registry);

impl Declare<'_> {
    fn counter(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<IntCounterVec, prometheus::Error> {
        let counter = IntCounterVec::new(Opts::new(name, help).namespace("arriero"), labels)?;
        self.0.register(Box::new(counter.clone()))?;
        Ok(counter)
    }

    fn gauge(&self, name: &str, help: &str) -> Result<IntGauge, prometheus::Error> {
        let gauge = IntGauge::with_opts(Opts::new(name, help).namespace("arriero"))?;
        self.0.register(Box::new(gauge.clone()))?;
        Ok(gauge)
    }

    fn gauges(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<IntGaugeVec, prometheus::Error> {
        let gauge = IntGaugeVec::new(Opts::new(name, help).namespace("arriero"), labels)?;
        self.0.register(Box::new(gauge.clone()))?;
        Ok(gauge)
    }

    fn loaded(&self) -> Result<GaugeVec, prometheus::Error> {
        let help = "1 for each model in a node's memory";
        let gauge = GaugeVec::new(
            Opts::new("upstream_model_loaded", help).namespace("arriero"),
            &["node", "model"],
        )?;
        self.0.register(Box::new(gauge.clone()))?;
        Ok(gauge)
    }

    fn histogram(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
        buckets: &[f64],
    ) -> Result<HistogramVec, prometheus::Error> {
        let opts = HistogramOpts::new(name, help)
            .namespace("arriero")
            .buckets(buckets.to_vec());
        let histogram = HistogramVec::new(opts, labels)?;
        self.0.register(Box::new(histogram.clone()))?;
        Ok(histogram)
    }
}

/// The `call` label: the path of the call without mount and index.
pub fn operation_label(operation: crate::dialect::Operation) -> &'static str {
    use crate::dialect::Operation as O;
    match operation {
        O::Root => "root",
        O::Version => "version",
        O::Tags => "tags",
        O::Ps => "ps",
        O::Show => "show",
        O::Chat => "chat",
        O::Generate => "generate",
        O::Embed => "embed",
        O::Embeddings => "embeddings",
        O::ChatCompletions => "chat_completions",
        O::Completions => "completions",
        O::V1Embeddings => "v1_embeddings",
        O::Responses => "responses",
        O::Messages => "messages",
        O::CountTokens => "count_tokens",
        O::Models => "models",
        O::Model => "model",
        O::Blob => "blob",
    }
}
