//! Laws of the readers: what is spelled is read back, and no text makes them panic.

use proptest::prelude::*;

use super::super::text::{duration, expand, nearest, size, spell_duration};
use super::*;

#[test]
fn durations_and_sizes() {
    let durations: &[(&str, Option<u64>)] = &[
        ("0", Some(0)),
        ("0s", Some(0)),
        ("250ms", Some(250)),
        ("2s", Some(2000)),
        ("10m", Some(600_000)),
        ("24h", Some(86_400_000)),
        ("1h30m", Some(5_400_000)),
        ("", None),
        ("10", None),
        ("s", None),
        ("-1s", None),
        ("1.5s", None),
        ("2 s", None),
        ("1w", None),
        ("400d", None),
        ("99999999999999999999s", None),
    ];
    for (text, ms) in durations {
        assert_eq!(
            duration(text).ok().map(|d| d.as_millis()),
            ms.map(u128::from),
            "{text}"
        );
    }
    let sizes: &[(&str, Option<usize>)] = &[
        ("0", Some(0)),
        ("104857600", Some(100 << 20)),
        ("64KiB", Some(64 << 10)),
        ("100MiB", Some(100 << 20)),
        ("100 mib", Some(100 << 20)),
        ("1GB", Some(1_000_000_000)),
        ("", None),
        ("64K", None),
        ("-1", None),
        ("99999999999GiB", None),
    ];
    for (text, bytes) in sizes {
        assert_eq!(size(text).ok(), *bytes, "{text}");
    }
}

#[test]
fn nearest_words() {
    let words = ["max_attempts", "budget_percent", "on_status"];
    for (word, near) in [
        ("max_atempts", Some("max_attempts")),
        ("max-attempts", Some("max_attempts")),
        ("on_satus", Some("on_status")),
        ("zebra", None),
    ] {
        assert_eq!(nearest(word, words), near, "{word}");
    }
}

proptest! {
    #[test]
    fn a_spelled_duration_reads_back(ms in 0u64..100_000_000) {
        let written = Duration::from_millis(ms);
        prop_assert_eq!(duration(&spell_duration(written)), Ok(written));
    }

    #[test]
    fn text_without_references_is_left_alone(text in "[^$]{0,40}") {
        prop_assert_eq!(expand(&text, |_| None), Ok(text));
    }

    #[test]
    fn no_text_panics(text in "[ -~\n\t$\\{}é]{0,200}") {
        let _ = World::default().load(&text);
        let _ = super::super::url::parse(&text);
        let _ = expand(&text, |_| None);
    }

    #[test]
    fn no_damage_to_the_example_panics(at in 0usize..6000, with in "[ -~\n\té]{0,3}") {
        let mut text: Vec<char> = conf("arriero.yaml").chars().collect();
        let at = at.min(text.len() - 1);
        text.splice(at..=at, with.chars());
        let _ = World::default().load(&text.into_iter().collect::<String>());
    }
}
