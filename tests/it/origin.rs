//! The configuration's files while the gateway runs: replaced, swapped as a ConfigMap, missing, and back.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::time::Duration;

use arriero::demo;

use crate::support::client::{Raw, request};
use crate::support::process::{Process, arriero};
use crate::support::{post, within};

const CHAT: &str = r#"{"model":"llama3","messages":[{"role":"user","content":"hi"}]}"#;

/// A directory as Kubernetes mounts a ConfigMap: the file is a link into `..data`, which is a link that is swapped.
struct ConfigMap(PathBuf);

impl ConfigMap {
    fn new(name: &str, text: &str) -> ConfigMap {
        let directory = std::env::temp_dir().join(format!("arriero-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory).expect("a directory");
        let map = ConfigMap(directory);
        map.swap("v1", text);
        symlink("..data/arriero.yaml", map.0.join("arriero.yaml")).expect("a link");
        map
    }

    fn swap(&self, version: &str, text: &str) {
        let data = self.0.join(format!("..{version}"));
        fs::create_dir(&data).expect("a directory");
        fs::write(data.join("arriero.yaml"), text).expect("a file");
        symlink(format!("..{version}"), self.0.join("..data_tmp")).expect("a link");
        fs::rename(self.0.join("..data_tmp"), self.0.join("..data")).expect("a swap");
    }
}

impl Drop for ConfigMap {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

async fn served_by(process: &Process) -> Option<String> {
    let reply = post(process.addr, "/api/chat", CHAT).await;
    reply.header("x-arriero-node").map(str::to_owned)
}

async fn until_served_by(process: &Process, node: &str) {
    within("the new configuration", async {
        while served_by(process).await.as_deref() != Some(node) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_swapped_config_map_and_sighup_are_noticed_and_a_bad_file_changes_nothing() {
    let node = demo::Node::builder()
        .loaded("llama3")
        .tokens(4)
        .start()
        .await
        .expect("a node");
    let named = |name: &str| {
        let url = node.url();
        format!(
            "discovery: {{ static: {{ endpoints: [ {{ url: \"{url}\", name: {name}, check_interval: 1s }} ] }} }}\n"
        )
    };
    let map = ConfigMap::new("swap", &named("first"));
    let mut command = arriero();
    command.arg("-c").arg(map.0.join("arriero.yaml"));
    let process = Process::start(command).await;
    assert_eq!(served_by(&process).await.as_deref(), Some("first"));

    map.swap("v2", &named("second"));
    until_served_by(&process, "second").await;

    node.pause_after(2);
    let mut stream = Raw::open(process.addr).await;
    stream.send(request("POST", "/api/chat", CHAT)).await;
    assert_eq!(stream.head().await.expect("a head").0, 200);
    map.swap(
        "v3",
        "discovery: { static: { endpoints: [ { ulr: nowhere } ] } }\n",
    );
    process.signal("HUP");
    let refused = "arriero_config_last_reload_successful 0";
    within("the refusal in the metrics", async {
        while !metrics(&process).await.contains(refused) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    node.resume();
    let (_, whole) = stream.rest().await;
    assert!(whole, "a refused reload disturbs no stream");
    assert_eq!(served_by(&process).await.as_deref(), Some("second"));

    map.swap("v4", &named("fourth"));
    process.signal("HUP");
    until_served_by(&process, "fourth").await;
}

async fn metrics(process: &Process) -> String {
    let mut raw = Raw::open(process.admin).await;
    raw.send("GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        .await;
    raw.reply().await.text()
}

/// A configuration whose one node has this name.
fn named(node: &demo::Node, name: &str, more: &str) -> String {
    let url = node.url();
    format!("endpoints: [ {{ url: \"{url}\", name: {name}, check_interval: 1s{more} }} ]\n")
}

async fn until_last_reload(process: &Process, was_successful: bool) {
    let line = format!(
        "arriero_config_last_reload_successful {}",
        u8::from(was_successful)
    );
    within("the reload in the metrics", async {
        while !metrics(process).await.contains(&line) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_file_that_is_gone_for_a_while_changes_nothing_until_it_is_back() {
    let node = demo::Node::builder().loaded("llama3").tokens(4);
    let node = node.start().await.expect("a node");
    let map = ConfigMap::new("gone", "");
    // Found by its place, without being named.
    let file = map.0.join("conf/arriero.yaml");
    fs::create_dir(map.0.join("conf")).expect("a directory");
    fs::write(&file, named(&node, "first", "")).expect("a file");
    let mut command = arriero();
    command.current_dir(&map.0);
    let process = Process::start(command).await;
    fs::rename(&file, map.0.join("elsewhere.yaml")).expect("a move");
    until_last_reload(&process, false).await;
    assert_eq!(served_by(&process).await.as_deref(), Some("first"));
    fs::write(&file, named(&node, "second", "")).expect("a file");
    until_served_by(&process, "second").await;
}

#[tokio::test]
async fn a_key_file_that_comes_after_the_configuration_is_waited_for() {
    let node = demo::Node::builder().loaded("llama3").tokens(4);
    let node = node.start().await.expect("a node");
    let map = ConfigMap::new("late", &named(&node, "first", ""));
    let keys = map.0.join("keys");
    fs::create_dir(&keys).expect("a directory");
    let mut command = arriero();
    command.arg("-c").arg(map.0.join("arriero.yaml"));
    let process = Process::start(command).await;
    let token = format!(
        ", auth: {{ type: bearer, token_file: {} }}",
        keys.join("token").display()
    );
    map.swap("v2", &named(&node, "second", &token));
    until_last_reload(&process, false).await;
    fs::write(keys.join("token"), "sesame").expect("a file");
    until_served_by(&process, "second").await;
}
