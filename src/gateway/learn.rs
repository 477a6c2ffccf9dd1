//! Asking a node for its models: in turn by the probes, and at once when a client or a management call makes it worth while.

use std::time::Duration;

use crate::fleet::{self, NodeId, Observation, listing};
use crate::profile::Listing;

use super::fetch::{FetchLimits, Useless};
use super::{Gateway, now};

/// Longest answer to `/api/version` that is read.
const VERSION_BYTES_MAX: usize = 64 * 1024;

fn limits(time: Duration, body_bytes_max: usize) -> FetchLimits {
    FetchLimits {
        time,
        body_bytes_max,
    }
}

impl Gateway {
    /// Learns which models are on a node's disk. A node that has left is nothing to learn about.
    ///
    /// # Errors
    /// Why the node did not tell.
    pub(super) async fn learn_installed(&self, node: NodeId, time: Duration) -> Result<(), String> {
        let Some(access) = self.access(node) else {
            return Ok(());
        };
        let config = &access.config;
        let whole_list = limits(time, listing::LISTING_BYTES_MAX);
        let turn = self.fleet.turn();
        let list = self
            .get_useful(node, &access, &config.model_path, whole_list)
            .await;
        let list = list.map_err(|useless| {
            // Many servers ask for a key on their listing but not on their health path, so this is where a wrong one shows. A
            // listing that is broken in another way says nothing of the node's health.
            if !matches!(useless, Useless::Failed(_)) {
                self.observe(node, useless.observed());
            }
            useless.into_why()
        })?;
        let (mut models, version) = match config.profile.listing {
            Listing::Ollama => {
                let short = limits(time, VERSION_BYTES_MAX);
                let version = self.get(node, &access, "/api/version", short).await;
                let version = version.and_then(|body| listing::version(&body)).ok();
                (listing::tags(&list)?, version)
            }
            Listing::OpenAi | Listing::LmStudio => (listing::v1_models(&list)?, None),
        };
        fleet::complete(&mut models, &config.profile);
        if let Some(node) = self.fleet.view().node(node) {
            node.moments().note_listing(self.uptime());
        }
        let seen = Observation::Installed { models, version };
        self.fleet.observe_in_turn(node, seen, turn, now());
        Ok(())
    }

    /// Learns which models are in a node's memory, where the node can tell.
    ///
    /// # Errors
    /// Why the node did not tell.
    pub(super) async fn learn_loaded(&self, node: NodeId, time: Duration) -> Result<(), String> {
        let Some(access) = self.access(node) else {
            return Ok(());
        };
        match access.config.profile.listing {
            Listing::Ollama => {
                let whole_list = limits(time, listing::LISTING_BYTES_MAX);
                let turn = self.fleet.turn();
                let list = self.get(node, &access, "/api/ps", whole_list).await?;
                let seen = Observation::Loaded(listing::ps(&list)?);
                self.fleet.observe_in_turn(node, seen, turn, now());
                Ok(())
            }
            // Its one list tells both.
            Listing::LmStudio => self.learn_installed(node, time).await,
            // What they list is in memory.
            Listing::OpenAi => Ok(()),
        }
    }
}
