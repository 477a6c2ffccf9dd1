//! Who has which model, and what is in whose memory: worked out when either changes, so that a request need not.

use std::collections::HashMap;
use std::sync::Arc;

use crate::fleet::memory::Resident;
use crate::fleet::snapshot::{Holder, Node};
use crate::fleet::warmth::Warmth;
use crate::model::ModelKey;

/// The nodes that have each model, in the order of the nodes.
pub(super) type Index = HashMap<ModelKey, Vec<Holder>>;

/// The index; each node is told what is in its memory.
pub(super) fn index(nodes: &mut [Node]) -> Index {
    let mut index = Index::new();
    let mut held: Vec<(usize, ModelKey, Resident)> = Vec::new();
    for (at, node) in nodes.iter().enumerate() {
        let warmth = Warmth::of(node);
        let models = node.models();
        for (place, offered) in node.offered().iter().enumerate() {
            let model = &models[offered.place];
            let runner = warmth.runner(model);
            if let Some(runner) = runner.filter(|_| node.loads_on_demand()) {
                let resident = Resident {
                    traits: Arc::clone(&offered.traits),
                    bytes: runner.bytes,
                    copies: 0,
                };
                held.push((at, offered.key.clone(), resident));
            }
            let holder = Holder {
                node: node.id,
                at,
                spelled: Arc::clone(&model.name),
                warm: runner.is_some(),
                context: runner.and_then(|runner| runner.context),
                remote: model.about.remote,
                traits: Arc::clone(&offered.traits),
                place,
            };
            match index.get_mut(&offered.key) {
                Some(holders) => holders.push(holder),
                None => drop(index.insert(offered.key.clone(), vec![holder])),
            }
        }
    }
    settle(nodes, held, &index);
    index
}

/// Tells each node what is in its memory; names of one file are one model there.
fn settle(nodes: &mut [Node], held: Vec<(usize, ModelKey, Resident)>, index: &Index) {
    let mut residents: Vec<Vec<Resident>> = vec![Vec::new(); nodes.len()];
    for (at, key, mut resident) in held {
        if residents[at].iter().any(|it| it.traits == resident.traits) {
            continue;
        }
        let holders = index.get(&key).map_or(&[][..], Vec::as_slice);
        let warm = holders.iter().filter(|it| it.warm && it.at != at);
        resident.copies = warm.count() as u32;
        residents[at].push(resident);
    }
    for (node, residents) in nodes.iter_mut().zip(residents) {
        if !(node.residents.is_empty() && residents.is_empty()) {
            node.residents = residents.into();
        }
    }
}
