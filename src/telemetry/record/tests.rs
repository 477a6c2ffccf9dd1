//! Access lines.

use super::*;
use crate::profile::extraction::{Extraction, ExtractionText};

fn sample() -> Record {
    Record {
        client: Some("10.0.0.7:5000".parse().unwrap()),
        method: "POST".into(),
        path: "/api/chat".into(),
        model: Some("llama3".into()),
        node: Some("gpu-1".into()),
        route: Some("warm"),
        attempts: 2,
        first_byte: Some(Duration::from_millis(41)),
        duration: Duration::from_millis(1200),
        status: 200,
        bytes_in: 90,
        bytes_out: 4000,
        usage: Usage {
            tokens_in: Some(11),
            tokens_out: Some(120),
        },
        end_by: EndBy::Node,
        phase: Phase::Stream,
        fault: Some("node `gpu-1` broke off".into()),
        stream: true,
        ..Record::new("id-1".into())
    }
}

#[test]
fn the_text_line_tells_who_ended_it_and_in_which_phase() {
    assert_eq!(
        sample().text(),
        "10.0.0.7 POST /api/chat 200 1200ms end_by=node phase=stream model=llama3 node=gpu-1 route=warm attempts=2 \
         queue_ms=0 first_byte_ms=41 tokens_in=11 tokens_out=120 bytes_in=90 bytes_out=4000 stream=true request_id=id-1 \
         fault=\"node `gpu-1` broke off\""
    );
}

#[test]
fn only_background_work_has_a_class() {
    let record = Record {
        is_background: true,
        ..sample()
    };
    assert!(
        record
            .text()
            .contains(" stream=true class=background request_id=")
    );
    let line: serde_json::Value = serde_json::from_str(&record.json()).unwrap();
    assert_eq!(line["class"], "background");
}

#[test]
fn the_json_line_holds_the_same_facts_as_numbers_and_strings() {
    let line: serde_json::Value = serde_json::from_str(&sample().json()).unwrap();
    assert_eq!(line["tokens_out"], 120);
    assert_eq!(line["end_by"], "node");
    assert_eq!(line["path"], "/api/chat");
}

#[test]
fn figures_of_the_answer_stand_at_the_end_under_names_of_their_own() {
    let paths = [
        "tokens_per_second",
        "eval_duration_ns",
        "is_complete",
        "model",
    ];
    let paths = paths.map(|name| (name.to_owned(), format!("$.{name}")));
    let extraction = Extraction::compile(&ExtractionText {
        enabled: true,
        paths: paths.to_vec(),
        ..ExtractionText::default()
    });
    let frame = r#"{"tokens_per_second":97.5,"eval_duration_ns":3e18,"is_complete":true,"model":"a \"b\"\n"}"#;
    let extraction = Arc::new(extraction.unwrap().unwrap());
    let sample_of =
        |frame: &str| Sample::new(extraction, vec![frame.into()], &|_| None, Duration::ZERO);
    let record = Record {
        sample: Some(sample_of(frame)),
        ..sample()
    };
    let text = record.text();
    let end = " metric_tokens_per_second=97.5 metric_eval_duration_ns=3e18 metric_is_complete=true metric_model=\"a \\\"b\\\"\\n\"";
    assert!(text.ends_with(end), "{text}");
    let line: serde_json::Value = serde_json::from_str(&record.json()).unwrap();
    assert_eq!(line["metric_tokens_per_second"], 97.5);
    assert_eq!(line["metric_eval_duration_ns"], 3e18);
    assert_eq!(line["metric_is_complete"], true);
    assert_eq!(line["metric_model"], "a \"b\"\n");
    assert_eq!(line["model"], "llama3", "the asked name stays what it is");
}

#[test]
fn a_name_that_never_ends_does_not_make_a_line_that_never_ends() {
    for letter in ["m", "é", "\u{1b}"] {
        let record = Record {
            model: Some(letter.repeat(100_000)),
            ..sample()
        };
        for line in [record.text(), record.json()] {
            assert!(line.len() < 4096, "{}", line.len());
        }
    }
}

#[test]
fn a_hostile_path_cannot_break_the_line() {
    let record = Record {
        path: "/a\nlevel=ERROR \u{1b}[31m".into(),
        ..sample()
    };
    assert!(!record.text().contains('\n'));
    assert!(!record.text().contains('\u{1b}'));
}
