//! What extractions find in recorded answers, wherever these are cut.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use std::{fs, iter};

use super::{STREAMS, operation_of};
use crate::dialect::meter::kept::KEPT_BYTES_MAX;
use crate::dialect::{Close, Framing, Meter, Operation};
use crate::profile::extraction::{Extraction, ExtractionText};

const OLLAMA: &[(&str, &str)] = &[
    ("model", "$.model"),
    ("done", "$.done"),
    ("reason", "$.done_reason"),
    ("in", "$.prompt_eval_count"),
    ("out", "$.eval_count"),
    ("total_ns", "$.total_duration"),
    ("load_ns", "$.load_duration"),
    ("prompt_ns", "$.prompt_eval_duration"),
    ("eval_ns", "$.eval_duration"),
];
const OPENAI: &[(&str, &str)] = &[
    ("model", "$.model"),
    ("reason", "$.choices[0].finish_reason"),
    ("in", "$.usage.prompt_tokens"),
    ("out", "$.usage.completion_tokens"),
    ("sum", "$.usage.total_tokens"),
];
const ANTHROPIC: &[(&str, &str)] = &[
    ("model", "$.message.model"),
    ("first_in", "$.message.usage.input_tokens"),
    ("first_out", "$.message.usage.output_tokens"),
    ("reason", "$.delta.stop_reason"),
    ("in", "$.usage.input_tokens"),
    ("out", "$.usage.output_tokens"),
];
const RESPONSES: &[(&str, &str)] = &[
    ("model", "$.response.model"),
    ("status", "$.response.status"),
    ("in", "$.response.usage.input_tokens"),
    ("out", "$.response.usage.output_tokens"),
];

fn extraction(paths: &[(&str, &str)]) -> Option<Arc<Extraction>> {
    let owned = |(name, path): &(&str, &str)| ((*name).to_owned(), (*path).to_owned());
    let text = ExtractionText {
        enabled: true,
        paths: paths.iter().map(owned).collect(),
        ..ExtractionText::default()
    };
    Extraction::compile(&text).unwrap().map(Arc::new)
}

fn told(meter: &mut Meter) -> String {
    let sample = meter.take_sample(&|_| None, Duration::ZERO);
    let values = sample.map(|sample| sample.values());
    let told: Vec<String> = values
        .iter()
        .flatten()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    told.join(" ")
}

fn extracted<'a>(
    operation: Operation,
    framing: Framing,
    extraction: &Option<Arc<Extraction>>,
    chunks: impl IntoIterator<Item = &'a [u8]>,
) -> (String, bool) {
    let mut meter = Meter::new(operation, framing).keeping(extraction.clone());
    for chunk in chunks {
        meter.push(chunk);
    }
    meter.finish(Close::Framed);
    (told(&mut meter), meter.has_missed_values())
}

/// Whole, byte by byte, and cut in two at every place: always the same.
fn extracted_anyhow(
    operation: Operation,
    framing: Framing,
    paths: &[(&str, &str)],
    body: &[u8],
) -> String {
    let extraction = &extraction(paths);
    let (whole, missed) = extracted(operation, framing, extraction, [body]);
    assert!(!missed);
    let bytes = extracted(operation, framing, extraction, body.chunks(1));
    assert_eq!(bytes, (whole.clone(), false), "byte by byte");
    for at in 1..body.len() {
        let halves = extracted(operation, framing, extraction, [&body[..at], &body[at..]]);
        assert_eq!(halves, (whole.clone(), false), "cut at {at}");
    }
    whole
}

#[test]
fn recorded_answers_give_the_same_values_wherever_they_are_cut() {
    let cases = [
        ("102-chat-stream", OLLAMA),
        ("103-chat-nonstream", OLLAMA),
        ("202-generate-stream", OLLAMA),
        ("302-embed-single", OLLAMA),
        ("901-runner-killed-chat", OLLAMA),
        ("411-v1-chat-stream", OPENAI),
        ("412-v1-chat-stream-usage", OPENAI),
        ("432-v1-completions-stream-usage", OPENAI),
        ("440-v1-embeddings", OPENAI),
        ("451-v1-responses-stream", RESPONSES),
        ("502-messages-stream", ANTHROPIC),
        ("509-messages-tools-stream", ANTHROPIC),
        ("501-messages", ANTHROPIC),
    ];
    let mut got = String::new();
    for (name, paths) in cases {
        let file = fs::read(Path::new(STREAMS).join(format!("{name}.json"))).unwrap();
        let exchange: serde_json::Value = serde_json::from_slice(&file).unwrap();
        let response = &exchange["response"];
        let chunks = response["chunks"].as_array().unwrap();
        let body: String = chunks
            .iter()
            .map(|chunk| chunk["data"].as_str().unwrap())
            .collect();
        let values = extracted_anyhow(
            operation_of(exchange["request"]["path"].as_str().unwrap()),
            Framing::of(response["headers"]["Content-Type"].as_str()),
            paths,
            body.as_bytes(),
        );
        got += &format!("{name}: {values}\n");
    }
    let table = Path::new(STREAMS).join("extracted.txt");
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&table, &got).unwrap();
    }
    assert_eq!(got, fs::read_to_string(&table).unwrap());
}

#[test]
fn values_of_many_frames_come_together_and_words_of_a_model_are_none() {
    let sse = |frames: &[&str]| -> String {
        let events = frames.iter().map(|frame| format!("data: {frame}\n\n"));
        events.collect()
    };
    let body = sse(&[
        r#"{"model":"m","choices":[{"delta":{"content":"\"prompt_tokens\":9"},"finish_reason":null}],"usage":null}"#,
        r#"{"model":"m","choices":[{"delta":{},"finish_reason":"stop"}]}"#,
        r#"{"model":"m","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4}}"#,
        "[DONE]",
    ]);
    let values = extracted_anyhow(
        Operation::ChatCompletions,
        Framing::Sse,
        OPENAI,
        body.as_bytes(),
    );
    assert_eq!(values, "model=m reason=stop in=3 out=4");

    // Counts in the arguments of a call stand elsewhere than the path leads; the frame that has them is still found.
    let lines = concat!(
        r#"{"model":"m","prompt_eval_count":5,"done":false}"#,
        "\n",
        r#"{"message":{"tool_calls":[{"function":{"arguments":{"eval_count":1}}}]},"done":false}"#,
        "\n",
        r#"{"eval_count":6,"done":true}"#,
    );
    let values = extracted_anyhow(Operation::Chat, Framing::Ndjson, OLLAMA, lines.as_bytes());
    assert_eq!(values, "model=m done=true in=5 out=6");
}

#[test]
fn without_an_extraction_nothing_is_kept_and_nothing_missed() {
    let mut meter = Meter::new(Operation::Chat, Framing::Ndjson).keeping(None);
    meter.push(br#"{"model":"m","done":true}"#);
    meter.finish(Close::Framed);
    assert!(meter.kept.is_none());
    assert_eq!(
        (told(&mut meter).as_str(), meter.has_missed_values()),
        ("", false)
    );
}

#[test]
fn what_is_kept_has_a_limit_and_what_is_missed_is_told() {
    let document = |bytes: usize| -> Vec<u8> {
        let head = br#"{"model":"m","x":""#;
        let filler = iter::repeat_n(b'x', bytes - head.len() - 2);
        head.iter().copied().chain(filler).chain(*b"\"}").collect()
    };
    for framing in [Framing::Whole, Framing::Ndjson] {
        let check = |bytes: usize, expected: (&str, bool)| {
            let body = document(bytes);
            let pieces = body.chunks(10_000);
            let (values, missed) =
                extracted(Operation::Embed, framing, &extraction(OLLAMA), pieces);
            assert_eq!((values.as_str(), missed), expected, "{framing:?} {bytes}");
        };
        check(KEPT_BYTES_MAX, ("model=m", false));
        check(KEPT_BYTES_MAX + 1, ("", true));
        check(3 << 20, ("", true));
    }

    // Many long frames, each with a value of its own: the oldest give way.
    let mut meter = Meter::new(Operation::Chat, Framing::Ndjson).keeping(extraction(OLLAMA));
    for key in ["model", "done_reason", "eval_count"] {
        let line = format!("{{\"{key}\":7,\"x\":\"{}\"}}\n", "x".repeat(100_000));
        meter.push(line.as_bytes());
        let kept = meter.kept.as_ref().unwrap();
        assert!(kept.bytes() <= KEPT_BYTES_MAX);
    }
    assert_eq!(told(&mut meter), "reason=7 out=7");
    assert!(meter.has_missed_values());
}
