//! One of three nodes is killed: while idle nobody notices, under load nobody is lied to.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use arriero::demo;

use crate::support::client::{Raw, request};
use crate::support::herd::{herd_of, shared};
use crate::support::{Herd, spawn, within};

const CHAT: &str = r#"{"model":"llama3","messages":[{"role":"user","content":"hi"}]}"#;

async fn three(keys: &str, tokens: usize) -> Herd {
    let node = || {
        demo::Node::builder()
            .loaded("llama3")
            .tokens(tokens)
            .slots(64)
    };
    // Slots are written, or many would wait until it is learned how many are taken well.
    let keys = format!("slots: 64\n{keys}");
    let node = || (node(), &*keys);
    herd_of(vec![node(), node(), node()], "").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_while_idle_the_next_thousand_requests_have_no_error() {
    let herd = shared(three("", 2).await);
    herd.post("/api/chat", CHAT).await.is(200);
    herd.nodes[1].kill();
    let clients = (0..10).map(|_| {
        let herd = herd.clone();
        spawn(async move {
            let mut raw = Raw::open(herd.addr()).await;
            for _ in 0..100 {
                raw.send(request("POST", "/api/chat", CHAT)).await;
                let reply = raw.reply().await.is(200);
                assert!(reply.complete && reply.text().contains("\"done\":true"));
            }
        })
    });
    for client in clients.collect::<Vec<_>>() {
        within("a client", client).await.expect("no error");
    }
    herd.is_idle().await;
}

#[tokio::test]
async fn a_death_is_detected_in_less_than_two_check_intervals() {
    // 1 s is long enough that the machine's own hiccups do not matter, and no request helps to find out.
    const INTERVAL: Duration = Duration::from_secs(1);
    let herd = three("check_interval: 1s\ncheck_timeout: 500ms", 2).await;
    herd.nodes[2].kill();
    let killed = Instant::now();
    herd.eventually("gpu-2 is down", |view| view.nodes[2].health.is_down())
        .await;
    let took = killed.elapsed();
    assert!(took < 2 * INTERVAL, "detected after {took:?}");
    assert!(herd.gateway.gateway.fleet().view().nodes[0].health.is_up());
    herd.nodes[2]
        .revive()
        .await
        .expect("the port is free again");
    herd.eventually("gpu-2 is back", |view| view.nodes[2].health.is_up())
        .await;
}

#[tokio::test]
async fn a_frozen_node_is_detected_in_less_than_two_check_intervals_too() {
    let herd = three("check_interval: 2s\ncheck_timeout: 500ms", 2).await;
    herd.nodes[0].freeze();
    let frozen = Instant::now();
    herd.eventually("gpu-0 is down", |view| view.nodes[0].health.is_down())
        .await;
    assert!(
        frozen.elapsed() < Duration::from_secs(4),
        "detected after {:?}",
        frozen.elapsed()
    );
    herd.nodes[0].thaw();
    herd.eventually("gpu-0 is back", |view| view.nodes[0].health.is_up())
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_under_load_whole_or_reported_as_cut_and_nothing_else() {
    let herd = shared(three("", 20).await);
    let [begun, whole, cut] = [(); 3].map(|()| Arc::new(AtomicUsize::new(0)));
    herd.nodes.iter().for_each(|node| node.pause_after(10));
    let clients = (0..90).map(|_| {
        let (herd, begun, whole, cut) = (herd.clone(), begun.clone(), whole.clone(), cut.clone());
        spawn(async move {
            let mut raw = herd.begin("/api/chat", CHAT).await;
            assert_eq!(raw.head().await.expect("a head").0, 200);
            let mut body = raw
                .chunk()
                .await
                .expect("a first byte")
                .expect("not the end");
            begun.fetch_add(1, Ordering::Relaxed);
            let (rest, complete) = raw.rest().await;
            body.extend(rest);
            let text = String::from_utf8_lossy(&body);
            let done = text.contains("\"done\":true");
            assert_eq!(complete, done, "an answer is whole or broken off: {text}");
            if done {
                whole.fetch_add(1, Ordering::Relaxed);
            } else {
                assert!(
                    text.lines()
                        .last()
                        .is_some_and(|line| line.starts_with("{\"error\":")),
                    "told in band: {text}"
                );
                cut.fetch_add(1, Ordering::Relaxed);
            }
        })
    });
    let clients: Vec<_> = clients.collect();
    // All have their first byte, and ten tokens at the most: the rest is held back.
    within("all streams to flow", async {
        while begun.load(Ordering::Relaxed) < 90 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    let doomed = herd.nodes[1].generating();
    herd.nodes[1].kill();
    within("the cuts to be told", async {
        while cut.load(Ordering::Relaxed) < doomed {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    herd.nodes.iter().for_each(demo::Node::resume);
    for client in clients {
        within("a client", client)
            .await
            .expect("whole or honestly cut");
    }
    assert_eq!(
        cut.load(Ordering::Relaxed),
        doomed,
        "exactly the streams of the dead node are cut"
    );
    assert_eq!(whole.load(Ordering::Relaxed), 90 - doomed);
    herd.is_idle().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_before_any_first_byte_nobody_gets_an_error() {
    let herd = shared(three("", 2).await);
    herd.nodes.iter().for_each(|node| node.pause_after(0));
    let clients = (0..60).map(|_| {
        let herd = herd.clone();
        spawn(async move { herd.post("/api/chat", CHAT).await.is(200).complete })
    });
    let clients: Vec<_> = clients.collect();
    within("all to wait for their first byte", async {
        while herd.nodes.iter().map(demo::Node::paused).sum::<usize>() < 60 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    herd.nodes[0].kill();
    herd.nodes.iter().for_each(demo::Node::resume);
    for client in clients {
        assert!(within("a client", client).await.expect("no error"), "whole");
    }
    herd.is_idle().await;
}
