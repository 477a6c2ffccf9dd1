//! What a node's answer means while nothing has reached the client: pass it on, or ask another node.

use memchr::memmem;

/// How much of an error's body is searched, in bytes; the texts below stand near its begin.
const ERROR_BYTES_MAX: usize = 4 << 10;

/// Texts of a 500 that is the client's doing: it would fail on every node.
const CLIENT_ERRORS: &[&str] = &["must be of type", "invalid format:"];

/// Texts of a 500 whose cause is the runner that was to serve the request. Each may go well on another node.
const RUNNER_STOPPED: &[&str] = &[
    "model runner has unexpectedly stopped",
    "an error was encountered while running the model",
    "process no longer running",
    "no slots available after",
];

/// As above, but one model could not be loaded there: too large for the node, or a broken file.
const LOAD_FAILED: &[&str] = &[
    "process has terminated",
    "unable to load model",
    "timed out waiting for llama",
    "requires more system memory",
    "unable to load full model on GPU",
    "out of memory",
    "out-of-memory",
];

/// Why another node is asked when one no longer has the model.
pub const MODEL_GONE: &str = "model_gone";

/// What to do with a node's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The client shall see it.
    Relay,
    /// Another node may do better; the word is the reason, for metrics.
    Retry(&'static str),
}

/// Whether the text of an answer with this status may tell more than the status.
fn needs_body(status: u16) -> bool {
    (500..=599).contains(&status) && status != 501
}

/// Judges an answer by its status and, for some errors, the begin of its body. `on_status` is `proxy.retry.on_status`; `had_model`
/// says that the node was known to have the asked model. Then another node may have it still when this one does not.
pub fn verdict(status: u16, body_prefix: &[u8], on_status: &[u16], had_model: bool) -> Verdict {
    match by_status(status, body_prefix, on_status) {
        Verdict::Relay if had_model && lacks_model(status, body_prefix) => {
            Verdict::Retry(MODEL_GONE)
        }
        verdict => verdict,
    }
}

fn by_status(status: u16, body_prefix: &[u8], on_status: &[u16]) -> Verdict {
    match status {
        // No client's credentials reach a node, so it is ours that are wrong; another node may have the right ones.
        401 => Verdict::Retry("unauthorized"),
        403 => Verdict::Retry("forbidden"),
        200..=499 | 501 if !on_status.contains(&status) || status == 501 => Verdict::Relay,
        200..=599 => match cause(body_prefix) {
            Some(Cause::Client) => Verdict::Relay,
            Some(Cause::Runner | Cause::Load) if needs_body(status) => {
                Verdict::Retry("runner_failed")
            }
            _ if on_status.contains(&status) => Verdict::Retry(label(status)),
            _ => Verdict::Relay,
        },
        _ => Verdict::Retry("bad_status"),
    }
}

/// Whether an answer says that the node does not have the model, in the words of any kind of server.
fn lacks_model(status: u16, body_prefix: &[u8]) -> bool {
    if status != 404 {
        return false;
    }
    let body = searched(body_prefix).to_ascii_lowercase();
    says(&body, &["model"]) && says(&body, &["not found", "not_found", "not exist", "no such"])
}

/// Whether an answer says that the node itself is ill. A full queue is not an illness, nor is one model that cannot be loaded: it
/// must not take the node away from all others.
pub fn counts_against_node(status: u16, body_prefix: &[u8]) -> bool {
    match status {
        401 => true,
        200..=499 | 501 | 503 => false,
        502 | 504 => true,
        500..=599 => cause(body_prefix) == Some(Cause::Runner),
        _ => true,
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    Client,
    Runner,
    Load,
}

fn cause(body_prefix: &[u8]) -> Option<Cause> {
    let body = searched(body_prefix);
    if says(body, CLIENT_ERRORS) {
        Some(Cause::Client)
    } else if says(body, RUNNER_STOPPED) {
        Some(Cause::Runner)
    } else if says(body, LOAD_FAILED) {
        Some(Cause::Load)
    } else {
        None
    }
}

fn searched(body_prefix: &[u8]) -> &[u8] {
    &body_prefix[..body_prefix.len().min(ERROR_BYTES_MAX)]
}

fn says(body: &[u8], texts: &[&str]) -> bool {
    let mut texts = texts.iter();
    texts.any(|text| memmem::find(body, text.as_bytes()).is_some())
}

fn label(status: u16) -> &'static str {
    match status {
        404 => "status_404",
        408 => "status_408",
        429 => "status_429",
        500 => "status_500",
        502 => "status_502",
        503 => "status_503",
        504 => "status_504",
        _ => "status_other",
    }
}

#[cfg(test)]
mod tests {
    use super::Verdict::{Relay, Retry};
    use super::{ERROR_BYTES_MAX, MODEL_GONE, Verdict, counts_against_node, needs_body, verdict};

    const ON_STATUS: &[u16] = &[502, 503, 504, 429];

    /// Status, body, verdict, and whether it counts against the node.
    #[rustfmt::skip]
    const CASES: &[(u16, &str, Verdict, bool)] = &[
        (200, "", Relay, false),
        (301, "", Relay, false),
        (400, r#"{"error":"invalid model name"}"#, Relay, false),
        (404, r#"{"error":"model 'x' not found"}"#, Relay, false),
        (429, "", Retry("status_429"), false),
        (500, r#"{"error":"option \"num_ctx\" must be of type integer"}"#, Relay, false),
        (500, r#"{"error":"invalid format: \"x\"; expected \"json\""}"#, Relay, false),
        (500, r#"{"error":"an error was encountered while running the model: unexpected EOF"}"#, Retry("runner_failed"), true),
        (500, r#"{"error":{"message":"model runner has unexpectedly stopped, this may be"}}"#, Retry("runner_failed"), true),
        (500, r#"{"error":"llama-server process no longer running: -1 "}"#, Retry("runner_failed"), true),
        (500, r#"{"error":"no slots available after 10 retries"}"#, Retry("runner_failed"), true),
        (500, r#"{"error":"llama-server process has terminated: exit status 1"}"#, Retry("runner_failed"), false),
        (500, r#"{"error":"unable to load model: /x"}"#, Retry("runner_failed"), false),
        (500, r#"{"error":"timed out waiting for llama-server to start"}"#, Retry("runner_failed"), false),
        (500, r#"{"error":"model requires more system memory (9 GiB) than is available (1 GiB)"}"#, Retry("runner_failed"), false),
        (500, r#"{"error":"unable to load full model on GPU"}"#, Retry("runner_failed"), false),
        (500, r#"{"error":"CUDA error: out of memory"}"#, Retry("runner_failed"), false),
        (500, r#"{"error":"something else"}"#, Relay, false),
        (500, "", Relay, false),
        (501, r#"{"error":"unable to load model"}"#, Relay, false),
        (502, "", Retry("status_502"), true),
        (503, r#"{"error":"server busy, please try again."}"#, Retry("status_503"), false),
        (504, "", Retry("status_504"), true),
        (505, "", Relay, false),
        (100, "", Retry("bad_status"), true),
        (101, "", Retry("bad_status"), true),
        (199, "", Retry("bad_status"), true),
        (600, "", Retry("bad_status"), true),
        (700, "", Retry("bad_status"), true),
        (0, "", Retry("bad_status"), true),
    ];

    #[test]
    fn an_answer_is_judged_by_its_status_and_its_text() {
        for (status, body, expected, against_node) in CASES {
            let body = body.as_bytes();
            assert_eq!(
                verdict(*status, body, ON_STATUS, false),
                *expected,
                "{status} {body:?}"
            );
            assert_eq!(
                counts_against_node(*status, body),
                *against_node,
                "{status} {body:?}"
            );
        }
    }

    #[test]
    fn a_model_that_is_gone_may_be_elsewhere() {
        for (status, text, is_gone) in [
            (404, r#"{"error":"model 'x' not found"}"#, true),
            (
                404,
                r#"{"error":{"message":"The model `x` does not exist.","code":404}}"#,
                true,
            ),
            (404, r#"{"error":{"code":"model_not_found"}}"#, true),
            (404, r#"{"error":"Model x: no such file"}"#, true),
            (404, "404 page not found", false),
            (404, r#"{"error":"model is busy"}"#, false),
            (400, r#"{"error":"model 'x' not found"}"#, false),
        ] {
            let expected = if is_gone { Retry(MODEL_GONE) } else { Relay };
            let body = text.as_bytes();
            assert_eq!(verdict(status, body, ON_STATUS, true), expected, "{text}");
            assert_eq!(verdict(status, body, ON_STATUS, false), Relay, "{text}");
        }
        let body = br#"{"error":"model 'x' not found"}"#;
        assert_eq!(verdict(404, body, &[404], true), Retry("status_404"));
    }

    #[test]
    fn the_operators_list_decides_the_rest() {
        assert_eq!(verdict(503, b"", &[], false), Relay);
        assert_eq!(verdict(500, b"", &[500], false), Retry("status_500"));
        assert_eq!(verdict(404, b"", &[404], false), Retry("status_404"));
        assert_eq!(verdict(501, b"", &[501], false), Relay);
        assert_eq!(verdict(418, b"", &[418], false), Retry("status_other"));
        let client_error = br#"{"error":"invalid format: x"}"#;
        assert_eq!(verdict(500, client_error, &[500], false), Relay);
    }

    #[test]
    fn only_the_begin_of_an_error_is_read() {
        assert!(needs_body(500) && needs_body(503) && !needs_body(501) && !needs_body(404));
        let mut body = vec![b' '; ERROR_BYTES_MAX];
        body.extend_from_slice(b"unable to load model");
        assert_eq!(verdict(500, &body, &[], false), Relay);
    }
}
