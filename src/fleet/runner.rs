//! Which runner a request needs, and whether the one in memory will do.
//!
//! Ollama reloads a model when its load-time options differ from those its runner was started with, even when the runner has more than
//! is asked for (`needsReload` in its scheduler).

use std::hash::{DefaultHasher, Hash, Hasher};

use crate::dialect::RunnerOptions;

/// A context is never shorter, however little a client asks for, tokens.
const CONTEXT_MIN: i64 = 4;
/// What Ollama gives a model by itself, by how much memory the node has, tokens.
const AUTOMATIC: [u64; 3] = [4096, 32_768, 262_144];
/// The least of these.
const AUTOMATIC_MIN: i64 = 4096;

/// Load-time options in the form that they are compared in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RunnerKey {
    /// A hash of all options but the two below; never 0.
    pub rest: u64,
    /// Context length, tokens; `None` leaves it to the node, which is another thing than any number.
    pub num_ctx: Option<i64>,
    /// Layers on GPUs; `None` takes the runner as it is.
    pub num_gpu: Option<i64>,
}

/// Whether the runner in memory will do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunnerFit {
    /// As it is asked for.
    Same,
    /// If the request asks for this context instead of its own, which is no longer; one that leaves it to the node gets at least what
    /// every node gives.
    Covers(NumCtx),
    /// It would be reloaded.
    Other,
}

/// What a request says of the context instead of the client's word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NumCtx {
    /// So many tokens.
    Set(i64),
    /// Nothing: the node chose it by itself.
    Unset,
}

impl NumCtx {
    /// The number to send; `None` sends none.
    pub fn tokens(self) -> Option<i64> {
        match self {
            NumCtx::Set(tokens) => Some(tokens),
            NumCtx::Unset => None,
        }
    }
}

impl Default for RunnerKey {
    fn default() -> RunnerKey {
        RunnerKey::of(&RunnerOptions::default())
    }
}

impl RunnerKey {
    /// What these options ask for.
    pub fn of(options: &RunnerOptions) -> RunnerKey {
        let rest = RunnerOptions {
            num_ctx: None,
            num_gpu: None,
            ..*options
        };
        let mut hasher = DefaultHasher::new();
        rest.hash(&mut hasher);
        RunnerKey {
            rest: hasher.finish().max(1),
            num_ctx: options.num_ctx,
            num_gpu: options.num_gpu.filter(|layers| 0 <= *layers),
        }
    }

    /// As a model takes it that was trained with a context of so many tokens.
    fn effective(self, context_max: Option<u64>) -> Option<i64> {
        let longest = context_max.map_or(i64::MAX, |max| i64::try_from(max).unwrap_or(i64::MAX));
        self.num_ctx
            .map(|wanted| wanted.clamp(CONTEXT_MIN, longest.max(CONTEXT_MIN)))
    }

    /// Whether a runner in memory will do: `started` are the options we started it with, if we know them, `context` is what the node
    /// says it has, `context_max` what the model was trained with.
    pub fn fit(
        self,
        started: Option<RunnerKey>,
        context: Option<u64>,
        context_max: Option<u64>,
    ) -> RunnerFit {
        let wanted = self.effective(context_max);
        let known = started.filter(|it| is_still(it.effective(context_max), context));
        let Some(started) = known else {
            return self.fit_unknown(wanted, context);
        };
        let is_gpu_fine = self.num_gpu.is_none() || self.num_gpu == started.num_gpu;
        if started.rest != self.rest || !is_gpu_fine {
            return RunnerFit::Other;
        }
        let has = started.effective(context_max);
        match (wanted, has) {
            _ if wanted == has => RunnerFit::Same,
            (Some(wanted), Some(has)) if wanted <= has => RunnerFit::Covers(NumCtx::Set(has)),
            (Some(wanted), None) if covers(context, wanted) => RunnerFit::Covers(NumCtx::Unset),
            (None, Some(has)) if AUTOMATIC_MIN <= has => RunnerFit::Covers(NumCtx::Set(has)),
            _ => RunnerFit::Other,
        }
    }

    /// Somebody else started it. What it was asked for can only be guessed; guessing wrong costs the reload that would be anyway.
    fn fit_unknown(self, wanted: Option<i64>, context: Option<u64>) -> RunnerFit {
        let (Some(wanted), Some(has)) = (wanted, context) else {
            return RunnerFit::Same; // most clients ask for nothing, and so it was most likely started
        };
        let is = i64::try_from(has).unwrap_or(i64::MAX);
        match wanted {
            _ if wanted == is => RunnerFit::Same,
            _ if is < wanted => RunnerFit::Other,
            _ if AUTOMATIC.contains(&has) => RunnerFit::Covers(NumCtx::Unset),
            _ => RunnerFit::Covers(NumCtx::Set(is)),
        }
    }
}

/// Whether what the node says of its runner agrees with how we started it.
fn is_still(num_ctx: Option<i64>, context: Option<u64>) -> bool {
    match (num_ctx, context) {
        (Some(started), Some(is)) => i64::try_from(is) == Ok(started),
        _ => true,
    }
}

fn covers(context: Option<u64>, wanted: i64) -> bool {
    context.is_some_and(|has| wanted <= i64::try_from(has).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(num_ctx: Option<i64>) -> RunnerKey {
        RunnerKey::of(&RunnerOptions {
            num_ctx,
            ..RunnerOptions::default()
        })
    }

    #[test]
    fn a_runner_is_reloaded_when_what_it_was_started_with_differs() {
        use NumCtx::{Set, Unset};
        use RunnerFit::{Covers, Other, Same};
        // What is asked, what we started it with (unknown: -), what the node says it has.
        let unknown: Option<Option<i64>> = None;
        let cases = [
            (None, Some(None), Some(4096), Same),
            (None, Some(Some(8192)), Some(8192), Covers(Set(8192))),
            (None, Some(Some(8192)), None, Covers(Set(8192))),
            (None, Some(Some(4096)), Some(4096), Covers(Set(4096))),
            (None, Some(Some(4095)), Some(4095), Other),
            (
                None,
                Some(Some(1_000_000)),
                Some(131_072),
                Covers(Set(131_072)),
            ),
            (Some(8192), Some(Some(8192)), Some(8192), Same),
            (Some(4096), Some(Some(8192)), Some(8192), Covers(Set(8192))),
            (Some(16_384), Some(Some(8192)), Some(8192), Other),
            (Some(4096), Some(None), Some(4096), Covers(Unset)),
            (Some(2048), Some(None), Some(4096), Covers(Unset)),
            (Some(8192), Some(None), Some(4096), Other),
            (Some(2048), Some(None), None, Other),
            // Clamped to what the model was trained with.
            (Some(1_000_000), Some(Some(131_072)), Some(131_072), Same),
            // Somebody else has reloaded it since.
            (None, Some(Some(8192)), Some(2048), Same),
            (Some(1024), Some(Some(8192)), Some(2048), Covers(Set(2048))),
            (None, unknown, Some(8192), Same),
            (Some(4096), unknown, Some(4096), Same),
            (Some(2048), unknown, Some(4096), Covers(Unset)),
            (Some(2048), unknown, Some(8192), Covers(Set(8192))),
            (Some(8192), unknown, Some(4096), Other),
            (Some(8192), unknown, None, Same),
        ];
        for (asked, started, context, fit) in cases {
            let found = key(asked).fit(started.map(key), context, Some(131_072));
            assert_eq!(found, fit, "{asked:?} for {started:?} {context:?}");
        }
    }

    #[test]
    fn other_options_are_another_runner() {
        let asked = RunnerOptions {
            num_batch: Some(256),
            num_gpu: Some(-1),
            ..RunnerOptions::default()
        };
        let other = RunnerKey::of(&asked);
        assert_eq!(other.num_gpu, None, "the node decides, as without it");
        let fit = |asked: RunnerKey, started| asked.fit(Some(started), None, None);
        assert_eq!(fit(other, key(None)), RunnerFit::Other);
        assert_eq!(fit(other, other), RunnerFit::Same);
        let on_gpu = RunnerKey {
            num_gpu: Some(20),
            ..other
        };
        assert_eq!(fit(on_gpu, other), RunnerFit::Other);
        assert_eq!(
            fit(other, on_gpu),
            RunnerFit::Same,
            "it takes what there is"
        );
    }
}
