//! Each recorded request of a real Ollama 0.33 gets an answer of the same status, headers, framing and JSON shape.

use std::fmt;

use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use super::super::{Fault, Node, NodeBuilder};
use super::client::{Client, End, Got};

/// The keys and types of a JSON text, in order; equal neighbours in a list count once.
struct Shape(String);

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Shape, D::Error> {
        d.deserialize_any(ShapeVisitor).map(Shape)
    }
}

/// Words of the protocols, which must be the same and not only of the same type.
const WORDS: &[&str] = &[
    "assistant",
    "stop",
    "length",
    "load",
    "unload",
    "tool_calls",
    "end_turn",
    "max_tokens",
    "tool_use",
    "function",
    "list",
    "model",
    "chat.completion",
    "chat.completion.chunk",
    "text_completion",
    "message",
    "message_start",
    "content_block_start",
    "content_block_delta",
    "content_block_stop",
    "message_delta",
    "message_stop",
    "text_delta",
    "thinking_delta",
    "input_json_delta",
    "reasoning",
    "output_text",
    "function_call",
    "completed",
    "in_progress",
    "fp_ollama",
    "gguf",
    "",
];

struct ShapeVisitor;

impl<'de> Visitor<'de> for ShapeVisitor {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }
    fn visit_bool<E: de::Error>(self, b: bool) -> Result<String, E> {
        Ok(b.to_string())
    }
    fn visit_i64<E: de::Error>(self, _: i64) -> Result<String, E> {
        Ok("number".to_owned())
    }
    fn visit_u64<E: de::Error>(self, _: u64) -> Result<String, E> {
        Ok("number".to_owned())
    }
    fn visit_f64<E: de::Error>(self, _: f64) -> Result<String, E> {
        Ok("number".to_owned())
    }
    fn visit_str<E: de::Error>(self, text: &str) -> Result<String, E> {
        let is_word = WORDS.contains(&text) || text.starts_with("response.");
        Ok(if is_word { text } else { "text" }.to_owned())
    }
    fn visit_unit<E: de::Error>(self) -> Result<String, E> {
        Ok("null".to_owned())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<String, A::Error> {
        let mut shapes = Vec::new();
        while let Some(Shape(shape)) = seq.next_element()? {
            shapes.push(shape);
        }
        shapes.dedup();
        Ok(format!("[{}]", shapes.join(",")))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<String, A::Error> {
        let mut members = Vec::new();
        while let Some((key, Shape(shape))) = map.next_entry::<String, Shape>()? {
            members.push(format!("{key}:{shape}"));
        }
        Ok(format!("{{{}}}", members.join(",")))
    }
}

/// A chunk with every JSON document in it replaced by its shape; what is not JSON stays as it is.
fn shape(chunk: &str) -> String {
    let lines = chunk.split('\n').map(|line| {
        let (before, json) = match line.strip_prefix("data: ") {
            Some(json) => ("data: ", json),
            None => ("", line),
        };
        match serde_json::from_str::<Shape>(json) {
            Ok(Shape(shape)) => format!("{before}{shape}"),
            Err(_) => line.to_owned(),
        }
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[derive(Deserialize)]
struct Recording {
    request: Request,
    response: Response,
}

#[derive(Deserialize)]
struct Request {
    method: String,
    path: String,
    headers: std::collections::BTreeMap<String, String>,
    body: Option<Value>,
}

#[derive(Deserialize)]
struct Response {
    status: u16,
    headers: Ordered,
    chunks: Vec<Chunk>,
    ended: String,
}

#[derive(Deserialize)]
struct Chunk {
    data: String,
}

/// Header names in their order, with the values.
struct Ordered(Vec<(String, String)>);

impl<'de> Deserialize<'de> for Ordered {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Ordered, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Vec<(String, String)>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("headers")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(pairs)
            }
        }
        d.deserialize_map(Pairs).map(Ordered)
    }
}

/// Masks what is random in an error: the request id.
fn masked(text: &str) -> String {
    match text.split_once("\"req_") {
        Some((before, after)) => format!("{before}\"req_…{}", &after[24..]),
        None => text.to_owned(),
    }
}

fn compare(name: &str, recorded: &Response, got: &Got) -> Result<(), String> {
    let differ = |what: &str, a: &dyn fmt::Debug, b: &dyn fmt::Debug| {
        Err(format!(
            "{name}: {what}\n  recorded {a:?}\n  ours     {b:?}"
        ))
    };
    if recorded.status != got.status {
        return differ("status", &recorded.status, &(got.status, got.text()));
    }
    let names = |pairs: &[(String, String)]| -> Vec<String> {
        let varying = ["Date", "Content-Length"];
        let pairs = pairs.iter();
        pairs
            .map(|(n, v)| {
                if varying.contains(&n.as_str()) {
                    n.clone()
                } else {
                    format!("{n}: {v}")
                }
            })
            .collect()
    };
    if names(&recorded.headers.0) != names(&got.headers) {
        return differ("headers", &names(&recorded.headers.0), &names(&got.headers));
    }
    let clean = if got.end == End::Clean {
        "clean"
    } else {
        "eof-without-terminator"
    };
    if recorded.ended != clean {
        return differ("end", &recorded.ended, &got.end);
    }
    let texts: Vec<String> = recorded.chunks.iter().map(|c| c.data.clone()).collect();
    if 400 <= recorded.status && masked(&texts.concat()) != masked(&got.text()) {
        return differ("error text", &texts, &got.chunks);
    }
    let shapes = |texts: &[String]| {
        let mut shapes: Vec<String> = texts
            .iter()
            .map(|t| shape(t))
            .filter(|t| !t.is_empty())
            .collect();
        shapes.dedup();
        shapes
    };
    let (wanted, found) = (shapes(&texts), shapes(&got.chunks));
    match wanted == found {
        true => Ok(()),
        false => differ("shape", &wanted, &found),
    }
}

fn herd() -> NodeBuilder {
    Node::builder()
        .version("0.33.0-rc2")
        .thinker("tiny-reason")
        .thinker("tiny-agent")
        .model("tiny-loop")
        .model("tiny-stuck")
        .model("tiny-chat-c")
        .loaded("tiny-chat")
        .tokens(40)
}

async fn replay(node: &Node, name: &str, fault: Option<Fault>) -> Result<(), String> {
    let path = format!(
        "{}/tests/golden/ollama-wire/{name}.json",
        env!("CARGO_MANIFEST_DIR")
    );
    let recording: Recording =
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let request = &recording.request;
    let body = request.body.as_ref().map(|b| match b {
        Value::String(text) => text.clone(),
        value => value.to_string(),
    });
    if let Some(fault) = fault {
        node.fault_times(fault, 1);
    }
    let headers: Vec<(&str, &str)> = request
        .headers
        .iter()
        .map(|(n, v)| (n.as_str(), v.as_str()))
        .collect();
    let mut client = Client::connect(node.addr()).await;
    client
        .send(&request.method, &request.path, &headers, body.as_deref())
        .await;
    let got = client.answer(request.method == "HEAD").await;
    compare(name, &recording.response, &got)
}

fn fails(results: Vec<Result<(), String>>) {
    let failed: Vec<String> = results.into_iter().filter_map(Result::err).collect();
    assert!(
        failed.is_empty(),
        "{} differ:\n{}",
        failed.len(),
        failed.join("\n")
    );
}

#[tokio::test]
async fn pages_and_lists_are_those_of_a_real_node() {
    let node = herd()
        .embedder("tiny-embed")
        .details("tiny-embed", "llama", "51K", "F16")
        .start()
        .await
        .unwrap();
    let names = include_str!("../../../tests/golden/ollama-wire/pages.txt");
    let mut results = Vec::new();
    for name in names.lines() {
        results.push(replay(&node, name, None).await);
    }
    let empty = Node::builder().start().await.unwrap();
    for name in ["001-tags-empty", "002-v1-models-empty", "009-ps-empty"] {
        results.push(replay(&empty, name, None).await);
    }
    fails(results);
}

#[tokio::test]
async fn answers_are_those_of_a_real_node() {
    let node = herd().embedder("tiny-embed").start().await.unwrap();
    let names = include_str!("../../../tests/golden/ollama-wire/answers.txt");
    let mut results = Vec::new();
    for name in names.lines() {
        results.push(replay(&node, name, None).await);
    }
    fails(results);
}

#[tokio::test]
async fn refusals_are_those_of_a_real_node() {
    let node = herd()
        .embedder("tiny-embed")
        .capabilities("tiny-chat", &["completion"]);
    let node = node.start().await.unwrap();
    let names = include_str!("../../../tests/golden/ollama-wire/refusals.txt");
    let mut results = Vec::new();
    for name in names.lines() {
        results.push(replay(&node, name, None).await);
    }
    fails(results);
}

#[tokio::test]
async fn broken_streams_are_those_of_a_real_node() {
    let node = herd().tokens(60).start().await.unwrap();
    let mut results = Vec::new();
    for (names, fault) in [
        (
            "901-runner-killed-chat 904-runner-killed-generate 905-runner-killed-chat-nonstream 911-runner-killed-v1-chat-stream \
          912-runner-killed-v1-chat 913-runner-killed-v1-completions-stream 914-runner-killed-v1-responses-stream \
          915-runner-killed-v1-chat-stream-usage 921-runner-killed-messages-stream 922-runner-killed-messages",
            Fault::RunnerDies { after: 4 },
        ),
        (
            "932-server-killed-chat 933-server-killed-v1-chat-stream 934-server-killed-messages-stream \
          935-server-killed-chat-nonstream",
            Fault::FinAfter { after: 4 },
        ),
        (
            "941-stuck-chat-stream 942-stuck-chat-nonstream 943-stuck-v1-chat-stream 944-stuck-v1-chat \
          945-stuck-messages-stream 946-stuck-generate",
            Fault::Stuck { after: 30 },
        ),
    ] {
        for name in names.split_whitespace() {
            results.push(replay(&node, name, Some(fault.clone())).await);
        }
    }
    fails(results);
}

#[tokio::test]
async fn management_is_that_of_a_real_node() {
    let remote = "localhost:5000/demo/tiny-remote";
    let node = herd().registry(&[remote]).start().await.unwrap();
    for uploaded in [
        "26a5eba2a692b11e1aff1516b49fa8474692c505b449db7dca4e8cccc1d4aaaa",
        "50882988f1f2e8f56ec284241a2e168a3300eb2fe9fe658b057693ed68efdd54",
    ] {
        let mut blobs = super::super::lock(&node.shared.blobs);
        blobs.insert(uploaded.to_owned(), 1);
    }
    let names = include_str!("../../../tests/golden/ollama-wire/management.txt");
    let mut results = Vec::new();
    for name in names.lines() {
        if name == "753-delete-loaded" {
            let load = r#"{"model":"tiny-poet","options":{"num_ctx":1024}}"#;
            let mut client = Client::connect(node.addr()).await;
            let got = client.ask("POST", "/api/generate", Some(load)).await;
            assert_eq!(got.status, 200, "{}", got.text());
        }
        results.push(replay(&node, name, None).await);
    }
    fails(results);
}
