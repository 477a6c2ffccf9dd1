//! `arriero nodes` and `arriero reload`: the binary asks another one.

use std::net::SocketAddr;
use std::process::{Command, Output};

use arriero::demo;

use crate::support::process::{Process, arriero, free_port};

const KEY: &str = "open-sesame";

async fn gateway(node: &demo::Node, key: &str) -> Process {
    let mut command = arriero();
    command.env("OLLAMA_BASE_URLS", node.url());
    if !key.is_empty() {
        command.env("ARRIERO_ADMIN_KEY", key);
    }
    Process::start(command).await
}

async fn node() -> demo::Node {
    let node = demo::Node::builder().loaded("llama3").tokens(2);
    node.start().await.expect("a node")
}

/// Runs a command to its end, away from the test's runtime, which serves the node.
pub(crate) async fn run(mut command: Command) -> (Option<i32>, String, String) {
    let output = tokio::task::spawn_blocking(move || command.output());
    let Output {
        status,
        stdout,
        stderr,
    } = output.await.expect("joined").expect("it runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (status.code(), text(stdout), text(stderr))
}

pub(crate) fn ask(admin: SocketAddr, words: &[&str]) -> Command {
    let mut command = arriero();
    command.args(words);
    command.args(["--admin", &format!("http://{admin}")]);
    command
}

#[tokio::test]
async fn the_nodes_are_shown_as_a_table_and_as_json() {
    let node = node().await;
    let gateway = gateway(&node, "").await;
    let name = node.addr().to_string();
    // As `serve` would find it: from the environment.
    let mut command = arriero();
    command.arg("nodes");
    command.env("ARRIERO_ADMIN_PORT", gateway.admin.port().to_string());
    let (code, table, _) = run(command).await;
    assert_eq!(code, Some(0));
    let lines: Vec<Vec<&str>> = table
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(lines[0][..3], ["NAME", "TYPE", "STATE"]);
    assert_eq!(lines[1][..5], [&name, "ollama", "healthy", "100", "0/auto"]);
    assert_eq!(
        table.lines().last(),
        Some("1 of 1 healthy, 1 taking requests")
    );

    let (code, json, _) = run(ask(gateway.admin, &["nodes", "--json"])).await;
    assert_eq!(code, Some(0));
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json["endpoints"][0]["name"], name.as_str());
}

#[tokio::test]
async fn a_node_is_drained_and_brought_back_by_name() {
    let node = node().await;
    let gateway = gateway(&node, "").await;
    let name = node.addr().to_string();
    let state = async || {
        let (_, table, _) = run(ask(gateway.admin, &["nodes"])).await;
        let line = table.lines().nth(1).expect("a node");
        line.split_whitespace().nth(2).expect("a state").to_owned()
    };
    let (code, said, _) = run(ask(gateway.admin, &["nodes", "drain", &name])).await;
    assert_eq!((code, state().await.as_str()), (Some(0), "draining"));
    assert!(said.contains(&name), "{said}");
    let (code, ..) = run(ask(gateway.admin, &["nodes", "undrain", &name])).await;
    assert_eq!((code, state().await.as_str()), (Some(0), "healthy"));
    let (code, _, why) = run(ask(gateway.admin, &["nodes", "drain", "nobody"])).await;
    assert_eq!(code, Some(1));
    assert!(why.contains("nobody"), "{why}");
    let (code, said, _) = run(ask(gateway.admin, &["reload"])).await;
    assert_eq!(code, Some(0));
    assert!(said.contains("in force"), "{said}");
}

#[tokio::test]
async fn without_a_gateway_or_its_key_it_says_what_to_do() {
    let (code, out, why) = run(ask(free_port(), &["nodes"])).await;
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(
        why.contains("arriero serve") && why.contains("--admin"),
        "{why}"
    );

    let node = node().await;
    let gateway = gateway(&node, KEY).await;
    let (code, _, why) = run(ask(gateway.admin, &["nodes"])).await;
    assert_eq!(code, Some(1));
    assert!(why.contains("401") && why.contains("--key-env"), "{why}");
    let mut command = ask(gateway.admin, &["nodes", "--key-env", "MY_KEY"]);
    command.env("MY_KEY", KEY);
    let (code, table, why) = run(command).await;
    assert_eq!(code, Some(0), "{why}");
    assert!(!table.contains(KEY));
    let (code, _, why) = run(ask(gateway.admin, &["nodes", "--key-env", "MY_KEY"])).await;
    assert_eq!(code, Some(1));
    assert!(why.contains("MY_KEY"), "{why}");
}
