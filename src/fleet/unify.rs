//! What a model is, whoever lists it: family, size, quantisation, what it can do. Read once, when a node's listing is.
//!
//! A listing's own words win. Where it has none (OpenAI servers tell an id and little else), the name is read by a table.

mod name;

use std::sync::Arc;

use crate::fleet::listing::{Fields, Installed};
use crate::profile::Profile;

/// Most capabilities that are kept of one entry.
const CAPABILITIES_MAX: usize = 16;
/// Longest word that is kept, bytes.
const WORD_BYTES_MAX: usize = 64;

/// What is known of a model besides its name. Words that nobody told and the name does not hold are empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct About {
    /// Lower case, without the generation: `qwen`, `llama`.
    pub family: Box<str>,
    /// The generation: `2.5`, `3.2`.
    pub variant: Box<str>,
    /// Who made or published it, as told or as the name's first part says.
    pub publisher: Box<str>,
    /// As told or written: `7.6B`, `8x7B`.
    pub size_word: Box<str>,
    /// Parameters, from the listing's number or from `size_word`.
    pub parameter_count: Option<u64>,
    /// As told or written: `Q4_K_M`.
    pub quantization_word: Box<str>,
    /// In the one form that they compare by: `q4km`, `f16`, `awq4`.
    pub quantization: Box<str>,
    /// `gguf`, `mlx`, `safetensors`, …
    pub format: Box<str>,
    /// What it is for.
    pub kind: Kind,
    /// In Ollama's words: `completion`, `vision`, `tools`, `thinking`, `embedding`, `insert`, or others as told.
    pub capabilities: Vec<Box<str>>,
    told: Told,
    /// Whether the node would ask another company's server for it: Ollama's `remote_host` and `remote_model`, which a copy under
    /// any name keeps.
    pub remote: bool,
    /// Longest context, tokens.
    pub context_max: Option<u64>,
    /// On disk; `None` when the listing does not say.
    pub size_bytes: Option<u64>,
}

/// What the listing itself says of what a model can do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Told {
    /// Nothing: it can only be guessed.
    #[default]
    Nothing,
    /// LM Studio's type, which says whether it looks at images or makes vectors; tools only where it has them.
    Kind,
    /// Ollama's list, which leaves nothing out.
    All,
}

/// What a model is for, in LM Studio's words.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Kind {
    /// Text in, text out.
    #[default]
    Llm,
    /// Images too.
    Vlm,
    /// Text in, vectors out.
    Embeddings,
}

impl Kind {
    fn parse(word: &str) -> Option<Kind> {
        match word {
            "llm" => Some(Kind::Llm),
            "vlm" => Some(Kind::Vlm),
            "embeddings" | "embedding" => Some(Kind::Embeddings),
            _ => None,
        }
    }

    /// The word in listings.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Llm => "llm",
            Kind::Vlm => "vlm",
            Kind::Embeddings => "embeddings",
        }
    }
}

impl About {
    /// Reads one entry of a listing, whatever server wrote it.
    pub(super) fn read(name: &str, entry: &Fields<'_>) -> Arc<About> {
        let details = entry.object("details");
        let meta = entry.object("meta");
        let told = |fields: &Fields<'_>, key: &str| -> Option<Box<str>> {
            let word = fields.string(key)?;
            let fits = !word.is_empty() && word.len() <= WORD_BYTES_MAX;
            fits.then(|| word.into())
        };
        let told_count = meta.count("n_params");
        let size_word = told(&details, "parameter_size")
            .or_else(|| name::size(name))
            .or_else(|| told_count.map(size_word))
            .unwrap_or_default();
        let quantization_word = told(&details, "quantization_level")
            .or_else(|| told(entry, "quantization"))
            .or_else(|| name::quantization(name))
            .unwrap_or_default();
        let told_family = told(&details, "family").or_else(|| told(entry, "arch"));
        let (family, variant) = family(told_family.as_deref(), name);
        let told_kind = entry.string("type").and_then(|word| Kind::parse(&word));
        let capabilities = capabilities(entry);
        let kind = told_kind.unwrap_or_else(|| kind(&capabilities, name));
        let told_abilities = match told_kind {
            Some(_) => Told::Kind,
            None if capabilities.is_empty() => Told::Nothing,
            None => Told::All,
        };
        let numbers = [
            entry.count("max_model_len"),
            entry.count("max_context_length"),
            details.count("context_length"),
            entry.count("context_length"),
            meta.count("n_ctx_train"),
        ];
        Arc::new(About {
            publisher: told(entry, "publisher")
                .unwrap_or_else(|| name::publisher(name, &family).into()),
            parameter_count: told_count.or_else(|| count(&size_word)),
            quantization: normal_quantization(&quantization_word).into(),
            format: told(&details, "format")
                .or_else(|| told(entry, "compatibility_type"))
                .unwrap_or_else(|| name::format(name).into()),
            capabilities: match told_abilities {
                // LM Studio tells what comes on top of the type.
                Told::All => capabilities,
                Told::Kind | Told::Nothing => or_implied(capabilities, kind),
            },
            context_max: numbers.into_iter().flatten().find(|tokens| 0 < *tokens),
            size_bytes: entry.count("size").or_else(|| meta.count("size")),
            told: told_abilities,
            remote: ["remote_host", "remote_model"].iter().any(|key| {
                let value = entry.get(key);
                value.is_some_and(|value| !matches!(value, "null" | "\"\""))
            }),
            family,
            variant,
            size_word,
            quantization_word,
            kind,
        })
    }

    /// In the one form that sizes compare by: `7.6b`, `8x7b`.
    pub fn parameter_size(&self) -> String {
        self.size_word.to_ascii_lowercase()
    }

    /// What the listing itself says of whether it can do what a word of Ollama's says; `None` where it says nothing of that.
    pub fn states(&self, capability: &str) -> Option<bool> {
        match (self.told, capability) {
            (Told::All, _) | (Told::Kind, "completion" | "vision" | "embedding") => {
                Some(self.can(capability))
            }
            (Told::Kind, _) => self.can(capability).then_some(true),
            (Told::Nothing, _) => None,
        }
    }

    /// Whether it can do what a word says, however people call that.
    pub fn can(&self, capability: &str) -> bool {
        let wanted = canonical(capability);
        self.capabilities.iter().any(|known| **known == *wanted)
    }
}

/// Adds what the type of the node knows by the models' names: where their listing says nothing, and where an operator knows better.
pub fn complete(models: &mut [Installed], profile: &Profile) {
    for model in models {
        let (name, told) = (&*model.name, model.about.context_max);
        let insisted = profile.insisted_context(name);
        let context = insisted.or(told).or_else(|| profile.context(name));
        let words: Vec<&str> = match model.about.told {
            Told::Nothing => profile.capabilities(name).collect(),
            Told::Kind | Told::All => profile.insisted_capabilities(name).collect(),
        };
        if words.is_empty() && context == told {
            continue;
        }
        let about = Arc::make_mut(&mut model.about);
        about.context_max = context;
        about.learn(words.into_iter().map(canonical));
    }
}

impl About {
    fn learn(&mut self, words: impl Iterator<Item = Box<str>>) {
        for word in words {
            match &*word {
                "embedding" => {
                    self.kind = Kind::Embeddings;
                    self.capabilities.retain(|known| **known != *"completion");
                }
                "vision" => self.kind = Kind::Vlm,
                _ => (),
            }
            if !self.capabilities.contains(&word) {
                self.capabilities.push(word);
            }
        }
    }
}

/// A told family is split as the name is: `qwen2` is generation 2 of `qwen`. The name knows the generation better (`qwen2.5`).
fn family(told: Option<&str>, name: &str) -> (Box<str>, Box<str>) {
    let named = name::family(name);
    let Some(told) = told.map(str::to_ascii_lowercase) else {
        return named.map_or_else(Default::default, |it| (it.family.into(), it.variant.into()));
    };
    let split = name::family(&told).filter(|split| told.starts_with(split.family));
    let family = split.map_or(&*told, |split| split.family);
    let named = named.filter(|named| named.family == family && !named.variant.is_empty());
    let variant = named.or(split).map_or("", |known| known.variant);
    (family.into(), variant.into())
}

/// What the listing says it can do: Ollama's list of words, or LM Studio's.
fn capabilities(entry: &Fields<'_>) -> Vec<Box<str>> {
    let mut known: Vec<Box<str>> = Vec::new();
    for word in entry.strings("capabilities").iter().take(CAPABILITIES_MAX) {
        let word = canonical(word);
        if !word.is_empty() && word.len() <= WORD_BYTES_MAX && !known.contains(&word) {
            known.push(word);
        }
    }
    known
}

fn or_implied(told: Vec<Box<str>>, kind: Kind) -> Vec<Box<str>> {
    let implied: &[&str] = match kind {
        Kind::Embeddings => &["embedding"],
        Kind::Vlm => &["completion", "vision"],
        Kind::Llm => &["completion"],
    };
    let mut all = told;
    for word in implied {
        if !all.iter().any(|known| **known == **word) {
            all.push((*word).into());
        }
    }
    all
}

fn kind(capabilities: &[Box<str>], name: &str) -> Kind {
    let has = |word: &str| capabilities.iter().any(|known| **known == *word);
    let said = [
        ("vision", Kind::Vlm),
        ("completion", Kind::Llm),
        ("embedding", Kind::Embeddings),
    ];
    let first = said.into_iter().find(|(word, _)| has(word));
    first.map_or_else(|| name::kind(name), |(_, kind)| kind)
}

/// Ollama's word for what others call otherwise.
fn canonical(word: impl AsRef<str>) -> Box<str> {
    let word = word.as_ref().to_ascii_lowercase().replace('-', "_");
    let ours = match word.as_str() {
        "embeddings" => "embedding",
        "chat" | "text" | "text_generation" => "completion",
        "tool_use" | "function_calling" => "tools",
        "reasoning" => "thinking",
        // Not `image`: that is Ollama's word for models that make them.
        "images" | "multimodal" => "vision",
        "fim" => "insert",
        other => other,
    };
    ours.into()
}

/// `Q4_K_M` is `q4km`, `Q8_0` is `q8`, `FP16` is `f16`, `AWQ_4BIT` is `awq4`.
fn normal_quantization(word: &str) -> String {
    let mut plain: String = word.to_ascii_lowercase();
    plain.retain(|c| !matches!(c, '_' | '-' | ' '));
    if word.to_ascii_lowercase().starts_with('q')
        && let Some(bits) = plain.strip_suffix('0').filter(|bits| bits.len() == 2)
    {
        return bits.to_owned();
    }
    if let Some(bits) = plain
        .strip_prefix("fp")
        .filter(|bits| matches!(*bits, "16" | "32"))
    {
        return format!("f{bits}");
    }
    match plain.strip_suffix("bit") {
        Some(method) if method.starts_with(|c: char| c.is_ascii_alphabetic()) => method.to_owned(),
        _ => plain,
    }
}

/// As Ollama writes it: `14.7B`, `137M`.
fn size_word(count: u64) -> Box<str> {
    let in_units = |unit: f64| (count as f64 / unit * 10.0).round() / 10.0;
    let word = match count {
        1_000_000_000.. => format!("{}B", in_units(1e9)),
        1_000_000.. => format!("{}M", in_units(1e6)),
        _ => format!("{}K", in_units(1e3)),
    };
    word.into()
}

/// `7.6B` is 7,600,000,000 parameters, `8x7B` 56 of those.
fn count(word: &str) -> Option<u64> {
    let unit = match word.chars().next_back()?.to_ascii_lowercase() {
        'k' => 1e3,
        'm' => 1e6,
        'b' => 1e9,
        't' => 1e12,
        _ => return None,
    };
    let mut count = unit;
    for factor in word[..word.len() - 1].split(['x', 'X']) {
        let is_number = factor.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        count *= is_number.then(|| factor.parse::<f64>().ok()).flatten()?;
    }
    // Beyond that the word is a joke, and a float would not hold it exactly.
    (1.0..1e15).contains(&count).then_some(count.round() as u64)
}

#[cfg(test)]
mod tests;
