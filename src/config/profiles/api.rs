//! `api`, `request` and `path_indices` of a profile: which paths a type has.

use super::super::node::path;
use super::super::problem::Problem;
use super::super::section::{Section, Set};
use super::super::text::{Wrong, number};
use crate::profile::{Api, Listing, MessagesApi, Profile, VersionPlace};

/// Olla's words for its parsers; most read the same listing.
const FORMATS: &[(&str, Listing)] = &[
    ("ollama", Listing::Ollama),
    ("lmstudio", Listing::LmStudio),
    ("lm-studio", Listing::LmStudio),
    ("openai", Listing::OpenAi),
    ("vllm", Listing::OpenAi),
    ("vllm-mlx", Listing::OpenAi),
    ("sglang", Listing::OpenAi),
    ("lmdeploy", Listing::OpenAi),
    ("lemonade", Listing::OpenAi),
    ("llamacpp", Listing::OpenAi),
    ("docker-model-runner", Listing::OpenAi),
    ("litellm", Listing::OpenAi),
    ("omlx", Listing::OpenAi),
];

const OLLAMA_VERSION: &str = "/api/version";

/// What `request` says beside the listing.
pub(super) struct Request {
    /// Paths that `parsing_rules` name.
    paths: Vec<String>,
    /// `parsing_rules.supports_streaming`.
    pub(super) streams: Option<bool>,
}

pub(super) fn request(mut s: Section, profile: &mut Profile) -> Request {
    profile.listing = s.word("response_format", profile.listing, FORMATS);
    for set in s.scalars("model_field_paths").unwrap_or_default() {
        s.judge(&set, (), only_model);
    }
    let mut rules = s.section("parsing_rules");
    let mut paths = Vec::new();
    for key in ["chat_completions_path", "completions_path", "generate_path"] {
        paths.extend(rules.parse(key, None, |text| path(text).map(Some)));
    }
    rules.parse("model_field_name", (), only_model);
    let streams = rules.flag_if_said("supports_streaming");
    rules.close();
    s.close();
    Request { paths, streams }
}

fn only_model(text: &str) -> Result<(), Wrong> {
    match text {
        "model" => Ok(()),
        _ => Err(Wrong::new(
            format!("`{text}` is not where requests name their model"),
            "write `model`, which all served calls have, or remove the key",
        )),
    }
}

pub(super) fn paths(s: &Section, sets: &[Set]) -> Vec<String> {
    let judged = sets
        .iter()
        .filter_map(|set| s.judge(set, None, |text| path(text).map(Some)));
    judged.collect()
}

/// `api` and `path_indices` of the whole file `root`, over what the type has so far.
pub(super) fn api(root: &mut Section, profile: &Profile, request: &Request, is_new: bool) -> Api {
    let base = profile.api();
    let mut s = root.section("api");
    let listed = s.scalars("paths").map(|sets| paths(&s, &sets));
    let mut all = listed.unwrap_or_else(|| base.paths.clone());
    for path in &request.paths {
        if !all.contains(path) {
            all.push(path.clone());
        }
    }
    if all.is_empty() && is_new {
        let problem = Problem::new(
            root.place,
            "a new type names no `api.paths`, so its nodes would serve nothing",
        );
        root.reading.report(
            problem.hint("list the paths its servers have, such as `/v1/chat/completions`"),
        );
    }
    let own_path = |s: &mut Section, key| s.parse(key, None, |text| path(text).map(Some));
    let model_path = own_path(&mut s, "model_discovery_path");
    let health_path = own_path(&mut s, "health_check_path");
    let openai_compatible = s.flag("openai_compatible", base.openai_compatible);
    let messages = messages(&mut s, base.messages.as_ref());
    let version = VersionKeys::read(&mut s);
    s.close();
    let indices = indices(root.section("path_indices"), &all);
    let usual = |key: &str, kept: &str, guess: &str| match kept {
        "" => indices
            .iter()
            .find(|(of, _)| of == key)
            .map_or(guess, |(_, path)| path)
            .to_owned(),
        kept => kept.to_owned(),
    };
    let guess = listing_path(profile.listing, &all);
    let model_path = model_path.unwrap_or_else(|| usual("models", &base.model_path, guess));
    let health_path =
        health_path.unwrap_or_else(|| usual("health", &base.health_path, &model_path));
    let api = Api {
        openai_compatible,
        messages,
        paths: all,
        model_path,
        health_path,
        version: None,
    };
    Api {
        version: version.place(profile, &api),
        ..api
    }
}

/// What a file says of the place of a version.
struct VersionKeys {
    path: Option<String>,
    field: Option<String>,
    is_ollamas: Option<bool>,
}

impl VersionKeys {
    fn read(s: &mut Section) -> VersionKeys {
        VersionKeys {
            path: s.parse("version_path", None, |text| path(text).map(Some)),
            field: s.text("version_field").map(|set| set.text),
            is_ollamas: s.flag_if_said("ollama_version"),
        }
    }

    /// A type with Ollama's listings has its version where it has them, even if the file does not say so.
    fn place(self, profile: &Profile, api: &Api) -> Option<VersionPlace> {
        let base = profile.api().version.as_ref();
        let usual = || match profile.listing {
            Listing::Ollama => {
                let named = api.paths.iter().find(|it| it.ends_with(OLLAMA_VERSION));
                Some(named.map_or_else(|| api.beside_listing(OLLAMA_VERSION), String::clone))
            }
            Listing::OpenAi | Listing::LmStudio => base.map(|base| base.path.clone()),
        };
        Some(VersionPlace {
            path: self.path.or_else(usual)?,
            field: self.field.unwrap_or_else(|| {
                base.map_or_else(|| "version".to_owned(), |base| base.field.clone())
            }),
            is_ollamas: self.is_ollamas.or(base.map(|base| base.is_ollamas)) == Some(true),
        })
    }
}

/// Where a type that does not say it most likely lists its models.
fn listing_path(listing: Listing, paths: &[String]) -> &str {
    let usual = match listing {
        Listing::Ollama => "/api/tags",
        Listing::LmStudio => "/api/v0/models",
        Listing::OpenAi => "/v1/models",
    };
    paths
        .iter()
        .find(|path| path.ends_with(usual))
        .map_or(usual, String::as_str)
}

fn messages(api: &mut Section, base: Option<&MessagesApi>) -> Option<MessagesApi> {
    let mut s = api.section("anthropic_support");
    let enabled = s.flag("enabled", base.is_some());
    let usual = base.map_or("/v1/messages", |base| &base.path).to_owned();
    let path = s.parse("messages_path", usual, path);
    let counts_tokens = s.flag("token_count", base.is_some_and(|base| base.counts_tokens));
    let least = base.and_then(|base| base.min_version.clone());
    let min_version = s.parse("min_version", least, |text| {
        match text.contains(|c: char| c.is_ascii_digit()) {
            true => Ok(Some(text.to_owned())),
            false => Err(Wrong::new(
                format!("`{text}` is not a version"),
                "write one such as `0.14.0`",
            )),
        }
    });
    let limitations = match s.scalars("limitations") {
        Some(sets) => sets.into_iter().map(|set| set.text).collect(),
        None => base.map_or_else(Vec::new, |base| base.limitations.clone()),
    };
    s.close();
    enabled.then_some(MessagesApi {
        path,
        counts_tokens,
        min_version,
        limitations,
    })
}

/// `path_indices`: names for places in `api.paths`, counted from 0.
fn indices(s: Section, paths: &[String]) -> Vec<(String, String)> {
    let mut out = Vec::new();
    for entry in s.entries() {
        let Some(set) = s.scalar_of(entry) else {
            continue;
        };
        let path = s.judge(&set, None, |text| {
            let index = number(text, &(0..=1_000_000))?;
            let index = usize::try_from(index).unwrap_or(usize::MAX);
            paths.get(index).cloned().map(Some).ok_or_else(|| {
                Wrong::new(
                    format!(
                        "`api.paths` has no entry {index}; it has {}, counted from 0",
                        paths.len()
                    ),
                    "write the place of a path that is listed there",
                )
            })
        });
        out.extend(path.map(|path| (entry.key.clone(), path)));
    }
    out
}
