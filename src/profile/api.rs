//! Where a node type keeps the calls it serves, and what its Messages API lacks.

use std::cmp::Ordering;

use crate::dialect::Operation;
use crate::dialect::recognize::calls;
pub(super) use crate::dialect::recognize::path_of as canonical;

/// `api`: what a type serves, as written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Api {
    /// Whether nodes of the type are candidates under `/openai` and `/olla/openai`.
    pub openai_compatible: bool,
    /// Anthropic's Messages API, where the type has one of its own.
    pub messages: Option<MessagesApi>,
    /// All paths the type answers at, each starting with `/`. A call is served when its path is here, alone or at the end of a longer one.
    pub paths: Vec<String>,
    /// Path of the model listing.
    pub model_path: String,
    /// Path of the health probe.
    pub health_path: String,
    /// Where its nodes tell their version; `None` where no such place is known, and then no least version is asked of them.
    pub version: Option<VersionPlace>,
}

/// `api.version_path` and what goes with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionPlace {
    /// Path of a JSON object.
    pub path: String,
    /// The field of it that holds the version.
    pub field: String,
    /// Whether it is a version of Ollama, which `/api/version` may tell.
    pub is_ollamas: bool,
}

/// `api.anthropic_support` of a type that has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessagesApi {
    /// Where `POST /v1/messages` goes on the node.
    pub path: String,
    /// Whether the node counts tokens at `{path}/count_tokens`.
    pub counts_tokens: bool,
    /// The least version that has it, such as `0.14.0` or `b4847`.
    pub min_version: Option<String>,
    /// `no_tool_use`, `no_extended_thinking` and `no_vision` keep such requests away; other words are notes.
    pub limitations: Vec<String>,
}

/// What a request needs besides its call.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Needs {
    /// It offers tools.
    pub tools: bool,
    /// It asks for extended thinking.
    pub thinking: bool,
    /// It holds an image.
    pub images: bool,
    /// It asks for a stream.
    pub stream: bool,
    /// How long its prompt is, tokens, about.
    pub prompt_tokens: u64,
}

/// Why a node can't serve a request as it comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shortcoming<'a> {
    /// Its type does not have the call.
    Call,
    /// Its type answers only as a whole.
    Streams,
    /// It is older than the least version that has the call.
    TooOld(&'a str),
    /// It takes the call, but not with this.
    Lacks(&'static str),
}

impl MessagesApi {
    /// Why a node of this version does not serve such a request, if so. A version that is unknown, or not one, is taken for new enough:
    /// the node says itself what it does not have.
    pub(super) fn shortcoming(
        &self,
        version: Option<&str>,
        needs: Needs,
    ) -> Option<Shortcoming<'_>> {
        if let (Some(version), Some(least)) = (version, &self.min_version)
            && is_older(version, least)
        {
            return Some(Shortcoming::TooOld(least));
        }
        let wanted = [
            (needs.tools, "no_tool_use", "tools"),
            (needs.thinking, "no_extended_thinking", "extended thinking"),
            (needs.images, "no_vision", "images"),
        ];
        let lacks = |word: &str| self.limitations.iter().any(|it| it == word);
        let lacking = wanted.iter().find(|(is, word, _)| *is && lacks(word));
        lacking.map(|(_, _, what)| Shortcoming::Lacks(what))
    }

    fn has_count_tokens(&self) -> bool {
        let lacks =
            |word: &&String| matches!(word.as_str(), "token_counting_404" | "no_token_counting");
        self.counts_tokens && !self.limitations.iter().any(|word| lacks(&word))
    }
}

/// Which call goes to which path of a node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Served {
    paths: Vec<(Operation, String)>,
    /// One bit per operation, since routing asks this of every node for every request.
    mask: u64,
}

impl Served {
    /// `extra` is the part in front of a call's own path that is preferred where a call stands at several.
    pub(super) fn of(api: &Api, extra: &str) -> Served {
        let mut served = Served::default();
        for (operation, canonical) in calls() {
            let path = match operation {
                Operation::Messages => api.messages.as_ref().map(|it| it.path.clone()),
                Operation::CountTokens => api
                    .messages
                    .as_ref()
                    .filter(|it| it.has_count_tokens())
                    .map(|it| format!("{}/count_tokens", it.path)),
                _ => api.path_at(canonical, extra).map(str::to_owned),
            };
            if let Some(path) = path {
                served.mask |= bit(operation);
                served.paths.push((operation, path));
            }
        }
        served
    }

    pub(super) fn has(&self, operation: Operation) -> bool {
        self.mask & bit(operation) != 0
    }

    pub(super) fn path_of(&self, operation: Operation) -> Option<&str> {
        self.paths
            .iter()
            .find(|(of, _)| *of == operation)
            .map(|(_, path)| path.as_str())
    }
}

fn bit(operation: Operation) -> u64 {
    1u64 << (operation as u32)
}

impl Api {
    /// Where a type with Ollama's listings keeps another of them that it does not name: beside the one that it names.
    pub fn beside_listing(&self, path: &str) -> String {
        let before = self.model_path.strip_suffix("/api/tags").unwrap_or("");
        format!("{before}{path}")
    }

    /// Where a call is: behind the preferred extra part, else at its own path, else at the first longer one.
    fn path_at(&self, canonical: &str, extra: &str) -> Option<&str> {
        let ends = |path: &&String| extra_of(path, canonical).is_some();
        let find = |wanted: &str| {
            let is_it = |path: &&String| extra_of(path, canonical) == Some(wanted);
            self.paths.iter().find(is_it)
        };
        find(extra)
            .or_else(|| find(""))
            .or_else(|| self.paths.iter().find(ends))
            .map(String::as_str)
    }

    /// The longest extra part of any path with which a node's own base path ends.
    pub(super) fn extra_in<'b>(&self, base_path: &'b str) -> &'b str {
        let messages = self.messages.iter().map(|it| &it.path);
        let paths: Vec<&String> = self.paths.iter().chain(messages).collect();
        let mut longest = "";
        for (_, canonical) in calls() {
            for path in &paths {
                let Some(extra) = extra_of(path, canonical) else {
                    continue;
                };
                if base_path.ends_with(extra) && longest.len() < extra.len() {
                    longest = &base_path[base_path.len() - extra.len()..];
                }
            }
        }
        longest
    }
}

/// What stands in front of a call's own path, if the path is that call's. `/` is at the end of too much to be looked for there.
pub(super) fn extra_of<'a>(path: &'a str, canonical: &str) -> Option<&'a str> {
    match canonical {
        "/" => (path == "/").then_some(""),
        _ => path.strip_suffix(canonical),
    }
}

/// Whether a version comes before another: their numbers compared one by one up to a `-` or `+`, letters in front left out (`v0.14`, `b4847`).
fn is_older(version: &str, least: &str) -> bool {
    match (numbers(version), numbers(least)) {
        (Some(version), Some(least)) => version.cmp(least) == Ordering::Less,
        _ => false,
    }
}

fn numbers(version: &str) -> Option<impl Iterator<Item = u64> + '_> {
    let start = version.find(|c: char| c.is_ascii_digit())?;
    let core = version[start..].split(['-', '+', ' ']).next()?;
    let all_numbers = core.split('.').all(|part| part.parse::<u64>().is_ok());
    // What was built outside of a release calls itself `0.0.0` or `b0-unknown`.
    let is_told = core.contains(|c: char| matches!(c, '1'..='9'));
    // A version of two numbers means zero for the third, so trailing zeros are left out on both sides.
    let core = core.trim_end_matches(".0");
    (all_numbers && is_told).then(|| core.split('.').filter_map(|part| part.parse().ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_by_their_numbers() {
        let table: &[(&str, &str, bool)] = &[
            ("0.13.9", "0.14.0", true),
            ("0.14.0", "0.14.0", false),
            ("0.14", "0.14.0", false),
            ("0.14.0-rc1", "0.14.0", false),
            ("0.9.1", "0.14.0", true),
            ("1.0", "0.14.0", false),
            ("v0.3", "0.14.0", true),
            ("b4846", "b4847", true),
            ("b5000", "b4847", false),
            ("unreleased", "0.14.0", false),
            ("0.0.0", "0.14.0", false),
            ("b0-unknown", "b4847", false),
            ("0.0.1", "0.14.0", true),
            ("0.x", "0.14.0", false),
            ("", "0.14.0", false),
            ("99999999999999999999.1", "0.14.0", false),
        ];
        for (version, least, older) in table {
            assert_eq!(is_older(version, least), *older, "{version} {least}");
        }
    }

    #[test]
    fn every_operation_has_a_bit() {
        for (operation, _) in calls() {
            assert!((operation as u32) < 64, "{operation:?}");
        }
    }
}
