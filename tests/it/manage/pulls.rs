//! Pulls: merged progress, one run for two that ask, and nodes that fail.

use arriero::demo::{self, Fault};
use serde_json::Value;

use super::server::{Answer, Server, over};
use super::{ON, call, has, listed, node, on_each, three};
use crate::support::client::{Raw, Reply};
use crate::support::herd::starting;
use crate::support::{Herd, herd, within};

const PULL: &str = r#"{"model":"phi4"}"#;

fn lines(reply: &Reply) -> Vec<Value> {
    assert!(reply.complete, "{}", reply.text());
    let text = reply.text();
    let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
    text.lines().map(parse).collect()
}

fn pulls(herd: &Herd, node: usize) -> usize {
    let pulls = herd.served(node);
    pulls.iter().filter(|seen| seen.path == "/api/pull").count()
}

/// A gateway over a node that says one thing for ever when it is asked to pull.
async fn over_a_liar(said: &'static str) -> (Herd, Server) {
    over("100ms", move |_, _| Answer::Endless(said)).await
}

async fn until_pulling(herd: &Herd, node: usize, count: usize) {
    let pulling = herd.nodes[node].until(|node| node.pulling() == count);
    within("pulls at the node", pulling).await;
}

#[tokio::test]
async fn three_nodes_pull_as_one_and_the_model_is_there_at_the_end() {
    let herd = three().await;
    let reply = call(&herd, "POST", "/api/pull", PULL).await.is(200);
    // The next answer comes from the catalogue.
    assert_eq!(listed(&herd).await, ["llama3:latest", "phi4:latest"]);
    assert_eq!(reply.header("content-type"), Some("application/x-ndjson"));
    assert_eq!(reply.header("x-arriero-node"), Some("gpu-0,gpu-1,gpu-2"));
    let lines = lines(&reply);
    let said = |status: &str| lines.iter().filter(|line| line["status"] == status).count();
    assert_eq!(
        (said("pulling manifest"), said("success")),
        (1, 1),
        "{lines:?}"
    );
    assert_eq!(
        lines.last(),
        Some(&serde_json::json!({"status": "success"}))
    );
    let bars = lines.iter().filter(|line| line["digest"].is_string());
    let mut ends = std::collections::HashMap::new();
    for bar in bars {
        let (done, total) = (
            bar["completed"].as_u64().unwrap_or(0),
            bar["total"].as_u64(),
        );
        let digest = bar["digest"].as_str().expect("a digest").to_owned();
        let before = ends.insert(digest, (done, total.expect("a total")));
        assert!(before.is_none_or(|(before, _)| before <= done), "{bar}");
        assert!(done <= total.expect("a total"), "{bar}");
        assert!(
            bar["node"]
                .as_str()
                .is_some_and(|name| name.starts_with("gpu-"))
        );
    }
    assert!(ends.values().all(|(done, total)| done == total), "{ends:?}");
    assert_eq!(on_each(&herd, "phi4:latest"), [true; 3]);
    let done = herd.metric("arriero_management_total{operation=\"pull\",outcome=\"done\"}");
    assert_eq!(done.await, 1.0);
    herd.is_idle().await;
}

#[tokio::test]
async fn the_same_pull_asked_twice_runs_once_and_who_comes_late_sees_it_all() {
    let herd = three().await;
    herd.nodes.iter().for_each(demo::Node::hold_pulls);
    let mut first = herd
        .begin("/api/pull", r#"{"name":"phi4","model":""}"#)
        .await;
    first.head().await.expect("a head");
    for node in 0..3 {
        until_pulling(&herd, node, 1).await;
    }
    let mut late = herd.begin("/api/pull", r#"{"model":"PHI4:latest"}"#).await;
    assert_eq!(late.head().await.expect("a head").0, 200);
    let told = late.chunk().await.expect("a chunk").expect("a line");
    let line: Value = serde_json::from_slice(&told).expect("JSON");
    assert_eq!(
        line["status"], "pulling manifest",
        "the state so far comes at once"
    );
    // Another model, other nodes or another flag are not the same.
    let other = herd
        .begin("/api/pull", r#"{"model":"phi4","insecure":true}"#)
        .await;
    until_pulling(&herd, 0, 2).await;
    drop(other);
    until_pulling(&herd, 0, 1).await;
    herd.nodes.iter().for_each(demo::Node::release_pulls);
    for raw in [&mut first, &mut late] {
        let (rest, complete) = raw.rest().await;
        let text = String::from_utf8(rest).expect("text");
        assert!(
            complete && text.ends_with("{\"status\":\"success\"}\n"),
            "{text}"
        );
    }
    assert_eq!(
        [pulls(&herd, 0), pulls(&herd, 1), pulls(&herd, 2)],
        [2, 2, 2]
    );
    // What is over is not joined.
    call(&herd, "POST", "/api/pull", PULL).await.is(200);
    assert_eq!(pulls(&herd, 0), 3);
    herd.is_idle().await;
}

#[tokio::test]
async fn the_work_stops_when_the_last_client_leaves_and_not_before() {
    let herd = three().await;
    herd.nodes.iter().for_each(demo::Node::hold_pulls);
    let mut first = herd.begin("/api/pull", PULL).await;
    first.head().await.expect("a head");
    let mut second = herd.begin("/api/pull", PULL).await;
    second.head().await.expect("a head");
    for node in 0..3 {
        until_pulling(&herd, node, 1).await;
    }
    drop(first);
    herd.until_metric("arriero_client_aborts_total{phase=\"stream\"}", |count| {
        count == 1.0
    })
    .await;
    assert_eq!(herd.nodes[0].pulling(), 1, "the second one still waits");
    drop(second);
    for node in 0..3 {
        until_pulling(&herd, node, 0).await;
        assert!(!has(&herd, node, "phi4:latest"));
    }
    let left = "arriero_management_total{operation=\"pull\",outcome=\"left\"}";
    herd.until_metric(left, |count| count == 1.0).await;
    herd.is_idle().await;
}

#[tokio::test]
async fn a_node_that_fails_is_named_with_its_reason_and_so_are_those_that_did_not() {
    let poor = node().registry(&["other"]);
    let herd = herd(vec![node(), poor, node()], ON).await;
    let reply = call(&herd, "POST", "/api/pull", PULL).await.is(200);
    let lines = lines(&reply);
    let error = lines
        .last()
        .and_then(|line| line["error"].as_str())
        .expect("an error");
    assert_eq!(
        error,
        "pull of phi4 failed on gpu-1: pull model manifest: file does not exist; it is on gpu-0, gpu-2"
    );
    assert_eq!(on_each(&herd, "phi4:latest"), [true, false, true]);
    assert!(listed(&herd).await.contains(&"phi4:latest".to_owned()));
    let whole = r#"{"model":"phi4","stream":false}"#;
    let partial = call(&herd, "POST", "/api/pull", whole).await.is(502);
    assert!(
        partial.text().contains("failed on gpu-1"),
        "{}",
        partial.text()
    );
    let alone = call(&herd, "POST", "/api/pull/1", whole).await.is(500);
    assert!(
        alone.text().contains("file does not exist"),
        "{}",
        alone.text()
    );
    call(&herd, "POST", "/api/pull/1", r#"{"model":"a b"}"#)
        .await
        .is(400);
    herd.is_idle().await;
}

#[tokio::test]
async fn a_node_that_stalls_or_breaks_off_fails_alone() {
    let quick = "management: { enabled: true }\nproxy: { read_timeout: 100ms }";
    let cases = [
        (Fault::StallAfter { after: 1 }, "told nothing new for 0.5 s"),
        (Fault::Stuck { after: 1 }, "broke off before it was done"),
        (Fault::FinAfter { after: 1 }, "broke off"),
        (Fault::BadChunk { after: 1 }, "broke off"),
        (Fault::RstAfter { after: 1 }, "broke off"),
    ];
    for (fault, why) in cases {
        let herd = herd(vec![node(), node()], quick).await;
        herd.nodes[1].fault(fault.clone());
        let reply = call(&herd, "POST", "/api/pull", PULL).await.is(200);
        let last = lines(&reply).pop().expect("a line");
        let error = last["error"].as_str().unwrap_or_default().to_owned();
        assert!(
            error.contains("failed on gpu-1: it") && error.contains(why),
            "{fault:?} {last}"
        );
        assert!(error.ends_with("it is on gpu-0"), "{fault:?} {error}");
        herd.is_idle().await;
    }
}

#[tokio::test]
async fn lines_without_end_and_lines_that_mean_nothing_end_nothing_but_their_node() {
    for said in [
        "{\"status\":\"again\"}\n",
        "junk\n",
        "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
    ] {
        let (herd, _node) = over_a_liar(said).await;
        let reply = call(&herd, "POST", "/api/pull", PULL).await;
        assert!(
            reply.text().contains("failed on liar: "),
            "{said}: {}",
            reply.text()
        );
    }
}

#[tokio::test]
async fn a_client_may_leave_before_the_first_line() {
    let herd = herd(vec![node()], ON).await;
    herd.nodes[0].freeze();
    let raw: Raw = herd.begin("/api/pull", PULL).await;
    herd.eventually("the request in work", |_| {
        herd.gateway.gateway.lifecycle().in_flight() == 1
    })
    .await;
    drop(raw);
    herd.is_idle().await;
}

/// As `three`, but nobody asks for the models in turn.
async fn three_unwatched() -> Herd {
    let nodes = vec![(node(), ""), (node(), ""), (node(), "")];
    let herd = starting(nodes, ON, |_, config| {
        config.model_discovery.interval = std::time::Duration::from_secs(3600);
    })
    .await;
    herd.settled().await;
    herd
}

#[tokio::test]
async fn what_was_done_when_the_last_client_left_is_found_out() {
    let herd = three_unwatched().await;
    herd.nodes.iter().for_each(demo::Node::hold_pulls);
    let mut client = herd.begin("/api/pull", PULL).await;
    client.head().await.expect("a head");
    until_pulling(&herd, 1, 1).await;
    herd.nodes[1].install("phi4");
    drop(client);
    herd.eventually("phi4 in the catalogue", |view| {
        view.model_names().any(|name| name == "phi4:latest")
    })
    .await;
    herd.is_idle().await;
}

#[tokio::test]
async fn a_node_that_fails_is_asked_for_its_models_all_the_same() {
    let herd = three_unwatched().await;
    herd.nodes[1].install("phi4");
    herd.nodes[1].fault(Fault::RstAfter { after: 1 });
    let reply = call(
        &herd,
        "POST",
        "/api/pull",
        r#"{"model":"qwen3","stream":false}"#,
    )
    .await;
    assert_eq!(reply.status, 502, "{}", reply.text());
    assert_eq!(
        listed(&herd).await,
        ["llama3:latest", "phi4:latest", "qwen3:latest"]
    );
    herd.nodes[1].clear_fault();

    // What is gone from one node already is deleted when the others did it.
    herd.nodes[2].uninstall("llama3");
    let deleted = call(&herd, "DELETE", "/api/delete", r#"{"model":"llama3"}"#).await;
    deleted.is(200);
    assert_eq!(listed(&herd).await, ["phi4:latest", "qwen3:latest"]);
    // And what nobody has any more is not found, but no longer listed either.
    herd.nodes[1].uninstall("phi4");
    call(&herd, "DELETE", "/api/delete", r#"{"model":"phi4"}"#)
        .await
        .is(404);
    assert_eq!(listed(&herd).await, ["qwen3:latest"]);
    herd.is_idle().await;
}
