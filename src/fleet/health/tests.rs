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

/// Plays `p` good probe, `P` failed probe, `t` good request, `T` failed request, `S` the same where the fleet spares the node, `R` 401,
/// `L` 429 with 3 s to wait, `l` 429 without, `0` and `9` 429 with no time and with an age to wait, `.` one second, `-` a minute; returns
/// the machine and its moment.
fn machine_after(story: &str) -> (Machine, Instant) {
    let mut machine = Machine::new();
    let mut now = Instant::now();
    for step in story.chars() {
        let mut limited = |after: Option<u64>| {
            let after = after.map(Duration::from_secs);
            machine.rate_limited("busy", after, now, &LIMITS);
        };
        match step {
            'L' => limited(Some(3)),
            'l' => limited(None),
            '0' => limited(Some(0)),
            '9' => limited(Some(u64::MAX)),
            'p' => machine.probed(Ok(()), now, &LIMITS),
            'P' => machine.probed(Err("refused"), now, &LIMITS),
            't' => machine.served(Ok(()), now, &LIMITS, || None),
            'T' => machine.served(Err("reset"), now, &LIMITS, || None),
            'S' => machine.served(Err("reset"), now, &LIMITS, || Some(Spared::Percent)),
            'R' => machine.refused("401", now),
            '.' => now += Duration::from_secs(1),
            '-' => now += Duration::from_secs(60),
            other => panic!("unknown step {other}"),
        }
    }
    (machine, now)
}

/// What a story ends with: the state as a word, with the seconds that are left until it may come back.
fn play(story: &str) -> String {
    let (machine, now) = machine_after(story);
    let state = machine.health().state().as_str();
    match machine.health() {
        Health::Up if machine.is_steady() => "steady".to_owned(),
        Health::Down { why, until, .. } => match until {
            None => format!("{state}: {why}"),
            Some(until) => {
                let left = until.saturating_duration_since(now).as_secs();
                format!("{state} {left}s: {why}")
            }
        },
        _ if machine.spared().is_some() => format!("{state}, spared"),
        _ => state.to_owned(),
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
        ("PPP", "offline: refused"),
        // In a row means in a row.
        ("pPP", "healthy"),
        ("pPPpPP", "healthy"),
        ("pPPP", "offline: refused"),
        ("pPPtP", "healthy"),
        ("pTTtTT", "healthy"),
        // A good probe does not excuse failing requests.
        ("pTpTpT", "ejected 5s: reset"),
        // Both kinds add up; requests among them make it an ejection.
        ("pTPP", "offline 5s: refused"),
        ("pPPT", "ejected 5s: reset"),
        // Probes bring back who only failed probes, after the threshold.
        ("PPPp", "offline: refused"),
        ("PPPpp", "healthy"),
        ("PPPpPp", "offline: refused"),
        ("PPPttt", "offline: refused"),
        // Probes alone do not end an ejection early, and time alone does not end it at all.
        ("pTTTpppp", "ejected 5s: reset"),
        ("pTTT....p.", "ejected 0s: reset"),
        ("pTTT.....pp", "trial"),
        ("pTTT....p.p", "trial"),
        ("pTTT-", "ejected 0s: reset"),
        // What ends while a node is out was sent before and does not prolong it.
        ("pTTT.TTT", "ejected 4s: reset"),
        ("PPPTTT", "offline: refused"),
        // A trial ends with its first request; another ejection lasts longer, and what is under way no longer matters.
        ("pTTT.....ppt", "healthy"),
        ("pTTT.....ppT", "ejected 10s: reset"),
        ("pTTT.....ppTTT", "ejected 10s: reset"),
        ("pTTT.....pptTT", "healthy"),
        ("pTTT.....pptTTT", "ejected 10s: reset"),
        ("pTTT.....ppT..........ppT", "ejected 20s: reset"),
        // Probes neither pass nor shorten a trial, and waiting does not either.
        ("pTTT.....pppppp", "trial"),
        ("pTTT-pp---p", "trial"),
        ("pTTT-pp---T", "ejected 10s: reset"),
        ("pTTT.....ppPP", "trial"),
        ("pTTT.....ppPPP", "offline: refused"),
        ("pTTT.....ppPPPpp", "trial"),
        // The longest is the limit, and its own length is not yet a calm time.
        ("pTTT-ppT-ppT-ppT-ppT-ppT-ppT", "ejected 60s: reset"),
        // A calm time, or a run of good requests, forgives.
        ("pTTT-ppt-TTT", "ejected 5s: reset"),
        ("pTTT-ppt-p", "steady"),
        ("pT-TT", "healthy"),
        (&calm_run, "ejected 5s: reset"),
        (&short_run, "ejected 10s: reset"),
    ] {
        assert_eq!(play(story), expected, "{story}");
    }
}

#[test]
fn every_cause_has_its_own_way_back() {
    for (story, expected) in [
        // A wrong key shows at once and goes with a good probe.
        ("pR", "config_error: 401"),
        ("R", "config_error: 401"),
        ("pRp", "config_error: 401"),
        ("pRpp", "healthy"),
        ("pRpRp", "config_error: 401"),
        ("pRttt", "config_error: 401"),
        // A node that asked for a pause gets it, and no trial after it.
        ("pL", "rate_limited 3s: busy"),
        ("pLppp", "rate_limited 3s: busy"),
        ("pL...", "rate_limited 0s: busy"),
        ("pL...pp", "healthy"),
        ("pLp...p", "healthy"),
        ("pl", "rate_limited 30s: busy"),
        ("p0", "rate_limited 1s: busy"),
        ("p9", "rate_limited 600s: busy"),
        ("pL..L", "rate_limited 3s: busy"),
        ("plL", "rate_limited 30s: busy"),
        // What fails now is what is told, and what was promised to last still does.
        ("pRPP", "config_error: 401"),
        ("pRPPP", "offline: refused"),
        ("pRPPPpp", "healthy"),
        ("pLPPP", "offline 3s: refused"),
        ("pTTTPPP", "offline 5s: refused"),
        ("pTTTPPPp", "ejected 5s: refused"),
        ("pTTTR", "config_error 5s: 401"),
        ("PPPR", "config_error: 401"),
        // Who was ejected owes a trial whatever else befell it.
        ("pTTTPPP.....pp", "trial"),
        ("pTTTR.....pp", "trial"),
        ("pTTT.....ppLppp...p", "trial"),
        ("pTTT.....ppRppt", "healthy"),
    ] {
        assert_eq!(play(story), expected, "{story}");
    }
}

#[test]
fn a_spared_node_stays_as_it_is_until_a_request_succeeds() {
    for (story, expected) in [
        ("pSS", "healthy"),
        ("pSSS", "healthy, spared"),
        ("pSSSSSp", "healthy, spared"),
        ("pSSSt", "steady"),
        ("SSS", "unknown, spared"),
        // As soon as the fleet bears it, the next failure ejects.
        ("pSSST", "ejected 5s: reset"),
        ("pTTT.....ppS", "trial, spared"),
        ("pTTT.....ppSST", "ejected 10s: reset"),
        ("pTTT.....ppSt", "healthy"),
        // Probes spare nobody.
        ("pSSSP", "offline 5s: refused"),
        ("pSSSR", "config_error: 401"),
    ] {
        assert_eq!(play(story), expected, "{story}");
    }
}

#[test]
fn a_node_that_comes_back_may_have_one_request_more_with_every_success() {
    let after = |successes: u32| format!("pPPPpp{}", "t".repeat(successes as usize));
    let (nearly, proven) = (after(CALM_RUN - 1), after(CALM_RUN));
    for (story, expected) in [
        // Who is new has not come back: all nodes come at once when the gateway starts.
        ("", None),
        ("p", None),
        ("pTTt", None),
        ("pPPP", None),
        ("pSSS", None),
        // Whatever it suffered from.
        ("pPPPpp", Some(1)),
        ("PPPpp", Some(1)),
        ("pRpp", Some(1)),
        ("pL...pp", Some(1)),
        ("pTTT.....pp", Some(1)),
        ("pTTT.....ppt", Some(2)),
        ("pPPPppt", Some(2)),
        ("pPPPpptt", Some(3)),
        (&nearly, Some(CALM_RUN)),
        (&proven, None),
        // In a row means in a row, and what came before the fall does not count.
        ("pPPPpptttTt", Some(2)),
        ("pttttPPPpp", Some(1)),
        ("pPPPpptttPPPpp", Some(1)),
        // Probes prove nothing, a calm time does, and a trial is none.
        ("pPPPpppppp", Some(1)),
        ("pPPPpp-p", None),
        ("pTTT-pp-p", Some(1)),
        ("pTTT-ppt-p", None),
    ] {
        assert_eq!(machine_after(story).0.at_once_max(), expected, "{story}");
    }
}

proptest! {
    #[test]
    fn a_returning_node_may_have_one_request_more_than_successes_in_a_row(
        steps in prop::collection::vec((0_u8..8, 0_u64..8), 0..300),
    ) {
        let mut machine = Machine::new();
        let mut now = Instant::now();
        let (mut successes, mut has_fallen) = (0_u32, false);
        for (step, pause_s) in steps {
            now += Duration::from_secs(pause_s);
            match step {
                0 => machine.probed(Ok(()), now, &LIMITS),
                1 => machine.probed(Err("refused"), now, &LIMITS),
                2 => machine.served(Err("reset"), now, &LIMITS, || None),
                _ => machine.served(Ok(()), now, &LIMITS, || None),
            }
            match step {
                0 | 1 => (),
                2 => successes = 0,
                _ => successes += 1,
            }
            if machine.health().is_down() {
                (successes, has_fallen) = (0, true);
            }
            if let Some(max) = machine.at_once_max() {
                prop_assert!(has_fallen && !machine.is_steady());
                prop_assert_eq!(max, 1 + successes);
                prop_assert!(max <= CALM_RUN);
            }
            prop_assert!(machine.health() != &Health::Trial || machine.at_once_max() == Some(1));
        }
    }

    #[test]
    fn nothing_but_a_good_probe_leaves_down_and_an_ejected_node_comes_back_on_trial(
        steps in prop::collection::vec((0_u8..7, 0_u64..30), 0..200),
    ) {
        let mut machine = Machine::new();
        let mut now = Instant::now();
        let mut owes_trial = false;
        for (step, pause_s) in steps {
            now += Duration::from_secs(pause_s);
            let before = machine.health().clone();
            match step {
                0 | 1 => machine.probed(Ok(()), now, &LIMITS),
                2 => machine.probed(Err("refused"), now, &LIMITS),
                3 => machine.served(Ok(()), now, &LIMITS, || None),
                4 => machine.served(Err("reset"), now, &LIMITS, || None),
                5 => machine.refused("401", now),
                _ => machine.rate_limited("429", Some(Duration::from_secs(pause_s)), now, &LIMITS),
            }
            let after = machine.health();
            let has_passed = step == 3 && !before.is_down();
            if has_passed || after.cause() == Some(Cause::Traffic) {
                owes_trial = !has_passed;
            }
            if let Health::Down { until, .. } = before && !after.is_down() {
                prop_assert!(step <= 1);
                prop_assert!(until.is_none_or(|until| until <= now));
                prop_assert!(!owes_trial || after == &Health::Trial);
            }
            if before == Health::Trial && after == &Health::Up {
                prop_assert_eq!(step, 3);
            }
            if let Health::Down { since, cause: Cause::Traffic, until, .. } = after && before.cause().is_none() {
                let length = until.expect("an ejection has an end").duration_since(*since);
                prop_assert!(LIMITS.eject_base <= length && length <= LIMITS.eject_max);
            }
            prop_assert!(after != &Health::Unknown || before == Health::Unknown);
        }
    }
}
