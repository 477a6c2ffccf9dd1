//! Sizes, shares and times as people write them, and the moment a page speaks of.

use std::time::Duration;

use crate::fleet::Timestamp;

/// When a page is made, by both clocks: the one that people read and the one that only goes forward.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// Unix milliseconds.
    pub wall_ms: u64,
    /// Since the gateway started.
    pub uptime: Duration,
}

impl Now {
    /// The moment itself, RFC 3339.
    pub(super) fn timestamp(self) -> String {
        rfc3339(self.wall_ms)
    }

    /// The moment at which the uptime was, or will be, `at`.
    pub(super) fn at(self, at: Duration) -> String {
        let started_ms = i128::from(self.wall_ms) - self.uptime.as_millis() as i128;
        let at_ms = started_ms + at.as_millis() as i128;
        rfc3339(u64::try_from(at_ms).unwrap_or(0))
    }

    /// `4s ago`; `never` when there was none.
    pub(super) fn ago(self, at: Option<Duration>) -> String {
        at.map_or("never".to_owned(), |at| {
            format!("{} ago", duration(self.uptime.saturating_sub(at)))
        })
    }

    /// `in 4s`, or `now` when it is due.
    pub(super) fn until(self, at: Option<Duration>) -> String {
        let left = at.map_or(Duration::ZERO, |at| at.saturating_sub(self.uptime));
        match left < Duration::from_secs(1) {
            true => "now".to_owned(),
            false => format!("in {}", duration(left)),
        }
    }

    /// `4s ago` for Unix milliseconds, where 0 is never.
    pub(super) fn since_wall(self, at_ms: u64) -> String {
        match at_ms {
            0 => "never".to_owned(),
            _ => {
                let ago = Duration::from_millis(self.wall_ms.saturating_sub(at_ms));
                format!("{} ago", duration(ago))
            }
        }
    }
}

/// RFC 3339 in whole seconds.
pub(super) fn rfc3339(unix_ms: u64) -> String {
    Timestamp {
        unix_s: (unix_ms / 1000) as i64,
        nanos: 0,
    }
    .to_rfc3339()
}

/// `512 B`, `1.15 KB`, `3.73 GB`; steps of 1024, as Olla has them.
pub(super) fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["KB", "MB", "GB", "TB", "PB", "EB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut scaled = count as f64 / 1024.0;
    let mut unit = 0;
    // What would be written as 1024.00 is one of the next unit.
    while 1023.995 <= scaled && unit + 1 < UNITS.len() {
        scaled /= 1024.0;
        unit += 1;
    }
    format!("{scaled:.2} {}", UNITS[unit])
}

/// `100%`, `0%`, `98.5%`. Only all is 100 %, and only none is 0 %.
pub(super) fn percent(share: f64) -> String {
    match share {
        100.0.. => "100%".to_owned(),
        ..=0.0 => "0%".to_owned(),
        _ => format!("{:.1}%", share.clamp(0.1, 99.9)),
    }
}

/// `12ms`, `1.25s`.
pub(super) fn millis(ms: u64) -> String {
    match ms {
        0..1000 => format!("{ms}ms"),
        _ => format!("{:.2}s", ms as f64 / 1000.0),
    }
}

/// `4s`, `3m12s`, `2h5m`, `3d4h`: the two largest units.
pub(super) fn duration(time: Duration) -> String {
    let s = time.as_secs();
    let (minutes, hours, days) = (s / 60, s / 3600, s / 86_400);
    match s {
        0..60 => format!("{s}s"),
        60..3600 => format!("{minutes}m{}s", s % 60),
        3600..86_400 => format!("{hours}h{}m", minutes % 60),
        _ => format!("{days}d{}h", hours % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_shares_and_times_read_well_at_every_border() {
        let bytes_cases = [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.00 KB"),
            (1178, "1.15 KB"),
            (1024 * 1024 - 1, "1.00 MB"),
            (4_005_057_004, "3.73 GB"),
            (u64::MAX, "16.00 EB"),
        ];
        for (count, text) in bytes_cases {
            assert_eq!(bytes(count), text);
        }
        let percents = [
            (100.0, "100%"),
            (99.999, "99.9%"),
            (66.666, "66.7%"),
            (0.0001, "0.1%"),
            (0.0, "0%"),
        ];
        for (share, text) in percents {
            assert_eq!(percent(share), text);
        }
        let durations = [
            (0, "0s"),
            (59, "59s"),
            (60, "1m0s"),
            (3599, "59m59s"),
            (7500, "2h5m"),
            (273_600, "3d4h"),
        ];
        for (s, text) in durations {
            assert_eq!(duration(Duration::from_secs(s)), text);
        }
        assert_eq!(
            (millis(999), millis(1250)),
            ("999ms".into(), "1.25s".into())
        );
    }

    #[test]
    fn moments_are_told_from_now_on_both_clocks() {
        let now = Now {
            wall_ms: 1_000_000_060_000,
            uptime: Duration::from_secs(60),
        };
        let s = Duration::from_secs;
        assert_eq!(now.timestamp(), "2001-09-09T01:47:40Z");
        assert_eq!(now.at(s(0)), "2001-09-09T01:46:40Z");
        assert_eq!(now.ago(Some(s(56))), "4s ago");
        assert_eq!(now.ago(None), "never");
        assert_eq!(now.until(Some(s(65))), "in 5s");
        assert_eq!(now.until(Some(s(3))), "now");
        assert_eq!(now.since_wall(1_000_000_000_000), "1m0s ago");
        assert_eq!(now.since_wall(0), "never");
    }
}
