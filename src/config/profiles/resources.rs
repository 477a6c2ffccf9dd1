//! `resources` and `characteristics`, of a profile or of the configuration itself: what models need, how nodes are treated.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::credentials::header_name;
use super::super::node::PRIORITY_MAX;
use super::super::problem::Problem;
use super::super::raw::Tree;
use super::super::schema::Form;
use super::super::section::Section;
use super::super::text::{self, Wrong, glob, number};
use super::Author;
use crate::profile::resources::{ConcurrencyLimit, Figures, ModelSize, SizePattern};
use crate::profile::{Characteristics, Limit, Resources};

/// More than any machine has.
const MEMORY_GB_MAX: f64 = 1_000_000.0;
const SIZE: &str = "resources.model_sizes[]";
const CONCURRENCY: &str = "resources.concurrency_limits[]";

pub(super) fn characteristics(mut s: Section, author: Author) -> Characteristics {
    s.learn_duration("timeout", None, false);
    let timeout = s.parse("timeout", None, |text| match text::duration(text)? {
        Duration::ZERO => Err(Wrong::new(
            "0 would end everything at once, and no limit at all is not offered",
            "write a duration, or remove the key for `proxy.response_header_timeout`",
        )),
        duration => Ok(Some(duration)),
    });
    let max_concurrent = limit(&mut s, "max_concurrent_requests", author);
    let priorities = Form::Number(None, 0..=PRIORITY_MAX, None);
    s.learn("default_priority", priorities);
    let priority = s.parse("default_priority", None, |text| {
        number(text, &(0..=PRIORITY_MAX)).map(Some)
    });
    let streaming = s.flag_if_said("streaming_support");
    let mut auth = s.section("auth");
    let auth_required = auth.flag_if_said("required");
    let auth_types = auth.scalars("types");
    let auth_types = auth_types.map(|sets| sets.into_iter().map(|set| set.text).collect());
    let auth_header = auth.parse("default_header", None, |text| header_name(text).map(Some));
    auth.close();
    s.close();
    Characteristics {
        timeout,
        max_concurrent,
        priority,
        streaming,
        auth_required,
        auth_types,
        auth_header,
    }
}

fn limit(s: &mut Section, key: &'static str, author: Author) -> Option<Limit> {
    s.learn(key, Form::Number(None, 1..=100_000, None));
    let requests = s.parse(key, None, |text| number(text, &(1..=100_000)).map(Some));
    requests.map(|requests| Limit {
        requests,
        hard: author == Author::Operator,
    })
}

pub(super) fn resources(mut s: Section, author: Author) -> Resources {
    // Reading an absent item makes the keys known, for hints and the schema.
    size(&s, None, author);
    concurrency(&s, None, author);
    s.learn("model_sizes", Form::Items(SIZE));
    let sizes = s.list("model_sizes").map(|(items, _)| {
        let items = items.iter();
        items
            .filter_map(|item| size(&s, Some(item), author))
            .collect()
    });
    let mut quantization = s.section("quantization");
    let multipliers = multipliers(&mut quantization);
    quantization.close();
    let mut defaults = s.section("defaults");
    let default_figures = figures(&mut defaults);
    defaults.close();
    s.learn("concurrency_limits", Form::Items(CONCURRENCY));
    let concurrency = s.list("concurrency_limits").map(|(items, _)| {
        let items = items.iter();
        items
            .filter_map(|item| concurrency(&s, Some(item), author))
            .collect()
    });
    let mut scaling = s.section("timeout_scaling");
    scaling.learn("base_timeout_seconds", Form::Number(None, 0..=86_400, None));
    let base_timeout = scaling.parse("base_timeout_seconds", None, |text| {
        let seconds = number(text, &(0..=86_400))?;
        Ok(Some(Duration::from_secs(seconds.into())))
    });
    let load_time_buffer = scaling.flag_if_said("load_time_buffer");
    scaling.close();
    s.close();
    Resources {
        sizes,
        multipliers,
        defaults: default_figures,
        concurrency,
        base_timeout,
        load_time_buffer,
    }
}

fn size(resources: &Section, item: Option<&Tree>, author: Author) -> Option<ModelSize> {
    let mut s = Section::new(resources.reading, SIZE, item);
    s.need("patterns");
    let patterns: Vec<SizePattern> = s
        .scalars("patterns")
        .unwrap_or_default()
        .iter()
        .filter_map(|set| {
            s.judge(set, None, |text| match SizePattern::new(text) {
                Some(pattern) => Ok(Some(pattern)),
                None => glob(text).map(|_| None),
            })
        })
        .collect();
    if let (true, Some(item)) = (patterns.is_empty(), item) {
        let problem = Problem::new(item.at, "an item of `model_sizes` has no `patterns`");
        s.reading.report(
            problem.hint(
                "write the sizes or names it speaks of, such as `patterns: [\"7b\", \"8b\"]`",
            ),
        );
    }
    let figures = figures(&mut s);
    let max_concurrent = limit(&mut s, "max_concurrent", author);
    s.close();
    Some(ModelSize {
        patterns,
        figures,
        max_concurrent,
    })
}

fn concurrency(
    resources: &Section,
    item: Option<&Tree>,
    author: Author,
) -> Option<ConcurrencyLimit> {
    let mut s = Section::new(resources.reading, CONCURRENCY, item);
    s.need("max_concurrent");
    let min_gb = gb(&mut s, "min_memory_gb").unwrap_or(0.0);
    let limit = limit(&mut s, "max_concurrent", author);
    let says_it = s
        .entries()
        .iter()
        .any(|entry| entry.key == "max_concurrent");
    if let (false, Some(item)) = (says_it, item) {
        let problem = Problem::new(
            item.at,
            "an item of `concurrency_limits` has no `max_concurrent`",
        );
        s.reading
            .report(problem.hint("write how many requests such a model may serve at once"));
    }
    s.close();
    Some(ConcurrencyLimit {
        min_gb,
        limit: limit?,
    })
}

fn figures(s: &mut Section) -> Figures {
    let min_gb = gb(s, "min_memory_gb");
    let recommended_gb = gb(s, "recommended_memory_gb");
    if let (Some(least), Some(good)) = (min_gb, recommended_gb)
        && good < least
    {
        let problem = Problem::new(
            s.place_of("recommended_memory_gb"),
            "`recommended_memory_gb` is less than `min_memory_gb`",
        );
        s.reading
            .report(problem.hint("swap the two, or remove one"));
    }
    let gpu_gb = gb(s, "min_gpu_memory_gb");
    let requires_gpu = s.flag_if_said("requires_gpu");
    let milliseconds = Form::Number(None, 0..=86_400_000, None);
    s.learn("estimated_load_time_ms", milliseconds);
    let load_time = s.parse("estimated_load_time_ms", None, |text| {
        let ms = number(text, &(0..=86_400_000))?;
        Ok(Some(Duration::from_millis(ms.into())))
    });
    Figures {
        min_gb,
        recommended_gb,
        gpu_gb,
        requires_gpu,
        load_time,
    }
}

fn gb(s: &mut Section, key: &'static str) -> Option<f64> {
    s.learn(key, Form::Decimal);
    s.parse(key, None, |text| {
        decimal(text, 0.0, MEMORY_GB_MAX).map(Some).ok_or_else(|| {
            Wrong::new(
                format!("`{text}` is not an amount of memory"),
                "write gigabytes without a unit, such as `8` or `1.5`",
            )
        })
    })
}

/// `quantization.multipliers`: how much of a size's memory a quantisation takes, by any name.
fn multipliers(quantization: &mut Section) -> BTreeMap<String, f64> {
    quantization.learn("multipliers", Form::Free(Box::new(Form::Decimal)));
    let s = quantization.section("multipliers");
    let mut out = BTreeMap::new();
    for entry in s.entries() {
        let Some(set) = s.scalar_of(entry) else {
            continue;
        };
        let share = s.judge(&set, None, |text| {
            let share = decimal(text, 0.0, 100.0).filter(|share| 0.0 < *share);
            share.map(Some).ok_or_else(|| {
                Wrong::new(
                    format!("`{text}` is not a share"),
                    "write a number above 0, such as `0.5` for half the memory",
                )
            })
        });
        out.extend(share.map(|share| (entry.key.to_lowercase(), share)));
    }
    out
}

/// Digits with at most one point: Rust would read `inf` and `1e9`, too.
fn decimal(text: &str, least: f64, most: f64) -> Option<f64> {
    let plain = text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let number: f64 = plain.then(|| text.parse().ok()).flatten()?;
    (least..=most).contains(&number).then_some(number)
}
