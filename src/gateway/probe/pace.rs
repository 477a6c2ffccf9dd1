//! How quickly a node that does not answer is found out.

use std::time::Duration;

use crate::config::NodeConfig;

/// Longest pause before a failed probe is repeated to make sure.
const CONFIRM_PAUSE_MAX: Duration = Duration::from_millis(500);

/// How quickly a node is probed, so that with an `unhealthy_threshold` of one or two its death is found out in less than two
/// intervals: in the worst case it dies just after a good probe, and then `tries` probes have to fail, each by timeout, with pauses between.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Pace {
    pub(super) tries: u32,
    pub(super) timeout: Duration,
    pub(super) pause: Duration,
}

impl Pace {
    pub(super) fn of(node: &NodeConfig, tries: u32) -> Pace {
        // A tenth is left for the machine's own delays.
        let whole = node.check_interval * 9 / 10;
        let fit = whole.as_millis() / node.check_timeout.as_millis().max(1);
        let fit = u32::try_from(fit).unwrap_or(u32::MAX);
        // Two failures come close together whatever the timeout. Who asks for more asks for patience: what does not fit whole into an
        // interval is left to the next.
        let tries = tries.min(fit.max(2));
        let pause = (node.check_interval / 10).min(CONFIRM_PAUSE_MAX) / tries.max(1);
        let time = whole - pause * tries.saturating_sub(1);
        Pace {
            tries,
            timeout: node.check_timeout.min(time / tries.max(1)),
            pause,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    #[test]
    fn the_worst_case_of_a_death_is_found_out_in_less_than_two_intervals() {
        let config = config::load(&config::Sources::nothing()).unwrap();
        for interval_ms in [200, 1000, 2000, 5000, 60_000] {
            for timeout_ms in [100, 2000, 60_000] {
                for tries in [1, 2, 3, 5] {
                    let mut node = config.nodes[0].clone();
                    node.check_interval = Duration::from_millis(interval_ms);
                    node.check_timeout = Duration::from_millis(timeout_ms).min(node.check_interval);
                    let pace = Pace::of(&node, tries);
                    let worst = node.check_interval
                        + pace.timeout * pace.tries
                        + pace.pause * (pace.tries - 1);
                    assert!(pace.tries == tries || 2 <= pace.tries, "{pace:?}");
                    assert!(worst < 2 * node.check_interval, "{pace:?}");
                    assert!(
                        pace.timeout <= node.check_timeout && !pace.timeout.is_zero(),
                        "{pace:?}"
                    );
                }
            }
        }
    }
}
