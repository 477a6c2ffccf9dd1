//! What a node type is: its prefixes, the calls it can serve, the paths we ask for health and models.

use crate::dialect::Operation;

/// A node type. `PROFILES` holds all of them; a node's `type:` names one by name or prefix.
#[derive(Debug, PartialEq, Eq)]
pub struct Profile {
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
    pub fn can_serve(&self, operation: Operation) -> bool {
        self.serves.contains(&operation)
    }
}

/// All built-in node types.
pub static PROFILES: &[Profile] = &[
    Profile {
        name: "ollama",
        prefixes: &["ollama"],
        health_path: "/",
        listing: Listing::Ollama,
        serves: &[],
    },
    Profile {
        name: "llamacpp",
        prefixes: &["llamacpp", "llama-cpp", "llama_cpp"],
        health_path: "/health",
        listing: Listing::OpenAi,
        serves: &[],
    },
    Profile {
        name: "vllm",
        prefixes: &["vllm"],
        health_path: "/health",
        listing: Listing::OpenAi,
        serves: &[],
    },
];

/// Finds a profile by name or prefix.
pub fn find(word: &str) -> Option<&'static Profile> {
    PROFILES
        .iter()
        .find(|profile| profile.name == word || profile.prefixes.contains(&word))
}
