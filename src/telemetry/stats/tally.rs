//! What became of a number of requests, and how long those took that were served.

use crate::telemetry::record::{EndBy, Record};

/// Buckets of durations: four to each doubling, from a microsecond to more than two hours.
const BUCKETS: usize = 128;
const MICROS_MAX: u64 = (1 << 33) - 1;

/// What became of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The client got the answer, whole. A node's 4xx is one: the client's mistake is not the node's.
    Succeeded,
    /// A 5xx, a cut answer, or nobody to serve it.
    Failed,
    /// We turned it away for what it was.
    Refused,
    /// The client did not wait for the end.
    Left,
}

impl Outcome {
    /// The outcome that a record tells.
    pub fn of(record: &Record) -> Outcome {
        match record.end_by {
            EndBy::Client => Outcome::Left,
            EndBy::Node => Outcome::Failed,
            EndBy::Done if record.status < 500 => Outcome::Succeeded,
            // 501 says that the call is not served here, whoever asks.
            EndBy::Gateway if record.status < 500 || record.status == 501 => Outcome::Refused,
            EndBy::Done | EndBy::Gateway => Outcome::Failed,
        }
    }
}

/// What a record says, as far as it is summed up.
#[derive(Debug, Clone, Copy)]
pub(super) struct Heard {
    outcome: Outcome,
    bytes_in: u64,
    bytes_out: u64,
    micros: u64,
    at_ms: u64,
}

impl Heard {
    pub(super) fn of(record: &Record, at_ms: u64) -> Heard {
        Heard {
            outcome: Outcome::of(record),
            bytes_in: record.bytes_in,
            bytes_out: record.bytes_out,
            micros: u64::try_from(record.duration.as_micros())
                .map_or(MICROS_MAX, |micros| micros.min(MICROS_MAX)),
            at_ms,
        }
    }
}

/// How many requests ended in which way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// See [`Outcome::Succeeded`].
    pub succeeded: u64,
    /// See [`Outcome::Failed`].
    pub failed: u64,
    /// See [`Outcome::Refused`].
    pub refused: u64,
    /// See [`Outcome::Left`].
    pub left: u64,
    /// Body bytes from clients.
    pub bytes_in: u64,
    /// Body bytes to clients.
    pub bytes_out: u64,
    /// Whole duration of those that succeeded, summed up, microseconds.
    pub micros: u64,
    /// When the last one ended, Unix milliseconds; 0 for never.
    pub last_ms: u64,
}

impl Counts {
    /// Each in exactly one of the four ways.
    pub fn requests(&self) -> u64 {
        self.succeeded + self.failed + self.refused + self.left
    }

    /// Share of successes among those that succeeded or failed, 0 to 100; 100 when there were none.
    pub fn success_percent(&self) -> f64 {
        percent(self.succeeded, self.failed)
    }

    /// Mean duration of those that succeeded, milliseconds; 0 when there were none.
    pub fn avg_ms(&self) -> u64 {
        (self.micros / self.succeeded.max(1) + 500) / 1000
    }

    pub(super) fn add(&mut self, heard: &Heard) {
        match heard.outcome {
            Outcome::Succeeded => {
                self.succeeded += 1;
                self.micros = self.micros.saturating_add(heard.micros);
            }
            Outcome::Failed => self.failed += 1,
            Outcome::Refused => self.refused += 1,
            Outcome::Left => self.left += 1,
        }
        self.bytes_in = self.bytes_in.saturating_add(heard.bytes_in);
        self.bytes_out = self.bytes_out.saturating_add(heard.bytes_out);
        self.last_ms = self.last_ms.max(heard.at_ms);
    }

    pub(super) fn absorb(&mut self, other: &Counts) {
        self.succeeded += other.succeeded;
        self.failed += other.failed;
        self.refused += other.refused;
        self.left += other.left;
        self.bytes_in = self.bytes_in.saturating_add(other.bytes_in);
        self.bytes_out = self.bytes_out.saturating_add(other.bytes_out);
        self.micros = self.micros.saturating_add(other.micros);
        self.last_ms = self.last_ms.max(other.last_ms);
    }
}

/// Share of `succeeded` among both, 0 to 100; 100 when there are none.
pub fn percent(succeeded: u64, failed: u64) -> f64 {
    match succeeded + failed {
        0 => 100.0,
        all => succeeded as f64 * 100.0 / all as f64,
    }
}

/// Counts, and how the durations of the successes are spread. Milliseconds, rounded; 0 when there were none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Figures {
    /// How they ended.
    pub counts: Counts,
    /// The shortest.
    pub min_ms: u64,
    /// The longest.
    pub max_ms: u64,
    /// 95 of 100 took no longer; too high by a quarter at most.
    pub p95_ms: u64,
    /// 99 of 100 took no longer; too high by a quarter at most.
    pub p99_ms: u64,
}

/// A growing sum of requests. Without durations it is small, since most entries never see a success.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) counts: Counts,
    durations: Option<Box<Durations>>,
}

#[derive(Debug)]
struct Durations {
    min: u64,
    max: u64,
    buckets: [u32; BUCKETS],
}

impl Default for Durations {
    fn default() -> Durations {
        Durations {
            min: u64::MAX,
            max: 0,
            buckets: [0; BUCKETS],
        }
    }
}

impl Tally {
    pub(super) fn add(&mut self, heard: &Heard) {
        self.counts.add(heard);
        if heard.outcome == Outcome::Succeeded {
            self.durations.get_or_insert_default().add(heard.micros);
        }
    }

    pub(super) fn absorb(&mut self, other: &Tally) {
        self.counts.absorb(&other.counts);
        if let Some(durations) = &other.durations {
            self.durations.get_or_insert_default().absorb(durations);
        }
    }

    pub(super) fn figures(&self) -> Figures {
        let ms = |micros: u64| (micros + 500) / 1000;
        let counts = self.counts;
        match &self.durations {
            None => Figures {
                counts,
                ..Figures::default()
            },
            Some(durations) => Figures {
                counts,
                min_ms: ms(durations.min),
                max_ms: ms(durations.max),
                p95_ms: ms(durations.quantile(95)),
                p99_ms: ms(durations.quantile(99)),
            },
        }
    }
}

impl Durations {
    fn add(&mut self, micros: u64) {
        self.min = self.min.min(micros);
        self.max = self.max.max(micros);
        let bucket = &mut self.buckets[bucket_of(micros)];
        *bucket = bucket.saturating_add(1);
    }

    fn absorb(&mut self, other: &Durations) {
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
        for (mine, theirs) in self.buckets.iter_mut().zip(&other.buckets) {
            *mine = mine.saturating_add(*theirs);
        }
    }

    /// What `percent` of 100 did not exceed, microseconds.
    fn quantile(&self, percent: u64) -> u64 {
        let all: u64 = self.buckets.iter().map(|n| u64::from(*n)).sum();
        let wanted = (all * percent).div_ceil(100).max(1);
        let mut seen = 0;
        for (at, n) in self.buckets.iter().enumerate() {
            seen += u64::from(*n);
            if wanted <= seen {
                return longest_of(at).clamp(self.min, self.max);
            }
        }
        self.max
    }
}

/// The bucket of a duration: the first four hold one microsecond each, then four share a doubling.
fn bucket_of(micros: u64) -> usize {
    let micros = micros.min(MICROS_MAX);
    if micros < 4 {
        return micros as usize;
    }
    let doubling = micros.ilog2() as usize;
    let quarter = (micros >> (doubling - 2)) as usize & 3;
    (doubling - 1) * 4 + quarter
}

/// The longest duration of a bucket.
fn longest_of(bucket: usize) -> u64 {
    if bucket < 4 {
        return bucket as u64;
    }
    let (doubling, quarter) = (bucket / 4 + 1, bucket as u64 % 4);
    ((4 + quarter + 1) << (doubling - 2)) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_stand_in_a_row_and_none_is_wider_than_a_quarter_of_what_it_holds() {
        let mut next = 0;
        for bucket in 0..BUCKETS {
            let longest = longest_of(bucket);
            assert_eq!(bucket_of(next), bucket);
            assert_eq!(bucket_of(longest), bucket);
            assert!(longest - next <= next / 4, "{next}..={longest}");
            next = longest + 1;
        }
        assert_eq!(next, MICROS_MAX + 1);
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }
}
