//! Asking a node for its models: in turn by the probes, and at once when a client or a management call makes it worth while.

use std::time::Duration;

use crate::fleet::listing::{Lost, Told};
use crate::fleet::{self, NodeId, Observation, listing};
use crate::profile::Listing;

use super::credentials::NodeAccess;
use super::fetch::{FetchLimits, Useless};
use super::{Gateway, now};

/// Longest answer that is read for the version in it; llama.cpp's holds the model's templates as well.
const VERSION_BYTES_MAX: usize = 256 * 1024;

fn limits(time: Duration, body_bytes_max: usize) -> FetchLimits {
    FetchLimits {
        time,
        body_bytes_max,
        cut: false,
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
            if matches!(useless, Useless::Refused(_) | Useless::RateLimited { .. }) {
                self.observe(node, useless.observed());
            }
            useless.into_why()
        })?;
        let Told { mut models, lost } = listing::installed(config.profile.listing, &list)?;
        let version = self.version_of(node, &access, time).await;
        fleet::complete(&mut models, &config.profile);
        if let Some(node) = self.fleet.view().node(node) {
            node.moments().note_listing(self.uptime());
            if node.moments().note_lost(lost) {
                tell_lost(access.name(), &node.moments().lost());
            }
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
        let profile = &access.config.profile;
        if let Some(path) = profile.loaded_path() {
            let whole_list = limits(time, listing::LISTING_BYTES_MAX);
            let turn = self.fleet.turn();
            let list = self.get(node, &access, &path, whole_list).await?;
            let seen = Observation::Loaded(listing::ps(&list)?);
            self.fleet.observe_in_turn(node, seen, turn, now());
            return Ok(());
        }
        match profile.listing {
            // Its one list tells both.
            Listing::LmStudio => self.learn_installed(node, time).await,
            // What they list is in memory.
            Listing::OpenAi | Listing::Ollama => Ok(()),
        }
    }

    /// `None` where the type has no place for it, or where the node does not tell.
    async fn version_of(
        &self,
        node: NodeId,
        access: &NodeAccess,
        time: Duration,
    ) -> Option<String> {
        let place = access.config.profile.api().version.as_ref()?;
        let short = limits(time, VERSION_BYTES_MAX);
        let answer = self.get(node, access, &place.path, short).await.ok()?;
        listing::version(&answer, &place.field).ok()
    }
}

/// A model that nobody can ask for shall not vanish without a word.
fn tell_lost(node: &str, lost: &Lost) {
    if lost.count == 0 {
        log::info!("node `{node}` lists only models that can be asked for again");
        return;
    }
    log::warn!(
        "node `{node}` lists {} models whose names nobody can ask for, so they are left out: `{}`{}; give them other names there",
        lost.count,
        lost.names.join("`, `"),
        match lost.names.len() < lost.count {
            true => ", …",
            false => "",
        },
    );
}
