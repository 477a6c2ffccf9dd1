//! Leases and seats: under many hands, over reloads, in every order.

use std::sync::atomic::AtomicU32;
use std::time::Duration;

use proptest::prelude::*;

use super::super::fixture::{Herd, LIMITS, herd, installed, ollama};
use super::super::*;

#[test]
fn leases_of_many_threads_never_exceed_the_slots_and_all_return() {
    let mut config = ollama("a");
    config.slots = Some(3);
    let fleet = Fleet::new(vec![config], LIMITS);
    let (held, granted) = (AtomicU32::new(0), AtomicU32::new(0));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..500 {
                    let Some(lease) = fleet.try_lease(NodeId(0), None) else {
                        continue;
                    };
                    granted.fetch_add(1, Ordering::Relaxed);
                    assert!(held.fetch_add(1, Ordering::SeqCst) < 3);
                    std::thread::yield_now();
                    held.fetch_sub(1, Ordering::SeqCst);
                    drop(lease);
                }
            });
        }
    });
    assert!(granted.into_inner() > 0);
    assert_eq!(fleet.view().nodes[0].in_flight(), 0);
}

#[test]
fn a_load_that_no_request_asks_for_takes_no_slot_and_tells_of_its_runner() {
    let herd = herd("a up 1/1 llama");
    let traits = herd.traits(NodeId(0), "llama");
    let runner = RunnerKey {
        num_ctx: Some(8192),
        ..RunnerKey::default()
    };
    let begun = Duration::from_secs(9);
    let loading = herd.fleet.loading(NodeId(0), &traits, runner, begun);
    let view = herd.fleet.view();
    assert!(view.nodes[0].is_loading() && view.nodes[0].in_flight() == 1);
    let ledger = traits.ledger();
    let second = Duration::from_secs(1);
    assert_eq!(ledger.loading_for(begun + second), Some(second));
    assert_eq!(ledger.started(), Some(runner));
    assert_eq!(ledger.last_used_ms(), 0, "nobody used it");
    drop(loading);
    assert!(!view.nodes[0].is_loading() && !ledger.is_loading());
    let elsewhere = herd.fleet.loading(NodeId(7), &traits, runner, begun);
    assert!(elsewhere.is_none() && !ledger.is_loading());
}

#[test]
fn a_node_that_comes_back_is_full_with_what_its_successes_allow() {
    let mut config = ollama("a");
    config.slots = Some(3);
    let fleet = Fleet::new(vec![config], LIMITS);
    let see = |seen| fleet.observe(NodeId(0), seen, Instant::now());
    for result in [Ok(()), Err("refused".to_owned())] {
        (0..LIMITS.unhealthy_threshold).for_each(|_| see(Observation::Probe(result.clone())));
    }
    (0..LIMITS.healthy_threshold).for_each(|_| see(Observation::Probe(Ok(()))));
    // Its own slots are the limit in the end.
    for allowed in [1, 2, 3, 3] {
        let leases: Vec<_> = (0..5)
            .map_while(|_| fleet.try_lease(NodeId(0), None))
            .collect();
        assert_eq!(leases.len(), allowed);
        see(Observation::Traffic(Ok(())));
    }
}

#[test]
fn seats_of_many_threads_exceed_neither_limit_and_all_return() {
    let herd = herd("a@hard up 0/3 qwen:7b mistral:7b llama");
    let (held, granted) = ([const { AtomicU32::new(0) }; 4], AtomicU32::new(0));
    let names = ["qwen:7b", "mistral:7b", "llama"];
    let traits = names.map(|name| herd.traits(NodeId(0), name));
    std::thread::scope(|scope| {
        for thread in 0..9 {
            let (fleet, traits, held, granted) = (&herd.fleet, &traits, &held, &granted);
            scope.spawn(move || {
                let model = thread % 3;
                for _ in 0..300 {
                    let Some(lease) = fleet.try_lease(NodeId(0), Some(&traits[model])) else {
                        continue;
                    };
                    granted.fetch_add(1, Ordering::Relaxed);
                    assert!(held[3].fetch_add(1, Ordering::SeqCst) < 3);
                    assert!(held[model].fetch_add(1, Ordering::SeqCst) < [1, 1, 3][model]);
                    std::thread::yield_now();
                    held[model].fetch_sub(1, Ordering::SeqCst);
                    held[3].fetch_sub(1, Ordering::SeqCst);
                    drop(lease);
                }
            });
        }
    });
    assert!(granted.into_inner() > 0);
    assert_eq!(herd.fleet.view().nodes[0].in_flight(), 0);
    assert!(traits.iter().all(|it| it.ledger().in_flight() == 0));
}

#[test]
fn seats_are_counted_on_over_listings_and_reloads_and_forgotten_with_the_model() {
    let herd = herd("a@hard up 0/auto qwen:7b");
    let lease = herd.seat(NodeId(0), "qwen:7b");
    let list = |models: &[&str]| {
        let models = installed(true, models);
        let version = None;
        let seen = Observation::Installed { models, version };
        herd.fleet.observe(NodeId(0), seen, Instant::now());
    };
    let taken = || herd.traits(NodeId(0), "qwen:7b").ledger().in_flight();
    list(&["llama", "qwen:7b=vision"]);
    assert_eq!(taken(), 1);
    let mut config = (*herd.fleet.view().nodes[0].config).clone();
    config.tags.push("new".to_owned());
    herd.fleet
        .reconfigure(vec![Arc::new(config)], LIMITS, Rules::default(), |_| ());
    assert_eq!(taken(), 1);
    let now = herd.traits(NodeId(0), "qwen:7b");
    assert!(
        herd.fleet.try_lease(NodeId(0), Some(&now)).is_none(),
        "one at once, whatever was learned meanwhile"
    );
    assert_eq!(
        herd.fleet.view().nodes[0].in_flight(),
        1,
        "a lease without a seat leaves no slot taken"
    );
    let counted = Arc::downgrade(herd.traits(NodeId(0), "qwen:7b").shared_ledger());
    drop(now);
    list(&["llama"]);
    drop(lease);
    assert!(
        counted.upgrade().is_none(),
        "nothing is kept of models that are gone"
    );
}

#[test]
fn a_trial_is_one_lease_at_a_time_and_a_draining_node_gives_none() {
    for slots in ["4", "auto"] {
        let Herd { fleet, leases } = herd(&format!("a trial 1/{slots} llama"));
        assert!(fleet.try_lease(NodeId(0), None).is_none());
        drop(leases);
        let lease = fleet.try_lease(NodeId(0), None);
        assert!(lease.is_some() && fleet.try_lease(NodeId(0), None).is_none());
        fleet.observe(NodeId(0), Observation::Traffic(Ok(())), Instant::now());
        assert_eq!(fleet.view().nodes[0].state(), State::Healthy);
        assert!(fleet.try_lease(NodeId(0), None).is_some());
        assert!(fleet.drain("a", true));
        assert_eq!(fleet.view().nodes[0].state(), State::Draining);
        assert!(fleet.try_lease(NodeId(0), None).is_none());
    }
}

#[tokio::test]
async fn a_waiter_hears_of_a_freed_slot_and_of_a_new_snapshot() {
    let mut herd = herd("a up 1/1 llama");
    let freed = herd.fleet.slot_freed().notified();
    assert!(herd.fleet.try_lease(NodeId(0), None).is_none());
    herd.leases.clear();
    tokio::time::timeout(Duration::from_secs(5), freed)
        .await
        .unwrap();

    let freed = herd.fleet.slot_freed().notified();
    let models = installed(true, &["qwen"]);
    herd.fleet.observe(
        NodeId(0),
        Observation::Installed {
            models,
            version: None,
        },
        Instant::now(),
    );
    tokio::time::timeout(Duration::from_secs(5), freed)
        .await
        .unwrap();
}

proptest! {
    #[test]
    fn every_lease_returns_whatever_the_order(
        takes in prop::collection::vec((0_usize..4, any::<bool>(), any::<bool>(), any::<prop::sample::Index>()), 0..60),
    ) {
        let herd = herd("a up 0/1 q:7b\nb@hard up 0/3 q:7b\nc@soft up 0/auto q:7b");
        let traits = [0, 1, 2, 2].map(|node| herd.traits(NodeId(node), "q:7b"));
        let fleet = &herd.fleet;
        let mut held: Vec<Lease> = Vec::new();
        let mut newest = 0;
        for (node, give_back, with_model, which) in takes {
            if give_back && !held.is_empty() {
                held.swap_remove(which.index(held.len()));
            } else if let Some(lease) = fleet.try_lease(NodeId(node), with_model.then(|| &*traits[node])) {
                let picked = fleet.view().nodes[node].last_picked();
                prop_assert!(newest < picked);
                newest = picked;
                held.push(lease);
            }
            for node in &fleet.view().nodes {
                let mine = held.iter().filter(|lease| lease.node() == node.id).count();
                prop_assert_eq!(node.in_flight() as usize, mine);
                prop_assert!(node.config.slots.is_none_or(|slots| node.in_flight() <= slots));
            }
            prop_assert!(traits[1].ledger().in_flight() <= 1);
        }
        drop(held);
        prop_assert!(traits.iter().all(|it| it.ledger().in_flight() == 0));
        prop_assert!(fleet.view().nodes.iter().all(|node| node.in_flight() == 0));
    }
}
