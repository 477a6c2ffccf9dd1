//! What a model's name means: `llama3`, `LLAMA3:latest` and `registry.ollama.ai/library/llama3` are one model.

use crate::error::Fault;

/// Longest model name we look at, in bytes.
pub const NAME_BYTES_MAX: usize = 256;

/// How many close names a "did you mean" offers.
const CLOSE_MAX: usize = 3;
/// A hint is a courtesy: it may not become a way to burn CPU with unknown names.
const CANDIDATES_MAX: usize = 1000;
const COMPARED_BYTES_MAX: usize = 64;

/// A model name in the one form that names compare by: lower case, without the default host and namespace, with its tag.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ModelKey(Box<str>);

impl ModelKey {
    /// Folds a name as Ollama compares them.
    ///
    /// # Errors
    /// 400 `invalid_model_name` when it is empty, longer than [`NAME_BYTES_MAX`] or holds a character outside
    /// `[A-Za-z0-9._:/@+-]`, or when one of its parts is empty (`a//b`, `a:`) or a step between directories (`a/../b`).
    pub fn parse(name: &str) -> Result<ModelKey, Fault> {
        if NAME_BYTES_MAX < name.len() {
            return Err(invalid(name, "it is too long"));
        }
        if !name.bytes().all(is_name_byte) {
            return Err(invalid(
                name,
                "only letters, digits and `._:/@+-` are allowed",
            ));
        }
        ModelKey::fold(name).map_err(|why| invalid(name, why))
    }

    /// As [`ModelKey::parse`], and the names of servers that call a model by where its file is: `/models/Qwen3-8B`,
    /// `../models/phi-4.gguf`, `C:\\models\\Phi 4.gguf`. A name that both can read is one key. A file system that tells `A` from
    /// `a` is not followed: its names fold like all others.
    ///
    /// # Errors
    /// 400 `invalid_model_name` for what is no name of Ollama's and holds a character that is not printable ASCII or that no file
    /// name has everywhere, an empty part, or a `..` behind a part that has a name.
    pub fn parse_any(name: &str) -> Result<ModelKey, Fault> {
        if NAME_BYTES_MAX < name.len() {
            return Err(invalid(name, "it is too long"));
        }
        if !name.bytes().all(is_path_byte) || name.trim_ascii() != name {
            return Err(invalid(name, "it has characters that no file name has"));
        }
        // A directory is the same with and without the slash behind it.
        let directory = name.strip_suffix(is_separator).unwrap_or(name);
        let root = ["\\\\", "\\", "/"];
        let root = root.into_iter().find(|root| directory.starts_with(root));
        let Some((root, rest)) = root.and_then(|root| Some((root, directory.strip_prefix(root)?)))
        else {
            return ModelKey::fold(directory).map_err(|why| invalid(name, why));
        };
        // Below a root nothing is folded away but capitals and the tag: `/library/x` is no `x`.
        let lower = rest.to_ascii_lowercase();
        check_parts(&lower, 0).map_err(|why| invalid(name, why))?;
        Ok(ModelKey::tagged(format!("{root}{lower}")))
    }

    fn fold(name: &str) -> Result<ModelKey, &'static str> {
        let lower = name.to_ascii_lowercase();
        // A scheme ends at the first colon of all.
        let colon = lower.find(':').unwrap_or(lower.len());
        let bare = lower[colon..].strip_prefix("://").unwrap_or(&lower);
        let bare = bare.strip_prefix("registry.ollama.ai/").unwrap_or(bare);
        let bare = match bare.strip_prefix("library/") {
            Some(model) if !model.contains('/') => model,
            _ => bare,
        };
        // llama.cpp lists the path that it was started with, which may lead up first.
        let ups = bare.split(is_separator).take_while(|part| is_step(part));
        check_parts(bare, ups.count())?;
        Ok(ModelKey::tagged(bare.to_owned()))
    }

    fn tagged(bare: String) -> ModelKey {
        match split_tag(&bare) {
            (_, Some(_)) => ModelKey(bare.into()),
            (_, None) => ModelKey(format!("{bare}:latest").into()),
        }
    }

    /// The comparable form, such as `llama3:latest`: for looking up and labels, not for a node, which has its own spelling.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether a name asks for a model of ollama.com, which a node would serve with its own identity: tag `cloud` or `…-cloud`.
pub fn is_cloud(name: &str) -> bool {
    let (_, tag) = split_tag(name);
    let last_word = tag.and_then(|tag| tag.rsplit('-').next());
    last_word.is_some_and(|word| word.eq_ignore_ascii_case("cloud"))
}

/// The refusal of a model that a node would ask another company's server for: that is the operator's decision, not a client's.
pub fn cloud_refused(name: &str) -> Fault {
    let shown: String = name.chars().take(NAME_BYTES_MAX).collect();
    let message = format!(
        "`{shown}` is a cloud model, which would send requests to another company; ask for a local model"
    );
    Fault::refused(403, "cloud_model", message)
}

/// Up to three of the candidates that somebody who wrote `name` may have meant, best first.
pub fn closest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let asked = name.to_ascii_lowercase();
    let mut close: Vec<(usize, &str)> = candidates
        .into_iter()
        .take(CANDIDATES_MAX)
        .filter_map(|candidate| Some((distance(&asked, candidate)?, candidate)))
        .collect();
    close.sort_unstable();
    close.dedup();
    close.truncate(CLOSE_MAX);
    close.into_iter().map(|(_, candidate)| candidate).collect()
}

/// Refuses empty parts and tags, and steps between directories but for the first `steps_max` parts.
fn check_parts(bare: &str, steps_max: usize) -> Result<(), &'static str> {
    let (path, tag) = split_tag(bare);
    let mut parts = path.split(is_separator);
    if parts.clone().any(str::is_empty) || tag == Some("") {
        return Err("a part of it is empty");
    }
    if parts.clone().all(is_step) || parts.by_ref().skip(steps_max).any(is_step) {
        return Err("it leads from one directory to another");
    }
    Ok(())
}

fn is_step(part: &str) -> bool {
    matches!(part, "." | "..")
}

fn is_separator(c: char) -> bool {
    matches!(c, '/' | '\\')
}

/// A colon separates a tag only after the last slash; before it, it belongs to a host's port or is a drive's.
fn split_tag(name: &str) -> (&str, Option<&str>) {
    let model_at = name.rfind(is_separator).map_or(0, |slash| slash + 1);
    match name[model_at..].find(':') {
        Some(colon) => (
            &name[..model_at + colon],
            Some(&name[model_at + colon + 1..]),
        ),
        None => (name, None),
    }
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"._:/@+-".contains(&byte)
}

/// What a file may be called on any system, but for what is not ASCII; a backtick would end the name in our own messages.
fn is_path_byte(byte: u8) -> bool {
    (byte == b' ' || byte.is_ascii_graphic()) && !b"\"<>|?*`".contains(&byte)
}

fn invalid(name: &str, why: &str) -> Fault {
    let shown: String = name.chars().take(COMPARED_BYTES_MAX).collect();
    Fault::malformed(
        "invalid_model_name",
        format!(
            "`{shown}` is not a model name: {why}; write it like `llama3.2:3b` or `hf.co/user/repo:Q4_K_M`"
        ),
    )
}

/// How far apart two names are, or `None` when nobody would mistake one for the other. Another tag of the same model is near.
fn distance(asked: &str, candidate: &str) -> Option<usize> {
    let candidate = candidate.to_ascii_lowercase();
    let (asked_model, _) = split_tag(asked);
    let (model, _) = split_tag(&candidate);
    if asked_model == model {
        return Some(0);
    }
    let far = 1 + asked_model.len() / 4;
    if COMPARED_BYTES_MAX < asked_model.len() || far < asked_model.len().abs_diff(model.len()) {
        return None;
    }
    let edits = edit_distance(asked_model.as_bytes(), model.as_bytes());
    (edits <= far).then_some(edits)
}

/// Levenshtein's distance, row by row.
fn edit_distance(a: &[u8], b: &[u8]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, left) in a.iter().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, right) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(left != right);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{ModelKey, NAME_BYTES_MAX, closest, is_cloud};

    #[test]
    fn spellings_of_one_model_fold_to_one_key() {
        let cases = [
            ("llama3", "llama3:latest"),
            ("LLAMA3:latest", "llama3:latest"),
            ("library/llama3", "llama3:latest"),
            ("registry.ollama.ai/library/LLAMA3:latest", "llama3:latest"),
            (
                "https://registry.ollama.ai/library/llama3:70b",
                "llama3:70b",
            ),
            ("HTTP://registry.ollama.ai/me/mine", "me/mine:latest"),
            ("me/mine:v1", "me/mine:v1"),
            ("hf.co/user/repo:Q4_K_M", "hf.co/user/repo:q4_k_m"),
            ("hf.co/library/repo", "hf.co/library/repo:latest"),
            (
                "Qwen/Qwen2.5-7B-Instruct",
                "qwen/qwen2.5-7b-instruct:latest",
            ),
            (
                "my.registry:5000/team/model",
                "my.registry:5000/team/model:latest",
            ),
            ("gemma3:27b-cloud", "gemma3:27b-cloud"),
            ("a+b@c_d-e.f", "a+b@c_d-e.f:latest"),
        ];
        for (name, key) in cases {
            assert_eq!(ModelKey::parse(name).unwrap().as_str(), key, "{name}");
        }
    }

    #[test]
    fn names_that_cannot_be_are_refused() {
        let long = "a".repeat(NAME_BYTES_MAX + 1);
        let cases = [
            "",
            " ",
            "a b",
            "a:",
            ":b",
            "/a",
            "a/",
            "a//b",
            "a\0",
            "a\n",
            "é",
            "a?b",
            "a\\b",
            "a\"b",
            "library/",
            "https://",
            "..",
            "a/../b",
            "a/.",
            long.as_str(),
        ];
        for name in cases {
            let fault = ModelKey::parse(name).unwrap_err();
            assert_eq!(
                (fault.status(), fault.code()),
                (400, "invalid_model_name"),
                "{name:?}"
            );
        }
        assert!(ModelKey::parse(&long[1..]).is_ok());
    }

    #[test]
    fn a_file_is_a_name_where_servers_list_files() {
        let cases = [
            ("/models/Qwen3-8B", "/models/qwen3-8b:latest"),
            ("/models/Qwen3-8B/", "/models/qwen3-8b:latest"),
            ("/models/Qwen3-8B:latest", "/models/qwen3-8b:latest"),
            ("/llama3", "/llama3:latest"),
            ("/library/llama3", "/library/llama3:latest"),
            ("models/Qwen/", "models/qwen:latest"),
            ("../models/Phi-4.gguf", "../models/phi-4.gguf:latest"),
            (".\\Phi 4.gguf", ".\\phi 4.gguf:latest"),
            ("C:\\models\\Phi-4.gguf", "c:\\models\\phi-4.gguf:latest"),
            ("C:/models/Phi-4.gguf", "c:/models/phi-4.gguf:latest"),
            ("\\\\nas\\llm\\a.gguf", "\\\\nas\\llm\\a.gguf:latest"),
            ("/srv/Qwen (2)/a.gguf", "/srv/qwen (2)/a.gguf:latest"),
        ];
        for (name, key) in cases {
            assert_eq!(ModelKey::parse_any(name).unwrap().as_str(), key, "{name}");
        }
        let long = format!("/{}", "a".repeat(NAME_BYTES_MAX));
        for name in [
            "",
            "/",
            "//",
            "\\",
            "..",
            "../",
            " a",
            "a ",
            "/a//b",
            "//a",
            "/..",
            "/../etc/passwd",
            "/a/../b",
            "a/../b",
            "..\\a\\..\\b",
            "/a/./b",
            "/a:",
            "a\0",
            "/a\nb",
            "/a\u{7f}",
            "/models/\u{202e}b",
            "/a`b",
            "/a\"b",
            "/a?b",
            "https:///a",
            &long,
        ] {
            assert!(ModelKey::parse_any(name).is_err(), "{name:?}");
        }
    }

    proptest! {
        /// Whatever an Ollama call may name, the other reading makes the same of it.
        #[test]
        fn both_readings_agree(name in "[aAlibr./:@ \\\\]{0,12}|(https://)?(registry.ollama.ai/)?(library/)?[aB./:]{1,6}") {
            if let Ok(key) = ModelKey::parse(&name) {
                prop_assert_eq!(ModelKey::parse_any(&name).unwrap(), key);
            }
        }
    }

    #[test]
    fn a_cloud_model_is_known_by_its_tag() {
        for name in [
            "gpt-oss:cloud",
            "gpt-oss:120b-cloud",
            "GPT-OSS:120B-Cloud",
            "me/x:cloud",
        ] {
            assert!(is_cloud(name), "{name}");
        }
        for name in ["cloud", "cloud/x", "x-cloud", "x:clouds", "cloud:80/x", ""] {
            assert!(!is_cloud(name), "{name}");
        }
    }

    #[test]
    fn close_names_are_offered_best_first_and_far_ones_never() {
        let all = [
            "llama3:70b",
            "llama3.2:3b",
            "gemma3:27b",
            "llama2:7b",
            "qwen3:32b",
            "llama3:8b",
        ];
        let cases: [(&str, &[&str]); 5] = [
            ("llama3:405b", &["llama3:70b", "llama3:8b", "llama2:7b"]),
            ("lama3", &["llama3:70b", "llama3:8b", "llama2:7b"]),
            ("Qwen3", &["qwen3:32b"]),
            ("mistral", &[]),
            ("", &[]),
        ];
        for (name, close) in cases {
            assert_eq!(closest(name, all), close, "{name}");
        }
    }
}
