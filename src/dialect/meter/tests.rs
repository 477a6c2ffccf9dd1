//! Recorded answers of real servers, cut at every place, and forgeries that must not fool the meter.

use std::fmt::Write as _;
use std::{fs, path::Path};

use proptest::prelude::*;
use serde_json::Value;

use super::window::{HEAD_BYTES_MAX, TAIL_BYTES_MAX};
use super::{Body, Meter};
use crate::dialect::frame::FRAME_BYTES_MAX;
use crate::dialect::{Close, Ending, Framing, Operation};

mod cases;

mod extraction;

use cases::{FORGERIES, SPELLINGS};

const STREAMS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/streams");

/// What a meter tells of a body, as one line.
fn metered(
    operation: Operation,
    framing: Framing,
    chunks: &[&[u8]],
    clean_end: bool,
) -> (Ending, String) {
    let mut meter = Meter::new(operation, framing);
    for chunk in chunks {
        meter.push(chunk);
    }
    let border = meter.at_frame_border();
    let ending = meter.finish(if clean_end { Close::Framed } else { Close::Cut });
    let usage = meter.usage();
    let told = format!(
        "{ending:?}, in {}, out {}, token {}, border {border}",
        count(usage.tokens_in),
        count(usage.tokens_out),
        meter.first_token_seen()
    );
    (ending, told)
}

fn count(tokens: Option<u64>) -> String {
    tokens.map_or("None".to_owned(), |tokens| tokens.to_string())
}

/// Whole, byte by byte, and cut in two at every place: always the same.
fn metered_anyhow(operation: Operation, framing: Framing, body: &[u8], clean_end: bool) -> String {
    let (_, whole) = metered(operation, framing, &[body], clean_end);
    let bytes: Vec<&[u8]> = body.chunks(1).collect();
    assert_eq!(
        metered(operation, framing, &bytes, clean_end).1,
        whole,
        "byte by byte"
    );
    for at in 1..body.len() {
        let halves = [&body[..at], &body[at..]];
        assert_eq!(
            metered(operation, framing, &halves, clean_end).1,
            whole,
            "cut at {at}"
        );
    }
    whole
}

fn operation_of(path: &str) -> Operation {
    match path {
        "/api/chat" => Operation::Chat,
        "/api/generate" => Operation::Generate,
        "/api/embed" => Operation::Embed,
        "/v1/chat/completions" => Operation::ChatCompletions,
        "/v1/completions" => Operation::Completions,
        "/v1/embeddings" => Operation::V1Embeddings,
        "/v1/responses" => Operation::Responses,
        "/v1/messages" => Operation::Messages,
        other => panic!("no operation for {other}"),
    }
}

fn recorded(path: &Path) -> String {
    let exchange: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let response = &exchange["response"];
    let chunks = response["chunks"].as_array().unwrap();
    let body: String = chunks
        .iter()
        .map(|chunk| chunk["data"].as_str().unwrap())
        .collect();
    metered_anyhow(
        operation_of(exchange["request"]["path"].as_str().unwrap()),
        Framing::of(response["headers"]["Content-Type"].as_str()),
        body.as_bytes(),
        response["ended"] == "clean",
    )
}

#[test]
fn recorded_answers_end_as_the_table_says() {
    let mut names: Vec<String> = fs::read_dir(STREAMS)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".json"))
        .collect();
    names.sort_unstable();
    let mut got = String::new();
    for name in names {
        let path = Path::new(STREAMS).join(&name);
        writeln!(got, "{name}: {}", recorded(&path)).unwrap();
    }
    let table = Path::new(STREAMS).join("expected.txt");
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&table, &got).unwrap();
    }
    assert_eq!(got, fs::read_to_string(&table).unwrap());
}

#[test]
fn text_and_arguments_of_a_model_fool_nobody() {
    for (operation, framing, body) in FORGERIES {
        let told = metered_anyhow(*operation, *framing, format!("{body}\n").as_bytes(), true);
        assert_eq!(
            told, "GaveUp, in None, out None, token true, border true",
            "{body}"
        );
    }
}

#[test]
fn other_servers_spell_the_same_things_differently() {
    for (operation, framing, body, told) in SPELLINGS {
        assert_eq!(
            metered_anyhow(*operation, *framing, body.as_bytes(), true),
            *told,
            "{body}"
        );
    }
}

#[test]
fn an_answer_that_breaks_off_died_unless_its_last_chunk_was_there() {
    let cut =
        |operation, framing, body: &str| metered(operation, framing, &[body.as_bytes()], false).0;
    let died = Ending::Died("the node broke the answer off");
    assert_eq!(cut(Operation::Chat, Framing::Ndjson, ""), died);
    assert_eq!(
        cut(Operation::Chat, Framing::Ndjson, "{\"done\":true"),
        died
    );
    assert_eq!(
        cut(Operation::Chat, Framing::Ndjson, "{\"done\":true}\n"),
        Ending::Complete
    );
    assert_eq!(
        cut(Operation::Chat, Framing::Whole, "{\"done\":true}"),
        died
    );
    assert_eq!(
        cut(Operation::ChatCompletions, Framing::Sse, "data: [DONE]\n\n"),
        Ending::Complete
    );
}

#[test]
fn a_last_line_that_is_too_long_to_look_at_does_not_make_an_answer_a_failure() {
    let context = "1,".repeat(FRAME_BYTES_MAX / 2);
    let line = format!("{{\"done\":true,\"context\":[{context}1]}}\n");
    let told = metered(
        Operation::Generate,
        Framing::Ndjson,
        &[line.as_bytes()],
        true,
    );
    assert_eq!(told.0, Ending::Complete);
}

#[test]
fn a_large_document_is_not_held_and_its_usage_is_found_at_either_end() {
    let vector = "0.123456,".repeat(30_000);
    let first =
        format!("{{\"usage\":{{\"prompt_tokens\":7,\"total_tokens\":7}},\"data\":[{vector}0]}}");
    let last = format!("{{\"embeddings\":[[{vector}0]],\"prompt_eval_count\":7}}");
    for body in [first, last] {
        for piece_bytes in [1, 1000, 16_384, body.len()] {
            let mut meter = Meter::new(Operation::Embed, Framing::Whole);
            for piece in body.as_bytes().chunks(piece_bytes) {
                meter.push(piece);
                assert!(memory_bytes(&meter) <= 64 << 10);
            }
            assert_eq!(meter.finish(Close::Framed), Ending::Complete);
            assert_eq!(meter.usage().tokens_in, Some(7), "{piece_bytes}");
        }
    }
}

#[test]
fn content_types_tell_the_framing() {
    let cases = [
        (Some("application/x-ndjson"), Framing::Ndjson),
        (Some("Application/X-NDJSON; charset=utf-8"), Framing::Ndjson),
        (Some("text/event-stream"), Framing::Sse),
        (Some(" text/event-stream;charset=utf-8"), Framing::Sse),
        (Some("application/json; charset=utf-8"), Framing::Whole),
        (Some("text/plain"), Framing::Whole),
        (Some(""), Framing::Whole),
        (None, Framing::Whole),
    ];
    for (content_type, framing) in cases {
        assert_eq!(Framing::of(content_type), framing, "{content_type:?}");
    }
}

fn memory_bytes(meter: &Meter) -> usize {
    match &meter.body {
        Body::Whole(window) => {
            assert!(window.head.len() <= HEAD_BYTES_MAX);
            assert!(window.tail.len() <= 2 * TAIL_BYTES_MAX);
            window.head.capacity() + window.tail.capacity()
        }
        Body::Lines(_) | Body::Events(..) => 0,
    }
}

/// Pieces that garbage is made of, so that it comes near to what matters.
const PIECES: &[&str] = &[
    "data: ",
    "event: ",
    "error",
    "\n",
    "\n\n",
    "\r",
    "{",
    "}",
    "\"",
    "\\",
    ":",
    ",",
    "null",
    "[DONE]",
    "{\"done\":true}",
    "\"done\":true",
    "\"error\":",
    "\"usage\":{",
    "\"model\":\"\"",
    "\"choices\":[",
    "message_stop",
    "response.completed",
    "\"type\":",
    "9999999999999999999999",
    "\u{fffd}",
    "[[[[",
];

proptest! {
    #[test]
    fn no_bytes_make_it_panic_and_cuts_change_nothing(
        picks in proptest::collection::vec(0..PIECES.len(), 0..40),
        noise in proptest::collection::vec(any::<u8>(), 0..20),
        piece in 1_usize..9,
        clean_end in any::<bool>(),
    ) {
        let mut body: Vec<u8> = picks.iter().flat_map(|pick| PIECES[*pick].bytes()).collect();
        body.extend(noise);
        let pieces: Vec<&[u8]> = body.chunks(piece).collect();
        for operation in [Operation::Chat, Operation::ChatCompletions, Operation::Responses, Operation::Messages] {
            for framing in [Framing::Ndjson, Framing::Sse, Framing::Whole] {
                let whole = metered(operation, framing, &[&body], clean_end);
                prop_assert_eq!(metered(operation, framing, &pieces, clean_end), whole);
            }
        }
    }
}

#[test]
fn without_an_announced_length_an_end_is_whole_only_if_the_bytes_are() {
    let cases = [
        (Framing::Whole, r#"{"done":true}"#, Ending::Complete),
        (Framing::Whole, "{\"done\":true}\n", Ending::Complete),
        (Framing::Ndjson, "{\"done\":true}\n", Ending::Complete),
        (Framing::Sse, "data: [DONE]\n\n", Ending::Complete),
    ];
    for (framing, body, expected) in cases {
        let mut meter = Meter::new(Operation::Chat, framing);
        meter.push(body.as_bytes());
        assert_eq!(meter.finish(Close::Unannounced), expected, "{body}");
    }
    for (framing, body) in [
        (Framing::Whole, r#"{"message":{"content":"cut"}"#),
        (Framing::Whole, r#"{"message":{"#),
        (Framing::Ndjson, "{\"done\":false}\n"),
        (Framing::Sse, "data: {}\n\n"),
    ] {
        let mut meter = Meter::new(Operation::Chat, framing);
        meter.push(body.as_bytes());
        let ending = meter.finish(Close::Unannounced);
        assert!(matches!(ending, Ending::Died(_)), "{body}: {ending:?}");
    }
}
