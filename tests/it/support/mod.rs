//! What the flow tests stand on: a raw HTTP client and a gateway over simulated nodes.

pub(crate) mod client;

pub(crate) mod dns;

pub(crate) mod h2;

pub(crate) mod herd;

pub(crate) mod process;

pub(crate) use client::{Raw, post};
pub(crate) use herd::{Herd, herd};

use std::time::Duration;

/// Nothing in these tests should take this long; a hang becomes a failure with a name.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Runs `work`, or fails naming what never happened.
#[track_caller]
pub(crate) fn within<T>(what: &str, work: impl Future<Output = T>) -> impl Future<Output = T> {
    let place = std::panic::Location::caller();
    let what = what.to_owned();
    async move {
        match tokio::time::timeout(PATIENCE, work).await {
            Ok(done) => done,
            Err(_) => panic!("{place}: {what} did not happen within {PATIENCE:?}"),
        }
    }
}

/// A task of the test's own; the test awaits it.
#[expect(
    clippy::disallowed_methods,
    reason = "the test that spawns it joins it"
)]
pub(crate) fn spawn<T: Send + 'static>(
    task: impl Future<Output = T> + Send + 'static,
) -> tokio::task::JoinHandle<T> {
    tokio::spawn(task)
}
