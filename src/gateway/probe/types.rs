//! `type: auto`: finding out what a node is by asking it, at first and whenever it came back as what may be another server.

use tokio::time::sleep;

use super::{Eye, HEALTH_BYTES_MAX};
use crate::gateway::fetch::FetchLimits;
use crate::profile::{self, Evidence};

impl Eye {
    /// Asks a node of unknown type until it is known, while it is down, and when it came back. Never ends; of a node whose type
    /// the configuration tells it asks nothing.
    pub(super) async fn keep_type(&self) {
        let node = &self.access.config;
        if !node.type_is_found {
            return std::future::pending().await;
        }
        loop {
            let rang = tokio::select! {
                () = self.back.notified() => true,
                () = sleep(node.check_interval) => false,
            };
            // One that is down may be another server by now, which its old type's probe does not suit.
            let is_open = node.profile.is_auto() || !self.is_up() || rang;
            if is_open && self.addr().is_some() {
                self.find_type().await;
            }
        }
    }

    /// One round of questions. A node that is known keeps its type unless its answers speak for another one.
    pub(super) async fn find_type(&self) {
        let node = &self.access.config;
        let config = self.gateway.config();
        let limits = FetchLimits {
            time: node.check_timeout,
            body_bytes_max: HEALTH_BYTES_MAX,
            cut: true,
        };
        let (mut answers, mut unanswered) = (Vec::new(), false);
        for path in profile::questions(&config.profiles) {
            let fetched = self.gateway.fetch(self.node, &self.access, path, limits);
            let Ok(fetched) = fetched.await else {
                unanswered = true;
                continue;
            };
            let headers = fetched.headers.iter().map(|(name, value)| {
                let value = String::from_utf8_lossy(value.as_bytes());
                (name.to_string(), value.into_owned())
            });
            answers.push((
                path,
                fetched.status,
                headers.collect::<Vec<_>>(),
                fetched.body,
            ));
        }
        // The missing answer may be the one that speaks for what it is known as.
        if unanswered && !node.profile.is_auto() {
            return;
        }
        let evidence: Vec<_> = answers
            .iter()
            .map(|(path, status, headers, body)| Evidence {
                path,
                status: *status,
                headers,
                body_start: body,
            })
            .collect();
        if let Some(found) = profile::detect(&evidence, node.url.port, &config.profiles)
            && found.name != node.profile.name
        {
            self.gateway.found_type(node, &found);
        }
    }
}
