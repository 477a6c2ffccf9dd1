//! Which models a node has: installed ones every `interval`, loaded ones every `loaded_interval`.

use tokio::time::{Instant, sleep};

use super::Eye;
use crate::fleet::Observation;

/// Failed listings after which a node that never told its models is taken to have none.
const LISTING_TRIES: u32 = 5;

impl Eye {
    /// Asks for installed models every `interval` (and when woken), for loaded ones every `loaded_interval`.
    pub(super) async fn keep_models(&self) {
        let mut installed_at: Option<Instant> = None;
        let mut failures = 0;
        loop {
            let timing = self.gateway.config().model_discovery;
            let woken = tokio::select! {
                () = self.wake.notified() => true,
                () = sleep(timing.loaded_interval.min(timing.interval)) => false,
            };
            if !self.is_up() {
                continue;
            }
            if woken || installed_at.is_none_or(|at| timing.interval <= at.elapsed()) {
                match self
                    .gateway
                    .learn_installed(self.node, timing.timeout)
                    .await
                {
                    Ok(()) => (failures, installed_at) = (0, Some(Instant::now())),
                    Err(why) => {
                        failures += 1;
                        self.listing_failed(failures, &why);
                    }
                }
            }
            // Which models are in memory is a hint for placing; a node that does not tell it is simply cold.
            if let Err(why) = self.gateway.learn_loaded(self.node, timing.timeout).await {
                log::debug!(
                    "node `{}` does not tell its loaded models: {why}",
                    self.name()
                );
            }
        }
    }

    /// A node that is well but does not tell its models is taken, after a few tries, to have none: else every unknown name
    /// would be answered with "not known yet" for ever.
    fn listing_failed(&self, failures: u32, why: &str) {
        // Of a node that nobody has told apart yet the question may be the wrong one.
        if failures == 1 && !self.access.config.profile.is_auto() {
            log::warn!("node `{}` does not tell its models: {why}", self.name());
        }
        let view = self.gateway.fleet.view();
        let never_told = view
            .node(self.node)
            .is_some_and(|node| !node.knows_models());
        if failures == LISTING_TRIES && never_told {
            self.observe(Observation::Installed {
                models: Vec::new(),
                version: None,
            });
        }
    }
}
