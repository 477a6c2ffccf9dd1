//! The table of cases in `tests/golden/facts`, and the laws that no table can hold.

use std::fmt::Write;
use std::path::Path;

use proptest::prelude::*;

use super::facts;
use crate::dialect::testing::fixed;
use crate::dialect::{Call, Dialect, Facts, Mount, Operation, Serve};
use crate::error::Fault;

const CALLS: [(&str, Dialect, Operation); 11] = [
    ("chat", Dialect::Ollama, Operation::Chat),
    ("generate", Dialect::Ollama, Operation::Generate),
    ("embed", Dialect::Ollama, Operation::Embed),
    ("embeddings", Dialect::Ollama, Operation::Embeddings),
    ("show", Dialect::Ollama, Operation::Show),
    (
        "chat_completions",
        Dialect::OpenAi,
        Operation::ChatCompletions,
    ),
    ("completions", Dialect::OpenAi, Operation::Completions),
    ("v1_embeddings", Dialect::OpenAi, Operation::V1Embeddings),
    ("responses", Dialect::OpenAi, Operation::Responses),
    ("messages", Dialect::Anthropic, Operation::Messages),
    ("count_tokens", Dialect::Anthropic, Operation::CountTokens),
];

pub(crate) fn call(name: &str) -> Call {
    let found = CALLS.iter().find(|(known, ..)| *known == name);
    let (_, dialect, operation) = *found.unwrap_or_else(|| panic!("no call is named {name}"));
    Call {
        dialect,
        operation,
        serve: Serve::ByModel,
        mount: Mount::All,
        olla: false,
        node_index: None,
        node_path: "/".into(),
        argument: None,
    }
}

/// Of each part of a conversation's head.
const HASHED_BYTES_MAX: usize = 64;

fn read(name: &str, body: &str) -> Result<Facts, Fault> {
    facts(&call(name), body.as_bytes(), HASHED_BYTES_MAX)
}

/// Undoes `%XX`.
pub(super) fn bytes(text: &str) -> Vec<u8> {
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap().as_bytes().to_vec();
    for part in parts {
        bytes.push(u8::from_str_radix(&part[..2], 16).unwrap());
        bytes.extend(part[2..].bytes());
    }
    bytes
}

fn summary(read: Result<Facts, Fault>) -> String {
    let facts = match read {
        Ok(facts) => facts,
        Err(fault) => return format!("{} {}: {fault}", fault.status(), fault.code()),
    };
    let mut line = format!("{}@{:?}", facts.model, facts.model_span);
    for (shown, word) in [
        (facts.stream, "stream"),
        (facts.images, "images"),
        (facts.tools, "tools"),
        (facts.thinking, "thinking"),
        (facts.unloads, "unloads"),
        (facts.affinity.is_some(), "affinity"),
    ] {
        if shown {
            write!(line, " {word}").unwrap();
        }
    }
    let runner = facts.runner;
    for (name, value) in [
        ("num_ctx", runner.num_ctx),
        ("num_batch", runner.num_batch),
        ("num_gpu", runner.num_gpu),
        ("main_gpu", runner.main_gpu),
        ("num_thread", runner.num_thread),
        ("draft_num_predict", runner.draft_num_predict),
        ("use_mmap", runner.use_mmap.map(i64::from)),
        ("shift", runner.shift.map(i64::from)),
    ] {
        if let Some(value) = value {
            write!(line, " {name}={value}").unwrap();
        }
    }
    line
}

#[test]
fn every_line_of_the_table_holds() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/facts/table.txt");
    let table = std::fs::read_to_string(&path).unwrap();
    let (mut now, mut cases) = (String::new(), 0);
    for line in table.lines() {
        let Some((case, _)) = line.rsplit_once(" =>") else {
            writeln!(now, "{line}").unwrap();
            continue;
        };
        let (name, body) = case.split_once(' ').unwrap_or((case, ""));
        let result = summary(facts(&call(name), &bytes(body), HASHED_BYTES_MAX));
        writeln!(now, "{case} => {result}").unwrap();
        cases += 1;
    }
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &now).unwrap();
        return;
    }
    assert!(100 <= cases, "the table lost its cases");
    for (was, now) in table.lines().zip(now.lines()) {
        assert_eq!(was, now);
    }
}

fn affinity(name: &str, body: &str) -> Option<u64> {
    read(name, body).unwrap().affinity
}

/// The turns of one conversation, in every dialect, in any order of keys and however escaped.
const SAME: [(&str, &str); 10] = [
    (
        "chat",
        r#"{"model":"m","messages":[{"role":"system","content":"be brief"},{"role":"user","content":"naïve?\n"}]}"#,
    ),
    (
        "chat",
        r#"{"messages":[{"content":"be brief","role":"system"},{"content":"na\u00efve\u003f\u000a","role":"user"}],"model":"m"}"#,
    ),
    (
        "chat",
        r#"{"model":"m","messages":[{"role":"system","content":"be brief"},{"role":"user","content":"naïve?\n"},{"role":"assistant","content":"no"},{"role":"user","content":"why"}],"options":{"seed":1}}"#,
    ),
    (
        "chat",
        r#"{"model":"m","messages":[{"role":"system","content":"be brief"},{"role":"assistant","content":"ask"},{"role":"user","content":"naïve?\n"},{"role":"system","content":"late"}]}"#,
    ),
    (
        "generate",
        r#"{"model":"m","prompt":"naïve?\n","system":"be brief"}"#,
    ),
    (
        "chat_completions",
        r#"{"model":"m","messages":[{"role":"developer","content":"be brief"},{"role":"user","content":[{"type":"text","text":"naï"},{"text":"ve?\n"}]}]}"#,
    ),
    (
        "responses",
        r#"{"model":"m","instructions":"be brief","input":"naïve?\n"}"#,
    ),
    (
        "responses",
        r#"{"model":"m","instructions":"be brief","input":[{"role":"user","content":[{"type":"input_text","text":"naïve?\n"}]}]}"#,
    ),
    (
        "messages",
        r#"{"model":"m","messages":[{"role":"user","content":"naïve?\n"}],"system":[{"type":"text","text":"be brief"}]}"#,
    ),
    (
        "messages",
        r#"{"model":"m","system":"be brief","messages":[{"role":"user","content":[{"text":"naïve?\n","type":"text"}]},{"role":"user","content":"x"}]}"#,
    ),
];

#[test]
fn the_turns_of_a_conversation_share_their_key_in_every_dialect() {
    let expected = affinity(SAME[0].0, SAME[0].1);
    assert!(expected.is_some());
    for (name, body) in SAME {
        assert_eq!(affinity(name, body), expected, "{name} {body}");
    }
}

#[test]
fn another_model_prompt_system_or_tool_is_another_conversation() {
    let mut keys: Vec<_> = [
        r#"{"model":"m","messages":[{"role":"user","content":"a"}]}"#,
        r#"{"model":"n","messages":[{"role":"user","content":"a"}]}"#,
        r#"{"model":"m","messages":[{"role":"user","content":"b"}]}"#,
        r#"{"model":"m","messages":[{"role":"system","content":"a"}]}"#,
        r#"{"model":"m","messages":[{"role":"system","content":"a"},{"role":"user","content":"a"}]}"#,
        r#"{"model":"m","messages":[{"role":"system","content":"a"},{"role":"system","content":"b"},{"role":"user","content":"a"}]}"#,
        r#"{"model":"m","messages":[{"role":"user","content":"a"}],"tools":[{"type":"function"}]}"#,
        r#"{"model":"m","messages":[{"role":"user","content":"a"}],"tools":[{"type":"other"}]}"#,
    ]
    .iter()
    .map(|body| affinity("chat", body).unwrap())
    .collect();
    let len = keys.len();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), len);
}

#[test]
fn a_long_text_counts_by_its_beginning_wherever_it_is_cut() {
    let text = "é".repeat(HASHED_BYTES_MAX / 2 - 1);
    let chat = |text: &str| {
        let body = format!(r#"{{"model":"m","messages":[{{"role":"user","content":"{text}"}}]}}"#);
        affinity("chat", &body)
    };
    assert_eq!(
        chat(&format!("{text}ab1")),
        chat(&format!("{text}\\u0061b2"))
    );
    assert_ne!(chat(&format!("{text}ab")), chat(&format!("{text}ac")));
    assert_eq!(chat(&text), chat(&text.replace('é', "\\u00e9")));
}

#[test]
fn a_name_has_a_limit_in_unescaped_bytes() {
    let of = |name: String| read("chat", &format!(r#"{{"model":"{name}"}}"#)).map(|f| f.model);
    assert_eq!(of("a".repeat(256)), Ok("a".repeat(256)));
    assert_eq!(of("\\u0061".repeat(256)), Ok("a".repeat(256)));
    let fault = of("a".repeat(257)).unwrap_err();
    assert_eq!(fault.code(), "invalid_model_name");
}

#[test]
fn a_long_spelling_is_cut_in_the_message() {
    let key = "k".repeat(5000);
    let fault = read("chat", &format!(r#"{{"{key}":1,"{key}":2,"model":"m"}}"#)).unwrap_err();
    assert_eq!(fault.code(), "ambiguous_body");
    assert!(fault.message.len() < 400, "{}", fault.message);
}

/// `text` in some other spelling that a node reads as the same key.
fn respelled(text: &'static str) -> impl Strategy<Value = String> {
    prop::collection::vec(0..4u8, text.len()).prop_map(move |ways| {
        let spell = |(c, way): (char, u8)| match (c, way) {
            (c, 0) => c.to_string(),
            ('s', 1) => "ſ".to_owned(),
            ('k', 1) => "\u{212a}".to_owned(),
            (c, 2) => format!("\\u{:04x}", u32::from(c)),
            (c, _) => c.to_ascii_uppercase().to_string(),
        };
        text.chars().zip(ways).map(spell).collect()
    })
}

#[test]
fn text_counts_towards_the_context_and_images_and_tools_do_not() {
    // Ten bytes of text each, their quotes included.
    let t = "\"12345678\"";
    for (name, body, expected) in [
        (
            "chat",
            format!(
                r#""messages":[{{"role":"system","content":{t}}},{{"role":"user","content":{t},"images":[{t}]}}]"#
            ),
            20,
        ),
        (
            "chat",
            format!(
                r#""messages":[{{"role":"assistant","content":{t},"thinking":{t},"tool_calls":[{t}]}}],"tools":[{t}]"#
            ),
            10,
        ),
        (
            "generate",
            format!(r#""system":{t},"prompt":{t},"images":[{t}],"template":{t}"#),
            20,
        ),
        (
            "chat_completions",
            format!(
                r#""messages":[{{"role":"user","content":[{{"type":"text","text":{t}}},{{"type":"image_url","image_url":{{"url":{t}}}}},{{"type":"text","text":{t}}}]}}]"#
            ),
            20,
        ),
        (
            "messages",
            format!(
                r#""system":[{{"type":"text","text":{t}}}],"messages":[{{"role":"user","content":[{{"type":"tool_result","content":{t}}},{{"type":"tool_result","content":[{{"type":"text","text":{t}}},{{"type":"image","source":{{"data":{t}}}}}]}}]}}]"#
            ),
            30,
        ),
        (
            "responses",
            format!(
                r#""instructions":{t},"input":[{{"role":"user","content":{t}}},{{"type":"function_call_output","output":{t}}}]"#
            ),
            30,
        ),
        ("responses", format!(r#""input":{t}"#), 10),
        // One by one: only the longest must fit.
        ("embed", format!(r#""input":[{t},"",{t},"x"]"#), 10),
        ("v1_embeddings", format!(r#""input":[{t},{t}]"#), 10),
        ("completions", format!(r#""prompt":[[1,2,3],{t}]"#), 10),
        ("show", format!(r#""system":{t}"#), 0),
        ("chat", r#""messages":[{"content":7}]"#.to_owned(), 0),
    ] {
        let facts = read(name, &format!(r#"{{"model":"m",{body}}}"#)).unwrap();
        assert_eq!(facts.prompt_bytes, expected, "{name} {body}");
        assert_eq!(facts.prompt_tokens(), expected as u64 / 4);
    }
}

proptest! {
    #![proptest_config(fixed())]

    #[test]
    fn bytes_never_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
        for (name, ..) in CALLS {
            let _ = facts(&call(name), &body, HASHED_BYTES_MAX);
        }
    }

    #[test]
    fn pieces_of_json_never_panic(
        parts in prop::collection::vec(prop::sample::select(vec![
            "{", "}", "[", "]", ":", ",", "\"", "\\", "\"model\":", "\"messages\":[", "{\"role\":", "\"user\"",
            "\"content\":", "\"type\":\"image\"", "\"options\":{", "\"num_ctx\":", "1e3", "null", "true", " ", "\"a\"",
        ]), 0..30)
    ) {
        for (name, ..) in CALLS {
            let _ = read(name, &format!("{{{}", parts.concat()));
        }
    }

    #[test]
    fn a_key_is_known_in_every_spelling(model in respelled("model"), messages in respelled("messages")) {
        let body = format!(r#"{{"{messages}":[{{"role":"user","content":"x","images":["y"]}}],"{model}":"m"}}"#);
        let facts = read("chat", &body).unwrap();
        prop_assert_eq!(&facts.model, "m");
        prop_assert!(facts.images);
        prop_assert_eq!(&body[facts.model_span], r#""m""#);
    }

    #[test]
    fn two_spellings_of_a_key_are_refused(a in respelled("keep_alive"), b in respelled("keep_alive")) {
        let body = format!(r#"{{"{a}":1,"model":"m","{b}":2}}"#);
        let fault = read("generate", &body).unwrap_err();
        prop_assert_eq!(fault.code(), "ambiguous_body");
        prop_assert!(fault.message.contains(&a) && fault.message.contains(&b), "{}", fault.message);
    }
}
