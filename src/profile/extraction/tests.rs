//! What extractions make of answers, and what they refuse to be.

use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use serde_json::json;

use super::expression::Expression;
use super::value::{TEXT_CHARS_MAX, Value};
use super::*;

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
    let frames = frames.iter().map(|frame| frame.as_bytes());
    let values = extraction.values(frames, &header, Duration::from_millis(500));
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

#[test]
fn mistakes_are_told_all_at_once_and_where_they_are() {
    let with = |section: &str, entry: (&str, &str)| match section {
        "paths" => text(&[entry], &[], &[]),
        "headers" => text(&[], &[entry], &[]),
        _ => text(&[("n", "$.n")], &[], &[entry]),
    };
    let deep = "(".repeat(80);
    let long = "1+".repeat(300);
    let (deep_path, long_path) = (
        format!("${}", ".a".repeat(17)),
        format!("$.{}", "a".repeat(260)),
    );
    #[rustfmt::skip]
    let cases: &[(&str, (&str, &str), &str)] = &[
        ("paths", ("a", "usage"), "paths.a: it does not begin with `$`"),
        ("paths", ("a", "$"), "paths.a: it names the whole answer, not a value in it"),
        ("paths", ("a", "$[0].x"), "paths.a: answers are objects, not lists"),
        ("paths", ("a", "$..x"), "paths.a: `..x` does not begin with a member's name"),
        ("paths", ("a", "$.x[*]"), "paths.a: `[*]` is neither a quoted name nor an item's number up to 9999"),
        ("paths", ("a", "$.x[-1]"), "paths.a: `[-1]` is neither a quoted name nor an item's number up to 9999"),
        ("paths", ("a", "$.x[10000]"), "paths.a: `[10000]` is neither a quoted name nor an item's number up to 9999"),
        ("paths", ("a", "$.x['ä']"), "paths.a: `['ä']` is not a name of printable ASCII"),
        ("paths", ("a", "$.x['']"), "paths.a: `['']` is not a name of printable ASCII"),
        ("paths", ("a", "$.x[0"), "paths.a: `[0` is neither a member nor an item"),
        ("paths", ("a", "$.x y"), "paths.a: ` y` is neither a member nor an item"),
        ("paths", ("a", &deep_path), "paths.a: it has more than 16 steps"),
        ("paths", ("a", &long_path), "paths.a: it is longer than 256 bytes"),
        ("paths", ("A", "$.x"), "paths: `A` can't be a metric's name"),
        ("headers", ("a", "X Y"), "headers.a: `X Y` is no name of a header"),
        ("headers", ("a", ""), "headers.a: `` is no name of a header"),
        ("calculations", ("n", "1"), "calculations.n: the name is given twice"),
        ("calculations", ("a", "m + 1"), "calculations.a: `m` is no path, no header and no calculation before this one"),
        ("calculations", ("a", "a + 1"), "calculations.a: `a` is no path, no header and no calculation before this one"),
        ("calculations", ("a", "round(n)"), "calculations.a: `round` is no path, no header and no calculation before this one"),
        ("calculations", ("a", ""), "calculations.a: the end stands where a value should"),
        ("calculations", ("a", "(n"), "calculations.a: the end stands where `)` should"),
        ("calculations", ("a", "n ? 1"), "calculations.a: the end stands where `:` should"),
        ("calculations", ("a", "n 1"), "calculations.a: `1` stands where it should end"),
        ("calculations", ("a", "n * / 2"), "calculations.a: `/` stands where a value should"),
        ("calculations", ("a", "n % 2"), "calculations.a: it can't hold `%`"),
        ("calculations", ("a", "n + 'x"), "calculations.a: the text that begins with ' does not end"),
        ("calculations", ("a", "1.2.3"), "calculations.a: it can't hold `.`"),
        ("calculations", ("a", "2x"), "calculations.a: `2x` is no number"),
        ("calculations", ("a", "1e999"), "calculations.a: `1e999` is no number"),
        ("calculations", ("a", &deep), "calculations.a: it is nested deeper than 64 levels"),
        ("calculations", ("a", &long), "calculations.a: it is longer than 512 bytes"),
    ];
    for (section, entry, expected) in cases {
        let problems = Extraction::compile(&with(section, *entry)).unwrap_err();
        let told: Vec<String> = problems
            .iter()
            .map(|problem| format!("{}: {}", problem.what, problem.why))
            .collect();
        assert_eq!(told, [*expected]);
        assert!(problems.iter().all(|problem| problem.hint.is_some()));
    }
    let everywhere = ExtractionText {
        source: "response_trailers".into(),
        format: "xml".into(),
        ..text(&[("a", "x")], &[("b", ":")], &[("c", "?")])
    };
    assert_eq!(Extraction::compile(&everywhere).unwrap_err().len(), 5);
}

#[test]
fn limits_and_switches() {
    let none = |text| Extraction::compile(&text).unwrap().is_none();
    let off = ExtractionText {
        enabled: false,
        ..text(&[("a", "nonsense")], &[], &[])
    };
    assert!(none(off));
    assert!(none(text(&[], &[], &[])));
    assert!(none(text(&[("a", "")], &[], &[])), "an empty path is none");

    let headers_only = ExtractionText {
        source: "response_headers".into(),
        ..text(&[("a", "$.a")], &[], &[])
    };
    let problems = Extraction::compile(&headers_only).unwrap_err();
    assert_eq!(problems[0].what, "paths");

    let names: Vec<String> = (0..65).map(|at| format!("n{at}")).collect();
    let entries: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "$.a")).collect();
    assert!(Extraction::compile(&text(&entries, &[], &[])).is_err());
    let most = Extraction::compile(&text(&entries[1..], &[], &[])).unwrap();
    assert_eq!(most.unwrap().sight(br#"{"a":1}"#), u64::MAX);

    let long_name = "a".repeat(65);
    assert!(Extraction::compile(&text(&[(&long_name, "$.a")], &[], &[])).is_err());
}

/// Documents with few names, so that paths meet them.
fn document() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(json!(null)),
        any::<bool>().prop_map(|b| json!(b)),
        any::<i64>().prop_map(|n| json!(n)),
        any::<u64>().prop_map(|n| json!(n)),
        any::<f64>()
            .prop_filter("JSON has no other", |n| n.is_finite())
            .prop_map(|n| json!(n)),
        "[a-c\"\\\\é\n]{0,5}".prop_map(|text| json!(text)),
    ];
    leaf.prop_recursive(4, 40, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(|list| json!(list)),
            proptest::collection::btree_map("[a-c]", inner, 0..4).prop_map(|map| json!(map)),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { rng_seed: RngSeed::Fixed(3), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn paths_lead_where_json_pointers_lead(
        document in document(),
        first in "[a-c]",
        steps in proptest::collection::vec("[a-c0-2]", 0..4),
    ) {
        let mut path = format!("$.{first}");
        let mut pointer = format!("/{first}");
        for step in &steps {
            path += &match step.as_bytes()[0].is_ascii_digit() {
                true => format!("[{step}]"),
                false => format!("['{step}']"),
            };
            pointer += &format!("/{step}");
        }
        // A pointer's `0` means a member of that name as well, which these documents do not have.
        let expected = match document.pointer(&pointer) {
            Some(serde_json::Value::Bool(truth)) => Some(Value::Bool(*truth)),
            Some(serde_json::Value::Number(n)) => n.as_f64().map(Value::Number),
            Some(serde_json::Value::String(text)) => Some(Value::Text(text.clone())),
            _ => None,
        };
        let paths = [Path::parse(&path).unwrap(), Path::parse("$.a").unwrap()];
        let bytes = document.to_string();
        prop_assert_eq!(&walk::values(bytes.as_bytes(), &paths)[0], &expected, "{} in {}", path, bytes);
        if expected.is_some() {
            prop_assert_eq!(Sight::new(&paths).of(bytes.as_bytes()) & 1, 1, "out of sight: {}", bytes);
        }
    }

    #[test]
    fn no_calculation_and_no_path_makes_it_panic(
        picks in proptest::collection::vec(0..WORDS.len(), 0..60),
        noise in ".{0,8}",
    ) {
        let text: String = picks.iter().map(|pick| WORDS[*pick]).collect::<String>() + &noise;
        let place_of = |name: &str| (name == "n").then_some(0);
        if let Ok(parsed) = parse::parse(&text, &place_of) {
            for input in [None, Some(Value::Number(-0.0)), Some(Value::Bool(true)), Some(Value::Text("x".into()))] {
                if let Some(Value::Number(n)) = parsed.evaluate(&[input]) {
                    prop_assert!(n.is_finite());
                }
            }
        }
        let _ = Path::parse(&format!("${text}"));
        let paths = [Path::parse("$.n[0].n").unwrap()];
        prop_assert_eq!(walk::values(text.as_bytes(), &paths).len(), 1);
    }
}

/// Pieces of calculations, paths and documents.
const WORDS: &[&str] = &[
    "n", "len", "(", ")", "n", "1", "0", ".5", "1e3", "'x'", "\"", " ", "+", "-", "*", "/", "<",
    "<=", "==", "!=", "!", "&&", "||", "?", ":", "null", "[", "]", "['n']", ".n", "{", "}", "é",
];
