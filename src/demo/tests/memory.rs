//! Slots, queues, loads, reloads, evictions, and clients that leave.

use std::time::Duration;

use serde_json::Value;

use super::super::{Node, Outcome, trio};
use super::client::{Client, End, Got};

fn chat(model: &str) -> String {
    format!(r#"{{"model":"{model}","messages":[{{"role":"user","content":"x"}}]}}"#)
}

fn with_ctx(model: &str, num_ctx: u32) -> String {
    format!(
        r#"{{"model":"{model}","messages":[{{"role":"user","content":"x"}}],"options":{{"num_ctx":{num_ctx}}}}}"#
    )
}

async fn ask(node: &Node, body: &str) -> Got {
    Client::connect(node.addr())
        .await
        .ask("POST", "/api/chat", Some(body))
        .await
}

/// Sends a chat and does not wait for its answer.
async fn begin(node: &Node, body: &str) -> Client {
    let mut client = Client::connect(node.addr()).await;
    client.send("POST", "/api/chat", &[], Some(body)).await;
    client
}

/// The names that `/api/ps` lists, in its order, with their context lengths.
async fn ps(node: &Node) -> Vec<(String, i64)> {
    let got = Client::connect(node.addr())
        .await
        .ask("GET", "/api/ps", None)
        .await;
    let page: Value = serde_json::from_str(&got.text()).unwrap();
    let models = page["models"].as_array().unwrap().iter().map(|m| {
        let name = m["name"].as_str().unwrap().to_owned();
        (name, m["context_length"].as_i64().unwrap())
    });
    models.collect()
}

fn outcomes(node: &Node) -> Vec<Outcome> {
    node.seen().iter().map(|s| s.outcome).collect()
}

#[tokio::test]
async fn requests_beyond_the_slots_wait_unseen_and_in_order() {
    let node = Node::builder().loaded("a").slots(2).start().await.unwrap();
    node.pause_after(1);
    let mut clients = Vec::new();
    for n in 1..=4_usize {
        clients.push(begin(&node, &chat("a")).await);
        node.until(|node| node.generating() + node.waiting() == n)
            .await;
    }
    assert_eq!((node.generating(), node.waiting()), (2, 2));
    node.resume();
    for client in &mut clients {
        assert_eq!(client.answer(false).await.end, End::Clean);
    }
    assert_eq!((node.generating(), node.waiting()), (0, 0));
    assert_eq!(outcomes(&node), [Outcome::Finished; 4]);
}

#[tokio::test]
async fn a_client_that_leaves_frees_its_place_wherever_it_is() {
    let node = Node::builder()
        .loaded("a")
        .model("b")
        .loaded_max(1)
        .start()
        .await
        .unwrap();
    node.pause_after(1);
    let generating = begin(&node, &chat("a")).await;
    node.until(|node| node.generating() == 1).await;
    let queued = begin(&node, &chat("a")).await;
    node.until(|node| node.waiting() == 1).await;
    let loading = begin(&node, &chat("b")).await;
    node.until(|node| node.waiting() == 2).await;
    drop(loading);
    node.until(|node| node.waiting() == 1).await;
    drop(queued);
    node.until(|node| node.waiting() == 0).await;
    assert_eq!(node.generating(), 1);
    drop(generating);
    node.until(|node| node.generating() == 0).await;
    node.until(|node| outcomes(node) == [Outcome::Cancelled; 3])
        .await;
    assert_eq!(node.loads(), 1, "an aborted load leaves nothing in memory");
}

#[tokio::test]
async fn a_full_load_queue_refuses_cold_requests_but_not_warm_ones() {
    let node = Node::builder()
        .loaded("a")
        .model("b")
        .loaded_max(1)
        .queue_max(1)
        .slots(2)
        .start()
        .await
        .unwrap();
    node.pause_after(1);
    let mut busy = begin(&node, &chat("a")).await;
    node.until(|node| node.generating() == 1).await;
    let mut cold = Vec::new();
    for n in 1..=2 {
        cold.push(begin(&node, &chat("b")).await);
        node.until(|node| node.waiting() == n).await;
    }
    let refused = ask(&node, &chat("b")).await;
    assert_eq!(refused.status, 503);
    assert_eq!(
        refused.text(),
        r#"{"error":"server busy, please try again.  maximum pending requests exceeded"}"#
    );
    for (path, kind) in [
        ("/v1/chat/completions", "api_error"),
        ("/v1/messages", "overloaded_error"),
    ] {
        let body = r#"{"model":"b","max_tokens":5,"messages":[{"role":"user","content":"x"}]}"#;
        let refused = Client::connect(node.addr())
            .await
            .ask("POST", path, Some(body))
            .await;
        assert_eq!(refused.status, 503);
        assert!(refused.text().contains(kind), "{}", refused.text());
    }
    let mut warm = begin(&node, &chat("a")).await;
    node.until(|node| node.generating() == 2).await;
    node.resume();
    for client in [&mut busy, &mut warm].into_iter().chain(&mut cold) {
        assert_eq!(client.answer(false).await.status, 200);
    }
}

#[tokio::test(start_paused = true)]
async fn a_model_is_listed_when_it_is_loaded_and_reloads_when_its_options_change() {
    let node = Node::builder()
        .model("a")
        .load_delay(Duration::from_secs(60))
        .start()
        .await
        .unwrap();
    let mut first = begin(&node, &chat("a")).await;
    node.until(|node| node.waiting() == 1).await;
    assert!(
        node.shared.engine.ps().is_empty(),
        "not listed while it loads"
    );
    assert_eq!(first.answer(false).await.status, 200);
    assert_eq!(ps(&node).await, [("a:latest".to_owned(), 4096)]);
    for (body, loads, context) in [
        (chat("A"), 1, 4096),
        (with_ctx("library/a", 512), 2, 512),
        (with_ctx("a", 512), 2, 512),
        (chat("a"), 3, 4096),
        (with_ctx("a", 4096), 4, 4096),
    ] {
        assert_eq!(ask(&node, &body).await.status, 200);
        assert_eq!(node.loads(), loads, "{body}");
        assert_eq!(ps(&node).await, [("a:latest".to_owned(), context)]);
    }
}

#[tokio::test]
async fn the_idle_model_used_longest_ago_makes_room() {
    let node = Node::builder()
        .loaded("a")
        .loaded("b")
        .model("c")
        .loaded_max(2)
        .start()
        .await
        .unwrap();
    for name in ["b", "a", "c"] {
        assert_eq!(ask(&node, &chat(name)).await.status, 200);
    }
    let mut names: Vec<String> = ps(&node).await.into_iter().map(|(n, _)| n).collect();
    names.sort();
    assert_eq!(names, ["a:latest", "c:latest"]);
}

#[tokio::test]
async fn keep_alive_sticks_unloads_and_pins() {
    let node = Node::builder().model("a").model("b").start().await.unwrap();
    let load = |keep: &str| format!(r#"{{"model":"a","messages":[],"keep_alive":{keep}}}"#);
    for (body, reason, listed) in [
        (load("-1"), "load", true),
        (load("0"), "unload", false),
        (load("\"5m\""), "load", true),
        (load("\"0s\""), "unload", false),
    ] {
        let got = ask(&node, &body).await;
        assert!(
            got.text()
                .contains(&format!("\"done_reason\":\"{reason}\"")),
            "{}",
            got.text()
        );
        assert_eq!(!ps(&node).await.is_empty(), listed, "{body}");
    }
    // After an answer with keep_alive 0 the model goes too.
    let once = r#"{"model":"b","messages":[{"role":"user","content":"x"}],"keep_alive":0}"#;
    assert_eq!(ask(&node, once).await.status, 200);
    assert!(ps(&node).await.is_empty());
}

#[tokio::test]
async fn nothing_leaves_before_the_first_token_and_tokens_leave_one_by_one() {
    let node = Node::builder()
        .loaded("a")
        .says(&["one", " two", " <3>"])
        .start()
        .await
        .unwrap();
    node.pause_after(0);
    let mut client = begin(&node, &chat("a")).await;
    node.until(|node| node.generating() == 1).await;
    node.pause_after(2);
    client.peek(b"HTTP/1.1 200 OK".len()).await;
    node.resume();
    let got = client.answer(false).await;
    assert_eq!(got.chunks.len(), 4);
    assert!(
        got.chunks[2].contains(r#""content":" \u003c3\u003e""#),
        "{}",
        got.chunks[2]
    );
    assert!(got.chunks[3].contains("\"done\":true"));
}

#[tokio::test]
async fn a_killed_node_refuses_until_it_is_revived() {
    let node = Node::builder().loaded("a").start().await.unwrap();
    node.pause_after(2);
    let mut client = begin(&node, &chat("a")).await;
    client.peek(1).await;
    node.kill();
    let got = client.answer(false).await;
    assert_eq!((got.status, got.end), (200, End::Fin));
    assert!(tokio::net::TcpStream::connect(node.addr()).await.is_err());
    node.resume();
    node.revive().await.unwrap();
    assert_eq!(ask(&node, &chat("a")).await.status, 200);
    assert_eq!(outcomes(&node), [Outcome::Cancelled, Outcome::Finished]);
}

#[tokio::test]
async fn a_frozen_node_accepts_and_answers_when_it_thaws() {
    let node = Node::builder().loaded("a").start().await.unwrap();
    let mut old = Client::connect(node.addr()).await;
    assert_eq!(old.ask("GET", "/api/version", None).await.status, 200);
    node.freeze();
    old.send("GET", "/api/version", &[], None).await;
    let mut new = begin(&node, &chat("a")).await;
    tokio::task::yield_now().await;
    assert_eq!(node.seen().len(), 1);
    node.thaw();
    assert_eq!(old.answer(false).await.status, 200);
    assert_eq!(new.answer(false).await.status, 200);
}

#[tokio::test]
async fn a_llama_cpp_node_has_no_native_calls() {
    let node = Node::builder()
        .kind(super::super::Kind::OpenAi)
        .model("tiny")
        .start()
        .await
        .unwrap();
    let mut client = Client::connect(node.addr()).await;
    assert_eq!(
        client.ask("GET", "/health", None).await.text(),
        r#"{"status":"ok"}"#
    );
    let models = client.ask("GET", "/v1/models", None).await;
    assert!(models.text().contains("llamacpp"), "{}", models.text());
    assert_eq!(client.ask("GET", "/api/tags", None).await.status, 404);
    assert_eq!(
        client
            .ask("POST", "/api/chat", Some(&chat("tiny")))
            .await
            .status,
        404
    );
    let got = client
        .ask("POST", "/v1/chat/completions", Some(&chat("tiny")))
        .await;
    assert_eq!((got.status, got.header("Server")), (200, Some("llama.cpp")));
}

#[tokio::test]
async fn the_trio_holds_what_the_demo_promises() {
    let mut warm = Vec::new();
    for builder in trio() {
        let node = builder.start().await.unwrap();
        warm.push(
            ps(&node)
                .await
                .into_iter()
                .map(|(n, _)| n)
                .collect::<Vec<_>>(),
        );
        let tags = Client::connect(node.addr())
            .await
            .ask("GET", "/api/tags", None)
            .await
            .text();
        assert!(tags.contains("llama3.2:latest") && tags.contains("qwen3:latest"));
    }
    assert_eq!(
        warm,
        [vec!["llama3.2:latest"], vec!["qwen3:latest"], vec![]]
    );
}
