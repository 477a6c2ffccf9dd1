//! What the name of a model says about it: `Qwen/Qwen2.5-7B-Instruct-AWQ`, `llama3.2:3b-instruct-q4_K_M`, `phi-4-mini.Q8_0.gguf`.

use super::Kind;

/// A family and the generation that stands behind it.
#[derive(Clone, Copy)]
pub(super) struct Family<'a> {
    pub(super) family: &'static str,
    pub(super) variant: &'a str,
    /// Empty when many make such models.
    pub(super) maker: &'static str,
}

/// What stands in names, the family that it means, and who makes it. Of two words at one place the first in this table counts.
const FAMILIES: &[(&str, &str, &str)] = &[
    ("codellama", "llama", "meta"),
    ("tinyllama", "llama", "tinyllama"),
    ("llava", "llava", "llava"),
    ("bakllava", "llava", "llava"),
    ("llama", "llama", "meta"),
    ("codegemma", "gemma", "google"),
    ("embeddinggemma", "gemma", "google"),
    ("gemma", "gemma", "google"),
    ("phi", "phi", "microsoft"),
    ("codeqwen", "qwen", "qwen"),
    ("qwq", "qwen", "qwen"),
    ("qwen", "qwen", "qwen"),
    ("mixtral", "mixtral", "mistralai"),
    ("ministral", "ministral", "mistralai"),
    ("codestral", "codestral", "mistralai"),
    ("devstral", "devstral", "mistralai"),
    ("magistral", "magistral", "mistralai"),
    ("mistral", "mistral", "mistralai"),
    ("deepseek", "deepseek", "deepseek"),
    ("gpt-oss", "gpt-oss", "openai"),
    ("gptoss", "gpt-oss", "openai"),
    ("chatglm", "glm", "zai"),
    ("glm", "glm", "zai"),
    ("kimi", "kimi", "moonshotai"),
    ("granite", "granite", "ibm"),
    ("nemotron", "nemotron", "nvidia"),
    ("exaone", "exaone", "lgai"),
    ("hunyuan", "hunyuan", "tencent"),
    ("minimax", "minimax", "minimax"),
    ("seed-oss", "seed-oss", "bytedance"),
    ("olmo", "olmo", "allenai"),
    ("internlm", "internlm", "internlm"),
    ("smollm", "smollm", "huggingface"),
    ("command", "command", "cohere"),
    ("aya", "aya", "cohere"),
    ("falcon", "falcon", "tii"),
    ("starcoder", "starcoder", "bigcode"),
    ("nomic-embed", "nomic-bert", "nomic-ai"),
    ("nomic-bert", "nomic-bert", "nomic-ai"),
    ("bge", "bert", "baai"),
    ("bert", "bert", ""),
    ("mxbai-embed", "bert", "mixedbread-ai"),
    ("minilm", "bert", ""),
];

const EMBEDDERS: &[&str] = &["embed", "bge-", "e5-", "gte-", "minilm"];
const SEERS: &[&str] = &[
    "llava",
    "vision",
    "-vl",
    "vl:",
    "moondream",
    "minicpm-v",
    "pixtral",
];

/// The name without whoever published it: behind the last slash, in lower case.
fn own_part(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

/// The family whose word stands first in the name. `deepseek-r1-distill-qwen-7b` is a deepseek.
pub(super) fn family(name: &str) -> Option<Family<'_>> {
    let own = own_part(name);
    let lower = own.to_ascii_lowercase();
    let places = FAMILIES
        .iter()
        .filter_map(|row| Some((word_at(&lower, row.0)?, row)));
    // `min_by_key` takes the first of equals.
    let (at, (word, family, maker)) = places.min_by_key(|(at, _)| *at)?;
    Some(Family {
        family,
        variant: generation(&own[at + word.len()..]),
        maker,
    })
}

/// Where a word begins in a name, if it is no part of a longer word.
fn word_at(name: &str, word: &str) -> Option<usize> {
    let starts = |at: &usize| {
        let before = name[..*at].chars().next_back();
        let after = name[at + word.len()..].chars().next();
        before.is_none_or(|c| !c.is_ascii_alphabetic())
            && after.is_none_or(|c| !c.is_ascii_alphabetic())
    };
    name.match_indices(word).map(|(at, _)| at).find(starts)
}

/// The `2.5` of `2.5-7b` and of `-2.5:7b`; nothing of `-7b` and `:7b`, which are sizes.
fn generation(rest: &str) -> &str {
    let rest = rest.strip_prefix(['-', '_']).unwrap_or(rest);
    let rest = rest
        .strip_prefix(['v', 'V', 'r', 'R'])
        .filter(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
        .unwrap_or(rest);
    let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.');
    let digits = rest[..end.unwrap_or(rest.len())].trim_end_matches('.');
    let after = rest[digits.len()..].chars().next();
    let is_generation = digits.len() <= 4
        && !after.is_some_and(|c| matches!(c.to_ascii_lowercase(), 'b' | 'm' | 'x' | 'k' | 't'));
    if is_generation { digits } else { "" }
}

/// The pieces between separators; `_` holds a quantisation together and separates none.
fn pieces(name: &str) -> impl Iterator<Item = &str> {
    own_part(name).split([':', '-', '@', '/', '+'])
}

/// The first `7b`, `0.5B`, `8x7b` or `137m`.
pub(super) fn size(name: &str) -> Option<Box<str>> {
    let found = pieces(name)
        .flat_map(|piece| piece.split('_'))
        .map(|piece| piece.strip_suffix(".gguf").unwrap_or(piece))
        .map(|piece| piece.split_once(".Q").map_or(piece, |(size, _)| size))
        .find(|piece| is_size(piece))?;
    Some(found.into())
}

fn is_size(piece: &str) -> bool {
    let Some(number) = piece.strip_suffix(['b', 'B', 'm', 'M']) else {
        return false;
    };
    number.len() <= 8
        && number.starts_with(|c: char| c.is_ascii_digit())
        && number.ends_with(|c: char| c.is_ascii_digit())
        && number
            .split(['x', 'X'])
            .all(|factor| !factor.is_empty() && factor.parse::<f64>().is_ok())
}

/// The last `Q4_K_M`, `fp16`, `AWQ`, `4bit` …
pub(super) fn quantization(name: &str) -> Option<Box<str>> {
    let found = pieces(name)
        .flat_map(|piece| piece.split('.'))
        .filter(|piece| is_quantization(piece));
    found.last().map(Into::into)
}

fn is_quantization(piece: &str) -> bool {
    let lower = piece.to_ascii_lowercase();
    let known = [
        "f16", "fp16", "bf16", "f32", "fp32", "fp8", "fp4", "int8", "int4", "awq", "gptq", "mxfp4",
        "nvfp4", "4bit", "5bit", "6bit", "8bit", "w4a16", "w8a8", "w8a16",
    ];
    let bits = lower
        .strip_prefix("iq")
        .or_else(|| lower.strip_prefix("tq"))
        .or_else(|| lower.strip_prefix('q'));
    let is_gguf = bits.is_some_and(|bits| {
        bits.starts_with(|c: char| ('1'..='8').contains(&c))
            && bits.len() <= 8
            && (bits.len() == 1 || bits.as_bytes()[1] == b'_')
    });
    is_gguf || known.contains(&lower.as_str())
}

/// `Qwen` of `Qwen/Qwen3-8B`, `bartowski` of `hf.co/bartowski/…`; else whoever makes such models.
pub(super) fn publisher<'a>(name: &'a str, told_family: &'a str) -> &'a str {
    if let Some((path, _)) = name.rsplit_once('/') {
        return path.rsplit('/').next().unwrap_or(path);
    }
    family(name)
        .or_else(|| family(told_family))
        .map_or("", |family| family.maker)
}

pub(super) fn format(name: &str) -> &'static str {
    let lower = name.to_ascii_lowercase();
    let has = |word: &str| word_at(&lower, word).is_some();
    match () {
        () if has("gguf") || lower.starts_with("hf.co/") => "gguf",
        () if has("mlx") => "mlx",
        () => "",
    }
}

pub(super) fn kind(name: &str) -> Kind {
    let lower = name.to_ascii_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    match () {
        () if has(EMBEDDERS) => Kind::Embeddings,
        () if has(SEERS) => Kind::Vlm,
        () => Kind::Llm,
    }
}
