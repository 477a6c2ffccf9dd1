//! What a model needs of a node: memory, time to load, how many requests at once.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::glob::Glob;

/// `characteristics`: how nodes of a type are treated. What is `None` was not said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Characteristics {
    /// Until the first byte of a cold model, in place of `proxy.response_header_timeout`.
    pub timeout: Option<Duration>,
    /// Most requests at once on one node with `slots: auto`.
    pub max_concurrent: Option<Limit>,
    /// `priority` of an endpoint that has none.
    pub priority: Option<u32>,
    /// `Some(false)`: no stream is sent there.
    pub streaming: Option<bool>,
    /// Whether an endpoint must have credentials.
    pub auth_required: Option<bool>,
    /// Words of `auth.type` that an endpoint may have besides `none`; empty allows all.
    pub auth_types: Option<Vec<String>>,
    /// The header that carries an `api_key` when the endpoint names none.
    pub auth_header: Option<String>,
}

/// How many requests at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// At least 1.
    pub requests: u32,
    /// Written by the operator: kept. Otherwise an assumption, which spills work to other nodes but refuses none.
    pub hard: bool,
}

/// `resources`: what models need. What is `None` was not said.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Resources {
    /// Needs by size, in the order they are tried.
    pub sizes: Option<Vec<ModelSize>>,
    /// Share of a size's memory that a quantisation takes, by the beginning of its name in small letters (`q4`).
    pub multipliers: BTreeMap<String, f64>,
    /// Of a model whose size is unknown.
    pub defaults: Figures,
    /// Most requests at once, by least memory need.
    pub concurrency: Option<Vec<ConcurrencyLimit>>,
    /// What every first byte may take, before loading is counted.
    pub base_timeout: Option<Duration>,
    /// Whether the time to load comes on top.
    pub load_time_buffer: Option<bool>,
}

/// One entry of `resources.model_sizes`.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelSize {
    /// Sizes (`7b`) and names (`llama*`) it speaks of.
    pub patterns: Vec<SizePattern>,
    /// What such models need.
    pub figures: Figures,
    /// Most requests at once for such a model on one node.
    pub max_concurrent: Option<Limit>,
}

/// A pattern of `model_sizes`.
#[derive(Debug, Clone, PartialEq)]
pub enum SizePattern {
    /// Billions of parameters: `7b`, `1.5b`, `*7b*`.
    Billions(f64),
    /// A pattern over names.
    Name(Glob),
}

/// Needs of a model in numbers, as far as they were said. Memory in GB.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Figures {
    /// The least it runs in.
    pub min_gb: Option<f64>,
    /// What it runs well in.
    pub recommended_gb: Option<f64>,
    /// The least GPU memory.
    pub gpu_gb: Option<f64>,
    /// Whether it must not run on a CPU.
    pub requires_gpu: Option<bool>,
    /// From disk to the first token.
    pub load_time: Option<Duration>,
}

/// One entry of `resources.concurrency_limits`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ConcurrencyLimit {
    /// Memory need from which on it holds, GB.
    pub min_gb: f64,
    /// Most requests at once for such a model on one node.
    pub limit: Limit,
}

/// What one model needs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Demand {
    /// Least memory, GB, its quantisation counted in.
    pub memory_gb: f64,
    /// Memory it runs well in, GB; never less than `memory_gb`.
    pub recommended_gb: f64,
    /// Least GPU memory, GB.
    pub gpu_gb: f64,
    /// Whether it must not run on a CPU.
    pub requires_gpu: bool,
    /// From disk to the first token.
    pub load_time: Duration,
    /// Most requests at once for it on one node.
    pub max_concurrent: Option<Limit>,
}

impl Characteristics {
    /// These, and what they do not say from `below`.
    pub fn over(self, below: &Characteristics) -> Characteristics {
        Characteristics {
            timeout: self.timeout.or(below.timeout),
            max_concurrent: self.max_concurrent.or(below.max_concurrent),
            priority: self.priority.or(below.priority),
            streaming: self.streaming.or(below.streaming),
            auth_required: self.auth_required.or(below.auth_required),
            auth_types: self.auth_types.or_else(|| below.auth_types.clone()),
            auth_header: self.auth_header.or_else(|| below.auth_header.clone()),
        }
    }
}

impl Resources {
    /// These, and what they do not say from `below`: a list that was written replaces the one below.
    pub fn over(self, below: &Resources) -> Resources {
        let mut multipliers = below.multipliers.clone();
        multipliers.extend(self.multipliers);
        Resources {
            sizes: self.sizes.or_else(|| below.sizes.clone()),
            multipliers,
            defaults: self.defaults.over(below.defaults),
            concurrency: self.concurrency.or_else(|| below.concurrency.clone()),
            base_timeout: self.base_timeout.or(below.base_timeout),
            load_time_buffer: self.load_time_buffer.or(below.load_time_buffer),
        }
    }

    /// As [`Resources::over`], but the sizes of `below` are still tried after these: a word for one size in the configuration
    /// must not make the others unknown.
    pub fn on_top_of(mut self, below: &Resources) -> Resources {
        if let (Some(sizes), Some(more)) = (&mut self.sizes, &below.sizes) {
            sizes.extend(more.iter().cloned());
        }
        self.over(below)
    }

    pub(super) fn demand(
        &self,
        name: &str,
        parameter_size: Option<&str>,
        quantization: Option<&str>,
    ) -> Demand {
        let billions = parameter_size
            .and_then(parse_billions)
            .or_else(|| billions_in(name));
        let sized = self.size_of(name, billions);
        let figures = sized.map_or(self.defaults, |(size, _)| size.figures.over(self.defaults));
        let share = self.share_of(name, quantization);
        let gb = |written: Option<f64>| written.unwrap_or(0.0) * share;
        let memory_gb = gb(figures.min_gb);
        let own = sized.and_then(|(size, _)| size.max_concurrent);
        // A guess refuses nobody.
        let is_known = sized.is_none_or(|(_, exact)| exact);
        let limit = own.or_else(|| self.limit_at(memory_gb));
        Demand {
            memory_gb,
            recommended_gb: gb(figures.recommended_gb).max(memory_gb),
            gpu_gb: gb(figures.gpu_gb),
            requires_gpu: figures.requires_gpu.unwrap_or(false),
            load_time: figures.load_time.unwrap_or_default(),
            max_concurrent: limit.map(|limit| Limit {
                hard: limit.hard && is_known,
                ..limit
            }),
        }
    }

    /// The entry that speaks of a model, and whether it names it: a size that no entry has takes the next larger one, the largest of
    /// all takes the last, which is a guess.
    fn size_of(&self, name: &str, billions: Option<f64>) -> Option<(&ModelSize, bool)> {
        let sizes = self.sizes.as_deref().unwrap_or_default();
        let named = |size: &&ModelSize| {
            size.patterns.iter().any(|pattern| match pattern {
                SizePattern::Name(glob) => glob.means(name),
                SizePattern::Billions(_) => false,
            })
        };
        if let Some(size) = sizes.iter().find(named) {
            return Some((size, true));
        }
        let billions = billions?;
        // Vendors round: what is sold as 7b has 6.7 or 7.6 billion.
        for wanted in [billions, billions.floor(), billions.round()] {
            let exact = |size: &&ModelSize| size.billions().any(|it| it == wanted);
            if let Some(size) = sizes.iter().find(exact) {
                return Some((size, true));
            }
        }
        let known = || {
            sizes
                .iter()
                .flat_map(|size| size.billions().map(move |it| (it, size)))
        };
        let larger = known().filter(|(it, _)| billions < *it);
        larger
            .min_by(|a, b| a.0.total_cmp(&b.0))
            .or_else(|| known().max_by(|a, b| a.0.total_cmp(&b.0)))
            .map(|(_, size)| (size, false))
    }

    /// The share of the longest multiplier with which the quantisation begins, said by the node or found in the name; 1 for none.
    fn share_of(&self, name: &str, quantization: Option<&str>) -> f64 {
        let told = quantization.map(str::to_lowercase);
        let name = name.to_lowercase();
        let words: Vec<&str> = match &told {
            Some(told) => vec![told.as_str()],
            None => name.split(['-', ':', '.', '/']).collect(),
        };
        let fits =
            |(key, _): &(&String, &f64)| words.iter().any(|word| word.starts_with(key.as_str()));
        let fitting = self.multipliers.iter().filter(fits);
        fitting
            .max_by_key(|(key, _)| key.len())
            .map_or(1.0, |(_, share)| *share)
    }

    /// Of the limits that hold for a memory need, the one that holds from the highest need on.
    fn limit_at(&self, memory_gb: f64) -> Option<Limit> {
        let limits = self.concurrency.as_deref().unwrap_or_default();
        let holding = limits.iter().filter(|it| it.min_gb <= memory_gb);
        holding
            .max_by(|a, b| a.min_gb.total_cmp(&b.min_gb))
            .map(|it| it.limit)
    }
}

impl ModelSize {
    fn billions(&self) -> impl Iterator<Item = f64> + '_ {
        self.patterns.iter().filter_map(|pattern| match pattern {
            SizePattern::Billions(billions) => Some(*billions),
            SizePattern::Name(_) => None,
        })
    }
}

impl Figures {
    /// These, and what they do not say from `below`.
    pub fn over(self, below: Figures) -> Figures {
        Figures {
            min_gb: self.min_gb.or(below.min_gb),
            recommended_gb: self.recommended_gb.or(below.recommended_gb),
            gpu_gb: self.gpu_gb.or(below.gpu_gb),
            requires_gpu: self.requires_gpu.or(below.requires_gpu),
            load_time: self.load_time.or(below.load_time),
        }
    }
}

impl SizePattern {
    /// `7b` and `*7b*` mean a size, other text is a pattern of names; `None` when it is empty or too long.
    pub fn new(text: &str) -> Option<SizePattern> {
        match parse_billions(text.trim_matches('*')) {
            Some(billions) => Some(SizePattern::Billions(billions)),
            None => Glob::new(text).map(SizePattern::Name),
        }
    }
}

/// `7b`, `7.6B`, `137M` in billions; `8x7b` is the product.
fn parse_billions(text: &str) -> Option<f64> {
    let digits_end = text.len().checked_sub(1)?;
    let (number, unit) = (text.get(..digits_end)?, text.get(digits_end..)?);
    let unit = match unit {
        "b" | "B" => 1.0,
        "m" | "M" => 0.001,
        _ => return None,
    };
    let number = match number.split_once(['x', 'X']) {
        Some((experts, size)) => plain_number(experts)? * plain_number(size)?,
        None => plain_number(number)?,
    };
    Some(number * unit)
}

/// Digits and at most one point: Rust would read `inf` and `1e9`, too.
fn plain_number(text: &str) -> Option<f64> {
    let starts = text.starts_with(|c: char| c.is_ascii_digit());
    let plain = text.len() <= 9 && text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    (starts && plain).then(|| text.parse().ok()).flatten()
}

/// The first part of a name that is a size: the 30 of `qwen3:30b-a3b`.
fn billions_in(name: &str) -> Option<f64> {
    name.split(['-', ':', '_', '/', ' '])
        .find_map(parse_billions)
}

#[cfg(test)]
mod tests;
