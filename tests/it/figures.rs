//! What a profile takes from answers becomes metrics, however the answer is cut and whoever it is for.

use arriero::demo;

use crate::support::herd::parse;
use crate::support::{Herd, herd};

const LABELS: &str = "arriero_model_metric{model=\"llama3:latest\",name=";

async fn figure(herd: &Herd, name: &str) -> f64 {
    herd.metric(&format!("{LABELS}\"{name}\",node=\"gpu-0\"}}"))
        .await
}

async fn one() -> Herd {
    let node = demo::Node::builder().loaded("llama3").tokens(6);
    herd(vec![node], "").await
}

#[tokio::test]
async fn an_answer_in_many_pieces_and_one_in_one_piece_leave_the_same_figures() {
    for stream in ["true", "false"] {
        let herd = one().await;
        let body = format!(
            r#"{{"model":"llama3","stream":{stream},"messages":[{{"role":"user","content":"hi"}}]}}"#
        );
        herd.post("/api/chat", &body).await.is(200);
        let counted = "arriero_http_requests_total{call=\"chat\",code=\"200\",end_by=\"done\"}";
        herd.until_metric(counted, |count| count == 1.0).await;

        assert_eq!(figure(&herd, "output_tokens").await, 6.0, "stream {stream}");
        assert!(0.0 < figure(&herd, "input_tokens").await, "stream {stream}");
        let per_second = figure(&herd, "tokens_per_second").await;
        let eval_ns = figure(&herd, "eval_duration_ns").await;
        assert!((per_second - 6e9 / eval_ns).abs() < 1e-6, "{per_second}");
        let tokens = "arriero_tokens_total{direction=\"out\",model=\"llama3:latest\"}";
        assert_eq!(herd.metric(tokens).await, 6.0, "stream {stream}");

        // Words of an answer go to the log; as labels they would be series that a node can mint.
        let page = herd.admin("/metrics").await.text();
        let figures: Vec<&str> = page
            .lines()
            .filter(|line| line.starts_with(LABELS))
            .collect();
        assert!(!figures.is_empty());
        let is_word = |line: &&&str| line.contains("finish_reason") || line.contains("is_complete");
        assert_eq!(figures.iter().find(is_word), None);
    }
}

#[tokio::test]
async fn answers_that_no_model_made_and_refusals_leave_none() {
    let herd = one().await;
    herd.post("/api/show", r#"{"model":"llama3"}"#)
        .await
        .is(200);
    herd.post("/api/chat", r#"{"model":"nobody-has-it"}"#)
        .await
        .is(404);
    let counted = "arriero_http_requests_total{call=\"chat\",code=\"404\",end_by=\"gateway\"}";
    herd.until_metric(counted, |count| count == 1.0).await;
    let page = herd.admin("/metrics").await.text();
    assert!(!page.contains(LABELS), "{page}");
    assert!(!page.contains("model_metrics_missed_total{"), "{page}");
}

#[tokio::test]
async fn an_answer_too_long_to_keep_is_counted() {
    let node = demo::Node::builder().embedder("nomic-embed-text");
    let herd = herd(vec![node], "").await;
    let inputs = vec!["\"x\""; 5000].join(",");
    let body = format!(r#"{{"model":"nomic-embed-text","input":[{inputs}]}}"#);
    let reply = herd.post("/api/embed", &body).await.is(200);
    assert!((256 << 10) < reply.body.len(), "{}", reply.body.len());
    let missed = "arriero_model_metrics_missed_total{node=\"gpu-0\"}";
    herd.until_metric(missed, |count| count == 1.0).await;
    let page = herd.admin("/metrics").await.text();
    assert!(!page.contains("arriero_model_metric{"), "{page}");
}

#[tokio::test]
async fn figures_end_when_the_types_change_by_which_they_are_taken() {
    let herd = one().await;
    let body = r#"{"model":"llama3","messages":[{"role":"user","content":"hi"}]}"#;
    herd.post("/api/chat", body).await.is(200);
    herd.is_idle().await;
    let ours = format!("{LABELS}\"output_tokens\",node=\"gpu-0\"}}");
    herd.until_metric(&ours, |tokens| tokens == 6.0).await;
    let endpoint = format!("{{ url: \"{}\", name: gpu-0 }}", herd.nodes[0].url());
    let changed = format!(
        "discovery: {{ static: {{ endpoints: [ {endpoint} ] }} }}\ncharacteristics: {{ timeout: 9m }}"
    );
    let reloaded = herd.gateway.gateway.reload(parse(&changed));
    reloaded.expect("a good configuration");
    let page = herd.admin("/metrics").await.text();
    assert!(!page.contains("arriero_model_metric{"), "{page}");
}
