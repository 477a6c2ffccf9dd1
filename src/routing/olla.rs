//! How Olla words a decision, in the `X-Olla-Routing-*` headers that its users look at.

use crate::config::{Fallback, Registry, Strategy};

use super::{Lack, Reason};

/// The values of `X-Olla-Routing-Strategy`, `-Decision` and `-Reason`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OllaWords {
    /// The strategy's name in the configuration, or `alias`.
    pub strategy: &'static str,
    /// `routed`, `fallback` or `rejected`.
    pub decision: &'static str,
    /// Why, such as `model_found`.
    pub reason: &'static str,
}

impl OllaWords {
    /// The words for a route that was found for a model under these settings.
    pub fn new(registry: &Registry, is_alias: bool, reason: Reason) -> OllaWords {
        let asks_first = registry.strategy == Strategy::Discovery;
        let (decision, reason) = match reason {
            Reason::Fallback(lack) => ("fallback", fallback(lack, asks_first, registry)),
            _ if asks_first && !registry.refresh_on_miss => ("routed", "model_found_no_refresh"),
            _ => ("routed", "model_found"),
        };
        OllaWords {
            strategy: strategy(registry, is_alias),
            decision,
            reason,
        }
    }

    /// The words for a request that was refused because nobody who has the model could be asked.
    pub fn rejected(registry: &Registry, is_alias: bool, lack: Lack) -> OllaWords {
        let reason = match (registry.strategy, registry.fallback, lack) {
            (Strategy::Strict, _, Lack::Unknown) => "model_not_found",
            (Strategy::Strict, _, Lack::Unavailable) => "model_unavailable",
            (Strategy::Discovery, ..) if registry.refresh_on_miss => {
                "model_unavailable_after_discovery"
            }
            (Strategy::Discovery, ..) => "model_unavailable_no_refresh",
            (_, Fallback::CompatibleOnly, _) => "model_unavailable_compatible_only",
            (_, Fallback::All | Fallback::None, _) => "model_unavailable_no_fallback",
        };
        OllaWords {
            strategy: strategy(registry, is_alias),
            decision: "rejected",
            reason,
        }
    }

    /// The headers and their values.
    pub fn headers(&self) -> [(&'static str, &'static str); 3] {
        [
            ("x-olla-routing-strategy", self.strategy),
            ("x-olla-routing-decision", self.decision),
            ("x-olla-routing-reason", self.reason),
        ]
    }

    /// The words for a node that the client insists on, which Olla has none for.
    pub fn insisted() -> OllaWords {
        OllaWords {
            strategy: Strategy::Strict.word(),
            decision: "routed",
            reason: Reason::Only.as_str(),
        }
    }
}

fn strategy(registry: &Registry, is_alias: bool) -> &'static str {
    match is_alias {
        true => "alias",
        false => registry.strategy.word(),
    }
}

/// Olla itself never falls back to compatible nodes; the word is formed like its others.
fn fallback(lack: Lack, asks_first: bool, registry: &Registry) -> &'static str {
    match (registry.fallback, lack) {
        (Fallback::All, _) if asks_first && registry.refresh_on_miss => {
            "all_healthy_after_discovery"
        }
        (Fallback::All, Lack::Unavailable) => "all_healthy_fallback",
        (Fallback::All, Lack::Unknown) => "model_not_found_fallback",
        (Fallback::CompatibleOnly | Fallback::None, _) => "compatible_only_fallback",
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Strategy, fallback, refresh; then the words when a model is found, when a fallback stands in for an unknown and for an
    /// unavailable one, and when these two are refused.
    const TABLE: &str = "\
strict all true: model_found model_not_found_fallback all_healthy_fallback model_not_found model_unavailable
optimistic all true: model_found model_not_found_fallback all_healthy_fallback model_unavailable_no_fallback model_unavailable_no_fallback
optimistic compatible_only true: model_found compatible_only_fallback compatible_only_fallback model_unavailable_compatible_only model_unavailable_compatible_only
optimistic none true: model_found compatible_only_fallback compatible_only_fallback model_unavailable_no_fallback model_unavailable_no_fallback
discovery all true: model_found all_healthy_after_discovery all_healthy_after_discovery model_unavailable_after_discovery model_unavailable_after_discovery
discovery all false: model_found_no_refresh model_not_found_fallback all_healthy_fallback model_unavailable_no_refresh model_unavailable_no_refresh
";

    #[test]
    fn decisions_have_ollas_words() {
        let strategies = [Strategy::Strict, Strategy::Optimistic, Strategy::Discovery];
        let fallbacks = [Fallback::All, Fallback::CompatibleOnly, Fallback::None];
        for row in TABLE.lines() {
            let (settings, expected) = row.split_once(": ").unwrap();
            let words: Vec<&str> = settings.split(' ').collect();
            let registry = Registry {
                unify: true,
                stale_threshold: Duration::from_secs(1),
                strategy: *strategies.iter().find(|it| it.word() == words[0]).unwrap(),
                fallback: *fallbacks.iter().find(|it| it.word() == words[1]).unwrap(),
                refresh_timeout: Duration::from_secs(1),
                refresh_on_miss: words[2] == "true",
            };
            let routed = |reason| OllaWords::new(&registry, false, reason);
            let rejected = |lack| OllaWords::rejected(&registry, false, lack);
            let all = [
                routed(Reason::Warm),
                routed(Reason::Fallback(Lack::Unknown)),
                routed(Reason::Fallback(Lack::Unavailable)),
                rejected(Lack::Unknown),
                rejected(Lack::Unavailable),
            ];
            assert!(
                all.iter()
                    .all(|words| words.strategy == registry.strategy.word())
            );
            let decisions = all.map(|words| words.decision);
            assert_eq!(
                decisions,
                ["routed", "fallback", "fallback", "rejected", "rejected"]
            );
            assert_eq!(
                all.map(|words| words.reason).join(" "),
                expected,
                "{settings}"
            );
            assert_eq!(
                OllaWords::new(&registry, true, Reason::Warm).strategy,
                "alias"
            );
        }
    }
}
