//! One answer of the admin listener: what it is, and whether its reader has it already.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use serde_json::Value;

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";

/// Names of fields that change by the passing of time alone. Two pages that differ in nothing else are one to whoever polls.
const CLOCKS: &[&str] = &[
    "timestamp",
    "uptime",
    "uptime_s",
    "health_check",
    "health_check_at",
    "last_check",
    "next_check",
    "next_check_at",
    "last_model_sync",
    "last_model_sync_at",
    "last_updated",
    "last_seen",
    "last_seen_at",
];

/// One answer of the admin listener.
#[derive(Debug, PartialEq, Eq)]
pub struct Page {
    /// HTTP status.
    pub status: u16,
    /// Value of the `Content-Type` header.
    pub content_type: &'static str,
    /// The whole body; its length becomes `Content-Length`.
    pub body: Vec<u8>,
    /// A weak entity tag, quotes included, of pages that a reader may keep to ask whether they changed.
    pub etag: Option<String>,
    /// The methods that the path has, of a refusal of others.
    allow: Option<&'static str>,
}

impl Page {
    /// A line for people and probes.
    pub fn text(status: u16, body: &str) -> Page {
        Page::of(status, TEXT, format!("{body}\n").into_bytes())
    }

    /// An error for people at a terminal, as JSON like every error.
    pub fn refused(status: u16, message: &str) -> Page {
        let body = serde_json::json!({ "error": message }).to_string();
        Page::of(status, JSON, body.into_bytes())
    }

    /// The refusal of a method; `allow` lists those that would do.
    pub fn wrong_method(allow: &'static str, message: &str) -> Page {
        Page {
            allow: Some(allow),
            ..Page::refused(405, message)
        }
    }

    /// A page of figures.
    pub(super) fn json(value: &Value) -> Page {
        Page::of(200, JSON, value.to_string().into_bytes())
    }

    /// A page of figures that many look at again and again.
    pub(super) fn polled(value: &Value) -> Page {
        let mut hasher = DefaultHasher::new();
        feed(value, &mut hasher);
        Page {
            etag: Some(format!("W/\"{:016x}\"", hasher.finish())),
            ..Page::json(value)
        }
    }

    pub(super) fn of(status: u16, content_type: &'static str, body: Vec<u8>) -> Page {
        Page {
            status,
            content_type,
            body,
            etag: None,
            allow: None,
        }
    }

    /// This page, or 304 without a body when `If-None-Match` says that the reader has it.
    pub fn unless_known(self, if_none_match: Option<&str>) -> Page {
        let is_known = self.etag.as_deref().is_some_and(|etag| {
            let known = if_none_match.into_iter().flat_map(|list| list.split(','));
            let opaque = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
            known
                .map(str::trim)
                .any(|tag| tag == "*" || opaque(tag) == opaque(etag))
        });
        match is_known {
            true => Page {
                status: 304,
                body: Vec::new(),
                ..self
            },
            false => self,
        }
    }

    /// Headers of the answer. A 304 has no length, since it would speak of the page that was not sent.
    pub fn headers(&self) -> Vec<(&'static str, String)> {
        let mut headers = Vec::with_capacity(4);
        if self.status != 304 {
            headers.push(("content-type", self.content_type.to_owned()));
            headers.push(("content-length", self.body.len().to_string()));
        }
        let keep = match self.etag {
            Some(_) => "private, no-cache",
            None => "no-store",
        };
        headers.push(("cache-control", keep.to_owned()));
        headers.extend(self.etag.clone().map(|etag| ("etag", etag)));
        headers.extend(self.allow.map(|allow| ("allow", allow.to_owned())));
        if self.status == 401 {
            headers.push(("www-authenticate", "Bearer".to_owned()));
        }
        headers
    }
}

fn feed(value: &Value, hasher: &mut DefaultHasher) {
    match value {
        Value::Object(fields) => {
            fields.len().hash(hasher);
            for (name, value) in fields {
                if !CLOCKS.contains(&name.as_str()) {
                    name.hash(hasher);
                    feed(value, hasher);
                }
            }
        }
        Value::Array(items) => {
            items.len().hash(hasher);
            items.iter().for_each(|item| feed(item, hasher));
        }
        leaf => leaf.to_string().hash(hasher),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_page_is_new_when_more_than_the_clock_has_moved() {
        let page = |time: &str, requests| {
            let endpoint = json!({ "last_check": time, "requests": requests });
            Page::polled(&json!({ "timestamp": time, "endpoints": [endpoint] })).etag
        };
        assert_eq!(page("1s ago", 1), page("2s ago", 1));
        assert_ne!(page("1s ago", 1), page("1s ago", 2));
    }

    #[test]
    fn a_reader_who_has_the_page_does_not_get_it_again() {
        let page = || Page::polled(&json!({ "a": 1 }));
        let etag = page().etag.unwrap();
        let strong = etag.trim_start_matches("W/").to_owned();
        let list = format!("\"x\", {etag}");
        let cases = [
            (Some(&*etag), 304),
            (Some(&*strong), 304),
            (Some(&*list), 304),
            (Some("*"), 304),
            (Some("\"x\""), 200),
            (Some(""), 200),
            (None, 200),
        ];
        for (given, status) in cases {
            assert_eq!(page().unless_known(given).status, status, "{given:?}");
        }
        let untagged = Page::text(200, "ok").unless_known(Some("*"));
        assert_eq!(untagged.status, 200);
        let known = page().unless_known(Some("*")).headers();
        assert!(known.iter().all(|(name, _)| *name != "content-length"));
    }
}
