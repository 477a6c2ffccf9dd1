//! Loads that no request asks for, and how long a node keeps what is in its memory.

use std::sync::Arc;

use crate::dialect::{Dialect, Operation};
use crate::fleet::RunnerKey;
use crate::gateway::Gateway;
use crate::placement::Action;
use crate::routing::{Reason, Route};

use super::{Awaited, Errand, KeepAlive, Key, spawn};

/// Why a node that was to do something does nothing.
pub(in crate::gateway) const GONE: &str = "the node has left the configuration";
/// What the node said when it would not.
const REFUSED: &str = "the node answered with an error";

impl Gateway {
    /// The load of a model, or the one that requests have begun; it goes on as long as what is given back lives, wanted or not. `None`
    /// when the node is gone.
    pub(in crate::gateway) fn load_ahead(self: &Arc<Self>, action: &Action) -> Option<Awaited> {
        let errand = self.errand(action, None)?;
        let target = &action.target;
        let runner = RunnerKey::of(&action.runner);
        let uptime = self.uptime();
        let loading = self
            .fleet
            .loading(target.node, &target.traits, runner, uptime)?;
        let key = errand.key.clone();
        Some(self.loads.join(&key, |job| spawn(errand.run(job, loading))))
    }

    /// Tells a node how long it shall keep a model, which it loads if it is not in its memory.
    ///
    /// # Errors
    /// Why it does not, for people.
    pub(in crate::gateway) async fn keep(
        self: &Arc<Self>,
        action: &Action,
        keep_alive: KeepAlive,
    ) -> Result<(), String> {
        let errand = self.errand(action, Some(keep_alive));
        let errand = errand.ok_or(GONE)?;
        match errand.ask().await {
            Ok(()) => Ok(()),
            Err(Some(failed)) => Err(failed.fault.message),
            Err(None) => Err(REFUSED.to_owned()),
        }
    }

    fn errand(self: &Arc<Self>, action: &Action, keep_alive: Option<KeepAlive>) -> Option<Errand> {
        let target = &action.target;
        Some(Errand {
            gateway: Arc::clone(self),
            config: self.config(),
            access: self.access(target.node)?,
            route: Route {
                node: target.node,
                spelled: Some(Arc::clone(&target.spelled)),
                is_renamed: false,
                place: Some(0),
                warm: false,
                joins: false,
                num_ctx: None,
                cost: None,
                evicts: None,
                traits: Some(Arc::clone(&target.traits)),
                reason: Reason::Only,
            },
            key: Key {
                node: target.node,
                model: Arc::clone(&target.spelled),
                options: action.runner,
            },
            wanted: target.model.clone(),
            operation: match action.embeds {
                true => Operation::Embed,
                false => Operation::Generate,
            },
            keep_alive,
            // A runner that dies of what nobody asked for is no reason to keep requests away from the node.
            is_first: false,
        })
    }
}

impl Awaited {
    /// As [`Awaited::end`], for a load that no request waits for.
    ///
    /// # Errors
    /// Why the model is not in memory, for people.
    pub(in crate::gateway) async fn end_ahead(self) -> Result<(), String> {
        match self.end(Dialect::Ollama).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(REFUSED.to_owned()),
            Err(failed) => Err(failed.fault.message),
        }
    }
}
