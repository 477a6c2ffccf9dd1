//! The simulator's own pages, for people at a terminal: set a fault, look at what came.

use bytes::Bytes;

use super::fault::Fault;
use super::http::{Answer, Framing, Head, JSON, TEXT};
use super::json::quote;
use super::seen::Outcome;
use super::{Shared, ollama};

/// `/demo/…`.
pub(super) fn demo(shared: &Shared, head: &Head, body: &Bytes) -> Answer {
    match (head.method.as_str(), head.path()) {
        ("POST", "/demo/fault") => set_fault(shared, body),
        ("DELETE", "/demo/fault") => {
            shared.set_fault(None);
            Answer::empty(204).framed(Framing::Nothing)
        }
        ("GET", "/demo/seen") => Answer::new(200, JSON, seen(shared)).framed(Framing::Chunked),
        _ => Answer::new(
            404,
            TEXT,
            "GET /demo/seen, POST or DELETE /demo/fault".to_owned(),
        ),
    }
}

fn set_fault(shared: &Shared, body: &Bytes) -> Answer {
    #[derive(serde::Deserialize)]
    struct Order {
        #[serde(flatten)]
        fault: Fault,
        times: Option<usize>,
    }
    match serde_json::from_slice::<Order>(body) {
        Ok(order) => {
            shared.set_fault(Some((order.fault, order.times)));
            Answer::empty(204).framed(Framing::Nothing)
        }
        Err(e) => ollama::error(
            400,
            &format!("not a fault: {e}; try {{\"fault\":\"rst_after\",\"after\":3,\"times\":1}}"),
        ),
    }
}

fn seen(shared: &Shared) -> String {
    let seen = shared.journal.all();
    let items = seen.iter().map(|s| {
        let outcome = match s.outcome {
            Outcome::Running => "running",
            Outcome::Finished => "finished",
            Outcome::Cancelled => "cancelled",
        };
        let headers: Vec<String> = s
            .headers
            .iter()
            .map(|(name, value)| format!("[{},{}]", quote(name), quote(value)))
            .collect();
        format!(
            "{{\"method\":{},\"path\":{},\"headers\":[{}],\"body_bytes\":{},\"reused\":{},\"outcome\":\"{outcome}\"}}",
            quote(&s.method),
            quote(&s.path),
            headers.join(","),
            s.body_bytes,
            s.reused
        )
    });
    let items: Vec<String> = items.collect();
    format!(
        "{{\"node\":{},\"loads\":{},\"seen\":[{}]}}",
        quote(&shared.settings.name),
        shared.engine.loads(),
        items.join(",")
    )
}
