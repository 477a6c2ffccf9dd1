//! What request lines mean, and where each type of node keeps a call: the table of request lines in `tests/golden/recognize/cases.txt`; `UPDATE=1` rewrites its right-hand sides.

use std::fmt::Write as _;
use std::fs;

use http::Method;
use proptest::prelude::*;

use arriero::config::{self, profiles::builtin};
use arriero::dialect::{Call, Mount, Operation, dialect_of, recognize};
use arriero::error::Kind;

const CASES: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/golden/recognize/cases.txt"
);

#[test]
fn every_request_line_means_what_the_table_says() {
    let table = fs::read_to_string(CASES).unwrap();
    let mut got = String::new();
    let mut cases = 0;
    for line in table.lines() {
        let Some((request, _)) = line.split_once(" => ") else {
            writeln!(got, "{line}").unwrap();
            continue;
        };
        let (method, path) = request.split_once(' ').unwrap();
        let method: Method = method.parse().unwrap();
        writeln!(got, "{request} => {}", told(&method, path)).unwrap();
        cases += 1;
    }
    if std::env::var_os("UPDATE").is_some() {
        fs::write(CASES, &got).unwrap();
    }
    for (line, (expected, got)) in table.lines().zip(got.lines()).enumerate() {
        assert_eq!(got, expected, "{CASES}:{}", line + 1);
    }
    assert!(120 <= cases, "{cases} cases");
}

fn told(method: &Method, path: &str) -> String {
    let profiles = builtin();
    match recognize(method, path, &profiles) {
        Ok(call) => told_call(&call),
        Err(fault) => {
            let more = match fault.kind {
                Kind::MethodNotAllowed { allow } => allow,
                _ => fault.code(),
            };
            format!(
                "{} {more}, {:?}",
                fault.status(),
                dialect_of(path, &profiles)
            )
        }
    }
}

fn told_call(call: &Call) -> String {
    let mut told = format!("{:?} {:?} {:?}", call.dialect, call.operation, call.serve);
    match &call.mount {
        Mount::All => {}
        Mount::OpenAi => told.push_str(" on compatible"),
        Mount::Profile(name) => write!(told, " on {name}").expect("a String takes everything"),
    }
    if call.olla {
        told.push_str(" olla");
    }
    write!(told, " {}", call.node_path).expect("a String takes everything");
    if let Some(index) = call.node_index {
        write!(told, " node {index}").expect("a String takes everything");
    }
    if let Some(argument) = &call.argument {
        write!(told, " of {argument}").expect("a String takes everything");
    }
    told
}

#[test]
fn who_serves_what() {
    // A word of the type and where its calls are; `-` where they are not.
    let table = "
        ollama /api/chat /v1/chat/completions /v1/messages - /v1/responses /api/blobs /api/embed /v1/embeddings
        openai-compatible - /v1/chat/completions - - - - - /v1/embeddings
        vllm - /v1/chat/completions /v1/messages - /v1/responses - - /v1/embeddings
        vllm-mlx - /v1/chat/completions /v1/messages /v1/messages/count_tokens - - - /v1/embeddings
        sglang - /v1/chat/completions - - - - - /v1/embeddings
        llama-cpp - /v1/chat/completions /v1/messages /v1/messages/count_tokens /v1/responses - - /v1/embeddings
        lm_studio - /v1/chat/completions /v1/messages - /v1/responses - - /v1/embeddings
        lmdeploy - /v1/chat/completions - - - - - -
        lemonade - /api/v1/chat/completions - - - - - /api/v1/embeddings
        litellm - /v1/chat/completions /v1/messages - /v1/responses - - /v1/embeddings
        dmr - /engines/v1/chat/completions /anthropic/v1/messages /anthropic/v1/messages/count_tokens - - - /engines/v1/embeddings
        omlx - /v1/chat/completions /v1/messages /v1/messages/count_tokens /v1/responses - - /v1/embeddings
        openwebui /ollama/api/chat /ollama/v1/chat/completions /ollama/v1/messages - /ollama/v1/responses - /ollama/api/embed /ollama/v1/embeddings";
    use Operation::{
        Blob, Chat, ChatCompletions, CountTokens, Embed, Messages, Responses, V1Embeddings,
    };
    let operations = [
        Chat,
        ChatCompletions,
        Messages,
        CountTokens,
        Responses,
        Blob,
        Embed,
        V1Embeddings,
    ];
    let profiles = builtin();
    for line in table.trim().lines() {
        let mut words = line.split_whitespace();
        let profile = profiles.find(words.next().unwrap()).unwrap();
        for (operation, expected) in operations.into_iter().zip(words) {
            let path = profile.path_of(operation).unwrap_or("-");
            assert_eq!(path, expected, "{} {operation:?}", profile.name);
        }
    }
}

/// The configuration of an operator who has this file in `profiles.dir`.
fn with_profile(file: &str) -> config::Config {
    config::load(&config::Sources {
        file: Some(("test.yaml", "profiles: { dir: conf/profiles }")),
        env: &|_| None,
        env_names: Vec::new(),
        read_file: &|path| match path {
            "conf/profiles/own.yaml" => Ok(file.as_bytes().to_vec()),
            _ => Err("no such file".to_owned()),
        },
        list_dir: &|_| Ok(vec!["own.yaml".to_owned()]),
        cores: 1,
        terminal: false,
    })
    .expect("a configuration")
}

#[test]
fn a_type_of_the_operator_may_be_asked_as_it_keeps_its_calls() {
    let own = "name: mine\nrouting: { prefixes: [gpu] }\napi: { openai_compatible: true, paths: [/serve/a/v1/chat/completions, /v1/chat/completions, /v1/models] }";
    let profiles = with_profile(own).profiles;
    let of = |path: &str| {
        let call = recognize(&Method::POST, path, &profiles).map_err(|fault| fault.status());
        call.map(|call| (call.operation, call.mount))
    };
    let mine = || (Operation::ChatCompletions, Mount::Profile("mine".into()));
    assert_eq!(of("/gpu/serve/a/v1/chat/completions"), Ok(mine()));
    assert_eq!(of("/olla/mine/serve/a/v1/chat/completions"), Ok(mine()));
    assert_eq!(of("/gpu/v1/chat/completions"), Ok(mine()));
    for path in [
        "/gpu/serve/v1/chat/completions",
        "/gpu/serve/a/v1/completions",
        "/serve/a/v1/chat/completions",
    ] {
        assert_eq!(of(path), Err(404), "{path}");
    }
}

#[test]
fn a_prefix_of_the_operator_is_a_mount() {
    let config = with_profile(include_str!("../golden/profile/olla-customisation.yaml"));
    for path in ["/ai/api/chat", "/olla/ai/api/chat", "/olla/ollama/api/chat"] {
        let call = recognize(&Method::POST, path, &config.profiles).unwrap();
        assert_eq!(call.mount, Mount::Profile("ollama".into()), "{path}");
        assert_eq!(
            (call.operation, &*call.node_path),
            (Operation::Chat, "/api/chat")
        );
        assert!(path.starts_with("/olla/") || recognize(&Method::POST, path, &builtin()).is_err());
    }
}

#[test]
fn ollama_serves_every_call_but_counting_tokens_and_ours() {
    let profiles = builtin();
    let ollama = profiles.find("ollama").unwrap();
    for (operation, path) in arriero::dialect::recognize::calls() {
        use Operation::{CountTokens, Download, Unload, Upload};
        let is_foreign = matches!(operation, CountTokens | Unload | Download | Upload);
        let expected = (!is_foreign).then_some(path);
        assert_eq!(ollama.path_of(operation), expected, "{operation:?}");
    }
}

proptest! {
    #[test]
    fn what_a_node_is_asked_for_can_be_read_in_one_way_only(path in "(/(api|v1|olla|openai|models|blobs|chat|[.%a-f0-9/:]{0,6}|\\PC{0,3})){0,6}") {
        let profiles = builtin();
        dialect_of(&path, &profiles);
        if let Ok(call) = recognize(&Method::GET, &path, &profiles) {
            let node_path = &call.node_path;
            prop_assert!(node_path.bytes().all(|b| b.is_ascii_graphic() && b != b'\\'));
            prop_assert!(!node_path.contains("//") && !node_path.split('/').any(|s| s == "." || s == ".."));
            prop_assert!(!node_path.to_ascii_lowercase().contains("%2f"));
        }
    }
}
