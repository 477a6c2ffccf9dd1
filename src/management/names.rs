//! Which names a change may use: no cloud model's, and no alias where a model itself is meant.

use crate::config::Alias;
use crate::error::{Fault, Kind};
use crate::fleet::Snapshot;
use crate::model::{self, ModelKey};

/// Most models of an alias that a refusal names.
const ALIASED_MAX: usize = 5;

/// A node would fetch it with its own identity at ollama.com, and every request for it would leave the building. A copy keeps that
/// under whatever name it got.
pub(super) fn refuse_cloud(name: &str, view: &Snapshot) -> Result<(), Fault> {
    let holders = ModelKey::parse(name).ok();
    let holders = holders.and_then(|key| view.holders(&key));
    let is_copy = || holders.unwrap_or_default().iter().any(|it| it.remote);
    match model::is_cloud(name) || is_copy() {
        true => Err(model::cloud_refused(name)),
        false => Ok(()),
    }
}

/// A change is made from a model itself: no node knows what an alias stands for.
pub(super) fn refuse_alias(name: &str, view: &Snapshot) -> Result<(), Fault> {
    let key = ModelKey::parse(name).ok();
    let lacking = key.filter(|key| view.holders(key).is_none());
    match lacking.and_then(|key| alias_fault(&key, view)) {
        Some(fault) => Err(fault),
        None => Ok(()),
    }
}

/// What a new model may be called: no cloud model's name, which requests would never reach, nor an alias, which would hide it.
///
/// # Errors
/// 400 and 403.
pub fn free_name(name: &str, view: &Snapshot) -> Result<ModelKey, Fault> {
    let key = ModelKey::parse(name)?;
    if model::is_cloud(name) {
        return Err(model::cloud_refused(name));
    }
    match Alias::find(&view.rules().aliases, &key) {
        // An alias may hold a model of its own name, and puts it where the operator wants it.
        Some(alias) if !alias.names_itself => Err(Fault::malformed(
            "name_is_alias",
            format!("{}; choose another name for the model", alias_of(alias)),
        )),
        _ => Ok(key),
    }
}

/// A 404 for a name that stands for others says so: a change is never made to what an alias stands for.
pub(super) fn told_of_alias(fault: Fault, key: &ModelKey, view: &Snapshot) -> Fault {
    let told = || alias_fault(key, view);
    let alias = (fault.kind == Kind::UnknownModel).then(told).flatten();
    alias.unwrap_or(fault)
}

/// The 404 for a name that stands for others; `None` when it does not.
fn alias_fault(key: &ModelKey, view: &Snapshot) -> Option<Fault> {
    let alias = Alias::find(&view.rules().aliases, key)?;
    let message = format!("{}; name the model itself", alias_of(alias));
    Some(Fault::new(Kind::UnknownModel, message))
}

fn alias_of(alias: &Alias) -> String {
    let mut targets = alias
        .targets
        .iter()
        .take(ALIASED_MAX)
        .map(String::as_str)
        .collect::<Vec<_>>();
    if ALIASED_MAX < alias.targets.len() {
        targets.push("…");
    }
    format!("`{}` is an alias of {}", alias.name, targets.join(", "))
}
