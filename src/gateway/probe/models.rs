//! Which models a node has: installed ones every `interval`, loaded ones every `loaded_interval`.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{Eye, HEALTH_BYTES_MAX};
use crate::dialect::Operation;
use crate::fleet::{Observation, listing};
use crate::profile::Listing;

/// Longest model list that is read.
const LISTING_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Failed listings after which a node that never told its models is taken to have none.
const LISTING_TRIES: u32 = 5;

impl Eye {
    /// Asks for installed models every `interval` (and when woken), for loaded ones every `loaded_interval`.
    pub(super) async fn keep_models(&self) {
        let timing = self.gateway.config.model_discovery;
        let mut installed_at: Option<Instant> = None;
        let mut failures = 0;
        loop {
            let woken = tokio::select! {
                () = self.wake.notified() => true,
                () = sleep(timing.loaded_interval) => false,
            };
            if !self.is_up() {
                continue;
            }
            if woken || installed_at.is_none_or(|at| timing.interval <= at.elapsed()) {
                match self.learn_installed(timing.timeout).await {
                    Ok(()) => (failures, installed_at) = (0, Some(Instant::now())),
                    Err(why) => {
                        failures += 1;
                        self.listing_failed(failures, &why);
                    }
                }
            }
            // Which models are in memory is a hint for placing; a node that does not tell it is simply cold.
            if let Err(why) = self.learn_loaded(timing.timeout).await {
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
        if failures == 1 {
            log::warn!("node `{}` does not tell its models: {why}", self.name());
        }
        let never_told = self.gateway.fleet.view().nodes[self.node.0]
            .installed
            .is_none();
        if failures == LISTING_TRIES && never_told {
            self.observe(Observation::Installed {
                models: Vec::new(),
                version: None,
            });
        }
    }

    async fn learn_installed(&self, limit: Duration) -> std::result::Result<(), String> {
        let node = &self.gateway.config.nodes[self.node.0];
        let list = self.get(&node.model_path, limit, LISTING_BYTES_MAX).await?;
        let (models, version) = match node.profile.listing {
            Listing::Ollama => {
                let path = node.profile.place(Operation::Version, "/api/version");
                let version = self.get(&path, limit, HEALTH_BYTES_MAX).await;
                let version = version.and_then(|body| listing::version(&body)).ok();
                (listing::tags(&list)?, version)
            }
            Listing::OpenAi | Listing::LmStudio => (listing::v1_models(&list)?, None),
        };
        self.observe(Observation::Installed { models, version });
        Ok(())
    }

    async fn learn_loaded(&self, limit: Duration) -> std::result::Result<(), String> {
        let profile = &self.gateway.config.nodes[self.node.0].profile;
        if profile.listing == Listing::Ollama {
            let path = profile.place(Operation::Ps, "/api/ps");
            let list = self.get(&path, limit, LISTING_BYTES_MAX).await?;
            self.observe(Observation::Loaded(listing::ps(&list)?));
        }
        Ok(())
    }
}
