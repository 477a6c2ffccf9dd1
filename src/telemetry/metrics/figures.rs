//! The figures that the nodes' profiles take from answers.
//!
//! What has them is kept as it came, and read and made series when somebody asks: a request shall not pay for that.

use std::collections::HashMap;
use std::mem;
use std::sync::{Mutex, MutexGuard, PoisonError};

use prometheus::GaugeVec;

use super::labels;
use crate::profile::extraction::{Extracted, Sample, Value};

/// Longest sample that is kept unread, in bytes: there may be one for each model of each node, and read it takes as much. Most last
/// frames of answers are shorter.
const UNREAD_BYTES_MAX: usize = 1 << 10;

/// The last answer's figures, by model and node.
pub(super) struct LastFigures {
    series: GaugeVec,
    /// Those that came since the series were read, by model and then by node.
    fresh: Mutex<HashMap<String, HashMap<String, Figures>>>,
}

enum Figures {
    Unread(Sample),
    Read(Extracted),
}

impl LastFigures {
    /// Into series with the labels `model`, `node` and `name`.
    pub(super) fn new(series: GaugeVec) -> LastFigures {
        LastFigures {
            series,
            fresh: Mutex::default(),
        }
    }

    /// Keeps what an answer told.
    pub(super) fn keep(&self, model: &str, node: &str, sample: Sample) {
        let figures = match sample.bytes() {
            0..=UNREAD_BYTES_MAX => Figures::Unread(sample),
            _ => Figures::Read(sample.values()),
        };
        let mut fresh = self.fresh();
        let known = fresh.get_mut(model).and_then(|nodes| nodes.get_mut(node));
        match known {
            Some(known) => *known = figures,
            None => {
                let nodes = fresh.entry(model.to_owned()).or_default();
                nodes.insert(node.to_owned(), figures);
            }
        }
    }

    /// Brings the series up to date.
    pub(super) fn show(&self) {
        let fresh = mem::take(&mut *self.fresh());
        for (model, nodes) in fresh {
            for (node, figures) in nodes {
                self.set(&model, &node, figures);
            }
        }
    }

    /// Drops what is kept of nodes that are gone, and ends their series.
    pub(super) fn forget(&self, is_gone: &dyn Fn(&str) -> bool) {
        for nodes in self.fresh().values_mut() {
            nodes.retain(|node, _| !is_gone(node));
        }
        labels::forget(&self.series, is_gone);
    }

    /// Texts would be labels that a node can mint: they go to the log only.
    fn set(&self, model: &str, node: &str, figures: Figures) {
        let values = match figures {
            Figures::Unread(sample) => sample.values(),
            Figures::Read(values) => values,
        };
        for (name, value) in values {
            if let Value::Number(number) = value {
                let labels = [model, node, &*name];
                self.series.with_label_values(&labels).set(number);
            }
        }
    }

    fn fresh(&self) -> MutexGuard<'_, HashMap<String, HashMap<String, Figures>>> {
        // Entries are replaced whole, so a panic elsewhere left the map as good as it was.
        self.fresh.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
