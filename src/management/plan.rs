//! From a request to what each node is asked for: the one place that knows how the calls differ.

use bytes::Bytes;
use http::Method;

use crate::config::DefaultTarget;
use crate::dialect::{Call, Operation};
use crate::error::{Fault, Kind};
use crate::fleet::{NodeId, Snapshot};
use crate::model::{self, ModelKey};

use super::outcome::Words;
use super::request::{Body, quoted};
use super::targets::{Aim, Reach, Skipped, Target, Targets, targets};

/// What one node is asked for.
#[derive(Debug, Clone)]
pub struct Errand {
    /// Whom.
    pub target: Target,
    /// How.
    pub method: Method,
    /// Which of the node's own calls it is.
    pub operation: Operation,
    /// JSON.
    pub body: Bytes,
}

/// A change, planned.
#[derive(Debug)]
pub struct Plan {
    /// What it is called.
    pub words: Words,
    /// The model it is about, as the client spelled it.
    pub model: String,
    /// One for each node.
    pub errands: Vec<Errand>,
    /// Nodes that would be asked if they could be.
    pub skipped: Vec<Skipped>,
    /// How the nodes and the client are answered.
    pub manner: Manner,
    /// Two requests with the same key are one.
    pub once: Option<OnceKey>,
}

/// How a call is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// Nodes tell how far they are, line by line; so is the client told if it asked for a stream.
    Progress {
        /// Whether the client gets the lines or only their end.
        stream: bool,
    },
    /// Nodes answer once; the client gets this body.
    Whole(&'static str),
}

/// What makes two pulls the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct OnceKey {
    model: ModelKey,
    nodes: Vec<NodeId>,
    insecure: bool,
}

/// What a request needs to be planned.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// Which call it is.
    pub call: &'a Call,
    /// Its body.
    pub body: &'a Body<'a>,
    /// Where it wants to go.
    pub aim: &'a Aim,
    /// Where it goes when it does not say.
    pub default: &'a DefaultTarget,
}

/// Plans a change whose body is JSON.
///
/// # Errors
/// 400 for a body that is not what the call needs, 403 for a cloud model, and those of [`targets`].
pub fn plan(asked: &Asked<'_>, view: &Snapshot) -> Result<Plan, Fault> {
    match asked.call.operation {
        Operation::Pull => pull(asked, view),
        Operation::Push => push(asked, view),
        Operation::Create => create(asked, view),
        Operation::Copy => copy(asked, view),
        Operation::Delete => delete(asked, view),
        Operation::Unload => unload(asked, view),
        _ => Err(Fault::new(
            Kind::Internal,
            "this call is planned without a body",
        )),
    }
}

/// A model made from one uploaded file.
pub fn create_from_file(model: &str, file: &str, digest: &str, targets: &Targets) -> Plan {
    let body = format!(
        "{{\"model\":{},\"files\":{{{}:{}}},\"stream\":true}}",
        quoted(model),
        quoted(file),
        quoted(digest)
    );
    let progress = Manner::Progress { stream: false };
    let plan = Plan::of("creation", model, "it is on", progress);
    plan.asking(Method::POST, Operation::Create, targets.clone(), |_| {
        body.clone().into()
    })
}

fn pull(asked: &Asked<'_>, view: &Snapshot) -> Result<Plan, Fault> {
    let (body, model) = (asked.body, asked.body.model()?);
    refuse_cloud(&model)?;
    let key = ModelKey::parse(&model)?;
    let targets = asked.targets(Reach::Default(asked.default), view)?;
    let once = OnceKey {
        model: key,
        nodes: targets.nodes.iter().map(|it| it.node).collect(),
        insecure: body.flag("insecure")?.unwrap_or(false),
    };
    let plan = Plan {
        once: Some(once),
        ..Plan::of("pull", &model, "it is on", asked.manner()?)
    };
    let sent = body.with(&[("model", quoted(&model)), stream()], &["name"]);
    Ok(plan.asking(Method::POST, Operation::Pull, targets, |_| sent.clone()))
}

fn push(asked: &Asked<'_>, view: &Snapshot) -> Result<Plan, Fault> {
    let (body, model) = (asked.body, asked.body.model()?);
    refuse_cloud(&model)?;
    let key = ModelKey::parse(&model)?;
    let targets = asked.targets(Reach::FirstHolder(&key), view)?;
    let plan = Plan::of("push", &model, "it was pushed from", asked.manner()?);
    Ok(
        plan.asking(Method::POST, Operation::Push, targets, |target| {
            let name = spelled(target, &model);
            body.with(&[("model", quoted(name)), stream()], &["name"])
        }),
    )
}

fn create(asked: &Asked<'_>, view: &Snapshot) -> Result<Plan, Fault> {
    let (body, model) = (asked.body, asked.body.model()?);
    ModelKey::parse(&model)?;
    if let Some(from) = body.text("from")? {
        refuse_cloud(&from)?;
    }
    let targets = asked.targets(Reach::Default(asked.default), view)?;
    let plan = Plan::of("creation", &model, "it is on", asked.manner()?);
    let sent = body.with(&[("model", quoted(&model)), stream()], &["name"]);
    Ok(plan.asking(Method::POST, Operation::Create, targets, |_| sent.clone()))
}

fn copy(asked: &Asked<'_>, view: &Snapshot) -> Result<Plan, Fault> {
    let body = asked.body;
    let (source, destination) = (body.required("source")?, body.required("destination")?);
    ModelKey::parse(&destination)?;
    let key = ModelKey::parse(&source)?;
    let targets = asked.targets(Reach::Holders(&key), view)?;
    let plan = Plan::of("copy", &source, "it was copied on", Manner::Whole(""));
    Ok(
        plan.asking(Method::POST, Operation::Copy, targets, |target| {
            body.with(&[("source", quoted(spelled(target, &source)))], &[])
        }),
    )
}

fn delete(asked: &Asked<'_>, view: &Snapshot) -> Result<Plan, Fault> {
    let model = asked.body.model()?;
    let key = ModelKey::parse(&model)?;
    let targets = asked.targets(Reach::Holders(&key), view)?;
    let plan = Plan::of("deletion", &model, "it is gone from", Manner::Whole(""));
    Ok(
        plan.asking(Method::DELETE, Operation::Delete, targets, |target| {
            format!("{{\"model\":{}}}", quoted(spelled(target, &model))).into()
        }),
    )
}

fn unload(asked: &Asked<'_>, view: &Snapshot) -> Result<Plan, Fault> {
    let model = asked.body.model()?;
    let key = ModelKey::parse(&model)?;
    let targets = asked.targets(Reach::Loaded(&key), view)?;
    let manner = Manner::Whole("{\"status\":true}");
    let plan = Plan::of("unloading", &model, "it is unloaded from", manner);
    Ok(
        plan.asking(Method::POST, Operation::Generate, targets, |target| {
            let name = quoted(spelled(target, &model));
            format!("{{\"model\":{name},\"keep_alive\":0,\"stream\":false}}").into()
        }),
    )
}

impl Asked<'_> {
    fn targets(&self, reach: Reach<'_>, view: &Snapshot) -> Result<Targets, Fault> {
        let call = self.call;
        targets(self.aim, on_node(call.operation), &call.mount, reach, view)
    }

    fn manner(&self) -> Result<Manner, Fault> {
        let stream = self.body.flag("stream")?.unwrap_or(true);
        Ok(Manner::Progress { stream })
    }
}

impl Plan {
    fn of(noun: &str, model: &str, done: &'static str, manner: Manner) -> Plan {
        Plan {
            words: Words {
                what: format!("{noun} of {model}"),
                done,
            },
            model: model.to_owned(),
            errands: Vec::new(),
            skipped: Vec::new(),
            manner,
            once: None,
        }
    }

    fn asking(
        self,
        method: Method,
        operation: Operation,
        targets: Targets,
        body: impl Fn(&Target) -> Bytes,
    ) -> Plan {
        let errand = |target: Target| Errand {
            body: body(&target),
            method: method.clone(),
            operation,
            target,
        };
        Plan {
            errands: targets.nodes.into_iter().map(errand).collect(),
            skipped: targets.skipped,
            ..self
        }
    }
}

/// The call of a node that does what a client asks for: those that are our own become one of Ollama's.
pub fn on_node(operation: Operation) -> Operation {
    match operation {
        Operation::Unload => Operation::Generate,
        Operation::Download | Operation::Upload => Operation::Create,
        own => own,
    }
}

/// The nodes always tell how far they are, or silence could not be told from work.
fn stream() -> (&'static str, String) {
    ("stream", "true".to_owned())
}

fn spelled<'a>(target: &'a Target, asked: &'a str) -> &'a str {
    target.spelled.as_deref().unwrap_or(asked)
}

/// A node would fetch it with its own identity at ollama.com, and every request for it would leave the building.
fn refuse_cloud(model: &str) -> Result<(), Fault> {
    match model::is_cloud(model) {
        true => Err(Fault::refused(
            403,
            "cloud_model",
            format!("`{model}` is a cloud model; name one that runs on the nodes"),
        )),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::recognize;
    use crate::fleet::fixture::herd;

    /// `method path body` for each node, or the status and the code.
    fn planned(path: &str, body: &str) -> Vec<String> {
        let method = match path {
            "/api/delete" => Method::DELETE,
            _ => Method::POST,
        };
        let fleet = herd("a up 0/4 Llama*\nb up 0/4 llama qwen").fleet;
        for node in &fleet.view().nodes {
            let addr = crate::fleet::Observation::Resolved("127.0.0.1:1".parse().unwrap());
            fleet.observe(node.id, addr, std::time::Instant::now());
        }
        let call = recognize(&method, path, &crate::profile::Profiles::new(Vec::new())).unwrap();
        let asked = |body: &Body<'_>| {
            let asked = Asked {
                call: &call,
                body,
                aim: &Aim::of(&call, None).unwrap(),
                default: &DefaultTarget::First,
            };
            plan(&asked, &fleet.view())
        };
        match Body::parse(body.as_bytes()).and_then(|body| asked(&body)) {
            Err(fault) => vec![format!("{} {}", fault.status(), fault.code())],
            Ok(plan) => plan
                .errands
                .iter()
                .map(|it| {
                    let body = String::from_utf8_lossy(&it.body);
                    let path = crate::dialect::recognize::path_of(it.operation);
                    format!("{} {} {path} {body}", it.target.name, it.method)
                })
                .collect(),
        }
    }

    const CASES: &[(&str, &str, &[&str])] = &[
        (
            "/api/pull",
            r#"{"name":"x","model":"","insecure":true,"stream":false}"#,
            &[r#"a POST /api/pull {"model":"x","stream":true,"insecure":true}"#],
        ),
        ("/api/pull", r#"{"model":"x:cloud"}"#, &["403 cloud_model"]),
        (
            "/api/pull",
            r#"{"model":"a b"}"#,
            &["400 invalid_model_name"],
        ),
        (
            "/api/pull",
            r#"{"model":"x","stream":1}"#,
            &["400 wrong_type"],
        ),
        (
            "/api/pull",
            r#"{"model":"x","insecure":1}"#,
            &["400 wrong_type"],
        ),
        (
            "/api/push",
            r#"{"model":"LLAMA"}"#,
            &[r#"a POST /api/push {"model":"Llama","stream":true}"#],
        ),
        (
            "/api/create",
            r#"{"model":"n","from":"llama","parameters":{"x":0.10}}"#,
            &[
                r#"a POST /api/create {"model":"n","stream":true,"from":"llama","parameters":{"x":0.10}}"#,
            ],
        ),
        (
            "/api/create",
            r#"{"model":"n","from":"x:cloud"}"#,
            &["403 cloud_model"],
        ),
        (
            "/api/copy",
            r#"{"source":"llama","destination":"n"}"#,
            &[
                r#"a POST /api/copy {"source":"Llama","destination":"n"}"#,
                r#"b POST /api/copy {"source":"llama","destination":"n"}"#,
            ],
        ),
        (
            "/api/copy",
            r#"{"source":"llama"}"#,
            &["400 field_required"],
        ),
        (
            "/api/copy",
            r#"{"source":"none","destination":"n"}"#,
            &["404 model_not_found"],
        ),
        (
            "/api/delete",
            r#"{"name":"qwen:latest"}"#,
            &[r#"b DELETE /api/delete {"model":"qwen"}"#],
        ),
        (
            "/api/delete",
            r#"{"model":"none"}"#,
            &["404 model_not_found"],
        ),
        (
            "/api/unload",
            r#"{"model":"llama"}"#,
            &[r#"a POST /api/generate {"model":"Llama","keep_alive":0,"stream":false}"#],
        ),
        ("/api/unload", r#"{"model":"qwen"}"#, &[]),
    ];

    #[test]
    fn each_call_becomes_requests_to_its_nodes() {
        for (path, body, expected) in CASES {
            assert_eq!(planned(path, body), *expected, "{path} {body}");
        }
    }
}
