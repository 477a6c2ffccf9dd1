//! What a node's own listings say: `/api/tags`, `/api/ps`, `/api/version` and `/v1/models`, read with limits.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::fleet::timestamp::Timestamp;
use crate::fleet::unify::About;
use crate::model::ModelKey;
use crate::profile::Listing;

/// Most models we believe a node has.
pub const MODELS_MAX: usize = 10_000;
/// Longest listing we read, bytes.
pub const LISTING_BYTES_MAX: usize = 16 << 20;
/// Most fields in one JSON object of a listing.
const FIELDS_MAX: usize = 256;
/// Longest digest or version we keep, bytes.
const WORD_BYTES_MAX: usize = 128;
/// Most lost entries that are shown by name, and the longest such name, characters.
const LOST_SHOWN_MAX: usize = 3;
const LOST_CHARS_MAX: usize = 80;

/// A model on a node's disk, or behind a node that serves it from memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installed {
    /// The name as all nodes' names compare.
    pub key: ModelKey,
    /// The node's own spelling.
    pub name: Arc<str>,
    /// 64 hex digits; empty when the listing has none.
    pub digest: Arc<str>,
    /// `modified_at` of Ollama, `created` of OpenAI; 1970 when the listing has neither.
    pub modified: Timestamp,
    /// Whether the node holds it in memory, where the listing itself says so.
    pub loaded: Option<bool>,
    /// What the entry and the name say about it.
    pub about: Arc<About>,
    /// The entry as the node wrote it: one JSON object.
    pub raw: Arc<str>,
}

/// A model in a node's GPU (or main) memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// The name as all nodes' names compare.
    pub key: ModelKey,
    /// The node's own spelling.
    pub name: Arc<str>,
    /// 64 hex digits; empty when the listing has none.
    pub digest: Arc<str>,
    /// When the node will unload it; `None` when the listing does not say.
    pub expires: Option<Timestamp>,
    /// What it takes of the memory it is in, bytes; 0 when the listing does not say.
    pub bytes: u64,
    /// The context its runner was started with, tokens; `None` when the listing does not say, as before Ollama 0.11.
    pub context: Option<u64>,
    /// The entry as the node wrote it: one JSON object.
    pub raw: Arc<str>,
}

/// A listing of what is on a node's disk.
#[derive(Debug, Default)]
pub struct Told {
    /// What clients may ask for.
    pub models: Vec<Installed>,
    /// What they may not.
    pub lost: Lost,
}

/// Entries of a listing whose name no client could ask for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lost {
    /// How many.
    pub count: usize,
    /// The first few names, shortened and escaped for people; `""` for an entry without one.
    pub names: Vec<String>,
}

impl Lost {
    fn add(&mut self, name: Option<&str>) {
        self.count += 1;
        if self.names.len() < LOST_SHOWN_MAX {
            let name = name.unwrap_or_default().chars().take(LOST_CHARS_MAX);
            self.names
                .push(name.collect::<String>().escape_debug().collect());
        }
    }
}

/// Reads the listing of a node's models in the shape that its type has.
///
/// # Errors
/// Says what is wrong when the body is no such listing or passes a limit.
pub fn installed(shape: Listing, body: &[u8]) -> Result<Told, String> {
    let mut lost = Lost::default();
    let models = match shape {
        Listing::Ollama => tags(body, &mut lost),
        Listing::OpenAi | Listing::LmStudio => v1_models(body, &mut lost),
    };
    Ok(Told {
        models: models?,
        lost,
    })
}

/// `/api/tags`.
fn tags(body: &[u8], lost: &mut Lost) -> Result<Vec<Installed>, String> {
    let entries = entries(body, "/api/tags", "models")?;
    let make = |fields: &Fields<'_>, key, name: Arc<str>, raw| Installed {
        key,
        digest: fields.word("digest"),
        modified: fields.timestamp("modified_at").unwrap_or_default(),
        loaded: None,
        about: About::read(&name, fields),
        name,
        raw,
    };
    read(&entries, &["model", "name"], make, lost)
}

/// Reads `/api/ps`.
///
/// # Errors
/// As [`installed`].
pub fn ps(body: &[u8]) -> Result<Vec<Loaded>, String> {
    let entries = entries(body, "/api/ps", "models")?;
    let make = |fields: &Fields<'_>, key, name, raw| Loaded {
        key,
        name,
        digest: fields.word("digest"),
        expires: fields.timestamp("expires_at"),
        bytes: fields.count("size").unwrap_or(0),
        context: fields.count("context_length").filter(|tokens| 0 < *tokens),
        raw,
    };
    // What it lacks the listing of what is installed lacks too, and that tells of it.
    read(&entries, &["model", "name"], make, &mut Lost::default())
}

/// The list of a server that speaks OpenAI's dialect: `/v1/models` of vLLM, llama.cpp, LiteLLM, Lemonade, …, and
/// `/api/v0/models` of LM Studio. Some write the bare list.
fn v1_models(body: &[u8], lost: &mut Lost) -> Result<Vec<Installed>, String> {
    let path = "the model listing";
    let entries = match body.trim_ascii_start().first() {
        Some(b'[') => array(text(body, path)?, "the list", path)?,
        _ => entries(body, path, "data")?,
    };
    let make = |fields: &Fields<'_>, key, name: Arc<str>, raw| Installed {
        key,
        digest: "".into(),
        modified: Timestamp {
            unix_s: fields.integer("created").unwrap_or_default(),
            nanos: 0,
        },
        loaded: is_loaded(fields),
        about: About::read(&name, fields),
        name,
        raw,
    };
    read(&entries, &["id"], make, lost)
}

/// LM Studio says `state`, llama.cpp's router `status.value`; the others list only what they hold in memory.
fn is_loaded(fields: &Fields<'_>) -> Option<bool> {
    let state = fields.string("state");
    match state
        .or_else(|| fields.object("status").string("value"))?
        .as_str()
    {
        "loaded" => Some(true),
        "not-loaded" | "unloaded" | "loading" => Some(false),
        _ => None,
    }
}

/// Reads the version from a field of a JSON object, such as `version` of `/api/version`.
///
/// # Errors
/// As [`installed`].
pub fn version(body: &[u8], field: &str) -> Result<String, String> {
    let version = document(body, "the version")?.word(field);
    if version.is_empty() {
        return Err(format!("the answer has no usable `{field}`"));
    }
    Ok(version.as_ref().to_owned())
}

/// The fields of one JSON object in their order, values untouched; of a repeated name the first counts.
pub(super) struct Fields<'a>(pub(super) Vec<(String, &'a RawValue)>);

impl<'a> Fields<'a> {
    pub(super) fn parse(object: &'a str) -> Result<Fields<'a>, serde_json::Error> {
        serde_json::from_str(object)
    }

    pub(super) fn get(&self, name: &str) -> Option<&'a str> {
        let found = self.0.iter().find(|(field, _)| field == name);
        found.map(|(_, value)| value.get())
    }

    pub(super) fn string(&self, name: &str) -> Option<String> {
        serde_json::from_str(self.get(name)?).ok()
    }

    fn integer(&self, name: &str) -> Option<i64> {
        serde_json::from_str(self.get(name)?).ok()
    }

    /// A whole number that is not negative.
    pub(super) fn count(&self, name: &str) -> Option<u64> {
        serde_json::from_str(self.get(name)?).ok()
    }

    /// The strings of a list; none when it is none.
    pub(super) fn strings(&self, name: &str) -> Vec<String> {
        let list = self.get(name).map(serde_json::from_str);
        list.and_then(Result::ok).unwrap_or_default()
    }

    /// The fields of an object inside; none when it is none.
    pub(super) fn object(&self, name: &str) -> Fields<'a> {
        let object = self.get(name).map(Fields::parse);
        object.and_then(Result::ok).unwrap_or(Fields(Vec::new()))
    }

    fn timestamp(&self, name: &str) -> Option<Timestamp> {
        Timestamp::parse(&self.string(name)?)
    }

    /// A short string; empty when it is missing, too long or no string.
    fn word(&self, name: &str) -> Arc<str> {
        let word = self.string(name).unwrap_or_default();
        if word.len() <= WORD_BYTES_MAX {
            word.into()
        } else {
            "".into()
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Fields<'a>, D::Error> {
        struct Object<'a>(std::marker::PhantomData<&'a ()>);

        impl<'de: 'a, 'a> Visitor<'de> for Object<'a> {
            type Value = Fields<'a>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a JSON object with at most {FIELDS_MAX} fields")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'a>, A::Error> {
                let mut fields: Vec<(String, &'a RawValue)> = Vec::new();
                while let Some(name) = map.next_key::<String>()? {
                    let value: &'de RawValue = map.next_value()?;
                    if fields.len() == FIELDS_MAX {
                        return Err(serde::de::Error::invalid_length(FIELDS_MAX + 1, &self));
                    }
                    if !fields.iter().any(|(known, _)| *known == name) {
                        fields.push((name, value));
                    }
                }
                Ok(Fields(fields))
            }
        }

        deserializer.deserialize_map(Object(std::marker::PhantomData))
    }
}

fn text<'a>(body: &'a [u8], path: &str) -> Result<&'a str, String> {
    if LISTING_BYTES_MAX < body.len() {
        return Err(format!(
            "the answer to {path} is longer than {LISTING_BYTES_MAX} bytes"
        ));
    }
    std::str::from_utf8(body).map_err(|error| format!("the answer to {path} is no text: {error}"))
}

fn document<'a>(body: &'a [u8], path: &str) -> Result<Fields<'a>, String> {
    Fields::parse(text(body, path)?)
        .map_err(|error| format!("the answer to {path} is not the expected JSON: {error}"))
}

/// The entries of the listing's array; `null` is an empty one, as OpenAI servers without models write it.
fn entries<'a>(body: &'a [u8], path: &str, list: &str) -> Result<Vec<&'a RawValue>, String> {
    let document = document(body, path)?;
    let Some(text) = document.get(list) else {
        return Err(format!("the answer to {path} has no `{list}`"));
    };
    array(text, &format!("`{list}`"), path)
}

fn array<'a>(text: &'a str, list: &str, path: &str) -> Result<Vec<&'a RawValue>, String> {
    let entries: Option<Vec<&RawValue>> = serde_json::from_str(text)
        .map_err(|error| format!("{list} in the answer to {path} is no list: {error}"))?;
    let entries = entries.unwrap_or_default();
    if MODELS_MAX < entries.len() {
        let count = entries.len();
        return Err(format!(
            "the answer to {path} lists {count} models, the limit is {MODELS_MAX}"
        ));
    }
    Ok(entries)
}

/// Turns entries into models; of two names that mean one model the first counts.
fn read<T>(
    entries: &[&RawValue],
    names: &[&str],
    make: impl Fn(&Fields<'_>, ModelKey, Arc<str>, Arc<str>) -> T,
    lost: &mut Lost,
) -> Result<Vec<T>, String> {
    let mut seen = HashSet::new();
    let mut models = Vec::with_capacity(entries.len());
    for entry in entries {
        let fields = Fields::parse(entry.get())
            .map_err(|error| format!("an entry of the model listing is unusable: {error}"))?;
        let name = names.iter().find_map(|name| fields.string(name));
        let key = name.as_deref().and_then(|it| ModelKey::parse_any(it).ok());
        let (Some(name), Some(key)) = (&name, key) else {
            lost.add(name.as_deref());
            continue;
        };
        if seen.insert(key.clone()) {
            models.push(make(&fields, key, name.as_str().into(), entry.get().into()));
        }
    }
    Ok(models)
}

/// Whole listings, for tests that are about something else.
#[cfg(test)]
pub(crate) mod whole {
    use super::{Installed, Listing};

    pub(crate) fn tags(body: &[u8]) -> Result<Vec<Installed>, String> {
        super::installed(Listing::Ollama, body).map(|told| told.models)
    }

    pub(crate) fn v1_models(body: &[u8]) -> Result<Vec<Installed>, String> {
        super::installed(Listing::OpenAi, body).map(|told| told.models)
    }
}

#[cfg(test)]
mod tests;
