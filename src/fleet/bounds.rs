//! How much ejection a fleet bears: failing requests alone must not take out too many nodes, nor the last one that has a model.

use crate::config::HealthConfig;
use crate::fleet::health::{Cause, Spared};
use crate::fleet::snapshot::{Node, Snapshot};

/// Why the node at `at` must stay although its requests fail; `None` when it may be ejected.
///
/// What probes find out is not subject to this: a node that does not even answer a probe serves nobody.
pub(super) fn spare(view: &Snapshot, at: usize, limits: &HealthConfig) -> Option<Spared> {
    let node = &view.nodes[at];
    if node.draining {
        return None; // it gets no requests anyway
    }
    if is_last_holder(view, at) {
        return Some(Spared::LastHolder);
    }
    let ejected = 1 + count(view, |node| node.health.cause() == Some(Cause::Traffic));
    let alive = count(view, |node| {
        matches!(node.health.cause(), None | Some(Cause::Traffic))
    });
    // One of a few nodes may always go, or the percentage would mean nothing in a fleet of three.
    let most = match limits.ejected_percent_max {
        0 => 0,
        percent => (alive * percent as usize / 100).max(1),
    };
    (most < ejected).then_some(Spared::Percent)
}

fn count(view: &Snapshot, suits: impl Fn(&Node) -> bool) -> usize {
    let nodes = view.nodes.iter().filter(|node| !node.draining);
    nodes.filter(|node| suits(node)).count()
}

/// Whether one of its models, or every call, would be without a node in service. Asked only when a node is about to go.
fn is_last_holder(view: &Snapshot, at: usize) -> bool {
    let serves = |other: usize| other != at && view.nodes[other].is_open();
    let mut models = view.nodes[at].offered().iter();
    !(0..view.nodes.len()).any(serves)
        || models.any(|model| {
            let holders = view.holders(&model.key).unwrap_or_default();
            !holders.iter().any(|holder| serves(holder.at))
        })
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use proptest::prelude::*;

    use super::*;
    use crate::fleet::fixture::{LIMITS, herd, herd_with};
    use crate::fleet::{NodeId, Observation};

    /// What becomes of the first node when its requests fail: `ejected`, or why not. A fleet is the states and models of its nodes.
    fn fails(fleet: &str, ejected_percent_max: u32) -> &'static str {
        let limits = HealthConfig {
            ejected_percent_max,
            ..LIMITS
        };
        let nodes = fleet.split(" | ").enumerate().map(|(at, node)| {
            let (state, models) = node.split_once(' ').unwrap_or((node, ""));
            format!("n{at} {state} 0/4 {models}\n")
        });
        let herd = herd_with(&nodes.collect::<String>(), limits);
        for _ in 0..LIMITS.unhealthy_threshold {
            let broken = Observation::Traffic(Err("reset".to_owned()));
            herd.fleet.observe(NodeId(0), broken, Instant::now());
        }
        let view = herd.fleet.view();
        match (view.nodes[0].spared, view.nodes[0].health.cause()) {
            (Some(spared), None) => spared.as_str(),
            (None, Some(Cause::Traffic)) => "ejected",
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_node_is_ejected_only_where_others_take_over() {
        for (fleet, percent, expected) in [
            ("up a", 100, "last_holder"),
            ("up", 100, "last_holder"),
            ("up | up", 50, "ejected"),
            ("up a | up a", 50, "ejected"),
            ("up a | up A:latest", 50, "ejected"),
            ("up a | up b", 100, "last_holder"),
            // One model too many.
            ("up a b | up a", 50, "last_holder"),
            ("up a b | up a | up b", 50, "ejected"),
            // Who has the model but is not in service takes nothing over.
            ("up a | down a | up b", 50, "last_holder"),
            ("up a | draining a | up b", 50, "last_holder"),
            ("up a | refused a | up b", 50, "last_holder"),
            ("up a | limited a | up b", 50, "last_holder"),
            ("up a | unknown a", 50, "last_holder"),
            ("up a | trial a", 50, "ejected"),
            ("trial a | up a", 50, "ejected"),
            // A node that gets no requests takes nothing away.
            ("draining a", 0, "ejected"),
            // The share, of which one is always allowed, unless none shall be.
            ("up a | up a | up a", 10, "ejected"),
            ("up a | up a | up a", 0, "percent"),
            ("up a | ejected | up a", 50, "percent"),
            ("up a | ejected | up a", 67, "ejected"),
            ("up a | ejected | up a | up a", 50, "ejected"),
            // Nodes that are down for another cause are no part of it.
            ("up a | ejected | up a | down", 50, "percent"),
            ("up a | ejected | up a | draining", 50, "percent"),
            ("up a | down | up a | refused", 50, "ejected"),
        ] {
            assert_eq!(fails(fleet, percent), expected, "{fleet} {percent}%");
        }
    }

    proptest! {
        #[test]
        fn no_sequence_ejects_too_many_or_the_last_that_has_a_model(
            models in prop::collection::vec(prop::sample::subsequence(vec!["a", "b", "c"], 0..=3), 1..7),
            percent in 0_u32..=100,
            steps in prop::collection::vec((any::<prop::sample::Index>(), 0_u8..9, 0_u64..12), 0..120),
        ) {
            let lines = models.iter().enumerate();
            let lines: Vec<String> = lines.map(|(at, models)| format!("n{at} up 0/4 {}", models.join(" "))).collect();
            let limits = HealthConfig { ejected_percent_max: percent, ..LIMITS };
            let fleet = herd_with(&lines.join("\n"), limits).fleet;
            let mut now = Instant::now();
            for (which, step, pause_s) in steps {
                now += Duration::from_secs(pause_s);
                let node = NodeId(which.index(models.len()));
                let seen = match step {
                    0..=3 => Observation::Traffic(Err("reset".to_owned())),
                    4 => Observation::Traffic(Ok(())),
                    5 | 6 => Observation::Probe(Ok(())),
                    7 => Observation::Probe(Err("refused".to_owned())),
                    _ => { fleet.drain(&format!("n{}", node.0), pause_s % 2 == 0); continue }
                };
                let before = fleet.view();
                fleet.observe(node, seen, now);
                let after = fleet.view();
                let was_up = before.nodes[node.0].is_open();
                let [ejected, alive] = [Some(Cause::Traffic), None].map(|cause| {
                    after.nodes.iter().filter(|it| !it.draining && it.health.cause() == cause).count()
                });
                if step <= 3 && was_up && after.nodes[node.0].health.is_down() {
                    prop_assert!(0 < percent);
                    prop_assert!(ejected == 1 || ejected * 100 <= (ejected + alive) * percent as usize);
                    prop_assert!(after.is_ready());
                    for model in after.nodes[node.0].models() {
                        let holders = after.holders(&model.key).expect("it has it itself");
                        prop_assert!(holders.iter().any(|holder| after.node_of(holder).is_open()));
                    }
                }
            }
        }
    }

    #[test]
    fn a_refusal_lasts_as_long_as_its_reason() {
        let fleet = herd("a up 0/4 llama\nb down 0/4 llama").fleet;
        let see = |node, seen| fleet.observe(NodeId(node), seen, Instant::now());
        let broken = || Observation::Traffic(Err("reset".to_owned()));
        (0..3).for_each(|_| see(0, broken()));
        assert_eq!(fleet.view().nodes[0].spared, Some(Spared::LastHolder));
        see(0, Observation::Traffic(Ok(())));
        assert_eq!(fleet.view().nodes[0].spared, None);
        (0..3).for_each(|_| see(0, broken()));
        see(1, Observation::Probe(Ok(())));
        assert_eq!(fleet.view().nodes[0].spared, Some(Spared::LastHolder));
        see(0, broken());
        assert_eq!(fleet.view().nodes[0].health.cause(), Some(Cause::Traffic));
    }
}
