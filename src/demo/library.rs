//! The models on a node's disk: names as Ollama compares them, and facts made up from the name alone.
//!
//! The rules of names are written a second time here (`crate::model` has them too): a simulator that shared the code
//! under test would hide its mistakes.

use std::time::SystemTime;

use super::clock;
use super::json::quote;

pub(super) const CONTEXT_LENGTH: i64 = 131_072;

/// What a model is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    Chat,
    /// A chat model that thinks unless it is told not to.
    Thinking,
    Embedding,
}

/// What a test says about a model; the rest is made up from its name and its use.
#[derive(Debug, Clone, Default)]
pub(super) struct Facts {
    pub family: Option<String>,
    pub parameter_size: Option<String>,
    pub quantization: Option<String>,
    pub capabilities: Option<Vec<String>>,
    pub context_length: Option<i64>,
    pub digest: Option<String>,
}

/// One model on the disk.
#[derive(Debug, Clone)]
pub(super) struct Model {
    /// As listed: with its tag, without the default host and namespace.
    pub name: String,
    /// What names are compared by.
    pub key: String,
    pub purpose: Use,
    pub modified: SystemTime,
    /// Of the manifest, 64 hexadecimal digits: the same on every node for the same name, unless a test wants a conflict.
    pub digest: String,
    /// Of the weights: copies and derived models share them, and with them the place in memory.
    pub weights: String,
    pub family: String,
    pub parameter_size: String,
    pub quantization: String,
    pub capabilities: Vec<String>,
    /// Whether it refuses what is not among its capabilities; one that was told none takes everything.
    pub is_strict: bool,
    /// Tokens that it was trained for.
    pub context_length: i64,
}

/// One file of a model as pulls, pushes and creates name it.
pub(super) struct Layer {
    pub digest: String,
    pub bytes: u64,
}

impl Model {
    pub(super) fn new(name: &str, purpose: Use, modified: SystemTime, facts: &Facts) -> Model {
        let or = |told: &Option<String>, usual: &str| told.as_deref().unwrap_or(usual).to_owned();
        let (family, size, quantization, capabilities) = match purpose {
            Use::Chat | Use::Thinking => (
                "llama",
                "3.2B",
                "Q4_K_M",
                &["completion", "tools", "thinking"][..],
            ),
            Use::Embedding => ("nomic-bert", "137M", "F16", &["embedding"][..]),
        };
        let usual = || capabilities.iter().map(|c| (*c).to_owned()).collect();
        let digest = or(&facts.digest, &hex64(&key(name)));
        Model {
            name: display(name),
            key: key(name),
            purpose,
            modified,
            weights: hex64(&digest),
            digest,
            family: or(&facts.family, family),
            parameter_size: or(&facts.parameter_size, size),
            quantization: or(&facts.quantization, quantization),
            capabilities: facts.capabilities.clone().unwrap_or_else(usual),
            is_strict: facts.capabilities.is_some(),
            context_length: facts.context_length.unwrap_or(CONTEXT_LENGTH),
        }
    }

    /// The same under another name.
    pub(super) fn copied(&self, name: &str, modified: SystemTime) -> Model {
        Model {
            name: display(name),
            key: key(name),
            modified,
            ..self.clone()
        }
    }

    /// Bytes on disk.
    pub(super) fn size_bytes(&self) -> u64 {
        let bits = match self.quantization.get(..2) {
            Some("F3" | "FP") => 32,
            Some("F1" | "BF") => 16,
            Some("Q8") => 9,
            _ => 5,
        };
        self.parameters() / 8 * bits
    }

    /// What `3.2B` or `137M` means.
    pub(super) fn parameters(&self) -> u64 {
        let text = &self.parameter_size;
        let at = text.len().saturating_sub(1);
        let scale = match text.as_bytes().last() {
            Some(b'K') => 1e3,
            Some(b'M') => 1e6,
            Some(b'B') => 1e9,
            Some(b'T') => 1e12,
            _ => return 0,
        };
        (text[..at].parse::<f64>().unwrap_or_default() * scale).round() as u64
    }

    /// Its files, the weights first.
    pub(super) fn layers(&self) -> [Layer; 3] {
        let small = |what: &str, bytes| Layer {
            digest: hex64(&format!("{}{what}", self.digest)),
            bytes,
        };
        let weights = Layer {
            digest: self.weights.clone(),
            bytes: self.size_bytes(),
        };
        [weights, small("template", 29), small("config", 358)]
    }

    /// `details` as `/api/ps` and `/api/show` have it, without the closing brace, so that `/api/tags` can add to it.
    fn details_open(&self) -> String {
        let family = quote(&self.family);
        format!(
            "{{\"parent_model\":\"\",\"format\":\"gguf\",\"family\":{family},\"families\":[{family}],\
             \"parameter_size\":{},\"quantization_level\":{}",
            quote(&self.parameter_size),
            quote(&self.quantization)
        )
    }

    pub(super) fn details(&self) -> String {
        self.details_open() + "}"
    }

    pub(super) fn embedding_length(&self) -> usize {
        match self.purpose {
            Use::Chat | Use::Thinking => 3072,
            Use::Embedding => super::embed::DIMENSIONS,
        }
    }

    pub(super) fn can(&self, capability: &str) -> bool {
        self.capabilities.iter().any(|c| c == capability)
    }

    /// A JSON list.
    pub(super) fn capabilities(&self) -> String {
        let quoted: Vec<String> = self.capabilities.iter().map(|c| quote(c)).collect();
        format!("[{}]", quoted.join(","))
    }

    /// One element of `/api/tags`; nodes before 0.30 tell less.
    pub(super) fn tag(&self, is_terse: bool) -> String {
        let name = quote(&self.name);
        let more = if is_terse {
            "}".to_owned()
        } else {
            format!(
                ",\"context_length\":{},\"embedding_length\":{}}},\"capabilities\":{}",
                self.context_length,
                self.embedding_length(),
                self.capabilities()
            )
        };
        format!(
            "{{\"name\":{name},\"model\":{name},\"modified_at\":\"{}\",\"size\":{},\"digest\":\"{}\",\"details\":{}{more}}}",
            clock::rfc3339(self.modified),
            self.size_bytes(),
            self.digest,
            self.details_open(),
        )
    }

    /// One element of `/api/ps`.
    pub(super) fn loaded(&self, expires: SystemTime, context_length: i64) -> String {
        let name = quote(&self.name);
        format!(
            "{{\"name\":{name},\"model\":{name},\"size\":{size},\"digest\":\"{}\",\"details\":{},\
             \"expires_at\":\"{}\",\"size_vram\":{size},\"context_length\":{context_length}}}",
            self.digest,
            self.details(),
            clock::rfc3339(expires),
            size = self.size_bytes() * 2,
        )
    }

    /// The answer of `/api/show`.
    pub(super) fn show(&self) -> String {
        let template = "{{ .Prompt }}";
        let modelfile = format!(
            "# Modelfile generated by \"ollama show\"\n# To build a new Modelfile based on this, replace FROM with:\n\
             # FROM {}\n\nFROM /root/.ollama/models/blobs/sha256-{}\nTEMPLATE {template}\n",
            self.name, self.weights
        );
        let parameters = match self.purpose {
            Use::Chat | Use::Thinking => {
                "\"parameters\":\"stop                           \\\"\\u003c|eot_id|\\u003e\\\"\","
            }
            Use::Embedding => "",
        };
        format!(
            "{{\"license\":\"Simulated.\",\"modelfile\":{},{parameters}\"template\":{},\"details\":{},\"model_info\":{},\
             \"tensors\":[{{\"name\":\"output.weight\",\"type\":\"F16\",\"shape\":[64,512]}}],\"capabilities\":{},\
             \"modified_at\":\"{}\"}}",
            quote(&modelfile),
            quote(template),
            self.details(),
            self.info(),
            self.capabilities(),
            clock::rfc3339(self.modified)
        )
    }

    fn info(&self) -> String {
        let arch = quote(&self.family);
        let arch = arch.trim_matches('"');
        let pooling = match self.purpose {
            Use::Chat | Use::Thinking => String::new(),
            Use::Embedding => format!("\"{arch}.pooling_type\":1,"),
        };
        format!(
            "{{\"general.architecture\":\"{arch}\",\"general.file_type\":15,\"general.parameter_count\":{},\
             \"general.quantization_version\":2,\"{arch}.attention.head_count\":24,\"{arch}.attention.head_count_kv\":8,\
             \"{arch}.attention.layer_norm_rms_epsilon\":0.00001,\"{arch}.block_count\":28,\
             \"{arch}.context_length\":{},\"{arch}.embedding_length\":{},\"{arch}.feed_forward_length\":8192,\
             {pooling}\"{arch}.rope.dimension_count\":128,\"{arch}.rope.freq_base\":500000,\"{arch}.vocab_size\":128256,\
             \"tokenizer.ggml.add_bos_token\":true,\"tokenizer.ggml.add_eos_token\":false,\
             \"tokenizer.ggml.bos_token_id\":128000,\"tokenizer.ggml.eos_token_id\":128009,\
             \"tokenizer.ggml.merges\":null,\"tokenizer.ggml.model\":\"gpt2\",\"tokenizer.ggml.padding_token_id\":3,\
             \"tokenizer.ggml.pre\":\"llama-bpe\",\"tokenizer.ggml.token_type\":null,\"tokenizer.ggml.tokens\":null}}",
            self.parameters(),
            self.context_length,
            self.embedding_length()
        )
    }

    /// One element of `/v1/models`; `id` is the listed name, or the asked one for a single model.
    pub(super) fn openai(&self, id: &str) -> String {
        let namespace = self.name.rsplit_once('/').map_or("library", |(n, _)| n);
        format!(
            "{{\"id\":{},\"object\":\"model\",\"created\":{},\"owned_by\":{}}}",
            quote(id),
            clock::unix_s(self.modified),
            quote(namespace)
        )
    }
}

/// Whether Ollama accepts it as a name at all.
pub(super) fn is_valid(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._:/-".contains(c);
    let parts_ok = !name.split(['/', ':']).any(str::is_empty);
    !name.is_empty() && name.len() <= 350 && name.chars().all(allowed) && parts_ok
}

/// The listed form: no default host, no default namespace, always a tag.
pub(super) fn display(name: &str) -> String {
    let bare = strip(strip(name, "registry.ollama.ai/"), "library/");
    let last = bare.rsplit('/').next().unwrap_or(bare);
    if last.contains(':') {
        bare.to_owned()
    } else {
        format!("{bare}:latest")
    }
}

pub(super) fn key(name: &str) -> String {
    display(name).to_ascii_lowercase()
}

fn strip<'a>(name: &'a str, prefix: &str) -> &'a str {
    match name.get(..prefix.len()) {
        Some(head) if head.eq_ignore_ascii_case(prefix) => &name[prefix.len()..],
        _ => name,
    }
}

/// 64 hexadecimal digits that depend on the text alone.
pub(super) fn hex64(text: &str) -> String {
    let mut seed = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| {
        (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3)
    });
    let mut digits = String::with_capacity(64);
    for _ in 0..4 {
        seed = mix(seed);
        digits.push_str(&format!("{seed:016x}"));
    }
    digits
}

/// A number that looks random, from one that does not (splitmix64).
pub(super) fn mix(seed: u64) -> u64 {
    let z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fold_as_ollama_folds_them() {
        for name in [
            "llama3",
            "LLAMA3:latest",
            "library/llama3",
            "registry.ollama.ai/library/Llama3:Latest",
        ] {
            assert_eq!(key(name), "llama3:latest", "{name}");
        }
        assert_eq!(key("hf.co/User/Repo:Q4_K_M"), "hf.co/user/repo:q4_k_m");
        assert!(!is_valid("bad name!"));
        assert!(!is_valid("a::b"));
        assert!(is_valid("hf.co/user/repo:Q4"));
    }

    #[test]
    fn documents_are_json() {
        for purpose in [Use::Chat, Use::Embedding] {
            let facts = Facts::default();
            let model = Model::new("user/thing", purpose, SystemTime::UNIX_EPOCH, &facts);
            assert_eq!(model.digest.len(), 64);
            for text in [
                model.tag(false),
                model.tag(true),
                model.show(),
                model.openai("thing"),
            ] {
                assert!(
                    serde_json::from_str::<serde_json::Value>(&text).is_ok(),
                    "{text}"
                );
            }
        }
    }

    #[test]
    fn sizes_follow_from_the_details() {
        for (size, quantization, parameters, bytes) in [
            ("3.2B", "Q4_K_M", 3_200_000_000, 2_000_000_000),
            ("137M", "F16", 137_000_000, 274_000_000),
            ("8B", "Q8_0", 8_000_000_000, 9_000_000_000),
            ("111K", "F32", 111_000, 444_000),
            ("", "", 0, 0),
            ("many", "?", 0, 0),
        ] {
            let facts = Facts {
                parameter_size: Some(size.to_owned()),
                quantization: Some(quantization.to_owned()),
                ..Facts::default()
            };
            let model = Model::new("a", Use::Chat, SystemTime::UNIX_EPOCH, &facts);
            assert_eq!(
                (model.parameters(), model.size_bytes()),
                (parameters, bytes),
                "{size}"
            );
        }
    }
}
