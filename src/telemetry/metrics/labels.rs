//! The words in labels, and how few they stay as time goes by: models come and go, and so do nodes that DNS brings.

use std::collections::{HashMap, HashSet};
use std::sync::{PoisonError, RwLock};

use prometheus::core::{Collector, MetricVec, MetricVecBuilder};

/// Most models that get series of their own. Each costs three histograms, and whoever may copy models could mint names.
const MODELS_MAX: usize = 2000;

/// The models that have series.
#[derive(Default)]
pub(super) struct Models(RwLock<HashSet<String>>);

impl Models {
    /// The label of a model that some node really has: its name, or `other` when there are too many already.
    pub(super) fn label<'a>(&self, model: &'a str) -> &'a str {
        // A set of words is whole whatever happened to who held the lock.
        if self
            .0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .contains(model)
        {
            return model;
        }
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if MODELS_MAX <= known.len() && !known.contains(model) {
            return "other";
        }
        known.insert(model.to_owned());
        model
    }
}

/// Ends the series of nodes that are gone.
pub(super) fn forget<B: MetricVecBuilder>(series: &MetricVec<B>, is_gone: &dyn Fn(&str) -> bool) {
    for family in series.collect() {
        for metric in family.get_metric() {
            let pairs = metric.get_label().iter();
            let labels: HashMap<&str, &str> =
                pairs.map(|pair| (pair.name(), pair.value())).collect();
            if labels.get("node").is_some_and(|node| is_gone(node)) {
                // Whoever removed it meanwhile wanted the same.
                let _ = series.remove(&labels);
            }
        }
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
        O::Pull => "pull",
        O::Push => "push",
        O::Create => "create",
        O::Copy => "copy",
        O::Delete => "delete",
        O::Unload => "unload",
        O::Blob => "blob",
        O::Download => "download",
        O::Upload => "upload",
    }
}

#[cfg(test)]
mod tests {
    use prometheus::{IntCounterVec, Opts};

    use super::*;

    #[test]
    fn too_many_models_share_a_label_and_known_ones_keep_theirs() {
        let models = Models::default();
        for n in 0..MODELS_MAX {
            let name = format!("m{n}");
            assert_eq!(models.label(&name), name);
        }
        assert_eq!(models.label("one-more"), "other");
        assert_eq!(models.label("m7"), "m7");
    }

    #[test]
    fn the_series_of_a_node_that_is_gone_end_and_no_others() {
        let series = IntCounterVec::new(Opts::new("a", "b"), &["node", "code"]).unwrap();
        for (node, code) in [("gone", "200"), ("gone", "502"), ("here", "200")] {
            series.with_label_values(&[node, code]).inc();
        }
        forget(&series, &|node| node == "gone");
        let left: usize = series
            .collect()
            .iter()
            .map(|family| family.get_metric().len())
            .sum();
        assert_eq!(left, 1);
        assert_eq!(series.with_label_values(&["here", "200"]).get(), 1);
    }
}
