//! One name, several models: nodes that mean different files by the same name.

use std::sync::Arc;

use crate::fleet::snapshot::Snapshot;

/// A name under which nodes have different models. It is one entry all the same, and requests go to any of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// As the first node spells it.
    pub name: Arc<str>,
    /// Each digest and the names of the nodes that have it, in the order of the nodes; at least two.
    pub digests: Vec<(Arc<str>, Vec<String>)>,
}

/// All conflicts, in the order of the alphabet.
pub(in crate::fleet) fn conflicts(view: &Snapshot) -> Vec<Conflict> {
    let mut conflicts: Vec<Conflict> = Vec::new();
    for holders in view.index.values() {
        let mut digests: Vec<(Arc<str>, Vec<String>)> = Vec::new();
        for holder in holders {
            let model = view.model_of(holder);
            // Servers without digests do not tell what they mean.
            if model.digest.is_empty() {
                continue;
            }
            let node = view.node_of(holder).config.name.clone();
            match digests.iter_mut().find(|(known, _)| *known == model.digest) {
                Some((_, nodes)) => nodes.push(node),
                None => digests.push((Arc::clone(&model.digest), vec![node])),
            }
        }
        let first = holders.first().map(|holder| view.public_name(holder));
        if let (Some(name), 2..) = (first, digests.len()) {
            conflicts.push(Conflict { name, digests });
        }
    }
    conflicts.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    conflicts
}
