//! What became of a change on several nodes: done, done in part, or failed, in words that name each node.

use crate::error::{Fault, Kind};

use super::targets::Skipped;

/// Longest reason of one node that is told, in characters; the rest is of no use to anybody.
const WHY_CHARS_MAX: usize = 300;

/// What each node made of a change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Names of the nodes that did it.
    pub done: Vec<String>,
    /// The nodes that did not.
    pub failed: Vec<Failure>,
    /// Nodes that were not asked.
    pub skipped: Vec<Skipped>,
}

/// A node that did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Its name.
    pub node: String,
    /// What it answered; `None` when it was not an answer that failed.
    pub status: Option<u16>,
    /// In its own words, or in ours when it had none.
    pub why: String,
}

/// How a change is spoken of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Words {
    /// Such as ``pull of `llama3` ``.
    pub what: String,
    /// Stands before the names of nodes that did it, such as `it is on`.
    pub done: &'static str,
}

impl Failure {
    /// A failure of ours to reach the node, or of the node to keep to the protocol.
    pub fn new(node: &str, why: impl Into<String>) -> Failure {
        Failure {
            node: node.to_owned(),
            status: None,
            why: shortened(&why.into()),
        }
    }

    /// A node's refusal. `body` is what it said, `{"error":"…"}` or anything else. A 401 is about the gateway's key, or the node's
    /// own at a registry: to the client it is a node that failed.
    pub fn answered(node: &str, status: u16, body: &[u8]) -> Failure {
        if status == 401 {
            let said = error_text(body).unwrap_or_default();
            let why = format!("it is not let in (401 {said}); correct the endpoint's `auth`");
            return Failure::new(node, why);
        }
        let text = error_text(body).unwrap_or_else(|| {
            let text = String::from_utf8_lossy(body);
            format!("it answered {status} {}", text.trim())
        });
        Failure {
            node: node.to_owned(),
            status: Some(status),
            why: shortened(text.trim()),
        }
    }
}

impl Outcome {
    /// The label of a metric.
    pub fn label(&self) -> &'static str {
        match (self.done.is_empty(), self.failed.is_empty()) {
            (_, true) => "done",
            (false, false) => "partial",
            (true, false) => "failed",
        }
    }

    /// `None` when every node that was asked did it. Else the nodes' own status when none did it and all agree, or 502; the text
    /// names each node that failed with its reason, and those that did not.
    pub fn fault(&self, words: &Words) -> Option<Fault> {
        let first = self.failed.first()?;
        let agreed = first
            .status
            .filter(|status| (400..=599).contains(status))
            .filter(|_| self.done.is_empty())
            .filter(|status| self.failed.iter().all(|it| it.status == Some(*status)));
        let kind = match agreed {
            Some(status) => Kind::Refused {
                status,
                code: "management_failed",
            },
            None => Kind::NodeFailed,
        };
        Some(Fault::new(kind, self.text(words)))
    }

    /// A node that does not know the model, when others deleted it: it is gone there as well.
    pub fn take_gone_for_deleted(&mut self) {
        if self.done.is_empty() {
            return; // nobody knows it, which is what the client should hear
        }
        let failed = std::mem::take(&mut self.failed);
        let is_gone = |it: &Failure| it.status == Some(404);
        let (gone, failed) = failed.into_iter().partition(is_gone);
        self.failed = failed;
        let gone: Vec<Failure> = gone;
        self.done.extend(gone.into_iter().map(|it| it.node));
    }

    /// Who did it, and who was not asked.
    pub fn summary(&self) -> String {
        format!("done on {}{}", self.done.join(", "), self.left_out())
    }

    fn left_out(&self) -> String {
        let each = self.skipped.iter();
        each.map(|it| format!("; {} was skipped: {}", it.node, it.why))
            .collect()
    }

    fn text(&self, words: &Words) -> String {
        let mut reasons: Vec<(&str, Vec<&str>)> = Vec::new();
        for failure in &self.failed {
            match reasons.iter_mut().find(|(why, _)| *why == failure.why) {
                Some((_, nodes)) => nodes.push(&failure.node),
                None => reasons.push((&failure.why, vec![&failure.node])),
            }
        }
        let reasons: Vec<String> = reasons
            .iter()
            .map(|(why, nodes)| format!("on {}: {why}", nodes.join(", ")))
            .collect();
        let mut text = format!("{} failed {}", words.what, reasons.join("; and "));
        if !self.done.is_empty() {
            text += &format!("; {} {}", words.done, self.done.join(", "));
        }
        text + &self.left_out()
    }
}

/// What a node's error object says, in Ollama's shape or in OpenAI's.
pub(super) fn error_text(body: &[u8]) -> Option<String> {
    let document: serde_json::Value = serde_json::from_slice(body).ok()?;
    let error = document.get("error")?;
    let text = error
        .as_str()
        .or_else(|| error.get("message").and_then(|text| text.as_str()));
    Some(text.map_or_else(|| error.to_string(), str::to_owned))
}

/// Without control characters, which have no business in a log line or a terminal.
pub(super) fn shortened(text: &str) -> String {
    let plain = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut short: String = plain.clone().take(WHY_CHARS_MAX).collect();
    if plain.count() > WHY_CHARS_MAX {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words() -> Words {
        Words {
            what: "pull of `x`".into(),
            done: "it is on",
        }
    }

    fn outcome(done: &[&str], failed: &[(&str, Option<u16>, &str)]) -> Outcome {
        let failed = failed.iter().map(|(node, status, why)| Failure {
            status: *status,
            ..Failure::new(node, *why)
        });
        Outcome {
            done: done.iter().map(|name| (*name).to_owned()).collect(),
            failed: failed.collect(),
            skipped: Vec::new(),
        }
    }

    #[test]
    fn the_status_is_the_nodes_own_only_when_all_agree() {
        type Case<'a> = (
            &'a [&'a str],
            &'a [(&'a str, Option<u16>, &'a str)],
            Option<u16>,
        );
        let cases: [Case<'_>; 6] = [
            (&["a"], &[], None),
            (&[], &[("a", Some(404), "gone")], Some(404)),
            (
                &[],
                &[("a", Some(500), "x"), ("b", Some(500), "y")],
                Some(500),
            ),
            (
                &[],
                &[("a", Some(404), "x"), ("b", Some(500), "y")],
                Some(502),
            ),
            (&["b"], &[("a", Some(404), "x")], Some(502)),
            (&[], &[("a", Some(200), "x")], Some(502)),
        ];
        for (done, failed, status) in cases {
            let fault = outcome(done, failed).fault(&words());
            assert_eq!(fault.map(|fault| fault.status()), status, "{failed:?}");
        }
    }

    #[test]
    fn the_text_names_every_node_once_and_joins_equal_reasons() {
        let mut outcome = outcome(
            &["gpu-1", "gpu-3"],
            &[
                ("gpu-2", None, "full"),
                ("gpu-4", None, "dead"),
                ("gpu-5", None, "full"),
            ],
        );
        outcome.skipped = vec![Skipped {
            node: "gpu-6".into(),
            why: "it is down".into(),
        }];
        assert_eq!(
            outcome.fault(&words()).unwrap().message,
            "pull of `x` failed on gpu-2, gpu-5: full; and on gpu-4: dead; it is on gpu-1, gpu-3; gpu-6 was skipped: it is down"
        );
        assert_eq!(outcome.label(), "partial");
        outcome.failed.clear();
        assert_eq!(
            outcome.summary(),
            "done on gpu-1, gpu-3; gpu-6 was skipped: it is down"
        );
    }

    #[test]
    fn what_is_gone_is_deleted_unless_nobody_ever_had_it() {
        let gone = ("b", Some(404), "not found");
        let mut some = outcome(&["a"], &[gone, ("c", Some(500), "full")]);
        some.take_gone_for_deleted();
        assert_eq!(some, outcome(&["a", "b"], &[("c", Some(500), "full")]));
        let mut none = outcome(&[], &[gone]);
        none.take_gone_for_deleted();
        assert_eq!(none, outcome(&[], &[gone]));
    }

    #[test]
    fn a_key_that_is_refused_is_not_the_clients() {
        let failure = Failure::answered("n", 401, br#"{"error":"unauthorized"}"#);
        assert_eq!(failure.status, None);
        assert!(failure.why.contains("unauthorized") && failure.why.contains("`auth`"));
    }

    #[test]
    fn a_refusal_is_told_in_the_nodes_words_without_what_could_harm_a_terminal() {
        let cases: [(&[u8], &str); 5] = [
            (br#"{"error":"model 'x' not found"}"#, "model 'x' not found"),
            (br#"{"error":{"message":"no"}}"#, "no"),
            (br#"{"error":7}"#, "7"),
            (b"<html>\n", "it answered 500 <html>"),
            (b"{\"error\":\"a\\u001b[2Jb\"}", "a [2Jb"),
        ];
        for (body, why) in cases {
            assert_eq!(Failure::answered("n", 500, body).why, why);
        }
        let long = Failure::new("n", "é".repeat(1000)).why;
        assert_eq!(long.chars().count(), WHY_CHARS_MAX + 1);
    }
}
