//! A DNS name whose every address is a node: who comes, who leaves, and what a bad answer must not do.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use arriero::demo;
use arriero::fleet::Snapshot;
use arriero::gateway::local::LocalGateway;

use crate::support::dns::{Manner, NameServer, SERVFAIL};
use crate::support::herd::parse;
use crate::support::{Herd, within};

const CHAT: &str = r#"{"model":"llama3","messages":[{"role":"user","content":"hi"}]}"#;

fn ips(list: &str) -> Vec<IpAddr> {
    let words = list.split_whitespace();
    words.map(|text| text.parse().expect("an IP")).collect()
}

/// Three nodes on three loopback addresses and one port, as the pods of a headless service have it.
async fn pods() -> Vec<demo::Node> {
    let llama = || demo::Node::builder().loaded("llama3").tokens(4);
    for _ in 0..50 {
        let first = llama().start().await.expect("a node");
        let port = first.addr().port();
        let mut pods = vec![first];
        for ip in [[127, 0, 0, 2], [127, 0, 0, 3]] {
            // The port may be taken on one of the other addresses; then another one is tried.
            pods.extend(llama().start_on(SocketAddr::from((ip, port))).await.ok());
        }
        if pods.len() == 3 {
            return pods;
        }
    }
    panic!("no port is free on three addresses");
}

async fn herd_behind(server: &NameServer) -> Herd {
    let nodes = pods().await;
    let text = format!(
        "discovery:\n  type: dns\n  model_discovery: {{ interval: 1s, loaded_interval: 50ms }}\n  dns:\n    \
         - {{ name: herd.test, port: {}, interval: 50ms, server: \"{}\", check_interval: 1s, check_timeout: 1s }}\n",
        nodes[0].addr().port(),
        server.addr
    );
    let gateway = LocalGateway::start(parse(&text)).await.expect("a gateway");
    Herd { nodes, gateway }
}

fn names(view: &Snapshot) -> Vec<String> {
    let mut names: Vec<_> = view
        .nodes
        .iter()
        .filter(|node| node.health.is_up() && node.knows_models())
        .map(|node| node.config.url.host.clone())
        .collect();
    names.sort();
    names
}

async fn until_nodes(herd: &Herd, expected: &[&str]) {
    herd.eventually(&format!("the nodes {expected:?}"), |view| {
        view.nodes.len() == expected.len() && names(view) == expected
    })
    .await;
}

#[tokio::test]
async fn addresses_come_and_go_and_nobody_is_cut() {
    let server = NameServer::start().await;
    let herd = herd_behind(&server).await;
    let unknown = herd.post("/api/chat", CHAT).await.is(503);
    assert!(
        unknown.text().contains("none is known yet"),
        "{}",
        unknown.text()
    );
    herd.get("/api/tags").await.is(200);

    server.set("herd.test", &ips("127.0.0.1 127.0.0.2"));
    until_nodes(&herd, &["127.0.0.1", "127.0.0.2"]).await;
    server.set("herd.test", &ips("127.0.0.1 127.0.0.2 127.0.0.3"));
    until_nodes(&herd, &["127.0.0.1", "127.0.0.2", "127.0.0.3"]).await;

    let index = herd.gateway.gateway.fleet().view();
    let at = index
        .nodes
        .iter()
        .position(|node| node.config.url.host == "127.0.0.3");
    herd.nodes[2].pause_after(2);
    let mut stream = herd
        .begin(&format!("/api/chat/{}", at.expect("the node")), CHAT)
        .await;
    assert_eq!(stream.head().await.expect("a head").0, 200);
    herd.nodes[2].until(|node| 0 < node.paused()).await;
    server.set("herd.test", &ips("127.0.0.1 127.0.0.2"));
    until_nodes(&herd, &["127.0.0.1", "127.0.0.2"]).await;
    for _ in 0..4 {
        let reply = herd.post("/api/chat", CHAT).await.is(200);
        let node = reply.header("x-arriero-node").expect("a node").to_owned();
        assert!(!node.starts_with("127.0.0.3"), "{node}");
    }
    herd.nodes[2].resume();
    let (body, whole) = stream.rest().await;
    assert!(whole && String::from_utf8_lossy(&body).contains("\"done\":true"));
    herd.is_idle().await;
}

#[tokio::test]
async fn a_bad_answer_leaves_the_last_good_one_in_force() {
    let server = NameServer::start().await;
    server.set("herd.test", &ips("127.0.0.1 127.0.0.2"));
    let herd = herd_behind(&server).await;
    until_nodes(&herd, &["127.0.0.1", "127.0.0.2"]).await;
    let before = herd.gateway.gateway.fleet().view();
    for manner in [Manner::Code(SERVFAIL), Manner::Silent, Manner::Garbage] {
        let (asked, what) = (server.asked().len(), format!("{manner:?}"));
        server.behave(manner);
        // A third question means that the answer to the first has been thought about.
        within(&format!("questions answered with {what}"), async {
            while server.asked().len() < asked + 6 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
        let view = herd.gateway.gateway.fleet().view();
        let ids = |view: &Snapshot| view.nodes.iter().map(|node| node.id).collect::<Vec<_>>();
        assert_eq!(ids(&view), ids(&before), "{what}");
        herd.post("/api/chat", CHAT).await.is(200);
    }
}

#[tokio::test]
async fn metadata_addresses_are_never_nodes() {
    let server = NameServer::start().await;
    server.set(
        "herd.test",
        &ips("169.254.169.254 127.0.0.2 fe80::1 fd00:ec2::254 0.0.0.0"),
    );
    let herd = herd_behind(&server).await;
    until_nodes(&herd, &["127.0.0.2"]).await;
}
