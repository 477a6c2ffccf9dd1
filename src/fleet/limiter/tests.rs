//! Slots that are found, and bounds that hold whatever is shown.

use proptest::prelude::*;

use super::*;

/// A node with so many slots that hides its queue: what comes first token after, seconds.
fn first_token(slots: u32, at_once: u32) -> f32 {
    let alone = 0.2;
    match at_once <= slots {
        true => alone * (1.0 + 0.1 * at_once as f32),
        // It waits for others to end, which take five seconds.
        false => alone + 5.0 * (at_once - slots) as f32 / slots as f32,
    }
}

/// The limit after `rounds` in which the node gets as many as it is let have, and one alone now and then.
fn learned(slots: u32, start: u32, rounds: usize) -> u32 {
    let mut limiter = Limiter::default();
    let mut limit = start;
    for round in 0..rounds {
        let at_once = if round % 10 == 0 { 1 } else { limit };
        let first = Duration::from_secs_f32(first_token(slots, at_once));
        limit = limiter.served(Speed::FirstToken(first, 0.0), at_once, limit);
    }
    limit
}

#[test]
fn the_limit_finds_the_slots_of_a_node_from_both_sides() {
    for slots in [1, 2, 4, 16] {
        for start in [1, 4, 32] {
            let found = learned(slots, start, 600);
            let (least, most) = (slots.max(1), slots + 3 + slots / 2);
            assert!(
                (least..=most).contains(&found),
                "{slots} slots, from {start}: {found}"
            );
        }
    }
}

#[test]
fn a_node_that_is_never_crowded_keeps_its_limit() {
    let mut limiter = Limiter::default();
    for _ in 0..100 {
        let speed = Speed::FirstToken(Duration::from_secs(1), 100.0);
        assert_eq!(limiter.served(speed, 1, 4), 4);
    }
}

#[test]
fn who_says_that_it_is_too_much_gets_less() {
    let mut limiter = Limiter::default();
    assert_eq!(limiter.refused(8), 6);
    assert_eq!((0..20).fold(8, |limit, _| limiter.refused(limit)), 1);
}

proptest! {
    #[test]
    fn the_limit_stays_within_bounds_whatever_is_shown(
        samples in prop::collection::vec((0.0f32..1e6, 0.0f32..1e6, 0..2000u32, any::<bool>()), 0..300)
    ) {
        let mut limiter = Limiter::default();
        let mut limit = 4;
        for (seconds, tokens, at_once, stream) in samples {
            let took = Duration::from_secs_f32(seconds);
            let speed = match stream {
                true => Speed::FirstToken(took, tokens),
                false => Speed::Whole(took, tokens),
            };
            limit = limiter.served(speed, at_once, limit);
            prop_assert!((1..=1024).contains(&limit));
        }
    }
}
