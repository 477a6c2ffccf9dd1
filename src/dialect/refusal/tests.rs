//! Every kind of fault in every dialect, byte for byte: `tests/golden/refusals/*.txt`. `UPDATE=1` rewrites them.

use std::fmt::Write as _;
use std::{fs, path::Path};

use serde_json::Value;

use crate::dialect::meter::Meter;
use crate::dialect::{Dialect, Ending, Framing, Operation};
use crate::error::{Fault, Kind};

const REFUSALS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/refusals");

#[rustfmt::skip]
const FAULTS: &[(&str, Kind, &str)] = &[
    ("bad_body", Kind::Refused { status: 400, code: "ambiguous_body" }, "the keys `model` and \"MODEL\" mean the same; send one"),
    ("bad_key", Kind::Refused { status: 401, code: "invalid_key" }, "the key is not known; ask for one"),
    ("forbidden", Kind::Refused { status: 403, code: "forbidden" }, "`/api/me` is not forwarded"),
    ("unknown_model", Kind::UnknownModel, "model \"x\" not found"),
    ("wrong_method", Kind::MethodNotAllowed { allow: "GET, HEAD" }, "`/api/tags` takes GET, HEAD, not POST"),
    ("slow_body", Kind::Refused { status: 408, code: "body_timeout" }, "the body did not arrive in time"),
    ("too_large", Kind::Refused { status: 413, code: "body_too_large" }, "the body is larger than 100 MiB"),
    ("too_many", Kind::Refused { status: 429, code: "rate_limited" }, "too many requests; wait"),
    ("internal", Kind::Internal, "a line\nbreak, a \u{1}, a </tag> and a é"),
    ("not_implemented", Kind::Refused { status: 501, code: "not_implemented" }, "`/api/pull` is not in this version"),
    ("node_failed", Kind::NodeFailed, "the node broke the answer off"),
    ("unavailable", Kind::Unavailable { retry_after_s: 7 }, "every node with `x` is down"),
    ("node_silent", Kind::NodeSilent, "the node said nothing for 120 s"),
    ("client_gone", Kind::ClientGone, "the client left"),
];

fn told(fault: &Fault) -> String {
    let mut told = String::new();
    for dialect in [Dialect::Ollama, Dialect::OpenAi, Dialect::Anthropic] {
        let refusal = dialect.refusal(fault, "req-1");
        writeln!(told, "== {dialect:?} {}", refusal.status).unwrap();
        for (name, value) in refusal.headers {
            writeln!(told, "{name}: {value}").unwrap();
        }
        let body = String::from_utf8(refusal.body).unwrap();
        serde_json::from_str::<Value>(&body).unwrap();
        writeln!(told, "\n{body}").unwrap();
    }
    for (dialect, operation, framing) in streams() {
        let bytes = dialect.in_band(operation, framing, true, fault);
        let text = String::from_utf8(bytes).unwrap();
        writeln!(
            told,
            "== in band: {dialect:?} {operation:?} {framing:?}\n{text}"
        )
        .unwrap();
    }
    told
}

fn streams() -> [(Dialect, Operation, Framing); 4] {
    [
        (Dialect::Ollama, Operation::Chat, Framing::Ndjson),
        (Dialect::OpenAi, Operation::ChatCompletions, Framing::Sse),
        (Dialect::OpenAi, Operation::Responses, Framing::Sse),
        (Dialect::Anthropic, Operation::Messages, Framing::Sse),
    ]
}

#[test]
fn every_fault_reads_as_recorded() {
    for (name, kind, message) in FAULTS {
        let path = Path::new(REFUSALS).join(format!("{name}.txt"));
        let got = told(&Fault::new(*kind, *message));
        if std::env::var_os("UPDATE").is_some() {
            fs::write(&path, &got).unwrap();
        }
        assert_eq!(got, fs::read_to_string(&path).unwrap(), "{name}");
    }
    assert_eq!(fs::read_dir(REFUSALS).unwrap().count(), FAULTS.len());
}

#[test]
fn a_fault_told_in_band_is_one_frame_wherever_the_stream_broke_off() {
    let fault = Fault::new(Kind::NodeFailed, "boom");
    for (dialect, operation, framing) in streams() {
        for so_far in ["", "data: {\"half\":", "data: {}\n", "data: {}\r\n\r\n"] {
            let mut meter = Meter::new(operation, framing);
            meter.push(so_far.as_bytes());
            let at_border = meter.at_frame_border();
            meter.push(&dialect.in_band(operation, framing, at_border, &fault));
            assert!(meter.at_frame_border());
            assert_eq!(
                meter.finish(crate::dialect::Close::Framed),
                Ending::ErrorTold("boom".to_owned()),
                "{operation:?} after {so_far:?}"
            );
        }
        assert!(
            !dialect
                .in_band(operation, framing, true, &fault)
                .starts_with(b"\n")
        );
    }
}

#[test]
fn a_document_cannot_tell_a_fault_in_band() {
    let fault = Fault::new(Kind::NodeFailed, "boom");
    let bytes = Dialect::Ollama.in_band(Operation::Chat, Framing::Whole, false, &fault);
    assert_eq!(bytes, b"");
}

#[test]
fn what_an_ollama_node_says_is_retold_in_every_dialect() {
    let body = br#"{"error":"model \"x\" not found"}"#;
    let message = "model \"x\" not found";
    for (dialect, status, expected) in [
        (
            Dialect::Ollama,
            404,
            serde_json::json!({ "error": message }),
        ),
        (
            Dialect::OpenAi,
            404,
            serde_json::json!({"error": {"message": message, "type": "not_found_error", "param": null, "code": null}}),
        ),
        (
            Dialect::Anthropic,
            503,
            serde_json::json!({"type": "error", "error": {"type": "overloaded_error", "message": message}}),
        ),
    ] {
        let told = dialect.retold(status, body).unwrap();
        let told: Value = serde_json::from_slice(&told).unwrap();
        assert_eq!(told, expected, "{dialect:?}");
        for other in ["{}", "", r#"{"error":{"message":"x"}}"#, "<html>"] {
            assert_eq!(dialect.retold(status, other.as_bytes()), None, "{other}");
        }
    }
}
