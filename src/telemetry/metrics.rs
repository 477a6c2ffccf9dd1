//! Counters, gauges and histograms in a registry of our own, so that two gateways in one process do not share figures.
//!
//! Labels come from closed sets: operations, node names, and model names that a node really has (`other` else), so that a
//! client cannot mint series.

use std::sync::{Mutex, PoisonError};

use prometheus::{
    Encoder, GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder,
};

mod figures;

mod labels;

mod nodes;

pub use nodes::Nodes;

use figures::LastFigures;
use labels::Models;
pub use labels::operation_label;

use super::record::{EndBy, Record};

/// All metrics of one gateway.
pub struct Metrics {
    registry: Registry,
    models: Models,
    /// Held while gauges are set and read, so that two readers at once do not see each other's half.
    reading: Mutex<()>,
    requests: Requests,
    /// The clients' connections.
    pub connections: Connections,
    /// Requests that wait for a slot.
    pub queue: Queue,
    /// The nodes as seen from here.
    pub nodes: Nodes,
    /// `arriero_retries_total` by `reason`: attempts at another node, and those the budget forbade.
    pub retries: IntCounterVec,
    /// `arriero_management_total` by `operation` and `outcome` (`done`, `partial`, `failed`, `left`): changes of nodes.
    pub management: IntCounterVec,
    /// New configurations.
    pub reloads: Reloads,
    /// Names that DNS is asked for.
    pub sources: Sources,
    /// `arriero_discovery_refreshes_total` by `result`: what asking the nodes again did for requests whose model nobody had.
    pub refreshes: IntCounterVec,
    /// `arriero_active_requests`: requests in work, the waiting included.
    pub in_flight: IntGauge,
    /// `arriero_model_conflicts`: names under which nodes have different models.
    pub model_conflicts: IntGauge,
    /// `arriero_draining`: 1 from SIGTERM on, else 0.
    pub draining: IntGauge,
}

/// What became of requests; told by their records alone.
struct Requests {
    ended: IntCounterVec,
    duration: HistogramVec,
    first_byte: HistogramVec,
    first_token: HistogramVec,
    tokens: IntCounterVec,
    client_aborts: IntCounterVec,
    queue_wait: HistogramVec,
    extracted: LastFigures,
    extraction_missed: IntCounterVec,
}

/// The clients' connections.
pub struct Connections {
    /// `arriero_active_connections`, of both listeners.
    pub open: IntGauge,
    /// `arriero_connections_rejected_total` by `reason`: `too_many`, `header_timeout`.
    pub rejected: IntCounterVec,
}

/// Names whose every address is a node.
pub struct Sources {
    /// `arriero_dns_source_up` by `name`: 1 while the last question got a good answer.
    pub up: IntGaugeVec,
    /// `arriero_dns_source_addresses` by `name`: those in use, which a failed question does not change.
    pub addresses: IntGaugeVec,
}

/// New configurations.
pub struct Reloads {
    /// `arriero_config_reloads_total` by `result`: `done`, `refused`.
    pub ended: IntCounterVec,
    /// `arriero_config_last_reload_successful`: 1 or 0; 1 before the first.
    pub last_ok: IntGauge,
}

/// Requests that wait for a slot.
pub struct Queue {
    /// `arriero_queue_depth`: requests in the queue now.
    pub depth: IntGauge,
    /// `arriero_queue_rejected_total` by `reason`: `full` on arrival, `late` after `proxy.queue.max_wait`.
    pub rejected: IntCounterVec,
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
        let info = declare.gauges("build_info", "The running version", &["version"])?;
        info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let managed = "Changes of the nodes' models by how they ended";
        let retries = "Attempts at another node, by reason; budget_exhausted were not made";
        Ok(Metrics {
            requests: Requests::declare(&declare)?,
            connections: Connections {
                open: declare.gauge(
                    "active_connections",
                    "Open connections, those of the admin listener too",
                )?,
                rejected: declare.counter(
                    "connections_rejected_total",
                    "Closed by us",
                    &["reason"],
                )?,
            },
            queue: Queue {
                depth: declare.gauge("queue_depth", "Requests waiting for a slot")?,
                rejected: declare.counter(
                    "queue_rejected_total",
                    "Not queued, or too long",
                    &["reason"],
                )?,
            },
            nodes: Nodes::declare(&declare)?,
            reloads: Reloads::declare(&declare)?,
            sources: Sources {
                up: declare.gauges("dns_source_up", "1 while a name resolves", &["name"])?,
                addresses: declare.gauges(
                    "dns_source_addresses",
                    "Nodes behind a name",
                    &["name"],
                )?,
            },
            retries: declare.counter("retries_total", retries, &["reason"])?,
            refreshes: declare.counter(
                "discovery_refreshes_total",
                "Misses that made the nodes be asked for their models",
                &["result"],
            )?,
            management: declare.counter("management_total", managed, &["operation", "outcome"])?,
            in_flight: declare.gauge("active_requests", "Requests in work")?,
            model_conflicts: declare.gauge(
                "model_conflicts",
                "Names under which nodes have different models",
            )?,
            draining: declare.gauge("draining", "1 from SIGTERM on")?,
            registry: registry.clone(),
            models: Models::default(),
            reading: Mutex::default(),
        })
    }

    /// Counts a finished request, and takes out of it what its answer has of figures.
    pub fn record(&self, record: &mut Record) {
        let requests = &self.requests;
        let call = record.operation.map_or("none", operation_label);
        let code = record.status.to_string();
        let seconds = record.duration.as_secs_f64();
        requests
            .ended
            .with_label_values(&[call, &code, record.end_by.as_str()])
            .inc();
        requests
            .duration
            .with_label_values(&[call])
            .observe(seconds);
        if record.end_by == EndBy::Client {
            requests
                .client_aborts
                .with_label_values(&[record.phase.as_str()])
                .inc();
        }
        if record.model.is_none() {
            return;
        }
        let known = record.model_label.as_deref();
        let model = known.map_or("other", |model| self.models.label(model));
        for (histogram, moment) in [
            (&requests.first_byte, record.first_byte),
            (&requests.first_token, record.first_token),
        ] {
            if let Some(moment) = moment {
                histogram
                    .with_label_values(&[model])
                    .observe(moment.as_secs_f64());
            }
        }
        if !record.queue.is_zero() {
            requests
                .queue_wait
                .with_label_values(&[model])
                .observe(record.queue.as_secs_f64());
        }
        for (direction, count) in [
            ("in", record.usage.tokens_in),
            ("out", record.usage.tokens_out),
        ] {
            requests
                .tokens
                .with_label_values(&[model, direction])
                .inc_by(count.unwrap_or(0));
        }
        let Some(node) = record.node.as_deref() else {
            return;
        };
        if let Some(sample) = record.sample.take() {
            requests.extracted.keep(model, node, sample);
        }
        if record.extraction_missed {
            requests.extraction_missed.with_label_values(&[node]).inc();
        }
    }

    /// The Prometheus text format, 0.0.4, with the gauges that `now` sets. The series of nodes that are gone end.
    pub fn render(&self, is_gone: &dyn Fn(&str) -> bool, now: impl FnOnce(&Metrics)) -> Vec<u8> {
        let _reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        self.nodes.reset();
        self.requests.extracted.show();
        self.end(is_gone);
        now(self);
        let mut text = Vec::new();
        // Writing to memory cannot fail; a metric without a family would be a bug that an empty page shows.
        if let Err(error) = TextEncoder::new().encode(&self.registry.gather(), &mut text) {
            log::error!("metrics can't be written: {error}");
        }
        text
    }
}

impl Metrics {
    /// Ends the series of nodes that are gone, and drops what was kept for them. Where nobody reads the metrics, nothing else does.
    pub fn end_of_gone(&self, is_gone: &dyn Fn(&str) -> bool) {
        let _reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        self.end(is_gone);
    }

    fn end(&self, is_gone: &dyn Fn(&str) -> bool) {
        for series in [
            &self.nodes.answers,
            &self.nodes.errors,
            &self.nodes.loads,
            &self.requests.extraction_missed,
        ] {
            labels::forget(series, is_gone);
        }
        labels::forget(&self.nodes.load_time, is_gone);
        self.requests.extracted.forget(is_gone);
    }

    /// Ends the figures of answers: other ones are taken from now on.
    pub fn end_of_figures(&self) {
        self.requests.extracted.forget(&|_| true);
    }
}

impl Requests {
    fn declare(declare: &Declare<'_>) -> Result<Requests, prometheus::Error> {
        let ended = ["call", "code", "end_by"];
        let first_byte = "From the request's head to the node's first body byte";
        Ok(Requests {
            ended: declare.counter("http_requests_total", "Requests by how they ended", &ended)?,
            duration: declare.histogram(
                "http_request_duration_seconds",
                "Whole exchange",
                "call",
                DURATION_BUCKETS,
            )?,
            first_byte: declare.histogram(
                "time_to_first_byte_seconds",
                first_byte,
                "model",
                FIRST_BYTE_BUCKETS,
            )?,
            first_token: declare.histogram(
                "time_to_first_token_seconds",
                "From the request's head to the first thing a model made",
                "model",
                FIRST_BYTE_BUCKETS,
            )?,
            tokens: declare.counter(
                "tokens_total",
                "As the nodes counted them",
                &["model", "direction"],
            )?,
            client_aborts: declare.counter(
                "client_aborts_total",
                "Clients that left",
                &["phase"],
            )?,
            extracted: LastFigures::new(declare.real_gauges(
                "model_metric",
                "The last answer's figure, as the node's profile takes it",
                &["model", "node", "name"],
            )?),
            extraction_missed: declare.counter(
                "model_metrics_missed_total",
                "Answers with a frame too long to take figures from",
                &["node"],
            )?,
            queue_wait: declare.histogram(
                "queue_wait_seconds",
                "Time in the queue",
                "model",
                FIRST_BYTE_BUCKETS,
            )?,
        })
    }
}

impl Reloads {
    fn declare(declare: &Declare<'_>) -> Result<Reloads, prometheus::Error> {
        let last = "1 when the configuration read last is in force";
        let reloads = Reloads {
            ended: declare.counter("config_reloads_total", "New configurations", &["result"])?,
            last_ok: declare.gauge("config_last_reload_successful", last)?,
        };
        reloads.last_ok.set(1);
        Ok(reloads)
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

    fn real_gauges(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<GaugeVec, prometheus::Error> {
        let gauge = GaugeVec::new(Opts::new(name, help).namespace("arriero"), labels)?;
        self.0.register(Box::new(gauge.clone()))?;
        Ok(gauge)
    }

    fn histogram(
        &self,
        name: &str,
        help: &str,
        label: &str,
        buckets: &[f64],
    ) -> Result<HistogramVec, prometheus::Error> {
        let opts = HistogramOpts::new(name, help)
            .namespace("arriero")
            .buckets(buckets.to_vec());
        let histogram = HistogramVec::new(opts, &[label])?;
        self.0.register(Box::new(histogram.clone()))?;
        Ok(histogram)
    }
}
