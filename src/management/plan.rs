//! From a request to what each node is asked for: the one place that knows how the calls differ.

use bytes::Bytes;
use http::Method;

use crate::config::DefaultTarget;
use crate::dialect::{Call, Operation};
use crate::error::{Fault, Kind};
use crate::fleet::{NodeId, Snapshot};
use crate::model::{self, ModelKey};
use crate::text::quoted;

use super::names::{free_name, refuse_alias, refuse_cloud, told_of_alias};
use super::outcome::Words;
use super::request::Body;
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
    let key = free_name(&model, view)?;
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
    refuse_cloud(&model, view)?;
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
    free_name(&model, view)?;
    for remote in ["remote_host", "remote_model"] {
        if body.text(remote)?.is_some() {
            return Err(model::cloud_refused(&model));
        }
    }
    let from = body.text("from")?;
    if let Some(from) = &from {
        refuse_cloud(from, view)?;
        refuse_alias(from, view)?;
    }
    let targets = asked.targets(Reach::Default(asked.default), view)?;
    let plan = Plan::of("creation", &model, "it is on", asked.manner()?);
    Ok(
        plan.asking(Method::POST, Operation::Create, targets, |target| {
            let mut edits = vec![("model", quoted(&model)), stream()];
            let base = from.as_deref().map(|from| base_at(target, from, view));
            edits.extend(base.map(|base| ("from", quoted(base))));
            body.with(&edits, &["name"])
        }),
    )
}

/// What a listed model is called on a node. A node that lacks it pulls it by the name that it has elsewhere: with a node's prefix it
/// would be another model of the registry, or none.
fn base_at<'a>(target: &Target, from: &'a str, view: &'a Snapshot) -> &'a str {
    let key = ModelKey::parse(from).ok();
    let holders = key.and_then(|key| view.holders(&key)).unwrap_or_default();
    let own = holders.iter().find(|it| it.node == target.node);
    own.or(holders.first()).map_or(from, |it| &it.spelled)
}

fn copy(asked: &Asked<'_>, view: &Snapshot) -> Result<Plan, Fault> {
    let body = asked.body;
    let (source, destination) = (body.required("source")?, body.required("destination")?);
    free_name(&destination, view)?;
    let key = ModelKey::parse(&source)?;
    refuse_cloud(&source, view)?;
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
            format!("{{\"model\":{name},\"prompt\":\"\",\"keep_alive\":0,\"stream\":false}}").into()
        }),
    )
}

impl Asked<'_> {
    fn targets(&self, reach: Reach<'_>, view: &Snapshot) -> Result<Targets, Fault> {
        let call = self.call;
        let found = targets(self.aim, on_node(call.operation), &call.mount, reach, view);
        found.map_err(|fault| match reach.model() {
            Some(key) => told_of_alias(fault, key, view),
            None => fault,
        })
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

#[cfg(test)]
mod tests;
