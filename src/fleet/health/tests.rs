//! The health machine: exact thresholds as a table, laws as properties.

use proptest::prelude::*;

use super::*;

const LIMITS: HealthConfig = HealthConfig {
    unhealthy_threshold: 3,
    healthy_threshold: 2,
    eject_base: Duration::from_secs(5),
    eject_max: Duration::from_secs(60),
    ejected_percent_max: 50,
};

/// Plays `p` good probe, `P` failed probe, `t` good request, `T` failed request, `.` one second, `-` a minute; returns the
/// health as a word, with the seconds that are left of an ejection.
fn play(story: &str) -> String {
    let mut machine = Machine::new();
    let mut now = Instant::now();
    for step in story.chars() {
        match step {
            'p' => machine.probed(Ok(()), now, &LIMITS),
            'P' => machine.probed(Err("refused"), now, &LIMITS),
            't' => machine.served(Ok(()), now, &LIMITS),
            'T' => machine.served(Err("reset"), now, &LIMITS),
            '.' => now += Duration::from_secs(1),
            '-' => now += Duration::from_secs(60),
            other => panic!("unknown step {other}"),
        }
    }
    match machine.health() {
        Health::Unknown => "unknown".to_owned(),
        Health::Up if machine.is_steady() => "steady".to_owned(),
        Health::Up => "up".to_owned(),
        Health::Down {
            why, until: None, ..
        } => format!("down: {why}"),
        Health::Down {
            why,
            until: Some(until),
            ..
        } => {
            format!(
                "out {}s: {why}",
                until.saturating_duration_since(now).as_secs()
            )
        }
    }
}

#[test]
fn thresholds_are_exact_and_ejections_double() {
    let calm_run = format!("pTTT.....pp{}TTT", "t".repeat(CALM_RUN as usize));
    let short_run = format!("pTTT.....pp{}TTT", "t".repeat(CALM_RUN as usize - 1));
    for (story, expected) in [
        ("", "unknown"),
        // A node of which nothing bad is known is believed at once.
        ("p", "steady"),
        ("t", "steady"),
        ("PPp", "steady"),
        ("PP", "unknown"),
        ("PPP", "down: refused"),
        // In a row means in a row.
        ("pPP", "up"),
        ("pPPpPP", "up"),
        ("pPPP", "down: refused"),
        ("pPPtP", "up"),
        ("pTTtTT", "up"),
        // A good probe does not excuse failing requests.
        ("pTpTpT", "out 5s: reset"),
        // Both kinds add up; requests among them make it an ejection.
        ("pTPP", "out 5s: refused"),
        ("pPPT", "out 5s: reset"),
        // Probes bring back who only failed probes, after the threshold.
        ("PPPp", "down: refused"),
        ("PPPpp", "steady"),
        ("PPPpPp", "down: refused"),
        ("PPPttt", "down: refused"),
        // Probes alone do not end an ejection early, and time alone does not end it at all.
        ("pTTTpppp", "out 5s: reset"),
        ("pTTT....p.", "out 0s: reset"),
        ("pTTT.....pp", "up"),
        ("pTTT....p.p", "up"),
        ("pTTT-", "out 0s: reset"),
        // What ends while a node is out was sent before and does not prolong it.
        ("pTTT.TTT", "out 4s: reset"),
        ("PPPTTT", "down: refused"),
        ("pTTT.....ppTTT", "out 10s: reset"),
        ("pTTT.....ppTTT..........ppTTT", "out 20s: reset"),
        // The longest is the limit, and its own length is not yet a calm time.
        ("pTTT-ppTTT-ppTTT-ppTTT-ppTTT-ppTTT-ppTTT", "out 60s: reset"),
        // A calm time, or a run of good requests, forgives.
        ("pTTT-pp-TTT", "out 5s: reset"),
        ("pTTT-pp-p", "steady"),
        ("pT-TT", "up"),
        (&calm_run, "out 5s: reset"),
        (&short_run, "out 10s: reset"),
    ] {
        assert_eq!(play(story), expected, "{story}");
    }
}

proptest! {
    #[test]
    fn nothing_but_a_good_probe_leaves_down(steps in prop::collection::vec((0_u8..4, 0_u64..30), 0..200)) {
        let mut machine = Machine::new();
        let mut now = Instant::now();
        for (step, pause_s) in steps {
            now += Duration::from_secs(pause_s);
            let before = machine.health().clone();
            match step {
                0 => machine.probed(Ok(()), now, &LIMITS),
                1 => machine.probed(Err("refused"), now, &LIMITS),
                2 => machine.served(Ok(()), now, &LIMITS),
                _ => machine.served(Err("reset"), now, &LIMITS),
            }
            if let Health::Down { until, .. } = before
                && !matches!(machine.health(), Health::Down { .. })
            {
                prop_assert_eq!(step, 0);
                prop_assert!(until.is_none_or(|until| until <= now));
            }
            if let Health::Down { since, until: Some(until), .. } = machine.health() {
                let length = until.duration_since(*since);
                prop_assert!(LIMITS.eject_base <= length && length <= LIMITS.eject_max);
            }
            prop_assert!(machine.health() != &Health::Unknown || step % 2 == 1);
        }
    }
}
