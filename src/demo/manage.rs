//! Pull, push, create, copy and delete: what changes the models on the disk (recordings 711 to 756).

use std::time::SystemTime;

use bytes::Bytes;
use serde_json::Value;

use super::answer::Act;
use super::http::{Answer, BARE_JSON, Framing, lock};
use super::json::{decode, field, flag, quote};
use super::library::{self, Facts, Layer, Model, Use, hex64};
use super::{Settings, Shared, blobs, ollama};

/// Something that takes a while and tells how far it is.
pub(super) struct Work {
    pub is_stream: bool,
    /// Pulls are counted and can be held.
    pub is_pull: bool,
    pub steps: Vec<Step>,
}

pub(super) enum Step {
    /// A progress line, without its line feed.
    Say(String),
    /// Waits while pulls are held.
    Hold,
    Install(Model),
    /// The end, with this sentence: a last line, or status 500 when nothing was streamed.
    Fail(String),
}

type Read<T> = Result<T, Answer>;

/// The call that a path names, if it is one of these.
pub(super) fn manage(shared: &Shared, path: &str, body: &Bytes) -> Option<Act> {
    let work = match path {
        "/api/pull" => pull(shared, body),
        "/api/push" => push(shared, body),
        "/api/create" => create(shared, body),
        "/api/copy" => return Some(Act::Say(copy(shared, body))),
        "/api/delete" => return Some(Act::Say(delete(shared, body))),
        _ => return None,
    };
    Some(work.map_or_else(Act::Say, Act::Work))
}

fn read(body: &Bytes) -> Read<Value> {
    if body.is_empty() {
        return Err(ollama::error(400, "missing request body"));
    }
    decode(body).map_err(|e| ollama::error(400, &e))
}

/// The model's name, under `model` or the old `name`; empty when there is none.
fn name(body: &Value) -> &str {
    let names = ["model", "name"].into_iter();
    let mut names = names.filter_map(|member| field(body, member)?.as_str());
    names.find(|n| !n.is_empty()).unwrap_or_default()
}

/// As [`name`], from the bytes of a body that must have one.
///
/// # Errors
/// Ollama's refusal.
pub(super) fn named(body: &Bytes) -> Read<String> {
    match name(&read(body)?) {
        "" => Err(ollama::error(400, "model is required")),
        name => Ok(name.to_owned()),
    }
}

fn is_stream(body: &Value, shape: &str) -> Read<bool> {
    let stream = flag(body, shape, "stream").map_err(|e| ollama::error(400, &e))?;
    Ok(stream.unwrap_or(true))
}

fn find(shared: &Shared, name: &str) -> Option<Model> {
    let key = library::key(name);
    lock(&shared.models).iter().find(|m| m.key == key).cloned()
}

fn status(text: &str) -> Step {
    Step::Say(format!("{{\"status\":{}}}", quote(text)))
}

/// How far a layer is; nothing done yet is not told, as Ollama leaves zeros out.
fn progress(verb: &str, layer: &Layer, done: u64) -> Step {
    let Layer { digest, bytes } = layer;
    let short = digest.get(..12).unwrap_or(digest);
    let done = match done {
        0 => String::new(),
        bytes => format!(",\"completed\":{bytes}"),
    };
    Step::Say(format!(
        "{{\"status\":\"{verb} {short}\",\"digest\":\"sha256:{digest}\",\"total\":{bytes}{done}}}"
    ))
}

fn pull(shared: &Shared, body: &Bytes) -> Read<Work> {
    let body = read(body)?;
    let asked = name(&body);
    let bare = ["https://", "http://"]
        .into_iter()
        .find_map(|scheme| asked.strip_prefix(scheme))
        .unwrap_or(asked);
    if !library::is_valid(bare) {
        return Err(ollama::error(400, "invalid model name"));
    }
    Ok(Work {
        is_stream: is_stream(&body, "PullRequest")?,
        is_pull: true,
        steps: pull_steps(shared, bare).0,
    })
}

/// The steps, and the model that will be there after them.
fn pull_steps(shared: &Shared, name: &str) -> (Vec<Step>, Option<Model>) {
    let mut steps = vec![status("pulling manifest")];
    let Some(model) = shared.settings.offered(name) else {
        steps.push(Step::Fail(
            "pull model manifest: file does not exist".to_owned(),
        ));
        return (steps, None);
    };
    let layers = model.layers();
    let is_here = find(shared, name).is_some_and(|m| m.weights == model.weights);
    if is_here {
        steps.extend(layers.iter().map(|l| progress("pulling", l, l.bytes)));
    } else {
        let count = shared.settings.pull_steps;
        let done = |n: u64| layers[0].bytes / count * n;
        steps.extend((1..=count).map(|n| progress("pulling", &layers[0], done(n))));
        // A small file is done before anybody looks a second time.
        steps.push(progress("pulling", &layers[1], 0));
    }
    steps.insert(2, Step::Hold);
    steps.push(status("verifying sha256 digest"));
    steps.push(status("writing manifest"));
    steps.push(Step::Install(model.clone()));
    steps.push(status("success"));
    (steps, Some(model))
}

fn push(shared: &Shared, body: &Bytes) -> Read<Work> {
    let body = read(body)?;
    let asked = name(&body);
    if asked.is_empty() {
        return Err(ollama::error(400, "model is required"));
    }
    let mut steps = vec![status("retrieving manifest")];
    match find(shared, asked) {
        None => {
            steps.push(status("couldn't retrieve manifest"));
            let path = manifest_path(asked);
            steps.push(Step::Fail(format!(
                "open {path}: no such file or directory"
            )));
        }
        Some(model) => {
            for layer in &model.layers() {
                steps.push(progress("pushing", layer, layer.bytes / 2));
                steps.push(progress("pushing", layer, layer.bytes));
            }
            steps.push(status("pushing manifest"));
            steps.push(status("success"));
        }
    }
    Ok(Work {
        is_stream: is_stream(&body, "PushRequest")?,
        is_pull: false,
        steps,
    })
}

/// Where a real node keeps a manifest; its error texts show it (recording 740).
fn manifest_path(name: &str) -> String {
    let shown = library::display(name);
    let (model, tag) = shown.rsplit_once(':').unwrap_or((&shown, "latest"));
    let defaults = match model.matches('/').count() {
        0 => "registry.ollama.ai/library/",
        1 => "registry.ollama.ai/",
        _ => "",
    };
    format!("/root/.ollama/models/manifests/{defaults}{model}/{tag}")
}

fn create(shared: &Shared, body: &Bytes) -> Read<Work> {
    let body = read(body)?;
    let wanted = name(&body);
    if !library::is_valid(wanted) {
        return Err(ollama::error(400, "invalid model name"));
    }
    let from = field(&body, "from").and_then(Value::as_str);
    let files = field(&body, "files").and_then(Value::as_object);
    let steps = match (from, files) {
        (Some(from), _) => derive(shared, &body, from, wanted),
        (None, Some(files)) => {
            let digests = files.values().filter_map(Value::as_str);
            assemble(shared, digests.collect(), wanted)
        }
        (None, None) => {
            let refused = "{\"error\":\"neither 'from' or 'files' was specified\"}";
            let answer = Answer::new(400, BARE_JSON, refused.to_owned());
            return Err(answer.framed(Framing::Chunked));
        }
    };
    Ok(Work {
        is_stream: is_stream(&body, "CreateRequest")?,
        is_pull: false,
        steps,
    })
}

/// A model made from another one; one that is not there is pulled first (recordings 713 and 716).
fn derive(shared: &Shared, body: &Value, from: &str, wanted: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    let base = match find(shared, from) {
        Some(base) => Some(base),
        None => {
            let (pulling, base) = pull_steps(shared, from);
            steps.extend(pulling.into_iter().filter(|s| !matches!(s, Step::Hold)));
            // The end of the pull is not yet the end of the work.
            steps.pop_if(|_| base.is_some());
            base
        }
    };
    let Some(base) = base else {
        return steps;
    };
    for layer in &base.layers() {
        steps.push(status(&format!(
            "using existing layer sha256:{}",
            layer.digest
        )));
    }
    let mut model = base.copied(wanted, SystemTime::now());
    let changes = [
        "system",
        "template",
        "license",
        "parameters",
        "messages",
        "quantize",
    ];
    for change in changes.into_iter().filter_map(|c| field(body, c)) {
        model.digest = hex64(&format!("{}{change}", model.digest));
        steps.push(status(&format!(
            "creating new layer sha256:{}",
            model.digest
        )));
    }
    steps.extend([
        status("writing manifest"),
        Step::Install(model),
        status("success"),
    ]);
    steps
}

/// A model made from uploaded files (recordings 711 and 718).
fn assemble(shared: &Shared, digests: Vec<&str>, wanted: &str) -> Vec<Step> {
    let mut steps = vec![status("parsing GGUF")];
    let mut digest = String::new();
    for name in digests {
        let Some(hex) = blobs::hex(name) else {
            steps.push(Step::Fail("invalid digest format".to_owned()));
            return steps;
        };
        if !lock(&shared.blobs).contains_key(&hex) {
            steps.push(Step::Fail(format!(
                "open /root/.ollama/models/blobs/sha256-{hex}: no such file or directory"
            )));
            return steps;
        }
        digest = hex64(&format!("{digest}{hex}"));
    }
    let facts = Facts {
        digest: Some(digest),
        ..shared.settings.facts(wanted)
    };
    let model = Model::new(wanted, Use::Chat, SystemTime::now(), &facts);
    steps.push(status("verifying conversion"));
    for layer in &model.layers() {
        steps.push(status(&format!(
            "creating new layer sha256:{}",
            layer.digest
        )));
    }
    steps.extend([
        status("writing manifest"),
        Step::Install(model),
        status("success"),
    ]);
    steps
}

fn copy(shared: &Shared, body: &Bytes) -> Answer {
    let body = match read(body) {
        Ok(body) => body,
        Err(refused) => return refused,
    };
    let name = |member| field(&body, member).and_then(Value::as_str);
    let source = name("source").unwrap_or_default();
    let destination = name("destination").unwrap_or_default();
    for (what, name) in [("source", source), ("destination", destination)] {
        if !library::is_valid(name) {
            return ollama::error(400, &format!("{what} {} is invalid", quote(name)));
        }
    }
    let Some(model) = find(shared, source) else {
        return ollama::error(404, &format!("model {} not found", quote(source)));
    };
    shared.put(model.copied(destination, SystemTime::now()));
    Answer::empty(200)
}

/// Takes a name from the disk. What is in memory stays there and stays listed (recording 754).
fn delete(shared: &Shared, body: &Bytes) -> Answer {
    let name = match named(body) {
        Ok(name) => name,
        Err(refused) => return refused,
    };
    match shared.take_out(&name) {
        Some(_) => Answer::empty(200),
        None => ollama::error(404, &format!("model '{name}' not found")),
    }
}

impl Settings {
    /// What a test said about a model of this name.
    pub(super) fn facts(&self, name: &str) -> Facts {
        let key = library::key(name);
        self.facts.get(&key).cloned().unwrap_or_default()
    }

    /// The model that a pull of this name would bring, if the registry has it.
    fn offered(&self, name: &str) -> Option<Model> {
        if let Some(offered) = &self.registry
            && !offered.contains(&library::key(name))
        {
            return None;
        }
        let facts = self.facts(name);
        let told = facts.capabilities.as_deref().unwrap_or_default();
        let embeds = told.iter().any(|c| c == "embedding") || name.contains("embed");
        let purpose = if embeds { Use::Embedding } else { Use::Chat };
        Some(Model::new(name, purpose, SystemTime::now(), &facts))
    }
}

impl Shared {
    /// Puts a model on the disk, in place of one of the same name.
    pub(super) fn put(&self, model: Model) {
        let mut models = lock(&self.models);
        models.retain(|m| m.key != model.key);
        models.push(model);
        drop(models);
        self.changed.notify_waiters();
    }

    pub(super) fn take_out(&self, name: &str) -> Option<Model> {
        let key = library::key(name);
        let mut models = lock(&self.models);
        let at = models.iter().position(|m| m.key == key)?;
        let model = models.remove(at);
        drop(models);
        self.changed.notify_waiters();
        Some(model)
    }
}
