//! Names that stand for many nodes: asked again and again, as DNS changes when pods come and go.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use crate::config::DnsSource;
use crate::discovery::LastGood;
use crate::gateway::Gateway;

/// How long one question may take: not less than a busy server needs, not so long that the answer would be old.
const LOOKUP_MIN: Duration = Duration::from_secs(1);
const LOOKUP_MAX: Duration = Duration::from_secs(5);

/// The series of a name, which end when nobody watches it any more.
struct Shown<'a> {
    gateway: &'a Gateway,
    name: &'a str,
}

impl Shown<'_> {
    fn set(&self, is_good: bool, addresses: usize) {
        let (figures, name) = (&self.gateway.metrics.sources, &[self.name]);
        figures.up.with_label_values(name).set(i64::from(is_good));
        let addresses = i64::try_from(addresses).unwrap_or(i64::MAX);
        figures.addresses.with_label_values(name).set(addresses);
    }
}

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        let figures = &self.gateway.metrics.sources;
        for series in [&figures.up, &figures.addresses] {
            // There is none before the first answer.
            let _ = series.remove_label_values(&[self.name]);
        }
    }
}

/// Asks for a name's addresses every `interval` and makes each of them a node. Never ends.
pub(super) async fn watch_source(gateway: Arc<Gateway>, source: Arc<DnsSource>) {
    // A reload that touched the source must not forget whom it brought in.
    let shown = Shown {
        gateway: &gateway,
        name: &source.name,
    };
    let mut last = LastGood::keeping(&source.name, gateway.last_found(&source));
    loop {
        let limit = source.interval.clamp(LOOKUP_MIN, LOOKUP_MAX);
        let (dns, name) = (&gateway.dns, &source.name);
        let answer = match last.members().is_empty() {
            true => dns.lookup(name, source.server, limit).await,
            false => dns.lookup_again(name, source.server, limit).await,
        };
        let is_good = answer.is_ok();
        let heard = last.hear(answer);
        shown.set(is_good, last.members().len());
        for warning in heard.warnings {
            log::warn!("{warning}");
        }
        if let Some(relief) = heard.relief {
            log::info!("{relief}");
        }
        if heard.changed {
            gateway.found(&source, last.members());
        }
        sleep(source.interval).await;
    }
}
