//! Which call a request line is: one table of paths behind a handful of mounts. What is not in it is not forwarded.

mod listings;
mod place;

use std::borrow::Cow;

use http::Method;

use self::place::{Place, place};
use super::{Call, Dialect, Mount, Operation, Serve};
use crate::error::{Fault, Kind};
use crate::profile::Profiles;

/// How much of a client's path an error text repeats, in characters.
const SHOWN_CHARS_MAX: usize = 80;

/// One path below a mount, and what happens there.
struct Row {
    path: &'static str,
    /// The allowed methods, in the form of an `Allow` header.
    methods: &'static str,
    dialect: Dialect,
    what: What,
    tail: Tail,
}

/// What a row stands for.
#[derive(Clone, Copy)]
enum What {
    Serve(Operation, Serve),
    /// 403: it would act with the node's own identity at ollama.com.
    Identity,
}

/// What may follow a row's path.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tail {
    /// Nothing.
    None,
    /// Nothing, or `/{index}`: Open WebUI's number of a node.
    Index,
    /// `/{name}`: the id of a model. Digits alone are Open WebUI's node index.
    Model,
    /// `/{name}`: the id of a model, whatever it looks like.
    Name,
    /// `/{digest}`.
    Digest,
    /// `/` and anything.
    Any,
}

const fn row(
    path: &'static str,
    methods: &'static str,
    dialect: Dialect,
    what: What,
    tail: Tail,
) -> Row {
    Row {
        path,
        methods,
        dialect,
        what,
        tail,
    }
}

/// The calls, as docs/api.md lists them. A path stands in several rows only when their tails differ.
#[rustfmt::skip]
static ROWS: &[Row] = {
    use Dialect::{Anthropic, Ollama, OpenAi};
    use Operation::*;
    use Serve::{ByModel, Catalogue, Manage};
    use What::{Identity, Serve as Is};
    &[
        row("/", "GET, HEAD", Ollama, Is(Root, Catalogue), Tail::None),
        row("/api/version", "GET, HEAD", Ollama, Is(Version, Catalogue), Tail::Index),
        row("/api/tags", "GET, HEAD", Ollama, Is(Tags, Catalogue), Tail::Index),
        row("/api/ps", "GET", Ollama, Is(Ps, Catalogue), Tail::None),
        row("/api/show", "POST", Ollama, Is(Show, ByModel), Tail::None),
        row("/api/chat", "POST", Ollama, Is(Chat, ByModel), Tail::Index),
        row("/api/generate", "POST", Ollama, Is(Generate, ByModel), Tail::Index),
        row("/api/embed", "POST", Ollama, Is(Embed, ByModel), Tail::Index),
        row("/api/embeddings", "POST", Ollama, Is(Embeddings, ByModel), Tail::Index),
        row("/api/blobs", "HEAD, POST", Ollama, Is(Blob, Manage), Tail::Digest),
        row("/v1/chat/completions", "POST", OpenAi, Is(ChatCompletions, ByModel), Tail::Index),
        row("/v1/completions", "POST", OpenAi, Is(Completions, ByModel), Tail::Index),
        row("/v1/embeddings", "POST", OpenAi, Is(V1Embeddings, ByModel), Tail::None),
        row("/v1/responses", "POST", OpenAi, Is(Responses, ByModel), Tail::None),
        row("/v1/models", "GET", OpenAi, Is(Models, Catalogue), Tail::None),
        row("/v1/models", "GET", OpenAi, Is(Model, Catalogue), Tail::Model),
        row("/v1/messages", "POST", Anthropic, Is(Messages, ByModel), Tail::None),
        row("/v1/messages/count_tokens", "POST", Anthropic, Is(CountTokens, ByModel), Tail::None),
        row("/api/pull", "POST", Ollama, Is(Pull, Manage), Tail::Index),
        // Open WebUI's own clients push with DELETE.
        row("/api/push", "POST, DELETE", Ollama, Is(Push, Manage), Tail::Index),
        row("/api/create", "POST", Ollama, Is(Create, Manage), Tail::Index),
        row("/api/copy", "POST", Ollama, Is(Copy, Manage), Tail::Index),
        row("/api/delete", "DELETE", Ollama, Is(Delete, Manage), Tail::Index),
        row("/api/unload", "POST", Ollama, Is(Unload, Manage), Tail::None),
        row("/models/download", "POST", Ollama, Is(Download, Manage), Tail::Index),
        row("/models/upload", "POST", Ollama, Is(Upload, Manage), Tail::Index),
        row("/api/me", "POST", Ollama, Identity, Tail::None),
        row("/api/signout", "POST", Ollama, Identity, Tail::None),
        row("/api/user/keys", "DELETE", Ollama, Identity, Tail::Any),
        row("/api/experimental", "GET, POST", Ollama, Identity, Tail::Any),
    ]
};

/// Every call that is served, and its path below a mount.
pub fn calls() -> impl Iterator<Item = (Operation, &'static str)> {
    ROWS.iter().filter_map(|row| match row.what {
        What::Serve(operation, _) => Some((operation, row.path)),
        What::Identity => None,
    })
}

/// The path of a call below a mount, such as `/v1/chat/completions`.
pub fn path_of(operation: Operation) -> &'static str {
    calls()
        .find(|(of, _)| *of == operation)
        .map_or("", |(_, path)| path)
}

/// Finds the call of a request line. `path` is the raw path, without its query; `profiles` say which mounts there are.
///
/// # Errors
/// 404 for a path that is not in the table, 405 for a method that a path does not have, 400 for a malformed digest, 403 for calls
/// that are never forwarded.
pub fn recognize(method: &Method, path: &str, profiles: &Profiles) -> Result<Call, Fault> {
    let mut place = place(path, profiles);
    let rest = place.rest.take().map(listings::with_slashes);
    let found = rest.as_deref().filter(|rest| is_plain(rest));
    let found = found.and_then(|rest| match find(&place, rest) {
        Some((row, tail)) => Some((row, tail, "")),
        None => find_as_kept(&place, rest, profiles),
    });
    let (row, tail, extra) = found.ok_or_else(|| unknown(path))?;
    if !row
        .methods
        .split(", ")
        .any(|allowed| allowed == method.as_str())
    {
        return Err(Fault::new(
            Kind::MethodNotAllowed { allow: row.methods },
            format!("`{}` takes {}, not {}", row.path, row.methods, method),
        ));
    }
    match row.what {
        What::Serve(operation, serve) => {
            let mut call = call(&place, row, operation, serve, tail)?;
            if !extra.is_empty() {
                // Where a type keeps a call at several places the client has chosen one: another engine, for example.
                call.node_path = Cow::Owned(format!("{extra}{}", call.node_path));
            }
            Ok(call)
        }
        What::Identity => Err(Fault::refused(
            403,
            "forbidden",
            format!(
                "`{}` would act with a node's own ollama.com identity, so it is not forwarded; ask the node itself",
                row.path
            ),
        )),
    }
}

/// The dialect in which to answer a path, recognized or not.
pub fn dialect_of(path: &str, profiles: &Profiles) -> Dialect {
    let place = place(path, profiles);
    match place.only {
        Some(dialect) => dialect,
        None if path.contains("/v1/messages") => Dialect::Anthropic,
        None if path.contains("/v1/") || path.ends_with("/v1") => Dialect::OpenAi,
        // LM Studio's own paths.
        None if path.contains("/api/v0/") => Dialect::OpenAi,
        None => Dialect::Ollama,
    }
}

/// Whether no server could read this path in two ways: printable ASCII, no `.`, `..` or empty segments, no encoded slash or dot.
fn is_plain(rest: &str) -> bool {
    // The name of a model may be where its file is; such a path is only looked up, as in `listings::with_slashes`.
    let inside = match rest.as_bytes().windows(2).any(|pair| pair == b"//") {
        true => Cow::Owned(rest.replacen("/models//", "/models/", 1)),
        false => Cow::Borrowed(rest),
    };
    let inside = inside.strip_prefix('/').unwrap_or(&inside);
    rest.bytes()
        .all(|byte| byte.is_ascii_graphic() && byte != b'\\')
        && percent_decoded(rest).is_some()
        && (inside.is_empty()
            || !inside
                .split('/')
                .any(|segment| matches!(segment, "" | "." | "..")))
}

/// Decodes `%3A` and the like; `None` for what has no business in a path here: broken escapes, slashes, dots, percent signs, controls, non-ASCII.
fn percent_decoded(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains('%') {
        return Some(Cow::Borrowed(text));
    }
    let mut parts = text.split('%');
    let mut decoded = parts.next().unwrap_or("").to_owned();
    for part in parts {
        let digits = part.get(..2)?;
        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        let byte = u8::from_str_radix(digits, 16).ok()?;
        if !byte.is_ascii_graphic() || b"/\\.%".contains(&byte) {
            return None;
        }
        decoded.push(char::from(byte));
        decoded.push_str(&part[2..]);
    }
    Some(Cow::Owned(decoded))
}

/// The row of a path and what follows the row's path, without its slash.
fn find<'a>(place: &Place<'_>, rest: &'a str) -> Option<(&'static Row, &'a str)> {
    // A mount may be asked with and without its slash: `OLLAMA_HOST=http://gateway/ollama` sends `HEAD /ollama/`.
    let rest = if rest.is_empty() { "/" } else { rest };
    let common = ROWS.iter().filter(|row| is_spoken(row, place.only));
    let mut rows = place.own.iter().chain(common);
    rows.find_map(|row| Some((row, tail_of(row, rest)?)))
}

/// On a type's mount a call may also be written as the type itself keeps it, as in `/dmr/engines/v1/chat/completions`. The last part of
/// what is found is what stands there in front of the call's own path.
fn find_as_kept<'a>(
    place: &Place<'_>,
    rest: &'a str,
    profiles: &Profiles,
) -> Option<(&'static Row, &'a str, &'a str)> {
    let Mount::Profile(name) = &place.mount else {
        return None;
    };
    let profile = profiles.find(name)?;
    ROWS.iter().find_map(|row| {
        let What::Serve(operation, _) = row.what else {
            return None;
        };
        let mut extras = profile.extras_of(operation);
        extras.find_map(|extra| {
            let tail = tail_of(row, rest.strip_prefix(extra)?)?;
            Some((row, tail, &rest[..extra.len()]))
        })
    })
}

/// A dialect mount has its dialect's calls; Anthropic's has the model list as well, as Anthropic's own API.
fn is_spoken(row: &Row, only: Option<Dialect>) -> bool {
    match only {
        None => true,
        Some(Dialect::Anthropic) if row.path == "/v1/models" => true,
        Some(dialect) => row.dialect == dialect,
    }
}

fn tail_of<'a>(row: &Row, rest: &'a str) -> Option<&'a str> {
    let after = rest.strip_prefix(row.path)?;
    match (row.tail, after.strip_prefix('/')) {
        (Tail::None | Tail::Index, None) if after.is_empty() => Some(after),
        (Tail::Index, Some(tail)) => index(tail).map(|_| tail),
        (Tail::Model | Tail::Name | Tail::Digest | Tail::Any, Some(tail)) if !tail.is_empty() => {
            Some(tail)
        }
        _ => None,
    }
}

/// Open WebUI's node index. More digits than any fleet needs are no index.
fn index(tail: &str) -> Option<usize> {
    let is_index = (1..=6).contains(&tail.len()) && tail.bytes().all(|b| b.is_ascii_digit());
    is_index.then(|| tail.parse().ok()).flatten()
}

fn call(
    place: &Place<'_>,
    row: &'static Row,
    operation: Operation,
    serve: Serve,
    tail: &str,
) -> Result<Call, Fault> {
    let mut call = Call {
        dialect: place.only.unwrap_or(row.dialect),
        operation,
        serve,
        mount: place.mount.clone(),
        olla: place.olla,
        node_index: None,
        node_path: Cow::Borrowed(row.path),
        argument: None,
    };
    match row.tail {
        Tail::Digest => {
            let digest = digest(tail)?;
            call.node_path = Cow::Owned(format!("{}/{digest}", row.path));
            call.argument = Some(digest);
        }
        Tail::Model => match index(tail) {
            Some(index) => {
                call.operation = Operation::Models;
                call.serve = Serve::ByIndex;
                call.node_index = Some(index);
            }
            None => call.name(row, tail),
        },
        Tail::Name => call.name(row, tail),
        Tail::Index => {
            call.node_index = index(tail);
            if call.node_index.is_some() && serve == Serve::Catalogue {
                // Open WebUI asks one node for its own list, unmerged.
                call.serve = Serve::ByIndex;
            }
        }
        Tail::None | Tail::Any => {}
    }
    Ok(call)
}

impl Call {
    fn name(&mut self, row: &Row, tail: &str) {
        let below = tail.trim_start_matches('/');
        self.node_path = Cow::Owned(format!("{}/{below}", row.path));
        self.argument = percent_decoded(tail).map(Cow::into_owned);
    }
}

/// `sha256:` or `sha256-` and 64 hexadecimal digits; anything else could become a path on a node's disk.
fn digest(tail: &str) -> Result<String, Fault> {
    let text = percent_decoded(tail).unwrap_or(Cow::Borrowed(tail));
    let hex = text
        .strip_prefix("sha256")
        .and_then(|rest| rest.strip_prefix([':', '-']))
        .filter(|hex| hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit()));
    match hex {
        Some(_) => Ok(text.into_owned()),
        None => Err(Fault::malformed(
            "invalid_digest",
            format!(
                "`{}` is not a digest: write `sha256:` and 64 hexadecimal digits",
                shown(tail)
            ),
        )),
    }
}

fn unknown(path: &str) -> Fault {
    Fault::refused(
        404,
        "not_found",
        format!(
            "nothing is served at `{}`; check the base URL and the path",
            shown(path)
        ),
    )
}

fn shown(path: &str) -> String {
    path.chars().take(SHOWN_CHARS_MAX).collect()
}
