//! What a model's name means: `llama3`, `LLAMA3:latest` and `registry.ollama.ai/library/llama3` are one model.

use crate::error::Fault;

/// Longest model name we look at, in bytes.
pub const NAME_BYTES_MAX: usize = 256;

/// A model name in the one form that names compare by: lower case, without the default host and namespace, with its tag.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ModelKey(Box<str>);

impl ModelKey {
    /// Folds a name as Ollama compares them.
    ///
    /// # Errors
    /// 400 `invalid_model_name` when it is empty, longer than [`NAME_BYTES_MAX`] or holds a character outside
    /// `[A-Za-z0-9._:/@+-]`.
    pub fn parse(name: &str) -> Result<ModelKey, Fault> {
        let _ = name;
        Err(Fault::malformed("invalid_model_name", "not written yet"))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}
