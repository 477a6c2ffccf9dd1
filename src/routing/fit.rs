//! Whether what a node has can do what a request needs, and how well it suits it.
//!
//! What a node states is believed, what a name says is preferred to what nobody says, and nothing is refused for a guess.

use crate::dialect::Operation;
use crate::error::Fault;
use crate::fleet::{Ability, Holder, Snapshot, Traits};
use crate::routing::Ask;

use super::pick::Candidate;
use super::some::some;

/// Most models that a refusal proposes.
const PROPOSED_MAX: usize = 3;

/// How badly a model suits a request; the least is the best. Being sure that it can do the work counts more than being sure that the
/// prompt fits: servers shorten prompts by themselves.
pub(super) type Misfit = u8;
const UNSURE: Misfit = 2;
const TOO_SHORT: Misfit = 1;

/// Which of a model's abilities is looked at.
type Of = fn(&Traits) -> Ability;

/// How badly what has these traits suits a request. Only images and vectors prefer what is known to do them to what may: nearly every
/// model takes tools, and preferring nodes that say so would leave those that say nothing idle.
pub(super) fn misfit(ask: &Ask<'_>, traits: &Traits) -> Misfit {
    let is_unsure = (ask.needs.images && !traits.abilities.vision.is_known())
        || (makes_vectors(ask.operation) && !traits.abilities.embedding.is_known());
    let is_too_short = traits
        .context_max
        .is_some_and(|tokens| tokens < ask.needs.prompt_tokens);
    u8::from(is_unsure) * UNSURE + u8::from(is_too_short) * TOO_SHORT
}

/// Whether a request needs anything that a model may be unable to do.
pub(super) fn is_choosy(ask: &Ask<'_>) -> bool {
    let needs = ask.needs;
    let of_model = needs.images || needs.tools || needs.thinking;
    of_model || makes_vectors(ask.operation) || ask.wanted.is_alias()
}

/// Leaves those who can do what the request needs. A model that cannot see would answer as if there were no image, so nobody is left
/// when all say that they cannot. What else a model lacks only sends the request to another that has it: it is the node that
/// knows best, and Ollama up to 0.24 makes vectors with any model.
///
/// # Errors
/// 400 when all say that they do not take images.
pub(super) fn retain_able(
    ask: &Ask<'_>,
    view: &Snapshot,
    able: &mut Vec<Candidate<'_, &Holder>>,
) -> Result<(), Fault> {
    if !ask.operation.runs_model() {
        return Ok(());
    }
    let denies = |it: &Candidate<'_, &Holder>, of: Of| of(&it.holder.traits).is_denied();
    if ask.needs.images {
        able.retain(|it| !denies(it, |traits| traits.abilities.vision));
        if able.is_empty() {
            return Err(unsupported(ask, view));
        }
    }
    for (_, of) in wants(ask) {
        if able.iter().any(|it| !denies(it, of)) {
            able.retain(|it| !denies(it, of));
        }
    }
    Ok(())
}

/// What a request would rather have of a model, by the words for a model that lacks it.
fn wants(ask: &Ask<'_>) -> impl Iterator<Item = (&'static str, Of)> {
    let is_vectors = makes_vectors(ask.operation);
    let wants: [(bool, &str, Of); 4] = [
        (is_vectors, "makes no vectors", |it| it.abilities.embedding),
        // The holders of one model agree in this; the targets of an alias may not.
        (
            !is_vectors && ask.wanted.is_alias(),
            "writes no answers",
            |it| it.abilities.completion,
        ),
        (ask.needs.tools, "calls no tools", |it| it.abilities.tools),
        (ask.needs.thinking, "does not think", |it| {
            it.abilities.thinking
        }),
    ];
    let wanted = wants.into_iter().filter(|(is_wanted, ..)| *is_wanted);
    wanted.map(|(_, lacks, of)| (lacks, of))
}

/// What a model is unable to do that the request needs, or would rather have.
pub(super) fn lacking(ask: &Ask<'_>, traits: &Traits) -> Option<&'static str> {
    if ask.needs.images && traits.abilities.vision.is_denied() {
        return Some("takes no images");
    }
    let mut wants = wants(ask);
    let (lacks, _) = wants.find(|(_, of)| of(traits).is_denied())?;
    Some(lacks)
}

fn makes_vectors(operation: Operation) -> bool {
    use Operation::{Embed, Embeddings, V1Embeddings};
    matches!(operation, Embed | Embeddings | V1Embeddings)
}

fn unsupported(ask: &Ask<'_>, view: &Snapshot) -> Fault {
    let sees = |name: &&str| {
        let mut holders = view.named_holders(name);
        holders.any(|holder| {
            let node = view.node_of(holder);
            holder.traits.abilities.vision.is_known() && node.is_open() && node.is_on(ask.mount)
        })
    };
    let seeing = view.model_names().filter(sees).take(PROPOSED_MAX);
    let names = some(seeing.map(str::to_owned));
    let advice = match names.is_empty() {
        true => "no model here is known to; `ollama pull` one that does".to_owned(),
        false => format!("ask one that does: {names}"),
    };
    let message = format!("{} does not take images; {advice}", ask.wanted);
    Fault::malformed("unsupported_by_model", message)
}
