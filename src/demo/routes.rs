//! Which path does what, and what Ollama refuses before it looks at a path: foreign origins and hosts, odd slashes.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;

use super::answer::Act;
use super::ask::{Ask, Call};
use super::control::demo;
use super::http::{Answer, BARE_JSON, Framing, Head, JSON, TEXT, lock};
use super::json::{decode, field, quote};
use super::library;
use super::{Kind, Shared, ollama, openai};

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
    let answer = match kind {
        Kind::Ollama => ollama_page(shared, head, body),
        Kind::OpenAi => llama_cpp_page(shared, head),
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
        "/api/show" | "/api/copy" => "POST",
        "/api/delete" => "DELETE",
        _ if call(path).is_some() => "POST",
        _ if segment(path, "/v1/models/").is_some() => "GET",
        _ if segment(path, "/api/blobs/").is_some() => "HEAD, POST",
        _ => return None,
    })
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
    if !allow.split(", ").any(|m| m == head.method) {
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
            let models = shared.engine.ps(&lock(&shared.models));
            let body = format!("{{\"models\":[{}]}}", models.join(","));
            let framing = length_or_chunks(&body);
            Answer::new(200, JSON, body).framed(framing)
        }
        "/v1/models" => models(shared),
        "/api/show" => show(shared, body),
        "/api/copy" => copy(shared, body),
        "/api/delete" => delete(shared, body),
        _ => match segment(path, "/v1/models/") {
            Some(id) => model(shared, id),
            None => blob(shared, head),
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

fn tags(shared: &Shared, head: &Head) -> Answer {
    let tags: Vec<String> = lock(&shared.models)
        .iter()
        .map(library::Model::tag)
        .collect();
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
    let models = lock(&shared.models);
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

/// The model's name in a body, under `model` or the old `name`.
fn named(body: &Bytes) -> Result<String, Answer> {
    if body.is_empty() {
        return Err(ollama::error(400, "missing request body"));
    }
    let body = decode(body).map_err(|e| ollama::error(400, &e))?;
    let name = ["model", "name"].into_iter().find_map(|member| {
        let name = field(&body, member).and_then(Value::as_str);
        name.filter(|n| !n.is_empty())
    });
    name.map(str::to_owned)
        .ok_or_else(|| ollama::error(400, "model is required"))
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

fn copy(shared: &Shared, body: &Bytes) -> Answer {
    let body = match decode(body) {
        Ok(body) => body,
        Err(_) => return ollama::error(400, "missing request body"),
    };
    let name = |member| {
        field(&body, member)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    let (source, destination) = (name("source"), name("destination"));
    let mut models = lock(&shared.models);
    let Some(model) = models
        .iter()
        .find(|m| m.key == library::key(source))
        .cloned()
    else {
        return ollama::error(404, &format!("model \"{source}\" not found"));
    };
    models.push(library::Model {
        name: library::display(destination),
        key: library::key(destination),
        ..model
    });
    Answer::empty(200)
}

fn delete(shared: &Shared, body: &Bytes) -> Answer {
    let name = match named(body) {
        Ok(name) => name,
        Err(refused) => return refused,
    };
    let key = library::key(&name);
    let mut models = lock(&shared.models);
    let before = models.len();
    models.retain(|m| m.key != key);
    if models.len() == before {
        return ollama::error(404, &format!("model '{name}' not found"));
    }
    Answer::empty(200)
}

/// Blobs are remembered by the digest they were sent under; their bytes are in `Node::seen` only.
fn blob(shared: &Shared, head: &Head) -> Answer {
    let digest = segment(head.path(), "/api/blobs/")
        .unwrap_or_default()
        .to_owned();
    let hex = digest
        .strip_prefix("sha256:")
        .or_else(|| digest.strip_prefix("sha256-"));
    if !hex.is_some_and(|h| h.len() == 64 && h.bytes().all(|b| b.is_ascii_hexdigit())) {
        return ollama::error(400, "invalid digest format");
    }
    let mut blobs = lock(&shared.blobs);
    if head.method == "POST" {
        let status = if blobs.insert(digest) { 201 } else { 200 };
        return Answer::empty(status);
    }
    if blobs.contains(&digest) {
        return Answer::empty(200).framed(Framing::Nothing);
    }
    ollama::error(404, &format!("blob {} not found", quote(&digest)))
}

/// The pages of llama.cpp's server.
fn llama_cpp_page(shared: &Shared, head: &Head) -> Answer {
    match (head.method.as_str(), head.path()) {
        ("GET", "/health" | "/v1/health") => Answer::new(200, JSON, "{\"status\":\"ok\"}".to_owned()),
        ("GET", "/v1/models" | "/models") => {
            let models = lock(&shared.models);
            let items: Vec<String> = models
                .iter()
                .map(|m| m.openai(&m.name).replace("\"library\"", "\"llamacpp\""))
                .collect();
            let body = format!("{{\"object\":\"list\",\"data\":[{}]}}", items.join(","));
            Answer::new(200, JSON, body)
        }
        _ => Answer::new(
            404,
            JSON,
            "{\"error\":{\"code\":404,\"message\":\"File Not Found\",\"type\":\"not_found_error\"}}".to_owned(),
        ),
    }
    .with("Server", "llama.cpp")
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
fn refuse_stranger(head: &Head) -> Option<Answer> {
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
