//! What Pingora has no limit for: the number of connections, and the total time a request's head may take.
//!
//! The watch over a head lives in a task-local, which an HTTP/2 stream's own task does not see: there the deadline covers the
//! preface, and what follows is closed by Pingora's `h2_idle_timeout`, which knows whether streams are open.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use pingora::apps::{HttpServerApp, HttpServerOptions, ReusedHttpStream, ServerApp};
use pingora::protocols::Stream;
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v2::server::H2Options;
use pingora::server::ShutdownWatch;

use crate::config::Server;
use crate::telemetry::metrics::Metrics;

use super::now;

/// No deadline.
const NEVER: u64 = u64::MAX;

struct Deadline {
    opened: Instant,
    /// Milliseconds after `opened`.
    at_ms: AtomicU64,
}

tokio::task_local! {
    static HEAD: Arc<Deadline>;
}

/// The head is complete: what follows has limits of its own.
pub(super) fn head_is_here() {
    let _ = HEAD.try_with(|deadline| deadline.at_ms.store(NEVER, Ordering::Relaxed));
}

/// The answer is out: the next head may come after `idle_timeout` at the latest and must then be quick.
pub(super) fn next_head_may_take(limits: &Server) {
    let _ = HEAD.try_with(|deadline| {
        let wait = deadline.opened.elapsed() + limits.idle_timeout + limits.read_header_timeout;
        deadline
            .at_ms
            .store(wait.as_millis() as u64, Ordering::Relaxed);
    });
}

/// An HTTP application whose connections are off the watch once they turn out to speak HTTP/2.
pub struct Heads<A>(pub(super) Arc<A>);

#[async_trait]
impl<A: HttpServerApp + Send + Sync + 'static> HttpServerApp for Heads<A> {
    async fn process_new_http(
        self: &Arc<Self>,
        session: ServerSession,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        self.0.process_new_http(session, shutdown).await
    }

    fn server_options(&self) -> Option<&HttpServerOptions> {
        self.0.server_options()
    }

    /// Pingora asks for these between the preface and the first stream, in the connection's own task: the one place where
    /// the protocol is known and the watch can be reached.
    fn h2_options(&self) -> Option<H2Options> {
        head_is_here();
        self.0.h2_options()
    }

    async fn http_cleanup(&self) {
        self.0.http_cleanup().await;
    }
}

/// A server application behind a limit on connections and a deadline on heads.
pub struct Guard<A> {
    inner: Arc<A>,
    connections_max: usize,
    head_timeout: Duration,
    open: AtomicUsize,
    metrics: Arc<Metrics>,
}

impl<A> Guard<A> {
    pub(super) fn new(
        inner: A,
        connections_max: usize,
        head_timeout: Duration,
        metrics: Arc<Metrics>,
    ) -> Guard<A> {
        Guard {
            inner: Arc::new(inner),
            connections_max,
            head_timeout,
            open: AtomicUsize::new(0),
            metrics,
        }
    }
}

/// One open connection.
struct Open<'a, A>(&'a Guard<A>);

impl<A> Drop for Open<'_, A> {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
        self.0.metrics.connections.open.dec();
    }
}

#[async_trait]
impl<A: ServerApp + Send + Sync + 'static> ServerApp for Guard<A> {
    async fn process_new(
        self: &Arc<Self>,
        stream: Stream,
        shutdown: &ShutdownWatch,
    ) -> Option<Stream> {
        let open = self.open.fetch_add(1, Ordering::Relaxed);
        self.metrics.connections.open.inc();
        let _open = Open(self);
        if open >= self.connections_max {
            self.metrics
                .connections
                .rejected
                .with_label_values(&["too_many"])
                .inc();
            return None;
        }
        let at_ms = AtomicU64::new(self.head_timeout.as_millis() as u64);
        let deadline = Arc::new(Deadline {
            opened: now(),
            at_ms,
        });
        tokio::select! {
            stream = HEAD.scope(deadline.clone(), self.inner.process_new(stream, shutdown)) => stream,
            () = overdue(&deadline, self.head_timeout) => {
                self.metrics
                .connections
                .rejected.with_label_values(&["header_timeout"]).inc();
                None
            }
        }
    }

    async fn cleanup(&self) {
        self.inner.cleanup().await;
    }
}

/// Resolves when the deadline has passed. A new deadline always lies at least a head's timeout ahead, so looking that often is
/// enough, and an open connection costs next to no wake-ups.
async fn overdue(deadline: &Deadline, head_timeout: Duration) {
    loop {
        let at = deadline.at_ms.load(Ordering::Relaxed);
        let elapsed = deadline.opened.elapsed().as_millis() as u64;
        if at <= elapsed {
            return;
        }
        let left = Duration::from_millis(at - elapsed);
        tokio::time::sleep(left.min(head_timeout)).await;
    }
}
