//! What a node is asked for to have it load a model.

use bytes::Bytes;
use http::Method;
use pingora::http::RequestHeader;
use serde_json::{Map, Value};

use crate::dialect::Operation;
use crate::error::Fault;
use crate::gateway::USER_AGENT;
use crate::gateway::client::broken;
use crate::gateway::credentials::NodeAccess;
use crate::gateway::outgoing::Outgoing;

use super::Key;

/// How long a node shall keep a model that nobody uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::gateway) enum KeepAlive {
    Forever,
    /// As Ollama does by itself. It has to be said: a request that says nothing changes nothing.
    Default,
}

impl KeepAlive {
    fn value(self) -> Value {
        match self {
            KeepAlive::Forever => Value::from(-1),
            KeepAlive::Default => Value::from("5m"),
        }
    }
}

/// The call that has an Ollama node load a model for another call, and do nothing more.
pub(in crate::gateway) fn loads_by(operation: Operation) -> Option<Operation> {
    use Operation as O;
    match operation {
        O::Embed | O::Embeddings | O::V1Embeddings => Some(O::Embed),
        _ if operation.runs_model() => Some(O::Generate),
        _ => None,
    }
}

/// The whole request.
pub(super) fn outgoing(
    key: &Key,
    operation: Operation,
    keep_alive: Option<KeepAlive>,
    access: &NodeAccess,
) -> Result<Outgoing, Fault> {
    let path = match operation {
        Operation::Embed => "/api/embed",
        _ => "/api/generate",
    };
    let path = access.path_at(operation, path, None);
    let body = body(key, operation, keep_alive);
    let mut head =
        RequestHeader::build_no_case(Method::POST, path.as_bytes(), Some(8)).map_err(broken)?;
    let length = body.len().to_string();
    for (name, value) in [
        ("Content-Type", "application/json"),
        ("Content-Length", &*length),
        ("User-Agent", USER_AGENT),
    ] {
        head.insert_header(name, value).map_err(broken)?;
    }
    access.sign(&mut head)?;
    Ok(Outgoing {
        head,
        body: vec![body],
        stream: false,
    })
}

/// A request's load says nothing of `keep_alive`, since that would outlast the request: what the client set of it goes out with the
/// request itself.
fn body(key: &Key, operation: Operation, keep_alive: Option<KeepAlive>) -> Bytes {
    let options = &key.options;
    let numbers = [
        ("num_ctx", options.num_ctx),
        ("num_batch", options.num_batch),
        ("num_gpu", options.num_gpu),
        ("main_gpu", options.main_gpu),
        ("num_thread", options.num_thread),
        ("draft_num_predict", options.draft_num_predict),
    ];
    let numbers = numbers.map(|(name, value)| (name, value.map(Value::from)));
    let set: Map<String, Value> = numbers
        .into_iter()
        .chain([("use_mmap", options.use_mmap.map(Value::from))])
        .filter_map(|(name, value)| Some((name.to_owned(), value?)))
        .collect();
    let mut body = Map::new();
    let mut put = |name: &str, value: Value| drop(body.insert(name.to_owned(), value));
    put("model", Value::from(&*key.model));
    match operation {
        Operation::Embed => put("input", Value::Array(Vec::new())),
        _ => put("stream", Value::Bool(false)),
    }
    if !set.is_empty() {
        put("options", Value::Object(set));
    }
    if let Some(keep_alive) = keep_alive {
        put("keep_alive", keep_alive.value());
    }
    if let Some(shift) = options.shift {
        put("shift", Value::Bool(shift));
    }
    Value::Object(body).to_string().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::RunnerOptions;
    use crate::fleet::NodeId;

    fn key(options: RunnerOptions) -> Key {
        Key {
            node: NodeId(1),
            model: "llama3:latest".into(),
            options,
        }
    }

    #[test]
    fn a_load_is_asked_for_with_the_options_of_the_request_and_nothing_else() {
        let all = RunnerOptions {
            num_ctx: Some(8192),
            num_batch: Some(1),
            num_gpu: Some(-1),
            main_gpu: Some(2),
            num_thread: Some(3),
            draft_num_predict: Some(4),
            use_mmap: Some(false),
            shift: Some(true),
        };
        let plain = RunnerOptions::default();
        let cases = [
            (
                plain,
                Operation::Generate,
                None,
                r#"{"model":"llama3:latest","stream":false}"#,
            ),
            (
                plain,
                Operation::Embed,
                None,
                r#"{"model":"llama3:latest","input":[]}"#,
            ),
            (
                plain,
                Operation::Generate,
                Some(KeepAlive::Forever),
                r#"{"model":"llama3:latest","stream":false,"keep_alive":-1}"#,
            ),
            (
                plain,
                Operation::Embed,
                Some(KeepAlive::Default),
                r#"{"model":"llama3:latest","input":[],"keep_alive":"5m"}"#,
            ),
            (
                all,
                Operation::Generate,
                None,
                r#"{"model":"llama3:latest","stream":false,"options":{"num_ctx":8192,"num_batch":1,"num_gpu":-1,"main_gpu":2,"num_thread":3,"draft_num_predict":4,"use_mmap":false},"shift":true}"#,
            ),
        ];
        for (options, operation, keep_alive, expected) in cases {
            let built = body(&key(options), operation, keep_alive);
            let built: Value = serde_json::from_slice(&built).unwrap();
            let expected: Value = serde_json::from_str(expected).unwrap();
            assert_eq!(built, expected);
        }
    }

    #[test]
    fn every_call_that_runs_a_model_has_one_that_loads_it() {
        for (operation, expected) in [
            (Operation::Chat, Some(Operation::Generate)),
            (Operation::Generate, Some(Operation::Generate)),
            (Operation::Messages, Some(Operation::Generate)),
            (Operation::Responses, Some(Operation::Generate)),
            (Operation::Embed, Some(Operation::Embed)),
            (Operation::Embeddings, Some(Operation::Embed)),
            (Operation::V1Embeddings, Some(Operation::Embed)),
            (Operation::Show, None),
            (Operation::CountTokens, None),
        ] {
            assert_eq!(loads_by(operation), expected, "{operation:?}");
        }
    }
}
