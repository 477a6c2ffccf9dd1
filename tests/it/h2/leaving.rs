//! A client that leaves frees the node, whether it resets its one stream or takes the whole connection with it.

use std::time::{Duration, Instant};

use arriero::demo::Outcome;

use super::{CHAT, H2C, llama, one, still_serves};
use crate::streams::CALLS;
use crate::support::h2::{H2, Stream};
use crate::support::herd::herd_of;
use crate::support::{Herd, within};

/// As over HTTP/1.1: the figure is asserted because it is promised.
const PROMISE: Duration = Duration::from_millis(100);

/// Ways to leave: the stream alone, or with the whole connection.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Way {
    Cancel,
    Close,
}

const WAYS: [Way; 2] = [Way::Cancel, Way::Close];

impl Way {
    /// Leaves, and gives back the connection if there still is one.
    fn leave(self, stream: Stream, connection: H2) -> Option<H2> {
        match self {
            Way::Cancel => {
                stream.cancel();
                Some(connection)
            }
            Way::Close => None,
        }
    }
}

/// Leaves, and measures how long the node holds on.
async fn freed_within_promise(herd: &Herd, way: Way, stream: Stream, connection: H2, phase: &str) {
    let left = Instant::now();
    let connection = way.leave(stream, connection);
    within(
        "the node to be freed",
        herd.nodes[0].until(|node| node.generating() == 0 && node.waiting() == 0),
    )
    .await;
    let took = left.elapsed();
    assert!(took < PROMISE, "{way:?} {phase}: freed after {took:?}");
    herd.is_idle().await;
    let series = format!("arriero_client_aborts_total{{phase=\"{phase}\"}}");
    assert_eq!(herd.metric(&series).await, 1.0, "{way:?} {phase}");
    assert_eq!(
        herd.served(0)[0].outcome,
        Outcome::Cancelled,
        "{way:?} {phase}"
    );
    if let Some(connection) = connection {
        still_serves(herd, &connection).await;
    }
}

#[tokio::test]
async fn leaving_while_streaming_frees_the_node() {
    for (path, body, _) in CALLS {
        for way in WAYS {
            let herd = one().await;
            herd.nodes[0].pause_after(2);
            let connection = H2::open(herd.addr()).await;
            let mut stream = connection.ask(path, body).await;
            assert_eq!(stream.head().await.expect("a head").0, 200);
            stream.chunk().await.expect("a piece");
            freed_within_promise(&herd, way, stream, connection, "stream").await;
        }
    }
}

#[tokio::test]
async fn leaving_before_the_first_byte_frees_the_node() {
    for way in WAYS {
        let herd = one().await;
        herd.nodes[0].pause_after(0);
        let connection = H2::open(herd.addr()).await;
        let stream = connection.ask("/api/chat", CHAT).await;
        herd.nodes[0].until(|node| node.generating() == 1).await;
        freed_within_promise(&herd, way, stream, connection, "wait").await;
    }
}

#[tokio::test]
async fn leaving_the_gateways_queue_reaches_no_node() {
    for way in WAYS {
        let herd = herd_of(vec![(llama(), "slots: 1")], H2C).await;
        herd.nodes[0].pause_after(1);
        let mut first = herd.begin("/api/chat", CHAT).await;
        herd.nodes[0].until(|node| node.generating() == 1).await;
        let connection = H2::open(herd.addr()).await;
        let stream = connection.ask("/api/chat", CHAT).await;
        herd.until_metric("arriero_queue_depth", |depth| depth == 1.0)
            .await;
        let left = Instant::now();
        let connection = way.leave(stream, connection);
        herd.until_metric("arriero_queue_depth", |depth| depth == 0.0)
            .await;
        assert!(left.elapsed() < PROMISE, "{way:?}: {:?}", left.elapsed());
        let aborts = "arriero_client_aborts_total{phase=\"queue\"}";
        herd.until_metric(aborts, |count| count == 1.0).await;
        herd.nodes[0].resume();
        assert!(first.reply().await.is(200).complete);
        assert_eq!(herd.served(0).len(), 1);
        if let Some(connection) = connection {
            still_serves(&herd, &connection).await;
        }
    }
}

#[tokio::test]
async fn leaving_in_the_middle_of_a_body_reaches_no_node() {
    for way in WAYS {
        let herd = one().await;
        let connection = H2::open(herd.addr()).await;
        let mut stream = connection
            .begin("POST", "/api/chat", Some(1000), false)
            .await;
        stream.send("{\"model\":", false).await.expect("a piece");
        let lifecycle = herd.gateway.gateway.lifecycle().clone();
        within("the request to begin", async {
            while lifecycle.in_flight() == 0 {
                tokio::task::yield_now().await;
            }
        })
        .await;
        let connection = way.leave(stream, connection);
        let aborts = "arriero_client_aborts_total{phase=\"body\"}";
        herd.until_metric(aborts, |count| count == 1.0).await;
        assert_eq!(herd.served(0).len(), 0);
        if let Some(connection) = connection {
            still_serves(&herd, &connection).await;
        }
    }
}
