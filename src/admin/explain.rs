//! `/internal/explain`: which node would get a request, and why.

use std::borrow::Cow;

use serde_json::{Value, json};

use crate::config::Balancer;
use crate::fleet::{NumCtx, Snapshot};
use crate::routing::{Explanation, Judged, NoRoute, Presence, Verdict};
use crate::text::percent_decoded;

use super::page::Page;
use super::query::Query;

/// The call when the query names none.
const USUAL_PATH: &str = "/api/chat";
const USAGE: &str = "GET /internal/explain?model=llama3, or POST the request's own body to /internal/explain?path=/api/chat";

/// The request that is asked about.
#[derive(Debug, PartialEq, Eq)]
pub struct Question<'a> {
    /// Where a client would send it.
    pub path: String,
    /// As a client would send it.
    pub body: Cow<'a, [u8]>,
    /// How long its prompt is taken to be, tokens, instead of what the body holds.
    pub prompt_tokens: Option<u64>,
}

/// What came of it.
pub struct Answer<'a> {
    /// The decision and its reasons.
    pub explanation: &'a Explanation,
    /// The fleet they are about.
    pub view: &'a Snapshot,
    /// The balancer that decided.
    pub balancer: Balancer,
    /// The context that the request asks for, tokens.
    pub num_ctx: Option<i64>,
    /// Requests that wait for a node, whatever they want.
    pub waiting: usize,
    /// Those of them that wait for the same.
    pub in_line: u32,
}

/// Whether a request is a question whose body must be read.
pub fn has_question(method: &str, path: &str) -> bool {
    method == "POST" && path == "/internal/explain"
}

/// Whether a path is that of this page.
pub fn is_explain(path: &str) -> bool {
    path == "/internal/explain"
}

/// What is asked, by the query and the body.
///
/// # Errors
/// 405 for other methods than GET, HEAD and POST; 400 when no model is named or a number is none.
pub fn question<'a>(
    method: &str,
    query: Option<&str>,
    body: &'a [u8],
) -> Result<Question<'a>, Page> {
    if !matches!(method, "GET" | "HEAD" | "POST") {
        return Err(Page::wrong_method("GET, HEAD, POST", USAGE));
    }
    let query = Query(query);
    let body = match (body, query.value("model")) {
        ([], None | Some("")) => {
            let message = format!("no model is named; {USAGE}");
            return Err(Page::refused(400, &message));
        }
        ([], Some(model)) => {
            let mut body = json!({ "model": percent_decoded(model) });
            if let Some(tokens) = number(query, "num_ctx")? {
                body["options"] = json!({ "num_ctx": tokens });
            }
            Cow::Owned(body.to_string().into_bytes())
        }
        (body, _) => Cow::Borrowed(body),
    };
    Ok(Question {
        path: query
            .value("path")
            .map_or_else(|| USUAL_PATH.to_owned(), percent_decoded),
        body,
        prompt_tokens: number(query, "prompt_tokens")?,
    })
}

fn number(query: Query<'_>, name: &str) -> Result<Option<u64>, Page> {
    let Some(value) = query.value(name) else {
        return Ok(None);
    };
    // No context and no prompt is longer, and more would not fit where others count.
    let number = value.parse::<u32>().map(u64::from).map(Some);
    number.map_err(|_| Page::refused(400, &format!("{name} must be a whole number of tokens")))
}

/// The page.
pub fn explained(answer: &Answer<'_>) -> Page {
    let view = answer.view;
    let chosen = answer.explanation.decision.as_ref().ok();
    let candidates = answer.explanation.judged.iter();
    let candidates: Vec<Value> = candidates
        .filter_map(|it| {
            candidate(
                it,
                answer,
                chosen.is_some_and(|route| route.node == it.node),
            )
        })
        .collect();
    Page::json(&json!({
        "decision": decision(answer, view),
        "candidates": candidates,
        "queue": { "waiting": answer.waiting, "in_line": answer.in_line },
    }))
}

fn decision(answer: &Answer<'_>, view: &Snapshot) -> Value {
    let mut text = answer.explanation.text(view);
    if 0 < answer.in_line {
        text += &format!(" {} wait for the same already.", answer.in_line);
    }
    match &answer.explanation.decision {
        Ok(route) => json!({
            "outcome": "routed",
            "node": view.node(route.node).map(|node| &*node.config.name),
            "reason": route.reason.as_str(),
            "route": route.told(answer.num_ctx, || route.evicted(view)),
            "status": null,
            "text": text,
        }),
        Err(none) => {
            let (outcome, status) = match none {
                NoRoute::Full(_) => ("waits", None),
                NoRoute::Refused(fault) => ("refused", Some(fault.status())),
            };
            json!({
                "outcome": outcome,
                "node": null,
                "reason": null,
                "route": null,
                "status": status,
                "text": text,
            })
        }
    }
}

fn candidate(judged: &Judged, answer: &Answer<'_>, is_chosen: bool) -> Option<Value> {
    let node = answer.view.node(judged.node)?;
    let mut fields = json!({
        "node": node.config.name,
        "verdict": if is_chosen { "chosen" } else { judged.verdict.word() },
        "text": judged.verdict.text(node, answer.balancer, answer.num_ctx),
        "model": judged.model.as_deref(),
        "loaded": judged.warm,
        "in_flight": judged.in_flight,
        "slots": judged.slots,
        "priority": node.config.priority,
        "cost": null,
        "presence": null,
        "num_ctx": null,
        "evicts": null,
    });
    if let Verdict::Weighed { effort, evicts } = &judged.verdict {
        let cost = &effort.cost;
        // Single figures hold more digits than they know.
        let s = |seconds: f32| (f64::from(seconds) * 1000.0).round() / 1000.0;
        fields["cost"] = json!({
            "total_s": s(cost.total_s()),
            "wait_s": s(cost.wait_s),
            "load_s": s(cost.load_s),
            "prefill_s": s(cost.prefill_s),
            "evict_s": s(cost.evict_s),
            "decode_s": s(cost.decode_s),
        });
        fields["presence"] = match effort.presence {
            Presence::Loaded => "loaded",
            Presence::Loading => "loading",
            Presence::Absent => "absent",
        }
        .into();
        fields["num_ctx"] = match effort.num_ctx {
            Some(NumCtx::Set(tokens)) => tokens.into(),
            Some(NumCtx::Unset) => "unset".into(),
            None => Value::Null,
        };
        fields["evicts"] = evicts.as_deref().into();
    }
    Some(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(method: &str, query: &str, body: &str) -> Result<(String, String, Option<u64>), u16> {
        let question =
            question(method, Some(query), body.as_bytes()).map_err(|page| page.status)?;
        let body = String::from_utf8(question.body.into_owned()).unwrap();
        Ok((question.path, body, question.prompt_tokens))
    }

    #[test]
    fn a_question_is_a_request_as_it_came_or_one_made_of_the_query() {
        let made = |path: &str, body: &str, tokens| Ok((path.to_owned(), body.to_owned(), tokens));
        let cases = [
            (
                ("GET", "model=llama3", ""),
                made("/api/chat", r#"{"model":"llama3"}"#, None),
            ),
            (
                ("GET", "model=a%22b%3A1&num_ctx=8192&prompt_tokens=50", ""),
                made(
                    "/api/chat",
                    r#"{"model":"a\"b:1","options":{"num_ctx":8192}}"#,
                    Some(50),
                ),
            ),
            (
                ("POST", "path=%2Fv1/chat/completions", "any bytes"),
                made("/v1/chat/completions", "any bytes", None),
            ),
            // The body is the request; what the query says beside it is not.
            (
                ("POST", "model=other&num_ctx=1", "{}"),
                made("/api/chat", "{}", None),
            ),
            (("POST", "", ""), Err(400)),
            (("GET", "model=", ""), Err(400)),
            (("GET", "model=a&num_ctx=many", ""), Err(400)),
            (("GET", "model=a&prompt_tokens=99999999999", ""), Err(400)),
            (("DELETE", "model=a", ""), Err(405)),
        ];
        for ((method, query, body), expected) in cases {
            assert_eq!(
                asked(method, query, body),
                expected,
                "{method} {query} {body}"
            );
        }
    }
}
