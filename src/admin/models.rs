//! `/internal/status/models`: what the herd has, and where.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::fleet::{Holder, Installed, Scope, Seats, Snapshot, Traits};

use super::State;
use super::endpoint;
use super::human;
use super::query::Query;

/// Entries of `recent_models`.
const RECENT_MAX: usize = 10;
/// Most entries that a detailed page lists.
const LISTED_MAX: usize = 10_000;
/// A model whose node does not tell its family.
const NO_FAMILY: &str = "unknown";

/// One model of the catalogue and who has it.
struct Model<'a> {
    name: &'a str,
    /// All names of the model, aliases too.
    names: Arc<[&'a str]>,
    holders: Vec<&'a Holder>,
    /// The entry that speaks for it.
    told: &'a Installed,
    traits: &'a Traits,
}

impl Model<'_> {
    fn family(&self) -> &str {
        match &*self.told.about.family {
            "" => NO_FAMILY,
            family => family,
        }
    }
}

/// `/internal/status/models`; `detailed=true` lists all models, `group=family` lists them by family.
pub(super) fn page(state: &State<'_>, query: Query<'_>) -> Value {
    let models = models(state.view);
    let entry = |model: &Model<'_>| entry(state, model);
    let mut families: BTreeMap<&str, Vec<&Model<'_>>> = BTreeMap::new();
    for model in &models {
        families.entry(model.family()).or_default().push(model);
    }
    let by_family: BTreeMap<&str, Vec<&str>> = families
        .iter()
        .map(|(family, models)| (*family, models.iter().map(|model| model.name).collect()))
        .collect();
    let mut recent: Vec<&Model<'_>> = models.iter().collect();
    recent.sort_by_key(|model| std::cmp::Reverse(model.told.modified));
    let recent: Vec<Value> = recent.into_iter().take(RECENT_MAX).map(entry).collect();
    let mut page = json!({
        "timestamp": state.now.timestamp(),
        "models_by_family": by_family,
        "recent_models": recent,
        "total_models": models.len(),
        "total_families": families.len(),
        "total_endpoints": state.view.nodes.len(),
    });
    if query.is_set("detailed") {
        page["models"] = models.iter().take(LISTED_MAX).map(entry).collect();
    }
    if query.value("group") == Some("family") {
        let mut left = LISTED_MAX;
        let mut groups: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
        for (family, models) in families {
            let listed = models.iter().take(left);
            let entries: Vec<Value> = listed.map(|model| entry(model)).collect();
            left -= entries.len();
            groups.insert(family, entries);
        }
        page["model_groups"] = json!(groups);
    }
    page
}

/// How many models there are, those of an alias's name left out.
pub(super) fn count(view: &Snapshot) -> usize {
    models(view).len()
}

/// All models by each of their own names, in the order of the alphabet.
fn models(view: &Snapshot) -> Vec<Model<'_>> {
    let mut models = Vec::new();
    for mut unified in view.unified(&Scope::ALL) {
        let names: Arc<[&str]> = unified.lines.iter().map(|line| line.name).collect();
        unified.lines.retain(|line| !line.is_alias());
        models.extend(unified.lines.into_iter().filter_map(|line| {
            let tells = |holder: &&&Holder| std::ptr::eq(view.model_of(holder), line.model);
            let teller = *line.holders.iter().find(tells).or(line.holders.first())?;
            Some(Model {
                name: line.name,
                names: Arc::clone(&names),
                told: line.model,
                traits: &teller.traits,
                holders: line.holders,
            })
        }));
    }
    models.sort_unstable_by_key(|model| model.name);
    models
}

fn entry(state: &State<'_>, model: &Model<'_>) -> Value {
    let (view, about) = (state.view, &model.told.about);
    let size_bytes = about.size_bytes.unwrap_or_default();
    let nodes = || model.holders.iter().map(|holder| view.node_of(holder));
    let names = |warm_only: bool| {
        let holders = model.holders.iter();
        let wanted = holders.filter(move |holder| !warm_only || view.is_loaded(holder));
        let names: Vec<&str> = wanted
            .map(|holder| view.node_of(holder).config.name.as_str())
            .collect();
        names
    };
    let ids: Vec<String> = nodes().map(endpoint::id).collect();
    let seen = nodes().filter_map(|node| node.moments().listed()).max();
    let names_all = model.names.iter().copied();
    let aliases: Vec<&str> = names_all.filter(|name| *name != model.name).collect();
    let mut digests: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for holder in &model.holders {
        let digest = &*view.model_of(holder).digest;
        if !digest.is_empty() {
            let name = view.node_of(holder).config.name.as_str();
            digests.entry(digest).or_default().push(name);
        }
    }
    let mut fields = json!({
        "name": model.name,
        "family": model.family(),
        "size": human::bytes(size_bytes),
        "size_bytes": size_bytes,
        "params": about.size_word,
        "quant": about.quantization_word,
        "modified_at": model.told.modified.to_rfc3339(),
        "last_seen": state.now.ago(seen),
        "last_seen_at": seen.map(|at| state.now.at(at)),
        "endpoints": names(false),
        "endpoint_ids": ids,
        "loaded_endpoints": names(true),
        "aliases": aliases,
        "digests": digests.keys().collect::<Vec<_>>(),
        "endpoints_by_digest": digests,
        "has_conflict": 1 < digests.len(),
    });
    fields["capabilities"] = about.capabilities.iter().map(|word| json!(word)).collect();
    fields["context"] = json!(model.traits.context_max);
    fields["resources"] = resources(model.traits);
    fields
}

/// What it needs on the node whose entry speaks for it; `null` where the node's type does not say.
fn resources(traits: &Traits) -> Value {
    let demand = &traits.demand;
    let told = |number: f64| (0.0 < number).then_some(number);
    // Profiles have a decimal or two; what multiplying adds behind them is noise.
    let gb = |gb: f64| told((gb * 100.0).round() / 100.0);
    json!({
        "memory_gb": gb(demand.memory_gb),
        "recommended_memory_gb": gb(demand.recommended_gb),
        "gpu_memory_gb": gb(demand.gpu_gb),
        "requires_gpu": demand.requires_gpu,
        "load_time_s": told(demand.load_time.as_secs_f64()),
        "max_concurrent": traits.slots(),
        "hard": matches!(traits.seats, Seats::Written(_)),
    })
}
