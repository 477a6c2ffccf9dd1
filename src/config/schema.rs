//! The configuration file's JSON Schema, made of what the readers of the keys said about them.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::Sources;
use super::check::load_with_keys;
use super::comments::{Comments, EXAMPLE};
use super::text::spell_duration;

/// What the value of a key may look like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Form {
    /// Anything; its reader judges it.
    Any,
    /// A single value.
    Text,
    /// Such as `10s`.
    Duration {
        default: Option<Duration>,
        /// Whether `0` is one.
        zero: bool,
    },
    /// Bytes, or such as `64KiB`.
    Size(usize, RangeInclusive<usize>),
    /// A whole number, or the word if there is one; the word is then the default.
    Number(Option<u32>, RangeInclusive<u32>, Option<&'static str>),
    /// Digits with at most one point.
    Decimal,
    /// `true` or `false`.
    Flag(Option<bool>),
    /// The default, and all words.
    Word(String, Vec<String>),
    /// Keys that are known by themselves.
    Mapping,
    /// Keys of the operator's choice, with values of one form.
    Free(Box<Form>),
    /// Items of one form.
    List(Box<Form>),
    /// Mappings, whose keys are known below this path.
    Items(&'static str),
    /// A word, or `{ name: word }`.
    Named,
}

impl Form {
    pub(super) fn word<'w>(default: &str, words: impl IntoIterator<Item = &'w str>) -> Form {
        Form::Word(
            default.to_owned(),
            words.into_iter().map(str::to_owned).collect(),
        )
    }
}

/// All keys that were read.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// By path, such as `proxy.retry.max_attempts` or `discovery.static.endpoints[].url`.
    pub(super) forms: BTreeMap<String, Form>,
    /// Paths of keys that have no default.
    pub(super) needed: BTreeSet<String>,
}

/// The schema of the configuration file, as JSON text (draft 2020-12). Depends on nothing but this version.
pub fn schema() -> String {
    let known =
        load_with_keys(&Sources::nothing()).map_or_else(|_| Known::default(), |(_, known)| known);
    let shape = Shape {
        known,
        comments: Comments::of(EXAMPLE),
    };
    let mut root = shape.mapping("");
    let head = [
        ("$schema", "https://json-schema.org/draft/2020-12/schema"),
        ("title", "Arriero's configuration"),
    ];
    for (key, text) in head {
        root.insert(key.to_owned(), json!(text));
    }
    format!("{:#}\n", Value::Object(root))
}

/// Any text with a `${VAR}` in it, whose value nobody knows yet.
const VARIABLE: &str = r".*\$\{.*";

struct Shape {
    known: Known,
    comments: Comments,
}

impl Shape {
    fn mapping(&self, prefix: &str) -> Map<String, Value> {
        let below = |path: &str| {
            let rest = match prefix {
                "" => path,
                _ => path.strip_prefix(prefix)?.strip_prefix('.')?,
            };
            (!rest.contains('.')).then(|| rest.to_owned())
        };
        let mut properties = Map::new();
        for (path, form) in &self.known.forms {
            if let Some(key) = below(path) {
                let mut value = self.value(path, form);
                if let (Value::Object(value), Some(comment)) =
                    (&mut value, self.comments.about(path))
                {
                    value.insert("description".to_owned(), json!(comment));
                }
                properties.insert(key, value);
            }
        }
        let needed: Vec<String> = self
            .known
            .needed
            .iter()
            .filter_map(|path| below(path))
            .collect();
        let mut out = Map::new();
        out.insert("type".to_owned(), json!(["object", "null"]));
        out.insert("properties".to_owned(), Value::Object(properties));
        out.insert("additionalProperties".to_owned(), json!(false));
        if !needed.is_empty() {
            out.insert("required".to_owned(), json!(needed));
        }
        out
    }

    fn value(&self, path: &str, form: &Form) -> Value {
        if let Some((mut value, default)) = single(form) {
            if let (Value::Object(value), Some(default)) = (&mut value, default) {
                value.insert("default".to_owned(), default);
            }
            return value;
        }
        match form {
            Form::Mapping => Value::Object(self.mapping(path)),
            Form::Free(values) => json!({
                "type": ["object", "null"],
                "additionalProperties": self.value(path, values),
            }),
            Form::List(items) => {
                json!({ "type": ["array", "null"], "items": self.value(path, items) })
            }
            Form::Items(below) => json!({
                "type": ["array", "null"],
                "items": Value::Object(self.mapping(below)),
            }),
            Form::Named => json!({ "anyOf": [
                self.value(path, &Form::Text),
                {
                    "type": "object",
                    "properties": { "name": self.value(path, &Form::Text) },
                    "required": ["name"],
                    "additionalProperties": false,
                },
            ] }),
            _ => json!({}),
        }
    }
}

/// A single value, and its default.
fn single(form: &Form) -> Option<(Value, Option<Value>)> {
    let patterned = |types: [&str; 2], pattern: &str| json!({ "type": types, "pattern": format!("^({pattern}|{VARIABLE})$") });
    Some(match form {
        Form::Text => (json!({ "type": ["string", "number", "boolean"] }), None),
        Form::Duration { default, zero } => {
            let default = default.map(|default| json!(spell_duration(default)));
            (duration(*zero), default)
        }
        Form::Size(default, range) => {
            let pattern = "[0-9]+ *(([kKmMgG][iI]?)?[bB])?";
            let mut value = patterned(["string", "integer"], pattern);
            value["minimum"] = json!(range.start());
            value["maximum"] = json!(range.end());
            (value, Some(json!(default)))
        }
        Form::Number(default, range, word) => {
            let word_or = word.map_or_else(String::new, |word| format!("{word}|"));
            let mut value = patterned(["string", "integer"], &format!("{word_or}[0-9]+"));
            value["minimum"] = json!(range.start());
            value["maximum"] = json!(range.end());
            let number = default.map(|default| json!(default));
            (value, word.map(|word| json!(word)).or(number))
        }
        Form::Decimal => {
            let mut value = patterned(["string", "number"], r"[0-9]+\.?[0-9]*|\.[0-9]+");
            value["minimum"] = json!(0);
            (value, None)
        }
        Form::Flag(default) => {
            let value = patterned(["string", "boolean"], "[tT]rue|TRUE|[fF]alse|FALSE");
            (value, default.map(|default| json!(default)))
        }
        Form::Word(default, words) => {
            let variable = json!({ "type": "string", "pattern": format!("^{VARIABLE}$") });
            let value = json!({ "anyOf": [{ "enum": words }, variable] });
            (value, Some(json!(default)))
        }
        _ => return None,
    })
}

fn duration(zero: bool) -> Value {
    let part = "[0-9]+(ms|s|m|h|d)";
    match zero {
        true => json!({
            "type": ["string", "integer"],
            "pattern": format!("^(0|({part})+|{VARIABLE})$"),
            "maximum": 0,
            "minimum": 0,
        }),
        // One of its parts is above zero.
        false => json!({
            "type": "string",
            "pattern": format!("^(({part})*0*[1-9]{part_rest}({part})*|{VARIABLE})$", part_rest = part.replace('+', "*")),
        }),
    }
}
