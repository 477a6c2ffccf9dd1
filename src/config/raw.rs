//! What was written: the YAML text as a tree in which every key and every value knows its place.
//!
//! A tree and not structs with `derive(Deserialize)`: serde stops at the first mistake and forgets places, and all mistakes
//! of a file are to be told at once, each where it stands.
//!
//! Scalars stay text, exactly as they stand in the file (`010` is not 8); what a text means is decided by who reads it.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::DuplicateKeyPolicy;
use serde_saphyr::{Location, Spanned};

use super::problem::{Place, Problem};

/// Larger files are refused unread.
pub(super) const FILE_BYTES_MAX: usize = 1024 * 1024;
/// Deeper nesting than any key needs.
const DEPTH_MAX: usize = 32;
/// Nodes that aliases (`*name`) may add to a file, together.
const ALIAS_NODES_MAX: usize = 20_000;

/// A value and where it stands.
#[derive(Debug)]
pub(super) struct Tree {
    pub(super) value: Value,
    pub(super) at: Place,
    /// Where its text is: for an alias that is at its anchor.
    pub(super) written: Place,
}

#[derive(Debug)]
pub(super) enum Value {
    Null,
    Scalar(String),
    List(Vec<Tree>),
    Map(Vec<Entry>),
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) at: Place,
    pub(super) tree: Tree,
}

impl Value {
    /// What it is, for messages.
    pub(super) fn noun(&self) -> &'static str {
        match self {
            Value::Null => "nothing",
            Value::Scalar(_) => "a single value",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
        }
    }
}

/// Reads a file. Fails with the one mistake that keeps YAML from being YAML.
pub(super) fn parse(text: &str) -> Result<Tree, Problem> {
    if FILE_BYTES_MAX < text.len() {
        let message = format!(
            "the file has {} bytes; at most {FILE_BYTES_MAX} are read",
            text.len()
        );
        return Err(Problem::new(Place::Nowhere, message));
    }
    if text.lines().all(is_blank) {
        return Ok(Tree {
            value: Value::Null,
            at: Place::Nowhere,
            written: Place::Nowhere,
        });
    }
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! { max_depth: DEPTH_MAX, max_nodes: 100_000 },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: ALIAS_NODES_MAX,
            max_replay_stack_depth: 8,
            max_alias_expansions_per_anchor: 1000,
        },
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        strict_booleans: true,
        with_snippet: false,
    };
    serde_saphyr::from_str_with_options::<Written>(text, options)
        .map(|written| written.into_tree(text))
        .map_err(|error| syntax_problem(text, &error))
}

fn is_blank(line: &str) -> bool {
    let line = line.trim_start_matches('\u{feff}').trim();
    line.is_empty() || line.starts_with('#') || line == "---"
}

fn syntax_problem(text: &str, error: &serde_saphyr::Error) -> Problem {
    let place = inside(text, error.location().map_or(Place::Nowhere, place));
    // A tab is the commonest cause and the one the parser words worst.
    if let Some(tab) = first_tab(text, place) {
        return Problem::new(
            tab,
            "a tab stands in the indentation, and YAML allows only spaces there",
        )
        .hint("replace the tab by spaces");
    }
    if matches!(error, serde_saphyr::Error::MultipleDocuments { .. }) {
        return Problem::new(place, "the file holds more than one YAML document")
            .hint("remove everything from the second `---` on");
    }
    // The place is told by `Problem`, so the renderer's own is cut off.
    let rendered = error.render();
    let cause = rendered.split(" at line ").next().unwrap_or_default();
    let problem = Problem::new(place, format!("this is not YAML: {cause}"));
    match syntax_hint(text, place, cause) {
        Some(hint) => problem.hint(hint),
        None => problem,
    }
}

fn syntax_hint(text: &str, place: Place, cause: &str) -> Option<&'static str> {
    if cause.contains("quoted scalar") {
        return Some("a quote may be left open, here or above");
    }
    // Only inside `{ … }` and `[ … ]` do the braces of a variable end a value.
    let in_flow = ["flow", "bracket", "illegal placement of ':'"]
        .iter()
        .any(|word| cause.contains(word));
    let line = match place {
        Place::At { line, .. } => text.lines().nth(line.saturating_sub(1)),
        Place::Nowhere => None,
    };
    if in_flow && line.is_some_and(|line| line.contains("${")) {
        return Some("inside `{ … }` and `[ … ]` a variable stands in quotes: `\"${VAR}\"`");
    }
    in_flow.then_some("a `{` or `[` may be left open, or a comma be missing, here or above")
}

/// The parser may stop behind the last line, where an excerpt would have nothing to show.
fn inside(text: &str, place: Place) -> Place {
    let Place::At { line, .. } = place else {
        return place;
    };
    match text.lines().enumerate().last() {
        Some((index, last)) if index + 1 < line => Place::At {
            line: index + 1,
            column: last.trim_end().chars().count() + 1,
            chars: 1,
        },
        _ => place,
    }
}

/// The first tab in an indentation, not after the line the parser stopped at.
fn first_tab(text: &str, stopped: Place) -> Option<Place> {
    let last = match stopped {
        Place::At { line, .. } => line,
        _ => usize::MAX,
    };
    text.lines()
        .take(last)
        .enumerate()
        .find_map(|(index, line)| {
            let indentation = &line[..line.len() - line.trim_start().len()];
            let column = indentation.chars().position(|c| c == '\t')? + 1;
            (!is_blank(line)).then_some(Place::At {
                line: index + 1,
                column,
                chars: 1,
            })
        })
}

fn place(location: Location) -> Place {
    if location.line() == 0 {
        return Place::Nowhere;
    }
    Place::At {
        line: usize::try_from(location.line()).unwrap_or(usize::MAX),
        column: usize::try_from(location.column()).unwrap_or(1),
        chars: usize::try_from(location.span().len()).unwrap_or(1).max(1),
    }
}

/// The tree as serde hands it over: numbers and booleans have lost their text, which `into_tree` finds again by place.
struct Written(Spanned<Shape>);

enum Shape {
    Null,
    Text(String),
    /// A number or boolean, with a spelling in case its place is unknown.
    Typed(String),
    List(Vec<Written>),
    Map(Vec<(Spanned<String>, Written)>),
}

impl Written {
    fn into_tree(self, text: &str) -> Tree {
        let (at, written) = (place(self.0.referenced), place(self.0.defined));
        let value = match self.0.value {
            Shape::Null => Value::Null,
            Shape::Text(scalar) => Value::Scalar(scalar),
            Shape::Typed(spelling) => {
                Value::Scalar(source(text, self.0.defined).unwrap_or(spelling))
            }
            Shape::List(items) => {
                Value::List(items.into_iter().map(|item| item.into_tree(text)).collect())
            }
            Shape::Map(entries) => Value::Map(
                entries
                    .into_iter()
                    .map(|(key, value)| Entry {
                        at: place(key.referenced),
                        key: key.value,
                        tree: value.into_tree(text),
                    })
                    .collect(),
            ),
        };
        Tree { value, at, written }
    }
}

fn source(text: &str, location: Location) -> Option<String> {
    let span = location.span();
    let start = usize::try_from(span.byte_offset()?).ok()?;
    let end = start + usize::try_from(span.byte_len()?).ok()?;
    let slice = text.get(start..end)?.trim();
    (!slice.is_empty()).then(|| slice.to_owned())
}

impl<'de> Deserialize<'de> for Written {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Spanned::deserialize(deserializer).map(Written)
    }
}

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ShapeVisitor)
    }
}

struct ShapeVisitor;

impl<'de> Visitor<'de> for ShapeVisitor {
    type Value = Shape;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Shape, E> {
        Ok(Shape::Null)
    }

    fn visit_none<E>(self) -> Result<Shape, E> {
        Ok(Shape::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Shape, D::Error> {
        Shape::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Shape, E> {
        Ok(Shape::Typed(value.to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Shape, E> {
        Ok(Shape::Typed(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Shape, E> {
        Ok(Shape::Typed(value.to_string()))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Shape, E> {
        Ok(Shape::Typed(value.to_string()))
    }

    fn visit_u128<E>(self, value: u128) -> Result<Shape, E> {
        Ok(Shape::Typed(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Shape, E> {
        Ok(Shape::Typed(value.to_string()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Shape, E> {
        Ok(Shape::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Shape, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Shape::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Shape, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = access.next_entry()? {
            entries.push(entry);
        }
        Ok(Shape::Map(entries))
    }
}
