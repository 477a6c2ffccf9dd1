//! Each call's requests to its nodes, or its refusal.

use super::*;
use crate::config::Alias;
use crate::dialect::recognize;
use crate::fleet::Rules;
use crate::fleet::fixture::herd;
use crate::model::ModelKey;

/// `method path body` for each node, or the status and the code.
fn planned(path: &str, body: &str) -> Vec<String> {
    let method = match path {
        "/api/delete" => Method::DELETE,
        _ => Method::POST,
    };
    let fleet = herd("a up 0/4 Llama* far!\nb up 0/4 llama qwen").fleet;
    for node in &fleet.view().nodes {
        let addr = crate::fleet::Observation::Resolved("127.0.0.1:1".parse().unwrap());
        fleet.observe(node.id, addr, std::time::Instant::now());
    }
    let alias = |name: &str, targets: &[&str]| {
        let key = |name: &str| ModelKey::parse(name).unwrap();
        let targets = targets.iter().map(|name| ((*name).to_owned(), key(name)));
        Alias::new(name.to_owned(), key(name), targets.collect())
    };
    let rules = Rules {
        aliases: vec![
            alias("al", &["llama", "qwen"]),
            alias("own", &["own", "qwen"]),
        ],
        ..Rules::default()
    };
    let view = fleet.view();
    let nodes = view.nodes.iter().map(|node| node.config.clone());
    fleet.reconfigure(
        nodes.collect(),
        crate::fleet::fixture::LIMITS,
        rules,
        |_| (),
    );
    let call = recognize(&method, path, &crate::profile::Profiles::new(Vec::new())).unwrap();
    let asked = |body: &Body<'_>| {
        let asked = Asked {
            call: &call,
            body,
            aim: &Aim::of(&call, None).unwrap(),
            default: &DefaultTarget::First,
        };
        plan(&asked, &fleet.view())
    };
    match Body::parse(body.as_bytes()).and_then(|body| asked(&body)) {
        Err(fault) if fault.message.contains("is an alias of") => {
            vec![format!("{} {}", fault.status(), fault.message)]
        }
        Err(fault) => vec![format!("{} {}", fault.status(), fault.code())],
        Ok(plan) => plan
            .errands
            .iter()
            .map(|it| {
                let body = String::from_utf8_lossy(&it.body);
                let path = crate::dialect::recognize::path_of(it.operation);
                format!("{} {} {path} {body}", it.target.name, it.method)
            })
            .collect(),
    }
}

const CASES: &[(&str, &str, &[&str])] = &[
    (
        "/api/pull",
        r#"{"name":"x","model":"","insecure":true,"stream":false}"#,
        &[r#"a POST /api/pull {"model":"x","stream":true,"insecure":true}"#],
    ),
    ("/api/pull", r#"{"model":"x:cloud"}"#, &["403 cloud_model"]),
    (
        "/api/pull",
        r#"{"model":"a b"}"#,
        &["400 invalid_model_name"],
    ),
    (
        "/api/pull",
        r#"{"model":"x","stream":1}"#,
        &["400 wrong_type"],
    ),
    (
        "/api/pull",
        r#"{"model":"x","insecure":1}"#,
        &["400 wrong_type"],
    ),
    (
        "/api/push",
        r#"{"model":"LLAMA"}"#,
        &[r#"a POST /api/push {"model":"Llama","stream":true}"#],
    ),
    (
        "/api/create",
        r#"{"model":"n","from":"llama","parameters":{"x":0.10}}"#,
        &[
            r#"a POST /api/create {"model":"n","stream":true,"from":"Llama","parameters":{"x":0.10}}"#,
        ],
    ),
    (
        "/api/create",
        r#"{"model":"n","from":"x:cloud"}"#,
        &["403 cloud_model"],
    ),
    (
        "/api/copy",
        r#"{"source":"llama","destination":"n"}"#,
        &[
            r#"a POST /api/copy {"source":"Llama","destination":"n"}"#,
            r#"b POST /api/copy {"source":"llama","destination":"n"}"#,
        ],
    ),
    (
        "/api/copy",
        r#"{"source":"llama"}"#,
        &["400 field_required"],
    ),
    (
        "/api/copy",
        r#"{"source":"none","destination":"n"}"#,
        &["404 model_not_found"],
    ),
    (
        "/api/delete",
        r#"{"name":"qwen:latest"}"#,
        &[r#"b DELETE /api/delete {"model":"qwen"}"#],
    ),
    (
        "/api/delete",
        r#"{"model":"none"}"#,
        &["404 model_not_found"],
    ),
    (
        "/api/unload",
        r#"{"model":"llama"}"#,
        &[r#"a POST /api/generate {"model":"Llama","prompt":"","keep_alive":0,"stream":false}"#],
    ),
    ("/api/unload", r#"{"model":"qwen"}"#, &[]),
    // What would make a model of another company's server look like one of the nodes'.
    (
        "/api/create",
        r#"{"model":"n","from":"x","remote_host":"https://ollama.com"}"#,
        &["403 cloud_model"],
    ),
    (
        "/api/create",
        r#"{"model":"n","Remote_Model":"x"}"#,
        &["403 cloud_model"],
    ),
    (
        "/api/create",
        r#"{"model":"n","from":"far"}"#,
        &["403 cloud_model"],
    ),
    (
        "/api/create",
        r#"{"model":"n:cloud","from":"llama"}"#,
        &["403 cloud_model"],
    ),
    (
        "/api/create",
        r#"{"model":"n","from":"llama","remote_host":""}"#,
        &[r#"a POST /api/create {"model":"n","stream":true,"from":"Llama","remote_host":""}"#],
    ),
    (
        "/api/copy",
        r#"{"source":"far","destination":"n"}"#,
        &["403 cloud_model"],
    ),
    (
        "/api/copy",
        r#"{"source":"x:8b-cloud","destination":"n"}"#,
        &["403 cloud_model"],
    ),
    (
        "/api/copy",
        r#"{"source":"llama","destination":"n:cloud"}"#,
        &["403 cloud_model"],
    ),
    (
        "/api/delete",
        r#"{"model":"far"}"#,
        &[r#"a DELETE /api/delete {"model":"far"}"#],
    ),
    // Names are real ones.
    (
        "/api/delete",
        r#"{"model":"AL"}"#,
        &["404 `al` is an alias of llama, qwen; name the model itself"],
    ),
    (
        "/api/copy",
        r#"{"source":"al","destination":"n"}"#,
        &["404 `al` is an alias of llama, qwen; name the model itself"],
    ),
    (
        "/api/unload",
        r#"{"model":"al"}"#,
        &["404 `al` is an alias of llama, qwen; name the model itself"],
    ),
    (
        "/api/push",
        r#"{"model":"al"}"#,
        &["404 `al` is an alias of llama, qwen; name the model itself"],
    ),
    (
        "/api/pull",
        r#"{"model":"al"}"#,
        &["400 `al` is an alias of llama, qwen; choose another name for the model"],
    ),
    (
        "/api/create",
        r#"{"model":"al","from":"llama"}"#,
        &["400 `al` is an alias of llama, qwen; choose another name for the model"],
    ),
    (
        "/api/copy",
        r#"{"source":"llama","destination":"al"}"#,
        &["400 `al` is an alias of llama, qwen; choose another name for the model"],
    ),
    (
        "/api/create",
        r#"{"model":"n","from":"al"}"#,
        &["404 `al` is an alias of llama, qwen; name the model itself"],
    ),
    (
        "/api/pull",
        r#"{"model":"own"}"#,
        &[r#"a POST /api/pull {"model":"own","stream":true}"#],
    ),
];

#[test]
fn each_call_becomes_requests_to_its_nodes() {
    for (path, body, expected) in CASES {
        assert_eq!(planned(path, body), *expected, "{path} {body}");
    }
}
