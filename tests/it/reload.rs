//! A new configuration while requests run: all or nothing, nobody disturbed.

use std::time::Duration;

use arriero::demo;

use crate::support::client::Raw;
use crate::support::dns::NameServer;
use crate::support::herd::{parse, parse_with, shared};
use crate::support::{Herd, herd, post, spawn, within};

const CHAT: &str = r#"{"model":"llama3","messages":[{"role":"user","content":"hi"}]}"#;

fn llamas(count: usize) -> Vec<demo::NodeBuilder> {
    (0..count)
        .map(|_| demo::Node::builder().loaded("llama3").tokens(4))
        .collect()
}

/// A configuration with some of the herd's nodes; `more` are keys of every endpoint.
fn text(herd: &Herd, nodes: &[usize], more: &str) -> String {
    let endpoints = nodes.iter().map(|at| {
        let url = herd.nodes[*at].url();
        format!("      - {{ url: \"{url}\", name: gpu-{at}, check_interval: 1s, check_timeout: 1s{more} }}\n")
    });
    format!(
        "discovery:\n  model_discovery: {{ interval: 1s, loaded_interval: 50ms, timeout: 2s }}\n  static:\n    endpoints:\n{}",
        endpoints.collect::<String>()
    )
}

impl Herd {
    fn reload(&self, nodes: &[usize], more: &str) -> Result<(), String> {
        let config = parse(&text(self, nodes, more));
        let done = self.gateway.gateway.reload(config);
        done.map_err(|fault| fault.message)
    }

    async fn served_by(&self) -> Option<String> {
        let reply = self.post("/api/chat", CHAT).await.is(200);
        reply.header("x-arriero-node").map(str::to_owned)
    }
}

#[tokio::test]
async fn a_node_that_leaves_finishes_what_it_has_and_gets_nothing_new() {
    let herd = herd(llamas(2), "").await;
    herd.nodes[0].pause_after(2);
    let mut stream = herd.begin("/api/chat/0", CHAT).await;
    assert_eq!(stream.head().await.expect("a head").0, 200);
    herd.nodes[0].until(|node| 0 < node.paused()).await;

    herd.reload(&[1], "").expect("a good configuration");
    for _ in 0..4 {
        assert_eq!(herd.served_by().await.as_deref(), Some("gpu-1"));
    }
    let view = herd.gateway.gateway.fleet().view();
    let leaving: Vec<_> = view
        .leaving()
        .map(|node| node.config.name.clone())
        .collect();
    assert_eq!(leaving, ["gpu-0"]);

    herd.nodes[0].resume();
    let (body, whole) = stream.rest().await;
    assert!(whole && String::from_utf8_lossy(&body).contains("\"done\":true"));
    herd.is_idle().await;
    within("the left node to be forgotten", async {
        while view.leaving().next().is_some() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_node_that_stays_keeps_what_is_known_of_it() {
    let herd = herd(llamas(2), "").await;
    let before = herd.gateway.gateway.fleet().view();
    herd.reload(&[0, 1], ", priority: 50")
        .expect("a good configuration");
    let after = herd.gateway.gateway.fleet().view();
    for at in 0..2 {
        assert_eq!(before.nodes[at].id, after.nodes[at].id);
        assert_eq!(after.nodes[at].config.priority, 50);
        assert!(after.nodes[at].health.is_up() && after.nodes[at].knows_models());
    }
    herd.served_by().await;
    // In another order they are the same nodes under other indexes.
    herd.reload(&[1, 0], "").expect("a good configuration");
    let reply = herd.post("/api/chat/0", CHAT).await.is(200);
    assert_eq!(reply.header("x-arriero-node"), Some("gpu-1"));
}

#[tokio::test]
async fn a_new_node_is_used_as_soon_as_it_has_told_its_models() {
    let herd = herd(llamas(2), "").await;
    herd.reload(&[1], "").expect("a good configuration");
    herd.reload(&[0, 1], "").expect("a good configuration");
    herd.settled().await;
    let mut seen = [herd.served_by().await, herd.served_by().await];
    seen.sort();
    assert_eq!(seen, [Some("gpu-0".to_owned()), Some("gpu-1".to_owned())]);
}

#[tokio::test]
async fn what_cannot_change_at_run_time_refuses_the_whole() {
    let herd = herd(llamas(2), "").await;
    let config = parse(&format!(
        "server: {{ port: 4711 }}\n{}",
        text(&herd, &[1], "")
    ));
    let refused = herd.gateway.gateway.reload(config).expect_err("a refusal");
    assert!(refused.message.contains("server.port"), "{refused}");
    assert_eq!(herd.gateway.gateway.fleet().view().nodes.len(), 2);
    let junk = text(&herd, &[0], ", tls: { ca: junk.pem }").replace("http://", "https://");
    let junk = parse_with(&junk, &|_| {
        Ok(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_vec())
    });
    let refused = herd
        .gateway
        .gateway
        .reload(junk)
        .expect_err("a second refusal");
    assert!(refused.message.contains("tls.ca"), "{refused}");
    assert_eq!(herd.gateway.gateway.fleet().view().nodes.len(), 2);
    herd.served_by().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_reloads_under_load_fail_no_request() {
    let herd = shared(herd(llamas(3), "").await);
    let clients = (0..4).map(|_| {
        let herd = herd.clone();
        spawn(async move {
            let (mut served, stop) = (0, herd.gateway.gateway.fleet().membership());
            while *stop.borrow() < 101 {
                let body = CHAT.replace("{\"model\"", "{\"stream\":true,\"model\"");
                let reply = post(herd.addr(), "/api/chat", &body).await.is(200);
                assert!(reply.text().contains("\"done\":true"), "{}", reply.text());
                served += 1;
            }
            served
        })
    });
    let clients: Vec<_> = clients.collect();
    for turn in 0..100 {
        // Node 1 is always there; the others come and go, and keys change.
        let nodes: &[usize] = [&[0, 1][..], &[1, 2], &[1], &[2, 1, 0]][turn % 4];
        herd.reload(nodes, [", weight: 2", ""][turn % 2])
            .expect("a good configuration");
        herd.served_by().await;
    }
    let mut served = 0;
    for client in clients {
        served += within("the clients", client)
            .await
            .expect("no failed request");
    }
    assert!(100 < served, "{served}");
    herd.is_idle().await;
}

#[tokio::test]
async fn a_drained_node_gets_nothing_until_it_is_back() {
    let herd = herd(llamas(2), "").await;
    assert_eq!(
        herd.admin_post("/internal/nodes/gpu-0/drain", "").await,
        200
    );
    for _ in 0..4 {
        assert_eq!(herd.served_by().await.as_deref(), Some("gpu-1"));
    }
    herd.reload(&[0, 1], "").expect("a good configuration");
    assert_eq!(
        herd.served_by().await.as_deref(),
        Some("gpu-1"),
        "a reload does not end it"
    );
    assert_eq!(
        herd.admin_post("/internal/nodes/gpu-1/drain", "").await,
        200
    );
    herd.admin("/internal/ready").await.is(503);
    let refused = herd.post("/api/chat", CHAT).await.is(503);
    assert!(refused.text().contains("draining"), "{}", refused.text());
    assert_eq!(
        herd.admin_post("/internal/nodes/gpu-0/undrain", "").await,
        200
    );
    assert_eq!(herd.served_by().await.as_deref(), Some("gpu-0"));
    assert_eq!(
        herd.admin_post("/internal/nodes/gpu-9/drain", "").await,
        404
    );
    assert_eq!(
        herd.admin_post("/internal/reload", "").await,
        409,
        "there is no file"
    );
    let foreign = "origin: http://evil.example\r\n";
    assert_eq!(
        herd.admin_post("/internal/nodes/gpu-0/drain", foreign)
            .await,
        403
    );
    herd.admin("/internal/nodes/gpu-0/drain").await.is(405);
}

impl Herd {
    async fn admin_post(&self, path: &str, headers: &str) -> u16 {
        let mut raw = Raw::open(self.gateway.admin_addr).await;
        raw.send(format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\n{headers}content-length: 0\r\nconnection: close\r\n\r\n"
        ))
        .await;
        raw.reply().await.status
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_that_adds_a_name_has_it_asked() {
    let server = NameServer::start().await;
    let herd = herd(llamas(1), "").await;
    for turn in 0..10 {
        let name = format!("herd{turn}.test");
        server.set(&name, &["127.0.0.1".parse().expect("an IP")]);
        let dns = format!(
            "discovery: {{ type: dns, dns: [ {{ name: {name}, port: {}, interval: 50ms, server: \"{}\" }} ] }}",
            herd.nodes[0].addr().port(),
            server.addr
        );
        herd.gateway
            .gateway
            .reload(parse(&dns))
            .expect("a good configuration");
        let asked = format!("A {name}");
        within(&format!("a question for {name}"), async {
            while !server
                .asked()
                .iter()
                .any(|question| question.ends_with(&asked))
            {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
        herd.reload(&[0], "").expect("a good configuration");
    }
}

#[tokio::test]
async fn what_every_node_of_a_name_has_in_common_is_judged_before_it_is_in_force() {
    let herd = herd(llamas(1), "").await;
    let junk = parse_with(
        "discovery: { type: dns, dns: [ { name: herd.test, scheme: https, tls: { ca: junk.pem } } ] }",
        &|_| Ok(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_vec()),
    );
    let refused = herd.gateway.gateway.reload(junk).expect_err("a refusal");
    assert!(refused.message.contains("tls.ca"), "{refused}");
    herd.served_by().await;
}

#[tokio::test]
async fn nobody_is_refused_while_the_nodes_that_have_a_model_are_replaced() {
    let herd = shared(herd(llamas(2), "").await);
    herd.reload(&[0], ", slots: 1")
        .expect("a good configuration");
    herd.nodes[0].pause_after(2);
    let running = herd.begin("/api/chat", CHAT).await;
    herd.nodes[0].until(|node| 0 < node.paused()).await;
    let queued: Vec<_> = (0..2)
        .map(|_| {
            let herd = herd.clone();
            spawn(async move { herd.served_by().await })
        })
        .collect();
    herd.until_metric("arriero_queue_depth", |depth| depth == 2.0)
        .await;
    herd.reload(&[1], "").expect("a good configuration");
    for waiting in queued {
        assert_eq!(waiting.await.expect("a task").as_deref(), Some("gpu-1"));
    }
    herd.nodes[0].resume();
    drop(running);
    // And nobody who comes the moment after.
    for at in [0, 1, 0, 1] {
        herd.reload(&[at], "").expect("a good configuration");
        let served_by = herd.served_by().await;
        assert_eq!(served_by, Some(format!("gpu-{at}")));
    }
}

#[tokio::test]
async fn a_drain_holds_for_whatever_comes_under_the_name() {
    let herd = herd(llamas(2), "").await;
    assert_eq!(
        herd.admin_post("/internal/nodes/gpu-0/drain", "").await,
        200
    );
    herd.reload(&[1], "").expect("a good configuration");
    // Another address under the name: another node, and still out of service.
    let text = text(&herd, &[1], "").replace("gpu-1", "gpu-0");
    herd.gateway
        .gateway
        .reload(parse(&text))
        .expect("a good configuration");
    herd.settled().await;
    herd.post("/api/chat", CHAT).await.is(503);
    assert_eq!(
        herd.admin_post("/internal/nodes/gpu-0/undrain", "").await,
        200
    );
    herd.served_by().await;
}

#[tokio::test]
async fn the_series_of_a_node_end_with_it() {
    let herd = herd(llamas(2), "").await;
    for at in 0..2 {
        herd.post(&format!("/api/chat/{at}"), CHAT).await.is(200);
    }
    herd.is_idle().await;
    let is_named = |text: &str| text.contains("node=\"gpu-0\"");
    assert!(is_named(&herd.admin("/metrics").await.text()));
    herd.reload(&[1], "").expect("a good configuration");
    let text = herd.admin("/metrics").await.text();
    assert!(
        !is_named(&text) && text.contains("node=\"gpu-1\""),
        "{text}"
    );
}
