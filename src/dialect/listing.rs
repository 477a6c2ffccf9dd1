//! Which listing of models is asked for: the shape, which the path or `format=` says, and the filters of its query.

use super::{Call, Dialect, Mount, Operation};
use crate::error::Fault;

/// The longest value of the query that is looked at, characters.
const VALUE_CHARS_MAX: usize = 256;

/// The shape of a listing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// `/olla/models`: one entry per model with its aliases and where it is.
    Unified,
    /// `/v1/models` as OpenAI has it.
    OpenAi,
    /// `/api/tags`.
    Ollama,
    /// `/v1/models` as Anthropic has it.
    Anthropic,
    /// `/api/v0/models` of LM Studio.
    LmStudio,
    /// `/api/v1/models` of LM Studio.
    LmStudioV1,
    /// `/v1/models` with vLLM's fields; vLLM-MLX and LMDeploy have the same.
    Vllm,
    /// `/v1/models` with SGLang's fields.
    Sglang,
    /// `/api/v1/models` of Lemonade.
    Lemonade,
}

/// The words of `format=`. llama.cpp and Docker Model Runner have OpenAI's fields and no more.
const FORMATS: &[(&str, Format)] = &[
    ("unified", Format::Unified),
    ("openai", Format::OpenAi),
    ("ollama", Format::Ollama),
    ("lmstudio", Format::LmStudio),
    ("vllm", Format::Vllm),
    ("vllm-mlx", Format::Vllm),
    ("llamacpp", Format::OpenAi),
    ("lemonade", Format::Lemonade),
    ("lmdeploy", Format::Vllm),
    ("sglang", Format::Sglang),
    ("docker-model-runner", Format::OpenAi),
];

/// Which entries of a listing are wanted; the default wants all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Family of the model.
    pub family: Option<String>,
    /// `llm`, `vlm`, `embeddings`, or a type of node.
    pub kind: Option<String>,
    /// Name of a node that has it.
    pub endpoint: Option<String>,
    /// What it can do.
    pub capability: Option<String>,
    /// Whether a node that takes requests has it.
    pub available: Option<bool>,
}

impl Format {
    /// The shape that the path of a listing call asks for.
    pub fn of(call: &Call) -> Format {
        if call.operation == Operation::Tags {
            return Format::Ollama;
        }
        if call.node_path.starts_with("/models") {
            return Format::Unified;
        }
        match &call.mount {
            _ if call.dialect == Dialect::Anthropic => Format::Anthropic,
            Mount::Profile(name) => match &**name {
                "lm-studio" if call.node_path.starts_with("/api/v1/") => Format::LmStudioV1,
                "lm-studio" => Format::LmStudio,
                _ => word(name)
                    .filter(|it| *it != Format::Ollama)
                    .unwrap_or(Format::OpenAi),
            },
            _ => Format::OpenAi,
        }
    }
}

fn word(word: &str) -> Option<Format> {
    let known = FORMATS.iter().find(|(known, _)| *known == word);
    known.map(|(_, format)| *format)
}

/// Reads the query of `/olla/models`: decoded pairs. What it does not know is passed over, as in Olla.
///
/// # Errors
/// 400 for a format that does not exist, or a yes-or-no that is neither.
pub fn wanted(pairs: impl Iterator<Item = (String, String)>) -> Result<(Format, Filter), Fault> {
    let mut format = Format::Unified;
    let mut filter = Filter::default();
    for (name, value) in pairs {
        // A longer one fits nothing either.
        let value: String = value.chars().take(VALUE_CHARS_MAX).collect();
        match name.as_str() {
            _ if value.is_empty() => (),
            "format" => format = word(&value).ok_or_else(|| unknown_format(&value))?,
            "family" => filter.family = Some(value),
            "type" => filter.kind = Some(value),
            "endpoint" => filter.endpoint = Some(value),
            "capability" => filter.capability = Some(value),
            "available" => filter.available = Some(yes_or_no("available", &value)?),
            // Everything is listed unless it is asked otherwise; a listing must not shrink because nodes are down.
            "include_unavailable" if yes_or_no("include_unavailable", &value)? => (),
            "include_unavailable" => filter.available = Some(true),
            _ => (),
        }
    }
    Ok((format, filter))
}

fn yes_or_no(name: &str, value: &str) -> Result<bool, Fault> {
    match value {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => {
            let message = format!("`{name}` is neither `true` nor `false`");
            Err(Fault::malformed("invalid_filter", message))
        }
    }
}

fn unknown_format(value: &str) -> Fault {
    let shown: String = value.chars().take(32).collect();
    let words: Vec<&str> = FORMATS.iter().map(|(word, _)| *word).collect();
    Fault::malformed(
        "invalid_format",
        format!(
            "`{shown}` is no format of this listing; ask for one of {}",
            words.join(", ")
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(query: &str) -> Result<(Format, Filter), Fault> {
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        wanted(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())))
    }

    #[test]
    fn every_word_of_the_interface_is_a_format() {
        assert_eq!(read("").unwrap(), (Format::Unified, Filter::default()));
        for (word, format) in FORMATS {
            let (read, filter) = read(&format!("format={word}")).unwrap();
            assert_eq!((read, filter), (*format, Filter::default()), "{word}");
        }
        let fault = read("format=native").unwrap_err();
        assert_eq!((fault.status(), fault.code()), (400, "invalid_format"));
        assert!(
            fault.message.contains("`native`") && fault.message.contains("docker-model-runner")
        );
    }

    #[test]
    fn filters_are_read_and_unknown_ones_passed_over() {
        for (query, expected) in [
            ("available=true", Some(true)),
            ("available=0", Some(false)),
            ("include_unavailable=true", None),
            ("include_unavailable=false", Some(true)),
            ("available=", None),
            ("colour=red&family", None),
        ] {
            let filter = Filter {
                available: expected,
                ..Filter::default()
            };
            assert_eq!(read(query).unwrap(), (Format::Unified, filter), "{query}");
        }
        let (format, filter) =
            read("family=qwen&type=llm&endpoint=gpu-1&capability=tools&format=openai").unwrap();
        let words = [
            &filter.family,
            &filter.kind,
            &filter.endpoint,
            &filter.capability,
        ];
        assert_eq!(
            words.map(|word| word.as_deref().unwrap()),
            ["qwen", "llm", "gpu-1", "tools"]
        );
        assert_eq!(format, Format::OpenAi);
        assert_eq!(read("available=maybe").unwrap_err().status(), 400);
        let (_, long) = read(&format!("family={}", "é".repeat(VALUE_CHARS_MAX + 1))).unwrap();
        assert_eq!(long.family.unwrap().chars().count(), VALUE_CHARS_MAX);
    }
}
