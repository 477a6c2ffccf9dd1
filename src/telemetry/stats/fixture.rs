//! Sums for tests of other modules.

use std::time::Duration;

use super::*;

/// Requests to gpu1 and gpu2, one for each way to end; one of them came back from gpu3.
pub(crate) fn served(at_ms: u64) -> Stats {
    let stats = Stats::default();
    let chat = |end_by, status, node: &str| Record {
        client: Some("10.0.0.7:5000".parse().unwrap()),
        operation: Some(Operation::Messages),
        model: Some("llama3".into()),
        model_label: Some("llama3:latest".into()),
        node: (!node.is_empty()).then(|| node.to_owned()),
        status,
        end_by,
        duration: Duration::from_millis(u64::from(status)),
        bytes_out: 1178,
        ..Record::new(String::new())
    };
    let mut saved = chat(EndBy::Done, 200, "gpu1");
    saved.tried.push("gpu3".into());
    let mut unknown = chat(EndBy::Gateway, 404, "");
    (unknown.model, unknown.model_label) = (Some("made-up".into()), None);
    let ends = [
        saved,
        chat(EndBy::Done, 400, "gpu1"),
        chat(EndBy::Done, 500, "gpu1"),
        chat(EndBy::Node, 200, "gpu2"),
        chat(EndBy::Client, 499, "gpu2"),
        chat(EndBy::Gateway, 413, ""),
        unknown,
    ];
    for (at, record) in (0..).zip(ends) {
        stats.record(&record, at_ms + at);
    }
    stats
}
