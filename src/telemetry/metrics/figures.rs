//! The figures that the nodes' profiles take from answers.
//!
//! They are kept as they come and become series when somebody reads them: a request shall not pay for looking up a dozen series.

use std::collections::HashMap;
use std::mem;
use std::sync::{Mutex, MutexGuard, PoisonError};

use prometheus::GaugeVec;

use super::labels;
use crate::profile::extraction::{Extracted, Value};

/// The last answer's figures, by model and node.
pub(super) struct LastFigures {
    series: GaugeVec,
    /// Those that came since the series were read, by model and then by node.
    fresh: Mutex<HashMap<String, HashMap<String, Extracted>>>,
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
    pub(super) fn keep(&self, model: &str, node: &str, figures: Extracted) {
        if figures.is_empty() {
            return;
        }
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

    /// Brings the series up to date; those of nodes that are gone end.
    pub(super) fn show(&self, is_gone: &dyn Fn(&str) -> bool) {
        let fresh = mem::take(&mut *self.fresh());
        for (model, nodes) in &fresh {
            for (node, figures) in nodes {
                self.set(model, node, figures);
            }
        }
        labels::forget(&self.series, is_gone);
    }

    /// Texts would be labels that a node can mint: they go to the log only.
    fn set(&self, model: &str, node: &str, figures: &Extracted) {
        for (name, value) in figures {
            if let Value::Number(number) = value {
                let labels = [model, node, &**name];
                self.series.with_label_values(&labels).set(*number);
            }
        }
    }

    fn fresh(&self) -> MutexGuard<'_, HashMap<String, HashMap<String, Extracted>>> {
        // Entries are replaced whole, so a panic elsewhere left the map as good as it was.
        self.fresh.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
