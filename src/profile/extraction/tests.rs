//! What extractions make of answers.

use super::expression::Expression;
use super::value::{TEXT_CHARS_MAX, Value};
use super::*;

use std::time::Duration;

mod mistakes;

mod properties;

fn pairs(entries: &[(&str, &str)]) -> Vec<(String, String)> {
    let owned = entries.iter().map(|(name, text)| (*name, *text));
    owned
        .map(|(name, text)| (name.into(), text.into()))
        .collect()
}

fn text(
    paths: &[(&str, &str)],
    headers: &[(&str, &str)],
    calculations: &[(&str, &str)],
) -> ExtractionText {
    ExtractionText {
        enabled: true,
        paths: pairs(paths),
        headers: pairs(headers),
        calculations: pairs(calculations),
        ..ExtractionText::default()
    }
}

/// Frames and headers in, `name=value` out.
#[track_caller]
fn check(text: &ExtractionText, frames: &[&str], headers: &[(&str, &str)], expected: &str) {
    let extraction = Extraction::compile(text).unwrap().unwrap();
    let header = |wanted: &str| {
        let found = headers.iter().find(|(name, _)| *name == wanted);
        found.map(|(_, value)| (*value).to_owned())
    };
    let frames = frames.iter().map(|frame| frame.as_bytes().to_vec());
    let took = Duration::from_millis(500);
    let sample = Sample::new(Arc::new(extraction), frames.collect(), &header, took);
    let values = sample.values();
    let told: Vec<String> = values
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    assert_eq!(told.join(" "), expected);
}

/// The value of one calculation over some inputs.
fn worked_out(calculation: &str) -> Option<Value> {
    let names = ["two", "zero", "word", "yes", "empty", "missing"];
    let inputs = [
        Some(Value::Number(2.0)),
        Some(Value::Number(0.0)),
        Some(Value::Text("stop".into())),
        Some(Value::Bool(true)),
        Some(Value::Text(String::new())),
        None,
    ];
    let place_of = |wanted: &str| names.iter().position(|name| *name == wanted);
    let parsed: Expression = parse::parse(calculation, &place_of).expect(calculation);
    parsed.evaluate(&inputs)
}

#[test]
fn a_profile_as_olla_writes_it_gives_the_figures_of_an_answer() {
    let ollama = text(
        &[
            ("model", "$.model"),
            ("is_complete", "$.done"),
            ("finish_reason", "$.done_reason"),
            ("input_tokens", "$.prompt_eval_count"),
            ("output_tokens", "$.eval_count"),
            ("prompt_duration_ns", "$.prompt_eval_duration"),
            ("eval_duration_ns", "$.eval_duration"),
        ],
        &[],
        &[
            (
                "tokens_per_second",
                "output_tokens > 0 && eval_duration_ns > 0 ? (output_tokens * 1000000000.0) / eval_duration_ns : 0",
            ),
            ("ttft_ms", "prompt_duration_ns / 1000000.0"),
        ],
    );
    let last = r#"{"model":"llama3","done":true,"done_reason":"stop","prompt_eval_count":7,"eval_count":30,
                   "prompt_eval_duration":2500000,"eval_duration":600000000}"#;
    check(
        &ollama,
        &[r#"{"model":"llama3","done":false}"#, last],
        &[],
        "model=llama3 is_complete=true finish_reason=stop input_tokens=7 output_tokens=30 \
         prompt_duration_ns=2500000 eval_duration_ns=600000000 tokens_per_second=50 ttft_ms=2.5",
    );
    // An answer that broke off has what it has, and no speed.
    check(
        &ollama,
        &[r#"{"model":"llama3","done":false}"#],
        &[],
        "model=llama3 is_complete=false",
    );
    check(&ollama, &[], &[], "");
}

#[test]
fn calculations_of_other_node_types_work_as_written() {
    let openai = text(
        &[
            ("finish_reason", "$.choices[0].finish_reason"),
            ("output_tokens", "$.usage.completion_tokens"),
            ("total_tokens", "$.usage.total_tokens"),
            ("cached", "$.usage.cache_read_input_tokens"),
        ],
        &[],
        &[
            (
                "is_complete",
                "finish_reason != null && finish_reason != \"\"",
            ),
            ("has_reason", "len(finish_reason) > 0"),
            ("is_cached", "cached != null && cached > 0"),
            (
                "new_tokens",
                "cached != null ? total_tokens - cached : total_tokens",
            ),
            (
                "tokens_per_second",
                "output_tokens > 0 && response_time_ms > 0 ? (output_tokens * 1000.0) / response_time_ms : 0",
            ),
        ],
    );
    check(
        &openai,
        &[
            r#"{"choices":[{"finish_reason":"length"}]}"#,
            r#"{"choices":[],"usage":{"completion_tokens":10,"total_tokens":12}}"#,
        ],
        &[],
        "finish_reason=length output_tokens=10 total_tokens=12 is_complete=true has_reason=true is_cached=false \
         new_tokens=12 tokens_per_second=20",
    );
    check(
        &openai,
        &[r#"{"choices":[{"finish_reason":null}]}"#],
        &[],
        "is_complete=false is_cached=false",
    );
}

#[test]
fn headers_are_read_beside_the_body_and_alone() {
    let headers = [("queue_ms", "X-Queue"), ("engine", "X-Engine")];
    let both = text(
        &[("n", "$.n")],
        &headers,
        &[("sum", "n + queue_ms"), ("twice", "sum + sum")],
    );
    let answer = [("X-Queue", " 12.5"), ("X-Engine", "v8 beta")];
    check(
        &both,
        &[r#"{"n":1}"#],
        &answer,
        "n=1 queue_ms=12.5 engine=v8 beta sum=13.5 twice=27",
    );
    let alone = ExtractionText {
        source: "response_headers".into(),
        format: "json".into(),
        ..text(&[], &headers, &[])
    };
    check(
        &alone,
        &[],
        &[("X-Engine", "inf"), ("X-Other", "1")],
        "engine=inf",
    );
}

#[test]
fn the_last_frame_that_has_a_value_gives_it() {
    let paths = text(
        &[
            ("a", "$.a"),
            ("b", "$['b'].c[1]"),
            ("c", "$.b.c[1][\"odd name\"]"),
        ],
        &[],
        &[],
    );
    let cases: &[(&[&str], &str)] = &[
        (&[r#"{"a":1}"#, r#"{"a":2}"#], "a=2"),
        (
            &[r#"{"a":1}"#, r#"{"a":null}"#, r#"{"b":{"c":[0,3]}}"#],
            "a=1 b=3",
        ),
        // A list and an object are no values, and neither is half a document or two of them.
        (
            &[r#"{"a":1}"#, r#"{"a":[]}"#, r#"{"a":2"#, r#"{"a":3}{}"#],
            "a=1",
        ),
        (&[r#"{"b":{"c":[0,{"odd name":true}]}}"#], "c=true"),
        (&[r#"{"b":{"c":{"1":3}}}"#, r#"{"b":[]}"#, "[]", "7"], ""),
        (
            &[r#"{"a":-1.5e300}"#, r#"{"b":{"c":[0,1e-9]}}"#],
            "a=-1.5e300 b=1e-9",
        ),
    ];
    for (frames, expected) in cases {
        check(&paths, frames, &[], expected);
    }
    let long = format!(r#"{{"a":"{}"}}"#, "ä".repeat(TEXT_CHARS_MAX + 1));
    check(
        &paths,
        &[&long],
        &[],
        &format!("a={}", "ä".repeat(TEXT_CHARS_MAX)),
    );
}

#[test]
fn frames_without_a_value_are_out_of_sight() {
    let paths = text(
        &[
            ("a", "$.usage.in"),
            ("b", "$.usage.out"),
            ("c", "$.message.usage.in"),
        ],
        &[],
        &[],
    );
    let extraction = Extraction::compile(&paths).unwrap().unwrap();
    let cases = [
        ("[DONE]", 0b000),
        ("", 0b000),
        (
            r#"{"choices":[{"delta":{"content":"usage in out"}}]}"#,
            0b000,
        ),
        (r#"{"content":"\"usage\":{\"in\":1}"}"#, 0b000),
        (r#"{"usage":null}"#, 0b000),
        (r#"{"usage":{"in":null,"out": null}}"#, 0b000),
        (r#"{"in":"usage"}"#, 0b001), // not there, but nobody has parsed it yet
        (r#"{ "usage" : { "in" : 1 } }"#, 0b001),
        (r#"{"usage":{"in":1,"out":2}}"#, 0b011),
        (r#"{"message":{"usage":{"in":1}}}"#, 0b101),
    ];
    for (frame, seen) in cases {
        assert_eq!(extraction.sight(frame.as_bytes()), seen, "{frame}");
    }
}

#[test]
fn calculations_follow_the_usual_rules() {
    let number = |n| Some(Value::Number(n));
    let truth = |t| Some(Value::Bool(t));
    let cases = [
        ("1 + 2 * 3", number(7.0)),
        ("(1 + 2) * 3", number(9.0)),
        ("10 - 2 - 3", number(5.0)),
        ("8 / 2 / 2", number(2.0)),
        ("-two * -3", number(6.0)),
        ("- -1e3", number(1000.0)),
        ("2.5e-1+0.75", number(1.0)),
        ("1 < 2 == 2 > 1", truth(true)),
        ("two <= 2 && two >= 2 && !(two != 2)", truth(true)),
        ("1 > 2 || yes", truth(true)),
        ("yes ? zero > 0 ? 1 : 2 : 3", number(2.0)),
        ("zero > 0 ? 1 : two > 0 ? 4 : 5", number(4.0)),
        ("word == 'stop'", truth(true)),
        ("word == \"length\"", truth(false)),
        ("word", Some(Value::Text("stop".into()))),
        ("len(word) + len('äö')", number(6.0)),
        ("len(empty) > 0", truth(false)),
        // What is missing makes missing what needs it, and no more.
        ("missing", None),
        ("missing + 1", None),
        ("missing > 0 ? 1 : 2", None),
        ("yes || missing", truth(true)),
        ("zero > 1 && missing", truth(false)),
        ("missing && yes", None),
        ("missing == null && word != null", truth(true)),
        ("yes ? two : missing", number(2.0)),
        ("len(missing)", None),
        // Figures that are none, and kinds that do not fit.
        ("1 / zero", None),
        ("zero / zero", None),
        ("1e308 * 10", None),
        ("word + 1", None),
        ("yes > 0", None),
        ("two ? 1 : 2", None),
        ("!two", None),
        ("-word", None),
        ("len(two)", None),
        ("two == word", truth(false)),
    ];
    for (calculation, expected) in cases {
        assert_eq!(worked_out(calculation), expected, "{calculation}");
    }
}
