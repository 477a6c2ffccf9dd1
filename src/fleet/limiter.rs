//! How many requests at once a node serves well, learned from how long they take: a gradient, as in Netflix's concurrency limits.
//!
//! Ollama hides its queue: one request more than it has slots for looks like any other, and its first token comes when another request
//! has ended. So the times of requests that ran alone are compared with those of requests that ran with as many as are let in.

use std::time::Duration;

/// Slots are never learned beyond this.
const SLOTS_MAX: f32 = 1024.0;
/// How much slower than alone a request may be before it counts as having waited: what runs together shares one GPU.
const TOLERANCE: f32 = 2.0;
/// How fast the limit follows.
const SMOOTHING: f32 = 0.2;
/// How much the limit is raised at a time, as a share of its root: what is not tried is never found out.
const TRIAL: f32 = 0.6;
/// How much of a mean is the latest sample.
const WEIGHT: f32 = 0.2;
/// Nobody waited for a generation to end in less.
const PROMPT_S: f32 = 0.03;
/// A prompt of so many tokens is taken to need twice the time of none.
const PROMPT_TOKENS: f32 = 512.0;
/// An answer of so many tokens likewise.
const ANSWER_TOKENS: f32 = 32.0;

/// How long a request took, in the form that lets different ones be compared.
#[derive(Debug, Clone, Copy)]
pub(super) enum Speed {
    /// To the first token, and the prompt's tokens that had to be read.
    FirstToken(Duration, f32),
    /// To the end of an answer without a stream, and its tokens.
    Whole(Duration, f32),
}

/// Means of logarithms, because times are spread over powers: what they stand for is near the median.
#[derive(Debug, Default)]
struct Times {
    alone: Option<f32>,
    crowded: Option<f32>,
}

/// The limit of one model on one node.
#[derive(Debug, Default)]
pub(super) struct Limiter {
    limit: Option<f32>,
    streams: Times,
    wholes: Times,
}

impl Limiter {
    /// A request ended that had `at_once` under way when it was sent, itself included, while `limit` were let in. The limit from now
    /// on, at least 1.
    pub(super) fn served(&mut self, speed: Speed, at_once: u32, limit: u32) -> u32 {
        let now = self.limit.unwrap_or(limit as f32);
        let (times, seconds) = match speed {
            Speed::FirstToken(first, tokens) => {
                let scale = 1.0 + tokens / PROMPT_TOKENS;
                (&mut self.streams, first.as_secs_f32() / scale)
            }
            Speed::Whole(whole, tokens) => {
                let scale = 1.0 + tokens / ANSWER_TOKENS;
                (&mut self.wholes, whole.as_secs_f32() / scale)
            }
        };
        let sample = seconds.max(PROMPT_S).ln();
        let mean = |mean: &mut Option<f32>| {
            let next = mean.map_or(sample, |mean| mean + WEIGHT * (sample - mean));
            *mean = Some(next);
        };
        if at_once <= 1 {
            mean(&mut times.alone);
        }
        // Only who is crowded shows whether there is room for more.
        if now * 0.75 <= at_once as f32 && 1 < at_once {
            mean(&mut times.crowded);
        } else if !(at_once <= 1 && now < 1.5) {
            return self.keep(now);
        }
        let crowded = times.crowded.unwrap_or(sample);
        // Without a request that ran alone nothing can be compared; growing blindly would be to guess.
        let Some(alone) = times.alone else {
            return self.keep(now);
        };
        let gradient = (alone - crowded).exp() * TOLERANCE;
        let wanted = now * gradient.clamp(0.5, 1.0) + now.sqrt() * TRIAL;
        if wanted < now {
            // What was seen under the higher limit says nothing about the lower one.
            times.crowded = None;
        }
        let step = if now < wanted { 1.0 } else { SMOOTHING };
        self.keep(now + step * (wanted - now))
    }

    /// The node said that it has too much to do.
    pub(super) fn refused(&mut self, limit: u32) -> u32 {
        self.keep((limit as f32 * 0.75).floor())
    }

    fn keep(&mut self, limit: f32) -> u32 {
        let limit = limit.clamp(1.0, SLOTS_MAX);
        self.limit = Some(limit);
        limit.round() as u32
    }
}

#[cfg(test)]
mod tests;
