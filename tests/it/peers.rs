//! What users of other gateways complain of, as tests: each line below is a fault that was reported there, and the test that would
//! see it here. Those without a module's name are in this file.
//!
//! - *least busy* sticks to the first node, or goes by index: `slots::adaptive_and_least_connections_spread_what_comes_one_by_one`,
//!   and "nodes never picked are told apart by the seed" in `tests/golden/routing/table.txt`
//! - whose turn it is is forgotten at every heartbeat: `turns_outlive_every_new_snapshot`
//! - a request counts only once its answer has begun, so a burst meets on one node; many replicas of which two work:
//!   `a_burst_is_spread_before_any_answer_begins`
//! - a cache draws everybody to the node that is busiest already: `sticky::conversations_with_one_system_prompt_are_not_one_session`,
//!   `sticky::what_everybody_has_in_common_is_no_hot_spot`, `sticky::a_node_that_is_full_gives_its_session_to_another`
//! - a conversation is known by its first message only: `sticky::conversations_with_one_system_prompt_are_not_one_session`,
//!   `sticky::how_much_of_a_prompt_counts_is_configured`
//! - the memory of prefixes grows without bound: `sticky::the_page_counts_and_the_oldest_makes_room`, `affinity::tests`
//! - a node gets requests before it is ready: `a_node_that_is_not_ready_gets_nothing`, `faults::a_long_load_is_no_failure_and_others_go_where_it_is_warm`
//! - A B A A C loads A twice, or serves B never: `what_is_loaded_is_served_before_a_swap`, `admission::queue::tests::who_needs_a_swap_lets_others_pass_until_it_has_waited_too_long`,
//!   `admission::queue::tests::nobody_starves`
//! - one node that hangs slows everybody: `a_node_that_hangs_keeps_only_what_it_took`, `fairness::one_that_waits_for_a_full_node_does_not_hold_up_those_another_could_serve`
//! - several equal servers behind one address work one after another: `a_burst_is_spread_before_any_answer_begins`
//! - 503 and its like are passed on instead of asking another node: `failover::every_failure_before_the_first_byte_goes_to_another_node`
//! - a stream that broke looks whole: `death::killed_under_load_whole_or_reported_as_cut_and_nothing_else`, `fairness::an_end_that_nothing_announced_is_trusted_only_if_the_answer_is_whole`
//! - a large body is refused, emptied or cannot be sent again: `failover::eight_mebibytes_with_the_model_last_reach_the_second_node_intact`
//! - slots are lost or given back twice: `slots::a_hundred_at_once_never_exceed_the_slots`, and `Herd::is_idle` at the end of every flow

use std::collections::BTreeMap;
use std::time::Duration;

use arriero::demo::{self, Fault};

use crate::support::herd::{herd_of, starting};
use crate::support::{Herd, herd, post, spawn, within};

fn llama() -> demo::NodeBuilder {
    demo::Node::builder().loaded("llama3").tokens(2).slots(8)
}

/// A chat that is answered as a whole, so that its head comes when all is done.
fn whole(model: &str, words: &str) -> String {
    format!(
        r#"{{"model":"{model}","stream":false,"messages":[{{"role":"user","content":"{words}"}}]}}"#
    )
}

fn by(balancer: &str) -> String {
    format!("proxy: {{ load_balancer: {balancer} }}")
}

/// Who served how many of these requests, one after another, where `before` happens before each.
async fn shares(herd: &Herd, count: usize, before: impl Fn(usize)) -> BTreeMap<String, usize> {
    let mut shares = BTreeMap::new();
    for n in 0..count {
        before(n);
        let reply = herd.post("/api/chat", &whole("llama3", "hi")).await.is(200);
        let node = reply.header("x-arriero-node").expect("a node").to_owned();
        *shares.entry(node).or_insert(0) += 1;
    }
    shares
}

#[tokio::test]
async fn turns_outlive_every_new_snapshot() {
    for balancer in ["round-robin", "least-connections", "adaptive"] {
        let other = demo::Node::builder().loaded("qwen3");
        let herd = herd(vec![llama(), llama(), llama(), other], &by(balancer)).await;
        let fleet = herd.gateway.gateway.fleet().clone();
        let shares = shares(&herd, 12, |n| {
            let before = fleet.view();
            assert!(fleet.drain("gpu-3", n % 2 == 0));
            let is_new = !std::ptr::eq(&raw const *before, &raw const *fleet.view());
            assert!(is_new, "a snapshot was published");
        })
        .await;
        let equal = ["gpu-0", "gpu-1", "gpu-2"].map(|node| (node.to_owned(), 4));
        assert_eq!(shares, BTreeMap::from(equal), "{balancer}");
    }
}

#[tokio::test]
async fn a_burst_is_spread_before_any_answer_begins() {
    for balancer in ["adaptive", "least-connections", "round-robin"] {
        let nodes = (0..8).map(|_| (llama(), "slots: 4")).collect();
        let herd = herd_of(nodes, &by(balancer)).await;
        herd.nodes.iter().for_each(|node| node.pause_after(0));
        let mut burst = Vec::new();
        for n in 0..16 {
            let body = whole("llama3", &format!("request {n}"));
            burst.push(herd.begin("/api/chat", &body).await);
        }
        within("all to be under way", async {
            while herd.nodes.iter().map(demo::Node::paused).sum::<usize>() < 16 {
                tokio::task::yield_now().await;
            }
        })
        .await;
        let shares: Vec<usize> = herd.nodes.iter().map(demo::Node::paused).collect();
        assert_eq!(shares, [2; 8], "{balancer}");
        herd.nodes.iter().for_each(demo::Node::resume);
        for mut raw in burst {
            raw.reply().await.is(200);
        }
        herd.is_idle().await;
    }
}

#[tokio::test]
async fn a_node_that_is_not_ready_gets_nothing() {
    let nodes = vec![(llama(), ""), (llama(), "")];
    let herd = starting(nodes, "", |nodes, _| nodes[0].freeze()).await;
    herd.eventually("gpu-1 to be ready", |view| {
        view.nodes[1].health.is_up() && view.nodes[1].knows_models()
    })
    .await;
    let only = BTreeMap::from([("gpu-1".to_owned(), 6)]);
    assert_eq!(shares(&herd, 6, |_| ()).await, only);
    herd.nodes[0].thaw();
    herd.settled().await;
    assert_eq!(shares(&herd, 6, |_| ()).await.len(), 2, "ready by now");
}

#[tokio::test]
async fn what_is_loaded_is_served_before_a_swap() {
    let cases = [
        ("10m", ["A1", "A3", "A4", "B2", "C5"], 2),
        // Nobody is passed: the order of arrival has its price.
        ("1ms", ["A1", "B2", "A3", "A4", "C5"], 3),
    ];
    for (patience, expected, loads) in cases {
        let node = demo::Node::builder().loaded_max(1).tokens(2);
        let node = node.loaded("A").model("B").model("C");
        let yaml = format!("proxy: {{ queue: {{ swap_patience: {patience} }} }}");
        let herd = herd_of(vec![(node, "slots: 1")], &yaml).await;
        let before = herd.nodes[0].loads();
        herd.nodes[0].pause_after(0);
        let mut requests = Vec::new();
        for (at, words) in ["A1", "B2", "A3", "A4", "C5"].into_iter().enumerate() {
            requests.push(herd.begin("/api/chat", &whole(&words[..1], words)).await);
            if at == 0 {
                within(
                    "the slot to be taken",
                    herd.nodes[0].until(|node| node.paused() == 1),
                )
                .await;
            }
            herd.until_metric("arriero_queue_depth", |depth| depth == at as f64)
                .await;
        }
        // All have waited for longer than the shorter patience.
        tokio::time::sleep(Duration::from_millis(2)).await;
        herd.nodes[0].resume();
        for raw in &mut requests {
            raw.reply().await.is(200);
        }
        let served = herd.served(0);
        let order: Vec<&str> = served
            .iter()
            .map(|seen| {
                let body = std::str::from_utf8(&seen.body).expect("text");
                let is_in = |words: &&str| body.contains(&format!("\"{words}\""));
                expected.into_iter().find(is_in).expect("one of them")
            })
            .collect();
        assert_eq!(order, expected, "{patience}");
        assert_eq!(herd.nodes[0].loads() - before, loads, "{patience}");
        herd.is_idle().await;
    }
}

#[tokio::test]
async fn a_node_that_hangs_keeps_only_what_it_took() {
    let nodes = vec![(llama(), "slots: 4"), (llama(), "slots: 4")];
    let herd = herd_of(nodes, "").await;
    herd.nodes[0].fault(Fault::NeverHeaders);
    let (told, mut answers) = tokio::sync::mpsc::unbounded_channel();
    let mut clients = Vec::new();
    for n in 0..24 {
        let (told, addr) = (told.clone(), herd.addr());
        clients.push(spawn(async move {
            let reply = post(addr, "/api/chat", &whole("llama3", &n.to_string())).await;
            let _ = told.send(reply.is(200).header("x-arriero-node").map(str::to_owned));
        }));
    }
    let mut from = Vec::new();
    for _ in 0..20 {
        let node = within("an answer", answers.recv()).await.flatten();
        from.push(node.expect("a node's name"));
    }
    assert!(from.iter().all(|node| node == "gpu-1"), "{from:?}");
    assert_eq!(herd.served(0).len(), 4, "its slots and no more");
    herd.nodes[0].kill();
    for client in clients {
        within("what hung to be served elsewhere", client)
            .await
            .expect("200");
    }
    herd.is_idle().await;
}
