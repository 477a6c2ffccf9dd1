//! What a node type is: its prefixes, the calls it can serve, the paths we ask for health and models.

pub mod extraction;

use std::sync::{Arc, LazyLock};

use crate::dialect::Operation;
use Operation::{
    Blob, Chat, ChatCompletions, Completions, CountTokens, Embed, Embeddings, Generate, Messages,
    Model, Models, Ps, Responses, Root, Show, Tags, V1Embeddings, Version,
};
use extraction::{Extraction, ExtractionText};

/// A node type. `PROFILES` holds all of them; a node's `type:` names one by name or prefix.
#[derive(Debug, PartialEq, Eq)]
pub struct Profile {
    /// The word for it in `type:`, in messages and in [`Mount::Profile`](crate::dialect::Mount::Profile).
    pub name: &'static str,
    /// Words that name it in `type:` and as mounts `/{prefix}/…`.
    pub prefixes: &'static [&'static str],
    /// Path of the health probe, such as `/`.
    pub health_path: &'static str,
    /// How its models are listed.
    pub listing: Listing,
    /// Calls it can serve as they come.
    pub serves: &'static [Operation],
}

/// How a node tells which models it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listing {
    /// `/api/tags` (installed), `/api/ps` (loaded), `/api/version`.
    Ollama,
    /// `/v1/models`: whatever is listed counts as loaded, since such servers hold their models in memory.
    OpenAi,
}

impl Profile {
    /// Whether it can serve a call as it comes, without translation.
    pub fn can_serve(&self, operation: Operation) -> bool {
        self.serves.contains(&operation)
    }

    /// Path of the model listing, below the node's base path.
    pub fn model_path(&self) -> &'static str {
        match self.listing {
            Listing::Ollama => "/api/tags",
            Listing::OpenAi => "/v1/models",
        }
    }

    /// What to take from its answers.
    pub fn extraction(&self) -> Option<Arc<Extraction>> {
        match self.name {
            "ollama" => OLLAMA_FIGURES.clone(),
            _ => None,
        }
    }

    /// What stands in front of every path when the node's URL names no path of its own: some servers keep their `/v1` or
    /// `/api` one level down.
    pub fn base_path(&self) -> &'static str {
        match self.name {
            "docker-model-runner" => "/engines",
            "lemonade" => "/api",
            "openwebui" => "/ollama",
            _ => "",
        }
    }
}

/// What Ollama's last frame tells of its own times, all of them in nanoseconds.
static OLLAMA_FIGURES: LazyLock<Option<Arc<Extraction>>> = LazyLock::new(|| {
    let paths = [
        ("model", "$.model"),
        ("is_complete", "$.done"),
        ("finish_reason", "$.done_reason"),
        ("input_tokens", "$.prompt_eval_count"),
        ("output_tokens", "$.eval_count"),
        ("total_duration_ns", "$.total_duration"),
        ("load_duration_ns", "$.load_duration"),
        ("prompt_duration_ns", "$.prompt_eval_duration"),
        ("eval_duration_ns", "$.eval_duration"),
    ];
    let calculations = [
        (
            "tokens_per_second",
            "eval_duration_ns > 0 ? output_tokens * 1000000000.0 / eval_duration_ns : 0",
        ),
        ("ttft_ms", "prompt_duration_ns / 1000000.0"),
        ("total_ms", "total_duration_ns / 1000000.0"),
        ("model_load_ms", "load_duration_ns / 1000000.0"),
    ];
    let owned = |(name, text): (&str, &str)| (name.to_owned(), text.to_owned());
    let text = ExtractionText {
        enabled: true,
        paths: paths.map(owned).into(),
        calculations: calculations.map(owned).into(),
        ..ExtractionText::default()
    };
    Extraction::compile(&text).ok()?.map(Arc::new)
});

/// What every OpenAI-compatible server has.
const OPENAI: &[Operation] = &[Models, Model, ChatCompletions, Completions, V1Embeddings];

/// OpenAI's and Anthropic's calls, as far as servers of models commonly have them.
const OPENAI_AND_MESSAGES: &[Operation] = &[
    Models,
    Model,
    ChatCompletions,
    Completions,
    V1Embeddings,
    Responses,
    Messages,
];

/// The above, and counting tokens.
const OPENAI_AND_ANTHROPIC: &[Operation] = &[
    Models,
    Model,
    ChatCompletions,
    Completions,
    V1Embeddings,
    Responses,
    Messages,
    CountTokens,
];

/// All built-in node types.
pub static PROFILES: &[Profile] = &[
    Profile {
        name: "ollama",
        prefixes: &["ollama"],
        health_path: "/",
        listing: Listing::Ollama,
        // Ollama answers 404 to `count_tokens`.
        serves: &[
            Root,
            Version,
            Tags,
            Ps,
            Models,
            Model,
            Show,
            Chat,
            Generate,
            Embed,
            Embeddings,
            ChatCompletions,
            Completions,
            V1Embeddings,
            Responses,
            Messages,
            Blob,
        ],
    },
    openai_like(
        "openai-compatible",
        &["openai-compatible"],
        "/v1/models",
        OPENAI,
    ),
    openai_like("vllm", &["vllm"], "/health", OPENAI_AND_MESSAGES),
    openai_like(
        "vllm-mlx",
        &["vllm-mlx"],
        "/health",
        &[
            Models,
            Model,
            ChatCompletions,
            Completions,
            V1Embeddings,
            Messages,
            CountTokens,
        ],
    ),
    openai_like("sglang", &["sglang"], "/health", OPENAI),
    openai_like(
        "llamacpp",
        &["llamacpp", "llama-cpp", "llama_cpp"],
        "/health",
        OPENAI_AND_ANTHROPIC,
    ),
    openai_like(
        "lm-studio",
        &["lmstudio", "lm-studio", "lm_studio"],
        "/v1/models",
        OPENAI_AND_MESSAGES,
    ),
    openai_like(
        "lmdeploy",
        &["lmdeploy"],
        "/health",
        &[Models, Model, ChatCompletions, Completions],
    ),
    openai_like("lemonade", &["lemonade"], "/v1/health", OPENAI),
    // LiteLLM's `/health` calls every model behind it and costs money; this one only answers.
    openai_like(
        "litellm",
        &["litellm"],
        "/health/liveliness",
        OPENAI_AND_MESSAGES,
    ),
    // Its Messages call has a path of its own, which a client's path is not rewritten to.
    openai_like("docker-model-runner", &["dmr"], "/v1/models", OPENAI),
    openai_like("omlx", &["omlx"], "/health", OPENAI_AND_ANTHROPIC),
    // Open WebUI as a node is its Ollama router; a user's key goes into `auth: { type: bearer }`.
    Profile {
        name: "openwebui",
        prefixes: &["openwebui"],
        health_path: "/",
        listing: Listing::Ollama,
        serves: &[
            Version,
            Tags,
            Ps,
            Models,
            Show,
            Chat,
            Generate,
            Embed,
            Embeddings,
            ChatCompletions,
            Completions,
            V1Embeddings,
            Responses,
            Messages,
        ],
    },
];

const fn openai_like(
    name: &'static str,
    prefixes: &'static [&'static str],
    health_path: &'static str,
    serves: &'static [Operation],
) -> Profile {
    Profile {
        name,
        prefixes,
        health_path,
        listing: Listing::OpenAi,
        serves,
    }
}

/// Finds a profile by name or prefix.
pub fn find(word: &str) -> Option<&'static Profile> {
    PROFILES
        .iter()
        .find(|profile| profile.name == word || profile.prefixes.contains(&word))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_word_names_one_profile() {
        let mut seen = HashSet::new();
        for profile in PROFILES {
            let words: HashSet<&str> = profile
                .prefixes
                .iter()
                .copied()
                .chain([profile.name])
                .collect();
            for word in words {
                assert!(seen.insert(word), "`{word}` names two profiles");
                assert_eq!(find(word).map(|found| found.name), Some(profile.name));
            }
        }
        assert!(
            find("openai").is_none(),
            "`/openai` is a mount for every node"
        );
        assert!(find("auto").is_none());
    }

    #[test]
    fn prefixes_are_mounts() {
        // A profile's prefix must not take the place of a mount for all nodes or of an API path.
        let taken = [
            "",
            "api",
            "v1",
            "openai",
            "anthropic",
            "olla",
            "internal",
            "metrics",
        ];
        for prefix in PROFILES.iter().flat_map(|profile| profile.prefixes) {
            assert!(!taken.contains(prefix), "{prefix}");
            assert!(
                prefix
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b == b'-' || b == b'_'),
                "{prefix}"
            );
        }
    }

    #[test]
    fn paths_start_with_a_slash() {
        for profile in PROFILES {
            assert!(profile.health_path.starts_with('/'), "{}", profile.name);
            assert!(
                profile.base_path().is_empty() || profile.base_path().starts_with('/'),
                "{}",
                profile.name
            );
        }
    }

    #[test]
    fn who_serves_what() {
        let table: &[(&str, Operation, bool)] = &[
            ("ollama", Chat, true),
            ("ollama", Messages, true),
            ("ollama", CountTokens, false),
            ("ollama", Blob, true),
            ("openai-compatible", Messages, false),
            ("openai-compatible", Chat, false),
            ("vllm", Responses, true),
            ("vllm", CountTokens, false),
            ("llama-cpp", CountTokens, true),
            ("lmdeploy", V1Embeddings, false),
            ("dmr", Messages, false),
            ("openwebui", Blob, false),
        ];
        for (word, operation, serves) in table {
            assert_eq!(
                find(word).map(|profile| profile.can_serve(*operation)),
                Some(*serves),
                "{word} {operation:?}"
            );
        }
    }
}
