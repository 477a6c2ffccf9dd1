//! Honest streams: what ends too early is told in the client's dialect and broken off, never ended cleanly.

use arriero::demo::{self, Fault};

use crate::support::herd::herd_of;
use crate::support::{Herd, herd};

fn llama() -> demo::NodeBuilder {
    demo::Node::builder().loaded("llama3").tokens(6)
}

/// A streaming call of each dialect, and the text by which its client learns of an error.
pub(crate) const CALLS: [(&str, &str, &str); 5] = [
    (
        "/api/chat",
        r#"{"model":"llama3","messages":[{"role":"user","content":"hi"}]}"#,
        "\n{\"error\":\"",
    ),
    (
        "/api/generate",
        r#"{"model":"llama3","prompt":"hi"}"#,
        "\n{\"error\":\"",
    ),
    (
        "/v1/chat/completions",
        r#"{"model":"llama3","stream":true,"messages":[{"role":"user","content":"hi"}]}"#,
        "\ndata: {\"error\":{",
    ),
    (
        "/v1/completions",
        r#"{"model":"llama3","stream":true,"prompt":"hi"}"#,
        "\ndata: {\"error\":{",
    ),
    (
        "/v1/messages",
        r#"{"model":"llama3","stream":true,"max_tokens":9,"messages":[{"role":"user","content":"hi"}]}"#,
        "\nevent: error\ndata: {\"type\":\"error\"",
    ),
];
pub(crate) const TERMINALS: [&str; 3] = ["\"done\":true", "[DONE]", "message_stop"];

async fn cut(herd: &Herd, what: &str, path: &str, body: &str) -> String {
    let reply = herd.post(path, body).await;
    let text = reply.text();
    assert_eq!(reply.status, 200, "{what} {path}: {text}");
    assert!(
        !reply.complete,
        "{what} {path}: a truncated answer must not look complete: {text}"
    );
    assert!(
        !TERMINALS.iter().any(|terminal| text.contains(terminal)),
        "{what} {path}: {text}"
    );
    text
}

#[tokio::test]
async fn a_node_that_dies_in_the_middle_is_told_in_band_and_broken_off() {
    let deaths = [
        Fault::FinAfter { after: 3 },
        Fault::RstAfter { after: 3 },
        Fault::BadChunk { after: 3 },
    ];
    for fault in deaths {
        for (path, body, mark) in CALLS {
            let herd = herd(vec![llama(), llama()], "").await;
            herd.nodes
                .iter()
                .for_each(|node| node.fault_times(fault.clone(), 1));
            let text = cut(&herd, &format!("{fault:?}"), path, body).await;
            assert_eq!(
                text.matches(mark).count(),
                1,
                "{fault:?} {path}: told once, at a frame's border: {text}"
            );
            let asked = herd.served(0).len() + herd.served(1).len();
            assert_eq!(
                asked, 1,
                "{path}: after the first byte there is no second node"
            );
            herd.is_idle().await;
        }
    }
}

#[tokio::test]
async fn a_node_that_falls_silent_is_cut_at_the_limit_and_freed() {
    for (path, body, mark) in CALLS {
        let herd = herd(vec![llama()], "proxy: { read_timeout: 300ms }").await;
        herd.nodes[0].fault_times(Fault::StallAfter { after: 2 }, 1);
        let text = cut(&herd, "stall", path, body).await;
        assert!(
            text.contains(mark) && text.contains("read_timeout"),
            "{path}: {text}"
        );
        herd.nodes[0].until(|node| node.generating() == 0).await;
        assert_eq!(
            herd.metric("arriero_upstream_errors_total{kind=\"stalled\",node=\"gpu-0\"}")
                .await,
            1.0
        );
        herd.is_idle().await;
    }
}

#[tokio::test]
async fn a_dead_runner_behind_a_living_node_is_no_clean_end() {
    for (path, body, mark) in CALLS {
        let herd = herd(vec![llama()], "").await;
        herd.nodes[0].fault_times(Fault::RunnerDies { after: 3 }, 1);
        let text = cut(&herd, "runner", path, body).await;
        assert_eq!(
            text.matches(mark).count(),
            1,
            "{path}: the node's own error line is not doubled: {text}"
        );
        herd.is_idle().await;
    }
}

#[tokio::test]
async fn the_repeat_guard_is_told_but_not_held_against_the_node() {
    for (path, body, mark) in CALLS {
        let herd = herd(vec![llama()], "").await;
        herd.nodes[0].fault(Fault::Stuck { after: 3 });
        for _ in 0..4 {
            let text = cut(&herd, "guard", path, body).await;
            assert!(text.contains(mark), "{path}: {text}");
        }
        assert!(
            herd.gateway.gateway.fleet().view().nodes[0].health.is_up(),
            "{path}"
        );
        assert_eq!(herd.served(0).len(), 4);
    }
}

#[tokio::test]
async fn a_whole_answer_cut_short_is_broken_off_without_a_word_in_it() {
    let herd = herd(vec![llama()], "").await;
    herd.nodes[0].fault_times(Fault::ShortLength, 1);
    let body = r#"{"model":"llama3","stream":false,"prompt":"hi"}"#;
    let reply = herd.post("/api/generate", body).await;
    assert!(!reply.complete, "{}", reply.text());
    assert!(
        !reply.text().contains("error"),
        "nothing is mixed into a document: {}",
        reply.text()
    );
    herd.is_idle().await;
}

#[tokio::test]
async fn extra_bytes_and_second_answers_reach_nobody() {
    for fault in [Fault::LongLength, Fault::SecondResponse] {
        let herd = herd(vec![llama()], "").await;
        herd.nodes[0].fault_times(fault.clone(), 1);
        let body = r#"{"model":"llama3","stream":false,"prompt":"hi"}"#;
        let first = herd.post("/api/generate", body).await.is(200);
        // What the announced length cuts off is gone: LongLength announces eight bytes too few.
        assert!(
            first.complete && first.text().starts_with("{\"model\":\"llama3\""),
            "{fault:?}: {}",
            first.text()
        );
        assert!(
            !first.text().contains("second"),
            "{fault:?}: {}",
            first.text()
        );
        let second = herd.post("/api/generate", body).await.is(200);
        assert!(
            second.complete && second.json()["done"] == true,
            "{fault:?}: the next request is clean"
        );
    }
}

#[tokio::test]
async fn an_endless_line_flows_through_in_bounded_memory() {
    const LINE: usize = 64 * 1024 * 1024;
    let herd = herd(vec![llama()], "").await;
    herd.nodes[0].fault_times(Fault::GiantLine { bytes: LINE }, 1);
    let before = resident_bytes();
    let mut raw = herd.begin(CALLS[0].0, CALLS[0].1).await;
    assert_eq!(raw.head().await.expect("a head").0, 200);
    let (mut passed, mut peak) = (0, before);
    while let Ok(Some(chunk)) = raw.chunk().await {
        passed += chunk.len();
        peak = peak.max(resident_bytes());
    }
    assert!(LINE <= passed, "{passed} of {LINE} bytes");
    // The simulated node lives in this process too; what must not happen is that anybody holds the whole line.
    assert!(
        peak - before < LINE / 2,
        "{} MiB more at the peak",
        (peak - before) >> 20
    );
}

/// Resident memory of this process, bytes.
fn resident_bytes() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").expect("statm");
    let pages: usize = pages
        .split(' ')
        .nth(1)
        .expect("a field")
        .parse()
        .expect("a number");
    pages * 4096
}

#[tokio::test]
async fn response_timeout_ends_the_longest_answer() {
    let herd = herd(vec![llama()], "proxy: { response_timeout: 400ms }").await;
    herd.nodes[0].pause_after(2);
    let text = cut(&herd, "response_timeout", CALLS[0].0, CALLS[0].1).await;
    assert!(text.contains("response_timeout"), "{text}");
    herd.nodes[0].until(|node| node.generating() == 0).await;
}

#[tokio::test]
async fn failures_in_the_middle_count_against_the_node() {
    let herd = herd_of(vec![(llama(), "priority: 200"), (llama(), "")], "").await;
    herd.nodes[0].fault_times(Fault::FinAfter { after: 1 }, 2);
    cut(&herd, "first", CALLS[0].0, CALLS[0].1).await;
    cut(&herd, "second", CALLS[0].0, CALLS[0].1).await;
    let view = herd.gateway.gateway.fleet().view();
    assert_eq!(view.nodes[0].state(), arriero::fleet::State::Ejected);
    let reply = herd.post(CALLS[0].0, CALLS[0].1).await.is(200);
    assert_eq!(reply.header("x-arriero-node"), Some("gpu-1"));
    assert_eq!(reply.header("x-arriero-attempts"), Some("1"));
}
