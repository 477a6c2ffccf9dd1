//! Forty things that go wrong, and the test that shows what happens then.
//!
//! | # | what goes wrong | shown by |
//! |---|---|---|
//! | 1, 2 | a head that trickles, a client that says nothing | `limits::a_head_that_trickles_is_closed_at_its_total_deadline` |
//! | 3 | a body that stalls | `limits::a_body_that_stalls_is_408_and_reached_no_node` |
//! | 4 | a client that stops reading | `limits::a_client_that_stops_reading_is_cut_and_the_node_freed`, `pressure` |
//! | 5, 6, 8 | a client that leaves while waiting, streaming, queueing | `leaving` |
//! | 7 | a client that closes its half | `a_client_that_closes_its_half_has_left` |
//! | 9 | idle connections | `pressure`, `limits::connections_have_a_limit_and_give_their_place_back` |
//! | 10, 23 | connections per address, wrong keys | no issue yet: they come with callers and their limits |
//! | 11, 12 | HTTP/2 floods | not yet: the limits are those of Pingora and its h2 crate (`h2` shows streams, not floods) |
//! | 13, 21 | smuggling, tricks with paths | `raw` |
//! | 14, 15 | sizes | `limits::sizes_have_limits`, `raw` |
//! | 16 | a zstd bomb | `a_bomb_of_ten_gigabytes_is_refused`, `bodies::zstd_is_decoded_on_v1_under_the_limit_and_nothing_else_is` |
//! | 17 | deep JSON | `the_deepest_json_is_refused` |
//! | 18, 20 | ambiguous bodies, broken text | `bodies::ambiguous_and_broken_bodies_are_400_and_reach_no_node` |
//! | 19 | spellings of a model | `every_spelling_of_a_model_is_the_same_model`; who may use it comes later, with callers |
//! | 22 | forged headers | `relay::secrets_and_forged_headers_do_not_reach_a_node`, `raw` |
//! | 24 | a node that refuses connections | `failover::a_node_that_refuses_connections_costs_nobody_an_error` |
//! | 25 | a node behind a black hole | `a_node_behind_a_black_hole_is_given_up_at_connection_timeout` |
//! | 26 | a frozen node | `a_frozen_node_is_given_up_and_comes_back`, `death::a_frozen_node_is_detected_in_less_than_two_check_intervals_too` |
//! | 27 | a reset on a pooled connection | `failover::a_stale_pooled_connection_is_replaced_without_a_second_node`, `nothing_is_generated_twice_after_a_stale_connection` |
//! | 28 | a reset on a fresh connection | `failover::every_failure_before_the_first_byte_goes_to_another_node`, `failover::attempts_have_a_limit` |
//! | 29, 30 | a death, a stall in the middle | `streams` |
//! | 31 | answers cut short or broken | `streams`, `a_connection_whose_answer_broke_is_not_used_again` |
//! | 32, 33 | extra bytes, an endless line | `streams` |
//! | 34 | busy nodes | `failover::when_every_node_declines_the_client_hears_the_last_ones_reason`, `busy_nodes_are_asked_once_per_request` |
//! | 35 | all nodes down, a model on none | `streams::failures_in_the_middle_count_against_the_node`, `federated::an_unknown_model_is_404_in_every_dialect_with_names_that_come_close` |
//! | 36 | a node that flaps | `a_flapping_node_costs_only_the_streams_it_cuts` |
//! | 37 | a long load | `a_long_load_is_no_failure_and_others_go_where_it_is_warm` |
//! | 38, 39 | names that resolve elsewhere, a bad new configuration | issue 3 (discovery, reload); a bad one at the start: `process` |
//! | 40 | SIGTERM | `process` |

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use arriero::demo::{self, Fault, Outcome};
use arriero::fleet::{NodeId, Observation};

use crate::support::client::{Raw, full_listener};
use crate::support::herd::{herd_of, shared};
use crate::support::{Herd, herd, spawn, within};

const CHAT: &str = r#"{"model":"llama3","messages":[{"role":"user","content":"hi"}]}"#;

fn llama() -> demo::NodeBuilder {
    demo::Node::builder().loaded("llama3").tokens(2)
}

/// A herd whose gpu-0 is asked first.
async fn pair(yaml: &str) -> Herd {
    herd_of(
        vec![(llama(), "priority: 200"), (llama(), "priority: 100")],
        yaml,
    )
    .await
}

#[tokio::test]
async fn a_client_that_closes_its_half_has_left() {
    let herd = herd(vec![llama()], "").await;
    herd.nodes[0].pause_after(1);
    let mut raw = herd.begin("/api/chat", CHAT).await;
    assert_eq!(raw.head().await.expect("a head").0, 200);
    raw.finish_sending().await;
    let freed = herd.nodes[0].until(|node| node.generating() == 0);
    within("the node to be freed", freed).await;
    assert_eq!(herd.served(0)[0].outcome, Outcome::Cancelled);
    assert!(!raw.rest().await.1, "no clean end");
    herd.is_idle().await;
}

async fn post_zstd(herd: &Herd, body: &[u8]) -> u16 {
    let mut raw = Raw::open(herd.addr()).await;
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\ncontent-encoding: zstd\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    raw.send(head).await;
    raw.send_what_goes(body).await;
    raw.reply().await.status
}

#[tokio::test]
async fn a_bomb_of_ten_gigabytes_is_refused() {
    let herd = herd(vec![llama()], "").await;
    // Written by hand: a frame with a window of 128 KiB, and blocks that each repeat a space 131072 times.
    let mut bomb = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x38];
    for at in 0..81_920 {
        let last = u32::from(at == 81_919);
        bomb.extend(&(131_072_u32 << 3 | 1 << 1 | last).to_le_bytes()[..3]);
        bomb.push(b' ');
    }
    assert_eq!(post_zstd(&herd, &bomb).await, 413);
    let mut small = bomb[..6].to_vec();
    small.extend(&(131_072_u32 << 3 | 1 << 1 | 1).to_le_bytes()[..3]);
    small.push(b' ');
    assert_eq!(post_zstd(&herd, &small).await, 413, "by its ratio");
    assert_eq!(herd.served(0).len(), 0);
}

#[tokio::test]
async fn the_deepest_json_is_refused() {
    let herd = herd(vec![llama()], "").await;
    let nested = |open: &str, close: &str, depth: usize| {
        format!(
            r#"{{"model":"llama3","x":{}1{}}}"#,
            open.repeat(depth),
            close.repeat(depth)
        )
    };
    let bodies = [
        nested("[", "]", 100_000),
        nested(r#"{"a":"#, "}", 100_000),
        "[".repeat(10_000_000),
        format!(r#"{{"model":"llama3","x":{}"#, "[".repeat(10_000_000)),
        r#"{"model":"#.repeat(1_000_000),
    ];
    for body in bodies {
        for path in ["/api/chat", "/v1/messages"] {
            herd.post(path, &body).await.is(400);
        }
    }
    assert_eq!(herd.served(0).len(), 0);
}

#[tokio::test]
async fn every_spelling_of_a_model_is_the_same_model() {
    let other = demo::Node::builder().loaded("other");
    let herd = herd(vec![other, llama()], "").await;
    let spellings = [
        "llama3",
        "LLAMA3",
        "llama3:latest",
        "library/llama3",
        "library/llama3:latest",
        "LLama3:LATEST",
    ];
    for spelling in spellings {
        let reply = herd
            .post("/api/chat", &CHAT.replace("llama3", spelling))
            .await;
        assert_eq!(reply.status, 200, "{spelling}: {}", reply.text());
        assert_eq!(reply.header("x-arriero-node"), Some("gpu-1"), "{spelling}");
    }
    for unknown in ["llama3:8b", "me/llama3", "llama"] {
        let reply = herd
            .post("/api/chat", &CHAT.replace("llama3", unknown))
            .await;
        assert_eq!(reply.status, 404, "{unknown}: {}", reply.text());
    }
}

#[tokio::test]
async fn a_node_behind_a_black_hole_is_given_up_at_connection_timeout() {
    let (addr, _wall) = full_listener().await;
    let herd = pair("proxy: { connection_timeout: 300ms }").await;
    let moved = Observation::Resolved(addr);
    let fleet = herd.gateway.gateway.fleet();
    fleet.observe(NodeId(0), moved, Instant::now());
    for _ in 0..2 {
        let reply = herd.post("/api/chat", CHAT).await.is(200);
        assert_eq!(reply.header("x-arriero-node"), Some("gpu-1"));
    }
    assert_eq!(herd.served(0).len(), 0);
    let health = fleet.view().nodes[0].health.clone();
    assert!(health.is_down(), "two failures in a row: {health:?}");
    let reply = herd.post("/api/chat", CHAT).await.is(200);
    assert_eq!(reply.header("x-arriero-attempts"), Some("1"), "not tried");
}

#[tokio::test]
async fn a_frozen_node_is_given_up_and_comes_back() {
    let limits = "proxy: { warm_header_timeout: 400ms, response_header_timeout: 400ms }";
    let herd = pair(limits).await;
    herd.nodes[0].freeze();
    let reply = herd.post("/api/chat", CHAT).await.is(200);
    assert_eq!(reply.header("x-arriero-node"), Some("gpu-1"));
    herd.eventually("gpu-0 is down", |view| view.nodes[0].health.is_down())
        .await;
    herd.nodes[0].thaw();
    herd.eventually("gpu-0 is back", |view| view.nodes[0].health.is_up())
        .await;
    let reply = herd.post("/api/chat", CHAT).await.is(200);
    assert_eq!(reply.header("x-arriero-node"), Some("gpu-0"));

    let alone = crate::support::herd(vec![llama()], limits).await;
    alone.nodes[0].freeze();
    alone.post("/api/chat", CHAT).await.is(504);
    alone.is_idle().await;
}

#[tokio::test]
async fn nothing_is_generated_twice_after_a_stale_connection() {
    for fault in [Fault::StaleConnection, Fault::StaleReset] {
        let herd = herd(vec![llama(), llama()], "").await;
        for node in &herd.nodes {
            node.fault_times(fault.clone(), 1);
        }
        for n in 0..8 {
            let body = CHAT.replace("hi", &format!("request {n}"));
            herd.post("/api/chat", &body).await.is(200);
        }
        let mut bodies: Vec<_> = [herd.served(0), herd.served(1)]
            .concat()
            .into_iter()
            .filter(|seen| !seen.body.is_empty())
            .map(|seen| seen.body)
            .collect();
        let generated = bodies.len();
        bodies.sort();
        bodies.dedup();
        assert_eq!((generated, bodies.len()), (8, 8), "{fault:?}");
    }
}

#[tokio::test]
async fn a_connection_whose_answer_broke_is_not_used_again() {
    let faults = [
        Fault::BadChunk { after: 1 },
        Fault::ShortLength,
        Fault::LongLength,
        Fault::SecondResponse,
        Fault::CloseDelimited,
        Fault::EarlyStatus { status: 400 },
    ];
    for fault in faults {
        let herd = herd(vec![llama()], "").await;
        herd.nodes[0].fault_times(fault.clone(), 1);
        herd.post("/api/chat", CHAT).await;
        let reply = herd.post("/api/chat", CHAT).await.is(200);
        assert!(reply.complete, "{fault:?}: {}", reply.text());
        let last = herd.served(0).pop().expect("a request");
        assert!(!last.reused, "{fault:?}: a fresh connection");
    }
}

#[tokio::test]
async fn busy_nodes_are_asked_once_per_request() {
    let herd = herd(vec![llama(), llama(), llama()], "").await;
    for node in &herd.nodes {
        node.fault(Fault::busy());
    }
    for _ in 0..20 {
        let reply = herd.post("/api/chat", CHAT).await.is(503);
        assert!(reply.header("retry-after").is_some());
    }
    for node in 0..3 {
        assert!(herd.served(node).len() <= 20, "gpu-{node}");
    }
    herd.nodes[1].clear_fault();
    let reply = herd.post("/api/chat", CHAT).await.is(200);
    assert_eq!(reply.header("x-arriero-node"), Some("gpu-1"));
}

/// Asks until told to stop; counts whole answers, and those that were cut and say so.
async fn keep_asking(addr: SocketAddr, stop: Arc<AtomicBool>, whole: Arc<AtomicUsize>) -> usize {
    let mut cut = 0;
    while !stop.load(Ordering::SeqCst) {
        let reply = crate::support::post(addr, "/api/chat", CHAT).await.is(200);
        assert_eq!(reply.complete, reply.text().contains("\"done\":true"));
        if reply.complete {
            whole.fetch_add(1, Ordering::SeqCst);
        } else {
            cut += 1;
        }
    }
    cut
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flapping_node_costs_only_the_streams_it_cuts() {
    const FLAPS: usize = 5;
    const CLIENTS: usize = 4;
    let herd = shared(herd(vec![llama().slots(8), llama().slots(8)], "").await);
    let stop = Arc::new(AtomicBool::new(false));
    let whole = Arc::new(AtomicUsize::new(0));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| spawn(keep_asking(herd.addr(), stop.clone(), whole.clone())))
        .collect();
    let more = async |count: usize| {
        let goal = whole.load(Ordering::SeqCst) + count;
        within("more answers", async {
            while whole.load(Ordering::SeqCst) < goal {
                tokio::time::sleep(std::time::Duration::from_millis(2)).await;
            }
        })
        .await;
    };
    for _ in 0..FLAPS {
        more(20).await;
        herd.nodes[0].kill();
        more(20).await;
        herd.nodes[0].revive().await.expect("the port is free");
    }
    stop.store(true, Ordering::SeqCst);
    let mut cut = 0;
    for client in clients {
        cut += within("a client", client).await.expect("no refusal");
    }
    assert!(cut <= FLAPS * CLIENTS, "{cut} answers cut");
    herd.is_idle().await;
}

#[tokio::test]
async fn a_long_load_is_no_failure_and_others_go_where_it_is_warm() {
    let cold = demo::Node::builder()
        .model("llama3")
        .load_delay(std::time::Duration::from_secs(3600));
    let nodes = vec![(cold, ""), (llama().slots(4), "slots: 1")];
    let herd = herd_of(nodes, "proxy: { warm_header_timeout: 10s }").await;
    herd.nodes[1].pause_after(1);
    let mut first = herd.begin("/api/chat", CHAT).await;
    assert_eq!(first.head().await.expect("a head").0, 200);
    let waits = herd.begin("/api/chat", CHAT).await; // the warm node is full
    let loading = herd.nodes[0].until(|node| node.waiting() == 1);
    within("the load to begin", loading).await;
    herd.nodes[1].resume();
    assert!(first.rest().await.1);
    for _ in 0..10 {
        let reply = herd.post("/api/chat", CHAT).await.is(200);
        assert_eq!(reply.header("x-arriero-node"), Some("gpu-1"));
    }
    assert_eq!(herd.nodes[0].waiting(), 1, "still waited for");
    let view = herd.gateway.gateway.fleet().view();
    assert!(view.nodes[0].health.is_up(), "{:?}", view.nodes[0].health);
    drop(waits);
    herd.is_idle().await;
}
