//! Node types: the YAML files that are built in, those of `profiles.dir` over them, and the configuration's own
//! `resources` and `characteristics` over all.

mod api;
mod extraction;
mod patterns;
mod resources;

use std::sync::{Arc, LazyLock};

use super::Sources;
use super::problem::{ConfigError, Place, Problem};
use super::raw;
use super::reading::Reading;
use super::schema::Known;
use super::section::{Section, Set};
use super::text::Wrong;
use crate::profile::{About, Api, Profile, Profiles, RESERVED_MOUNTS};

/// Most files that are read from `profiles.dir`.
const FILES_MAX: usize = 256;
const NAME_BYTES_MAX: usize = 64;
/// Olla's other word for this type. `/openai` is a mount for all nodes here, and yet its `type:` must be understood.
const OPENAI: (&str, &str) = ("openai-compatible", "openai");

/// The built-in types, the most telling first: a node that answers as several is taken for the first.
const BUILT_IN: &[(&str, &str)] = &[
    ("ollama.yaml", include_str!("../../profiles/ollama.yaml")),
    (
        "llamacpp.yaml",
        include_str!("../../profiles/llamacpp.yaml"),
    ),
    (
        "lm-studio.yaml",
        include_str!("../../profiles/lm-studio.yaml"),
    ),
    (
        "vllm-mlx.yaml",
        include_str!("../../profiles/vllm-mlx.yaml"),
    ),
    ("vllm.yaml", include_str!("../../profiles/vllm.yaml")),
    ("sglang.yaml", include_str!("../../profiles/sglang.yaml")),
    (
        "lmdeploy.yaml",
        include_str!("../../profiles/lmdeploy.yaml"),
    ),
    ("omlx.yaml", include_str!("../../profiles/omlx.yaml")),
    (
        "lemonade.yaml",
        include_str!("../../profiles/lemonade.yaml"),
    ),
    (
        "docker-model-runner.yaml",
        include_str!("../../profiles/docker-model-runner.yaml"),
    ),
    ("litellm.yaml", include_str!("../../profiles/litellm.yaml")),
    (
        "openwebui.yaml",
        include_str!("../../profiles/openwebui.yaml"),
    ),
    (
        "openai-compatible.yaml",
        include_str!("../../profiles/openai-compatible.yaml"),
    ),
];

static BUILTIN: LazyLock<Arc<Profiles>> = LazyLock::new(|| {
    let mut all = Vec::new();
    for file in BUILT_IN {
        let read = read(*file, &|_| None, &all, Author::Us);
        all.push(Arc::new(read.unwrap_or_else(|error| panic!("{error}"))));
    }
    Arc::new(Profiles::new(all))
});

/// Who wrote a file: what we wrote about nodes we never saw is an assumption, what their operator wrote is a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Author {
    Us,
    Operator,
}

/// The types that need no file.
pub fn builtin() -> Arc<Profiles> {
    BUILTIN.clone()
}

/// All types of a configuration: `profiles.dir`, `resources` and `characteristics` are read here.
pub(super) fn profiles(root: &mut Section) -> Arc<Profiles> {
    let mut s = root.section("profiles");
    let dir = s.text("dir");
    s.close();
    let resources = said(root.section("resources"), resources::resources);
    let characteristics = said(root.section("characteristics"), resources::characteristics);
    if dir.is_none() && resources.is_none() && characteristics.is_none() {
        return builtin();
    }
    let mut all: Vec<Arc<Profile>> = builtin().iter().cloned().collect();
    if let Some(dir) = dir {
        add_files(root.reading, &dir, &mut all);
    }
    let changed = all.into_iter().map(|profile| {
        let mut profile = (*profile).clone();
        if let Some(resources) = &resources {
            profile.resources = resources.clone().on_top_of(&profile.resources);
        }
        if let Some(characteristics) = &characteristics {
            profile.characteristics = characteristics.clone().over(&profile.characteristics);
        }
        Arc::new(profile)
    });
    Arc::new(Profiles::new(changed.collect()))
}

/// An empty section says nothing; its keys are made known all the same.
fn said<T>(s: Section, read: impl Fn(Section, Author) -> T) -> Option<T> {
    let says_something = !s.entries().is_empty();
    let read = read(s.without_environment(), Author::Operator);
    says_something.then_some(read)
}

/// Reads every YAML file of a directory over the types known so far, in the order of their names.
fn add_files(reading: &Reading, dir: &Set, all: &mut Vec<Arc<Profile>>) {
    let sources = reading.sources;
    let unreadable = |why: &str| {
        let wrong = Wrong::new(
            format!("`{}` cannot be read: {why}", dir.text),
            "name a directory of YAML files that the gateway may read",
        );
        reading.wrong(dir.place, &dir.subject, wrong);
    };
    let mut names = match (sources.list_dir)(&dir.text) {
        Ok(names) => names,
        Err(why) => return unreadable(&why),
    };
    // Kubernetes keeps its own bookkeeping in entries that begin with a dot.
    names.retain(|name| {
        let is_yaml = name.ends_with(".yaml") || name.ends_with(".yml");
        is_yaml && !name.starts_with('.')
    });
    names.sort_unstable();
    if FILES_MAX < names.len() {
        return unreadable(&format!(
            "it holds {} files; at most {FILES_MAX} are read",
            names.len()
        ));
    }
    let mut added = 0;
    for name in names {
        let path = format!("{}/{name}", dir.text.trim_end_matches('/'));
        let text = (sources.read_file)(&path)
            .and_then(|bytes| String::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned()));
        let text = match text {
            Ok(text) => text,
            Err(why) => {
                unreadable(&format!("`{name}`: {why}"));
                continue;
            }
        };
        match read((&path, &text), sources.env, all, Author::Operator) {
            Err(error) => reading.report_elsewhere(error),
            Ok(profile) => match all.iter_mut().find(|it| it.name == profile.name) {
                Some(known) => *known = Arc::new(profile),
                // A type of the operator's own is more telling than any of ours.
                None => {
                    all.insert(added, Arc::new(profile));
                    added += 1;
                }
            },
        }
    }
}

/// Reads one file. What it does not say is kept from the known type of its name.
fn read(
    file: (&str, &str),
    env: &dyn Fn(&str) -> Option<String>,
    known: &[Arc<Profile>],
    author: Author,
) -> Result<Profile, ConfigError> {
    read_with_keys(file, env, known, author).map(|(profile, _)| profile)
}

/// As `read`, and the paths of all keys that were looked for.
pub(super) fn read_with_keys(
    file: (&str, &str),
    env: &dyn Fn(&str) -> Option<String>,
    known: &[Arc<Profile>],
    author: Author,
) -> Result<(Profile, Known), ConfigError> {
    let tree = raw::parse(file.1).map_err(|problem| {
        let shown = match raw::FILE_BYTES_MAX < file.1.len() {
            true => (file.0, ""),
            false => file,
        };
        ConfigError::new(Some(shown), vec![problem])
    })?;
    let sources = Sources {
        file: Some(file),
        env,
        env_names: Vec::new(),
        read_file: &|_| Err("a profile names no files".to_owned()),
        list_dir: &|_| Err("a profile names no files".to_owned()),
        cores: 1,
        terminal: false,
    };
    let reading = Reading::new(&sources);
    let root = Section::new(&reading, "", Some(&tree)).without_environment();
    let profile = profile(root, known, author);
    let (problems, keys) = reading.finish_profile();
    match problems.is_empty() {
        true => Ok((profile, keys)),
        false => Err(ConfigError::new(Some(file), problems)),
    }
}

fn profile(mut s: Section, known: &[Arc<Profile>], author: Author) -> Profile {
    let name = s.text("name");
    if name.is_none() {
        let problem = Problem::new(s.place, "the profile has no `name`");
        s.reading
            .report(problem.hint("write the type it is or changes, such as `name: ollama`"));
    }
    let name = name.map_or_else(String::new, |set| s.judge(&set, String::new(), word));
    let base = known.iter().find(|it| *it.name == name);
    let is_new = base.is_none();
    let mut profile = match base {
        Some(base) => (**base).clone(),
        None => Profile::new(&name, Api::default()),
    };
    about(&mut s, &mut profile.about);
    let others: Vec<&Arc<Profile>> = known.iter().filter(|it| *it.name != name).collect();
    routing(s.section("routing"), &mut profile, &others);
    if is_new && !name.is_empty() {
        let place = s.place_of("name");
        refuse_taken(&s, &name, place, &name, &others);
    }
    let request = api::request(s.section("request"), &mut profile);
    let api = api::api(&mut s, &profile, &request, is_new && !name.is_empty());
    profile = profile.with_api(api);
    let written = resources::characteristics(s.section("characteristics"), author);
    profile.characteristics = written.over(&profile.characteristics);
    if let Some(streams) = request.streams {
        profile.characteristics.streaming.get_or_insert(streams);
    }
    patterns::detection(s.section("detection"), &mut profile.detection);
    patterns::models(s.section("models"), author, &mut profile.models);
    let written = resources::resources(s.section("resources"), author);
    profile.resources = written.over(&profile.resources);
    let mut metrics = s.section("metrics");
    profile.figures = extraction::figures(metrics.section("extraction"), &profile.figures);
    metrics.close();
    s.close();
    profile
}

fn about(s: &mut Section, about: &mut About) {
    let fields = [
        ("display_name", &mut about.display_name),
        ("description", &mut about.description),
        ("home", &mut about.home),
        ("version", &mut about.version),
    ];
    for (key, field) in fields {
        if let Some(set) = s.text(key) {
            *field = Some(set.text);
        }
    }
}

fn routing(mut s: Section, profile: &mut Profile, others: &[&Arc<Profile>]) {
    if let Some(prefixes) = s.scalars("prefixes") {
        profile.prefixes.clear();
        for set in prefixes {
            let prefix = s.judge(&set, String::new(), word);
            refuse_taken(&s, &prefix, set.place, &profile.name, others);
            if !prefix.is_empty() && !profile.prefixes.contains(&prefix) {
                profile.prefixes.push(prefix);
            }
        }
    }
    s.close();
}

/// A word in `type:` and the first segment of a mount.
fn word(text: &str) -> Result<String, Wrong> {
    let legal =
        |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_' | b'.');
    let starts = text.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    if starts && text.len() <= NAME_BYTES_MAX && text.bytes().all(legal) {
        return Ok(text.to_owned());
    }
    Err(Wrong::new(
        format!("`{text}` cannot be a type and a part of a path"),
        format!("write at most {NAME_BYTES_MAX} small letters, digits and `-_.`"),
    ))
}

/// Every word means one thing: a type, or a mount that is no type.
fn refuse_taken(s: &Section, word: &str, place: Place, name: &str, others: &[&Arc<Profile>]) {
    let is_openai = (name, word) == OPENAI;
    let message = if RESERVED_MOUNTS.contains(&word) && !word.is_empty() && !is_openai {
        format!("`/{word}` is a path of the gateway itself")
    } else {
        let named =
            |it: &&&Arc<Profile>| &*it.name == word || it.prefixes.iter().any(|own| own == word);
        match others.iter().find(named) {
            None => return,
            Some(other) => format!("`{word}` already means the type `{}`", other.name),
        }
    };
    s.reading
        .report(Problem::new(place, message).hint("choose another word"));
}
