//! Model management over several nodes: who is asked, what the client is told, and what is true afterwards.

mod blobs;

mod files;

mod pulls;

mod server;

use arriero::demo;
use serde_json::Value;

use crate::support::client::{Raw, Reply, request};
use crate::support::herd::herd_of;
use crate::support::{Herd, herd};

pub(super) const ON: &str = "management: { enabled: true }";

pub(super) async fn three() -> Herd {
    herd(vec![node(), node(), node()], ON).await
}

pub(super) fn node() -> demo::NodeBuilder {
    demo::Node::builder().model("llama3")
}

pub(super) async fn call(herd: &Herd, method: &str, path: &str, body: &str) -> Reply {
    let mut raw = Raw::open(herd.addr()).await;
    raw.send(request(method, path, body)).await;
    raw.reply().await
}

pub(super) async fn listed(herd: &Herd) -> Vec<String> {
    let tags = herd.get("/api/tags").await.is(200).json();
    let models = tags["models"].as_array().expect("models");
    let name = |model: &Value| model["name"].as_str().expect("a name").to_owned();
    let mut names: Vec<String> = models.iter().map(name).collect();
    names.sort();
    names
}

/// How often changes ended so: `pull done`, with the number.
pub(super) async fn ends(herd: &Herd) -> Vec<String> {
    let text = herd.admin("/metrics").await.text();
    let series = text.lines().filter_map(|line| {
        let labels = line.strip_prefix("arriero_management_total{operation=\"")?;
        let (operation, rest) = labels.split_once("\",outcome=\"")?;
        let (outcome, count) = rest.split_once("\"} ")?;
        Some(format!("{operation} {outcome} {count}"))
    });
    series.collect()
}

pub(super) fn has(herd: &Herd, node: usize, model: &str) -> bool {
    herd.nodes[node]
        .installed()
        .iter()
        .any(|name| name == model)
}

fn on_each(herd: &Herd, model: &str) -> Vec<bool> {
    (0..herd.nodes.len())
        .map(|node| has(herd, node, model))
        .collect()
}

#[tokio::test]
async fn off_each_call_is_403_and_names_the_key() {
    let herd = herd(vec![node()], "").await;
    let blob = format!("/api/blobs/sha256:{}", "a".repeat(64));
    let cases = [
        ("POST", "/api/pull"),
        ("POST", "/api/push"),
        ("DELETE", "/api/push/0"),
        ("POST", "/api/create"),
        ("POST", "/api/copy"),
        ("DELETE", "/api/delete"),
        ("POST", "/api/unload"),
        ("POST", blob.as_str()),
        ("POST", "/models/download"),
        ("POST", "/models/upload"),
        ("POST", "/ollama/api/pull/7"),
    ];
    for (method, path) in cases {
        for body in [r#"{"model":"x"}"#, "junk"] {
            let reply = call(&herd, method, path, body).await.is(403);
            assert!(reply.text().contains("management.enabled: true"), "{path}");
        }
    }
    let mut raw = Raw::open(herd.addr()).await;
    raw.send(request("HEAD", &blob, "")).await;
    assert_eq!(raw.reply_to_head().await.status, 403);
    let changes = |seen: &demo::Seen| seen.method != "GET" && seen.path != "/";
    assert!(!herd.nodes[0].seen().iter().any(changes));
}

#[tokio::test]
async fn a_page_of_another_site_changes_nothing() {
    let herd = herd(vec![node()], ON).await;
    let blob = format!("/api/blobs/sha256:{}", "a".repeat(64));
    let calls = [
        ("POST", "/api/pull"),
        ("POST", "/api/copy"),
        ("DELETE", "/api/delete"),
        ("POST", blob.as_str()),
        ("POST", "/models/upload"),
    ];
    let foreign = [
        (
            "localhost",
            "origin: http://evil.example\r\n",
            "other sites",
        ),
        (
            "localhost",
            "origin: null\r\ncontent-type: text/plain\r\n",
            "other sites",
        ),
        ("localhost", "sec-fetch-site: cross-site\r\n", "other sites"),
        (
            "evil.example:40114",
            "sec-fetch-site: same-origin\r\n",
            "admin.allowed_hosts",
        ),
        ("evil.example", "", "admin.allowed_hosts"),
    ];
    let body = r#"{"model":"llama3","source":"llama3","destination":"x"}"#;
    let send = async |method: &str, path: &str, host: &str, headers: &str| {
        let mut raw = Raw::open(herd.addr()).await;
        let length = body.len();
        raw.send(format!(
            "{method} {path} HTTP/1.1\r\nhost: {host}\r\n{headers}content-length: {length}\r\n\r\n{body}"
        ))
        .await;
        raw.reply().await
    };
    for (method, path) in calls {
        for (host, headers, why) in foreign {
            let reply = send(method, path, host, headers).await.is(403);
            assert!(reply.text().contains(why), "{path}: {}", reply.text());
        }
    }
    assert_eq!(herd.served(0).len(), 0, "no node was asked");
    assert!(has(&herd, 0, "llama3:latest"));
    for host in ["localhost", "127.0.0.1:1", "[::1]:1"] {
        let own = "origin: http://localhost\r\nsec-fetch-site: same-origin\r\n";
        send("POST", "/api/copy", host, own).await.is(200);
    }
    herd.is_idle().await;
}

#[tokio::test]
async fn a_model_is_deleted_where_it_is_and_the_catalogue_knows_at_once() {
    let other = demo::Node::builder().model("qwen3");
    let herd = herd(vec![node(), other, node()], ON).await;
    let reply = call(&herd, "DELETE", "/api/delete", r#"{"name":"LLAMA3"}"#).await;
    assert_eq!(reply.is(200).body, b"");
    assert_eq!(listed(&herd).await, ["qwen3:latest"]);
    assert_eq!(on_each(&herd, "llama3:latest"), [false, false, false]);
    let asked = |seen: &demo::Seen| seen.path == "/api/delete";
    assert!(
        !herd.nodes[1].seen().iter().any(asked),
        "it has no such model"
    );
    let gone = call(&herd, "DELETE", "/api/delete", r#"{"model":"llama3"}"#).await;
    assert!(
        gone.is(404)
            .text()
            .contains("model 'llama3:latest' not found")
    );
    herd.is_idle().await;
}

#[tokio::test]
async fn a_copy_is_made_where_the_source_is() {
    let other = demo::Node::builder().model("qwen3");
    let herd = herd(vec![node(), other, node()], ON).await;
    let body = r#"{"source":"llama3","destination":"mine"}"#;
    call(&herd, "POST", "/api/copy", body).await.is(200);
    assert_eq!(on_each(&herd, "mine:latest"), [true, false, true]);
    assert_eq!(
        listed(&herd).await,
        ["llama3:latest", "mine:latest", "qwen3:latest"]
    );
    let none = r#"{"source":"none","destination":"mine"}"#;
    call(&herd, "POST", "/api/copy", none).await.is(404);
    herd.is_idle().await;
}

#[tokio::test]
async fn a_model_is_created_on_all_and_unloaded_where_it_is_loaded() {
    let warm = demo::Node::builder().loaded("llama3");
    let herd = herd(vec![warm, node(), node()], ON).await;
    let body = r#"{"model":"mario","from":"llama3","system":"It's-a me!","stream":false}"#;
    let created = call(&herd, "POST", "/api/create", body).await.is(200);
    assert_eq!(created.json(), serde_json::json!({"status": "success"}));
    assert_eq!(on_each(&herd, "mario:latest"), [true; 3]);
    assert!(listed(&herd).await.contains(&"mario:latest".to_owned()));

    let unloaded = call(&herd, "POST", "/api/unload", r#"{"model":"llama3"}"#).await;
    assert_eq!(unloaded.is(200).json(), serde_json::json!({"status": true}));
    let ps = herd.get("/api/ps").await.is(200).json();
    assert_eq!(ps["models"], serde_json::json!([]), "it is true at once");
    let asked = |node: usize| {
        let seen = herd.nodes[node].seen();
        seen.iter().filter(|it| it.path == "/api/generate").count()
    };
    assert_eq!([asked(0), asked(1), asked(2)], [1, 0, 0]);
    call(&herd, "POST", "/api/unload", r#"{"model":"llama3"}"#)
        .await
        .is(200);
    assert_eq!(asked(0), 1, "there was nothing to unload");
    call(&herd, "POST", "/api/unload", r#"{"model":"none"}"#)
        .await
        .is(404);
    herd.is_idle().await;
}

#[tokio::test]
async fn a_push_goes_through_the_first_node_that_has_the_model() {
    let other = demo::Node::builder().model("qwen3");
    let herd = herd(vec![other, node(), node()], ON).await;
    for (method, path) in [("POST", "/api/push"), ("DELETE", "/ollama/api/push")] {
        let reply = call(&herd, method, path, r#"{"model":"llama3"}"#)
            .await
            .is(200);
        assert_eq!(reply.header("x-arriero-node"), Some("gpu-1"));
        assert!(
            reply.text().ends_with("{\"status\":\"success\"}\n"),
            "{}",
            reply.text()
        );
        assert!(reply.text().contains("\"status\":\"pushing manifest\""));
    }
    let body = r#"{"model":"llama3","stream":false}"#;
    let named = call(&herd, "POST", "/api/push/2", body).await.is(200);
    assert_eq!(named.header("x-arriero-node"), Some("gpu-2"));
    let missing = call(&herd, "POST", "/api/push/0", body).await.is(500);
    assert!(
        missing.text().contains("push of llama3 failed on gpu-0"),
        "{}",
        missing.text()
    );
    herd.is_idle().await;
}

#[tokio::test]
async fn nodes_are_named_by_query_by_index_or_by_the_default() {
    let herd = herd(
        vec![node(), node(), node()],
        "management: { enabled: true, default_target: first }",
    )
    .await;
    let pull = |path: &'static str| call(&herd, "POST", path, r#"{"model":"phi4","stream":false}"#);
    let cases = [
        ("/api/pull", [true, false, false]),
        ("/api/pull/1", [false, true, false]),
        ("/api/pull?node=gpu-2", [false, false, true]),
        ("/ollama/api/pull?node=gpu-0%2Cgpu-2", [true, false, true]),
        ("/api/pull?node=gpu-0&node=gpu-1", [true, true, false]),
    ];
    for (path, expected) in cases {
        pull(path).await.is(200);
        assert_eq!(on_each(&herd, "phi4:latest"), expected, "{path}");
        herd.nodes.iter().for_each(|node| node.uninstall("phi4"));
    }
    let unknown = pull("/api/pull?node=gpu-0,gpu-9").await.is(404);
    assert!(
        unknown.text().contains("gpu-0, gpu-1, gpu-2"),
        "{}",
        unknown.text()
    );
    pull("/api/pull/3").await.is(404);
    let slip = pull("/api/pull?nodes=gpu-0").await.is(400);
    assert!(
        slip.text().contains("`?nodes` means nothing"),
        "{}",
        slip.text()
    );
    assert_eq!(on_each(&herd, "phi4:latest"), [false; 3]);
    pull("/vllm/api/pull").await.is(501);
    herd.is_idle().await;
}

#[tokio::test]
async fn a_node_that_is_down_is_skipped_unless_it_is_named() {
    let herd = three().await;
    herd.nodes[1].kill();
    herd.eventually("gpu-1 down", |view| view.nodes[1].health.is_down())
        .await;
    let reply = call(&herd, "POST", "/api/pull", r#"{"model":"phi4"}"#)
        .await
        .is(200);
    assert!(
        reply.text().contains("gpu-1 was skipped: it is down"),
        "{}",
        reply.text()
    );
    assert!(reply.text().ends_with("{\"status\":\"success\"}\n"));
    let copy = r#"{"source":"phi4","destination":"mine"}"#;
    call(&herd, "POST", "/api/copy?node=gpu-1", copy)
        .await
        .is(503);
    let deleted = call(&herd, "DELETE", "/api/delete", r#"{"model":"llama3"}"#)
        .await
        .is(200);
    assert_eq!(deleted.header("x-arriero-skipped"), Some("gpu-1"));
    herd.is_idle().await;
}

#[tokio::test]
async fn a_new_model_is_made_from_what_the_nodes_call_the_listed_one() {
    let nodes = vec![
        (demo::Node::builder().model("Foo"), "prefix_id: gpu1"),
        (node().registry(&["Foo"]), ""),
    ];
    let herd = herd_of(nodes, &format!("{ON}\nmodel_aliases: {{ al: [llama3] }}")).await;
    let body = r#"{"model":"bar","from":"gpu1.foo"}"#;
    call(&herd, "POST", "/api/create", body).await.is(200);
    for at in 0..2 {
        let asked = herd.nodes[at].seen().into_iter();
        let created = asked.filter(|seen| seen.path == "/api/create").last();
        let body = created.expect("a creation").body;
        let body = String::from_utf8_lossy(&body).into_owned();
        // A node that lacks it would pull it by that name.
        assert!(body.contains(r#""from":"Foo:latest""#), "{at}: {body}");
    }
    let body = r#"{"model":"bar","from":"al"}"#;
    let refused = call(&herd, "POST", "/api/create", body).await.is(404);
    assert!(refused.text().contains("`al` is an alias of llama3"));
}
