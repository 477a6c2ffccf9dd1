//! The end of a change, told exactly once: in the log and in the metrics, and to those who watch its nodes if nobody stayed.

use crate::error::{Fault, Kind};
use crate::fleet::NodeId;
use crate::management::{Outcome, Words};
use crate::telemetry::metrics::operation_label;

use super::Desk;

/// Tells of the end of a change, also when it is dropped because everybody left.
pub(super) struct Ending {
    desk: Desk,
    what: String,
    nodes: Vec<NodeId>,
    told: bool,
}

impl Ending {
    /// Of a change that begins now.
    pub(super) fn of(desk: &Desk, what: &str, nodes: Vec<NodeId>) -> Ending {
        Ending {
            desk: desk.clone(),
            what: what.to_owned(),
            nodes,
            told: false,
        }
    }

    /// Tells what the nodes made of it. Only the first word counts.
    pub(super) fn tell(&mut self, outcome: &Outcome, words: &Words) {
        if std::mem::replace(&mut self.told, true) {
            return;
        }
        self.count(outcome.label());
        let id = &self.desk.request_id;
        match outcome.fault(words) {
            None => {
                // Where nodes were left out, it is not done wherever it should be.
                let level = match outcome.skipped.is_empty() {
                    true => log::Level::Info,
                    false => log::Level::Warn,
                };
                log::log!(
                    level,
                    "{}: {} request_id={id}",
                    words.what,
                    outcome.summary()
                );
            }
            Some(fault) => log::warn!("{fault} request_id={id}"),
        }
    }

    /// Tells that it failed before the nodes could make anything of it, unless it has been told or the client left.
    pub(super) fn failed(&mut self, fault: &Fault) {
        if fault.kind == Kind::ClientGone || std::mem::replace(&mut self.told, true) {
            return;
        }
        self.count("failed");
        let (what, id) = (&self.what, &self.desk.request_id);
        log::warn!("{what} failed: {fault} request_id={id}");
    }

    fn count(&self, outcome: &str) {
        let operation = operation_label(self.desk.operation);
        let counter = &self.desk.gateway.metrics.management;
        counter.with_label_values(&[operation, outcome]).inc();
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        if self.told {
            return;
        }
        self.count("left");
        let (what, id) = (&self.what, &self.desk.request_id);
        log::info!("{what}: stopped, since nobody waits for it any more request_id={id}");
        // What the nodes had done by then nobody stayed to ask them.
        for node in &self.nodes {
            self.desk.gateway.wakes.ring(*node);
        }
    }
}
