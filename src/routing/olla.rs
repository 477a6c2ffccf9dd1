//! How Olla words a decision, in the `X-Olla-Routing-*` headers that its users look at.

use crate::config::{Fallback, Registry, Strategy};

use super::{Lack, Reason};

/// The values of `X-Olla-Routing-Strategy`, `-Decision` and `-Reason`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OllaWords {
    /// The strategy's name in the configuration, or `alias`.
    pub strategy: &'static str,
    /// `routed` or `fallback`.
    pub decision: &'static str,
    /// Why, such as `model_found`.
    pub reason: &'static str,
}

impl OllaWords {
    /// The words for a route that was found for a model under these settings.
    pub fn new(registry: &Registry, is_alias: bool, reason: Reason) -> OllaWords {
        let strategy = match is_alias {
            true => "alias",
            false => registry.strategy.word(),
        };
        let asks_first = registry.strategy == Strategy::Discovery;
        let (decision, reason) = match reason {
            Reason::Fallback(lack) => ("fallback", fallback(lack, asks_first, registry)),
            _ if asks_first && !registry.refresh_on_miss => ("routed", "model_found_no_refresh"),
            _ => ("routed", "model_found"),
        };
        OllaWords {
            strategy,
            decision,
            reason,
        }
    }

    /// The words for a route that no model decided, which Olla has none for.
    pub fn by_head(reason: Reason) -> OllaWords {
        OllaWords {
            strategy: Strategy::Strict.word(),
            decision: "routed",
            reason: reason.as_str(),
        }
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
