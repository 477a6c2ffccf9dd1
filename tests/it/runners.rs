//! Clients that want contexts of different lengths, and nodes that would load a model anew for each.

use arriero::demo::{self, Fault};
use serde_json::Value;

use crate::support::herd::herd_of;
use crate::support::{Herd, herd, within};

const CONTEXT_MAX: i64 = 32_768;

fn cold() -> demo::NodeBuilder {
    let node = demo::Node::builder().model("llama3").tokens(2).slots(8);
    node.context("llama3", CONTEXT_MAX)
}

/// A chat that no serializer would write like this.
fn chat(options: &str) -> String {
    format!(
        r#"{{ "model":"llama3" ,{options} "x-y":1.50,"messages":[{{"role":"user","content":"h\u0069"}}]}}"#
    )
}

fn wants(tokens: i64) -> String {
    chat(&format!(r#""options":{{"num_ctx" : {tokens}, "seed":7}},"#))
}

/// Sends chats one after the other; all of them are answered.
async fn all_answered(herd: &Herd, bodies: &[String]) {
    for body in bodies {
        let reply = herd.post("/api/chat", body).await.is(200);
        let text = reply.text();
        let last = text.trim_end().lines().last().expect("a line");
        let last: Value = serde_json::from_str(last).expect("JSON");
        assert_eq!(last["done"], true, "{body}");
    }
}

/// The bodies that a node got from clients, byte by byte.
fn got(herd: &Herd, node: usize) -> Vec<String> {
    let bodies = herd.served(node).into_iter();
    bodies
        .map(|seen| String::from_utf8(seen.body.to_vec()).expect("text"))
        .collect()
}

async fn normalized(herd: &Herd) -> f64 {
    herd.metric("arriero_options_normalized_total{option=\"num_ctx\"}")
        .await
}

/// Waits until the gateway has heard what a node has loaded.
async fn until_told(herd: &Herd, node: usize) {
    herd.eventually("the loaded model to be told", |view| {
        !view.nodes[node].loaded.is_empty()
    })
    .await;
}

#[tokio::test]
async fn a_shorter_context_is_served_by_the_longer_one_that_is_loaded() {
    for balancer in [
        "adaptive",
        "priority",
        "round-robin",
        "least-connections",
        "random",
    ] {
        let yaml = format!("proxy: {{ load_balancer: {balancer} }}");
        let herd = herd(vec![cold()], &yaml).await;
        let asked = [8192, 4096, 8192, 4096, 2048].map(wants);
        all_answered(&herd, &asked).await;
        assert_eq!(herd.nodes[0].loads(), 1, "{balancer}");
        assert_eq!(got(&herd, 0), vec![wants(8192); 5], "{balancer}");
        assert_eq!(normalized(&herd).await, 3.0, "{balancer}");
        herd.is_idle().await;
    }
}

#[tokio::test]
async fn an_operator_may_want_every_client_to_get_just_what_it_asks_for() {
    let herd = herd(vec![cold()], "proxy: { larger_context: false }").await;
    let asked = [8192, 4096, 8192].map(wants);
    all_answered(&herd, &asked).await;
    all_answered(&herd, &[chat("")]).await;
    assert_eq!(herd.nodes[0].loads(), 4);
    assert_eq!(got(&herd, 0)[..3], asked);
    assert_eq!(got(&herd, 0)[3], chat(""));
    assert_eq!(normalized(&herd).await, 0.0);
}

#[tokio::test]
async fn a_longer_context_than_the_loaded_one_is_loaded() {
    let herd = herd(vec![cold()], "").await;
    all_answered(&herd, &[4096, 8192, 4096].map(wants)).await;
    assert_eq!(herd.nodes[0].loads(), 2);
    assert_eq!(got(&herd, 0), [4096, 8192, 8192].map(wants));
    assert_eq!(normalized(&herd).await, 1.0);
}

#[tokio::test]
async fn who_asks_for_no_context_joins_those_who_do_where_a_body_can_say_so() {
    let herd = herd(vec![cold()], "").await;
    let plain = [
        chat(""),
        chat(r#""options":null,"#),
        chat(r#""options":{"seed":7},"#),
    ];
    all_answered(&herd, &[wants(8192)]).await;
    all_answered(&herd, &plain).await;
    assert_eq!(herd.nodes[0].loads(), 1);
    let sent = [
        chat("").replace(r#"{ "model""#, r#"{"options":{"num_ctx":8192}, "model""#),
        chat(r#""options":{"num_ctx":8192},"#),
        chat(r#""options":{"num_ctx":8192,"seed":7},"#),
    ];
    assert_eq!(got(&herd, 0)[1..], sent);
    assert_eq!(normalized(&herd).await, 3.0);

    // OpenAI's dialect has no options: a node would pass over them, and load the model anew all the same.
    let reply = herd.post("/v1/chat/completions", &wants(8192)).await;
    reply.is(200);
    assert_eq!(herd.nodes[0].loads(), 2);
    assert_eq!(got(&herd, 0)[4], wants(8192));
    assert_eq!(normalized(&herd).await, 3.0);
}

#[tokio::test]
async fn who_asks_for_no_context_and_has_much_to_say_gets_what_the_node_gives() {
    let herd = herd(vec![cold()], "").await;
    let long = chat("").replace(r"h\u0069", &"word ".repeat(2000));
    all_answered(&herd, &[wants(4096), long.clone()]).await;
    assert_eq!(herd.nodes[0].loads(), 2);
    assert_eq!(got(&herd, 0)[1], long);
    assert_eq!(normalized(&herd).await, 0.0);
}

#[tokio::test]
async fn what_a_node_chose_by_itself_is_not_named() {
    let node = cold().loaded("llama3");
    let herd = herd(vec![node], "").await;
    until_told(&herd, 0).await;
    let before = herd.nodes[0].loads();
    all_answered(&herd, &[chat(""), wants(2048), chat("")]).await;
    assert_eq!(herd.nodes[0].loads(), before);
    let without = chat(r#""options":{"seed":7},"#);
    assert_eq!(got(&herd, 0), [chat(""), without, chat("")]);
    assert_eq!(normalized(&herd).await, 1.0);
}

#[tokio::test]
async fn a_load_under_way_with_a_longer_context_is_joined() {
    let herd = herd(vec![cold()], "").await;
    herd.nodes[0].hold_loads();
    let mut first = herd.begin("/api/chat", &wants(8192)).await;
    let loading = herd.nodes[0].until(|node| 0 < node.waiting());
    within("a load to begin", loading).await;
    let mut second = herd.begin("/api/chat", &wants(4096)).await;
    let mut third = herd.begin("/api/chat", &chat("")).await;
    herd.eventually("three requests to be placed", |view| {
        view.nodes[0].in_flight() == 3
    })
    .await;
    herd.nodes[0].release_loads();
    for raw in [&mut first, &mut second, &mut third] {
        raw.reply().await.is(200);
    }
    assert_eq!(herd.asked_to_load(0).len(), 1);
    assert_eq!(herd.nodes[0].loads(), 1);
    assert!(got(&herd, 0).iter().all(|body| body.contains("8192")));
    assert_eq!(normalized(&herd).await, 2.0);
    herd.is_idle().await;
}

#[tokio::test]
async fn another_node_gets_the_clients_own_words() {
    let nodes = vec![(cold(), "priority: 200"), (cold(), "")];
    let herd = herd_of(nodes, "").await;
    all_answered(&herd, &[wants(8192)]).await;
    let message = "llama-server process has terminated: exit status 1".to_owned();
    let status = 500;
    herd.nodes[0].fault_times(Fault::Refuse { status, message }, 1);
    all_answered(&herd, &[wants(4096)]).await;
    assert_eq!(got(&herd, 0), vec![wants(8192); 2]);
    assert_eq!(got(&herd, 1), [wants(4096)]);
    assert_eq!(normalized(&herd).await, 1.0, "of the node that failed");
}

#[tokio::test]
async fn the_name_and_the_context_are_both_mended() {
    let yaml = "model_aliases: { small: [llama3] }";
    let herd = herd(vec![cold()], yaml).await;
    all_answered(&herd, &[wants(8192)]).await;
    let asked = [
        r#"{"model":"small","options":{"num_ctx":4096},"messages":[]}"#,
        r#"{"options":{"num_ctx":4096},"messages":[],"model":"small"}"#,
        r#"{"messages":[],"model":"small"}"#,
    ];
    for body in asked {
        herd.post("/api/chat", body).await.is(200);
    }
    let sent = [
        r#"{"model":"llama3:latest","options":{"num_ctx":8192},"messages":[]}"#,
        r#"{"options":{"num_ctx":8192},"messages":[],"model":"llama3:latest"}"#,
        r#"{"options":{"num_ctx":8192},"messages":[],"model":"llama3:latest"}"#,
    ];
    assert_eq!(got(&herd, 0)[1..], sent);
    assert_eq!(herd.nodes[0].loads(), 1);
}

#[tokio::test]
async fn an_embedders_context_is_mended_too() {
    let node = demo::Node::builder().embedder("nomic");
    let herd = herd(vec![node.context("nomic", CONTEXT_MAX)], "").await;
    let embed = |tokens: u32| {
        format!(r#"{{"model":"nomic","input":"hi","options":{{"num_ctx":{tokens}}}}}"#)
    };
    for tokens in [8192, 2048] {
        herd.post("/api/embed", &embed(tokens)).await.is(200);
    }
    assert_eq!(herd.nodes[0].loads(), 1);
    assert_eq!(got(&herd, 0), vec![embed(8192); 2]);
}
