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

/// Asks for a name's addresses every `interval` and makes each of them a node. Never ends.
pub(super) async fn watch_source(gateway: Arc<Gateway>, source: Arc<DnsSource>) {
    // A reload that touched the source must not forget whom it brought in.
    let mut last = LastGood::keeping(&source.name, gateway.last_found(&source));
    loop {
        let limit = source.interval.clamp(LOOKUP_MIN, LOOKUP_MAX);
        let (dns, name) = (&gateway.dns, &source.name);
        let answer = match last.members().is_empty() {
            true => dns.lookup(name, source.server, limit).await,
            false => dns.lookup_again(name, source.server, limit).await,
        };
        let (is_good, figures) = (answer.is_ok(), &gateway.metrics.sources);
        let heard = last.hear(answer);
        figures
            .up
            .with_label_values(&[name])
            .set(i64::from(is_good));
        let count = i64::try_from(last.members().len()).unwrap_or(i64::MAX);
        figures.addresses.with_label_values(&[name]).set(count);
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
