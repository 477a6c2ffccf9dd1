//! Which path does what, and what Ollama refuses before it looks at a path: foreign origins and hosts, odd slashes.

use std::net::IpAddr;
use std::sync::Arc;

use super::answer::Act;
use super::ask::{Ask, Call};
use super::blobs;
use super::control::demo;
use super::http::{Answer, BARE_JSON, Framing, Head, JSON, TEXT, lock};
use super::json::quote;
use super::library;
use super::manage::{manage, named};
use super::{Kind, Shared, ollama, openai, others};
use bytes::Bytes;

/// Lists of more bytes than this go out in chunks, as Go's buffer decides.
const LENGTH_KNOWN_BYTES_MAX: usize = 2048;

/// What a request does.
pub(super) fn route(shared: &Arc<Shared>, head: &Head, body: &Bytes) -> Act {
    let path = head.path();
    if path.starts_with("/demo/") {
        return Act::Say(demo(shared, head, body));
    }
    let kind = shared.settings.kind;
    if kind == Kind::Ollama
        && let Some(refused) = refuse_stranger(head)
    {
        return Act::Say(refused);
    }
    let is_spoken = kind == Kind::Ollama || !path.starts_with("/api/");
    if let Some(call) = call(path)
        && head.method == "POST"
        && is_spoken
    {
        let models = lock(&shared.models).clone();
        return Ask {
            call,
            body,
            settings: &shared.settings,
            models: &models,
            number: shared.number(),
        }
        .read();
    }
    if kind == Kind::Ollama
        && is_allowed(head)
        && let Some(act) = manage(shared, path, body)
    {
        return act;
    }
    let answer = match kind {
        Kind::Ollama => ollama_page(shared, head, body),
        _ => others::page(shared, head),
    };
    Act::Say(match head.header("origin") {
        Some(origin) => answer
            .with("Access-Control-Allow-Origin", origin)
            .with("Vary", "Origin"),
        None => answer,
    })
}

fn call(path: &str) -> Option<Call> {
    Some(match path {
        "/api/chat" => Call::Chat,
        "/api/generate" => Call::Generate,
        "/api/embed" => Call::Embed,
        "/api/embeddings" => Call::Embeddings,
        "/v1/chat/completions" => Call::V1Chat,
        "/v1/completions" => Call::V1Completions,
        "/v1/embeddings" => Call::V1Embeddings,
        "/v1/responses" => Call::V1Responses,
        "/v1/messages" => Call::V1Messages,
        _ => return None,
    })
}

/// The methods of a path, as the `Allow` header lists them.
fn allowed(path: &str) -> Option<&'static str> {
    Some(match path {
        "/" | "/api/version" | "/api/tags" => "GET, HEAD",
        "/api/ps" | "/api/status" | "/v1/models" => "GET",
        "/api/show" | "/api/copy" | "/api/pull" | "/api/push" | "/api/create" => "POST",
        "/api/delete" => "DELETE",
        _ if call(path).is_some() => "POST",
        _ if segment(path, "/v1/models/").is_some() => "GET",
        _ if segment(path, "/api/blobs/").is_some() => "HEAD, POST",
        _ => return None,
    })
}

fn is_allowed(head: &Head) -> bool {
    allowed(head.path()).is_some_and(|methods| methods.split(", ").any(|m| m == head.method))
}

/// What stands in the place of `:name`; the router takes one segment only.
fn segment<'a>(path: &'a str, prefix: &str) -> Option<&'a str> {
    let rest = path.strip_prefix(prefix)?;
    let encoded_slash = rest.to_ascii_lowercase().contains("%2f");
    (!rest.is_empty() && !rest.contains('/') && !encoded_slash).then_some(rest)
}

fn ollama_page(shared: &Shared, head: &Head, body: &Bytes) -> Answer {
    let path = head.path();
    let Some(allow) = allowed(path) else {
        return redirect(head)
            .unwrap_or_else(|| Answer::new(404, TEXT, "404 page not found".to_owned()));
    };
    if !is_allowed(head) {
        let is_name = host(head).parse::<IpAddr>().is_err();
        if head.method == "OPTIONS" && is_name {
            return Answer::empty(204)
                .with("Allow", allow)
                .framed(Framing::Nothing);
        }
        return Answer::new(405, TEXT, "405 method not allowed".to_owned()).with("Allow", allow);
    }
    match path {
        "/" => Answer::new(
            200,
            "text/plain; charset=utf-8",
            "Ollama is running".to_owned(),
        ),
        "/api/version" => {
            let version = quote(&shared.settings.version);
            Answer::new(200, JSON, format!("{{\"version\":{version}}}"))
        }
        "/api/status" => Answer::new(
            200,
            JSON,
            "{\"cloud\":{\"disabled\":false,\"source\":\"none\"}}".to_owned(),
        ),
        "/api/tags" => tags(shared, head),
        "/api/ps" => {
            let models = shared.engine.ps();
            let body = format!("{{\"models\":[{}]}}", models.join(","));
            let framing = length_or_chunks(&body);
            Answer::new(200, JSON, body).framed(framing)
        }
        "/v1/models" => models(shared),
        "/api/show" => show(shared, body),
        _ => match segment(path, "/v1/models/") {
            Some(id) => model(shared, id),
            None => blobs::head(shared, path),
        },
    }
}

fn length_or_chunks(body: &str) -> Framing {
    if body.len() <= LENGTH_KNOWN_BYTES_MAX {
        Framing::Length(body.len())
    } else {
        Framing::Chunked
    }
}

fn newest_first(shared: &Shared) -> Vec<library::Model> {
    let mut models = lock(&shared.models).clone();
    models.sort_by_key(|m| std::cmp::Reverse(m.modified));
    models
}

fn tags(shared: &Shared, head: &Head) -> Answer {
    let is_terse = shared.settings.is_before(0, 30);
    let models = newest_first(shared);
    let tags: Vec<String> = models.iter().map(|m| m.tag(is_terse)).collect();
    let body = format!("{{\"models\":[{}]}}", tags.join(","));
    // HEAD of a list tells neither a length nor chunks (recording 008).
    let framing = if head.method == "HEAD" {
        Framing::Nothing
    } else {
        length_or_chunks(&body)
    };
    Answer::new(200, JSON, body).framed(framing)
}

fn models(shared: &Shared) -> Answer {
    let models = newest_first(shared);
    let items: Vec<String> = models.iter().map(|m| m.openai(&m.name)).collect();
    // No model at all is null, not an empty list (recording 002).
    let data = if items.is_empty() {
        "null".to_owned()
    } else {
        format!("[{}]", items.join(","))
    };
    let body = format!("{{\"object\":\"list\",\"data\":{data}}}\n");
    Answer::new(200, BARE_JSON, body)
}

fn model(shared: &Shared, id: &str) -> Answer {
    let key = library::key(id);
    match lock(&shared.models).iter().find(|m| m.key == key) {
        Some(model) => Answer::new(200, BARE_JSON, model.openai(id) + "\n"),
        None => openai::error(404, &format!("model '{}' not found", library::display(id))),
    }
}

fn show(shared: &Shared, body: &Bytes) -> Answer {
    let name = match named(body) {
        Ok(name) => name,
        Err(refused) => return refused,
    };
    let key = library::key(&name);
    match lock(&shared.models).iter().find(|m| m.key == key) {
        Some(model) => Answer::new(200, JSON, model.show()).framed(Framing::Chunked),
        None => {
            let name = library::display(&name);
            ollama::error(404, &format!("model '{name}' not found"))
        }
    }
}

/// A known path written with a slash too many is redirected to the clean one.
fn redirect(head: &Head) -> Option<Answer> {
    let path = head.path();
    let mut clean = path.to_owned();
    while clean.contains("//") {
        clean = clean.replace("//", "/");
    }
    let trimmed = match clean.trim_end_matches('/') {
        "" => "/",
        trimmed => trimmed,
    };
    allowed(trimmed)?;
    let status = if head.method == "GET" && clean == path {
        301
    } else {
        307
    };
    if head.method != "GET" {
        return Some(Answer::empty(status).with("Location", trimmed));
    }
    let text = if status == 301 {
        "Moved Permanently"
    } else {
        "Temporary Redirect"
    };
    let page = format!("<a href=\"{trimmed}\">{text}</a>.\n\n");
    Some(Answer::new(status, "text/html; charset=utf-8", page).with("Location", trimmed))
}

/// The Host header without its port.
fn host(head: &Head) -> &str {
    let host = head.header("host").unwrap_or_default();
    match host.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    }
}

/// A browser on a foreign page, or a foreign name for this address: 403 without a body (recordings 690 to 697).
pub(super) fn refuse_stranger(head: &Head) -> Option<Answer> {
    let host = host(head);
    let host_is_ours = match host.parse::<IpAddr>() {
        Ok(IpAddr::V4(ip)) => ip.is_loopback() || ip.is_private() || ip.is_unspecified(),
        Ok(IpAddr::V6(ip)) => ip.is_loopback() || ip.is_unspecified(),
        Err(_) => {
            host.is_empty()
                || host == "localhost"
                || [".localhost", ".local", ".internal"]
                    .iter()
                    .any(|end| host.ends_with(end))
        }
    };
    let origin_is_ours = head.header("origin").is_none_or(|origin| {
        let (scheme, rest) = origin.split_once("://").unwrap_or((origin, ""));
        let name = rest.split(':').next().unwrap_or_default();
        let is_local = matches!(name, "localhost" | "127.0.0.1" | "0.0.0.0");
        match scheme {
            "http" | "https" => is_local,
            other => matches!(
                other,
                "app" | "file" | "tauri" | "vscode-webview" | "vscode-file"
            ),
        }
    });
    (!host_is_ours || !origin_is_ours).then(|| Answer::empty(403))
}
