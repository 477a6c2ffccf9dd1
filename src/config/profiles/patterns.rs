//! `detection` and `models` of a profile: what answers and names say.

use super::super::problem::Problem;
use super::super::raw::{Tree, Value};
use super::super::section::{Section, Set};
use super::super::text::{Wrong, glob, number};
use super::Author;
use super::api::paths;
use crate::glob::Glob;
use crate::profile::{Detection, ModelPatterns};

pub(super) fn detection(mut s: Section, detection: &mut Detection) {
    let lower = |sets: Vec<Set>| {
        sets.into_iter()
            .map(|set| set.text.to_lowercase())
            .collect()
    };
    if let Some(sets) = s.scalars("user_agent_patterns") {
        // A `*` at either end adds nothing to a text that is looked for anywhere.
        let texts: Vec<String> = lower(sets);
        detection.user_agents = texts
            .iter()
            .map(|text| text.trim_matches('*').to_owned())
            .collect();
    }
    if let Some(sets) = s.scalars("headers") {
        detection.headers = lower(sets);
    }
    if let Some(sets) = s.scalars("response_patterns") {
        let texts: Vec<String> = lower(sets);
        detection.response_patterns = texts
            .iter()
            .map(|text| text.trim_matches('*').to_owned())
            .collect();
    }
    if let Some(sets) = s.scalars("path_indicators") {
        detection.paths = paths(&s, &sets);
    }
    if let Some(sets) = s.scalars("default_ports") {
        let port = |text: &str| {
            let number = number(text, &(1..=65_535))?;
            Ok(u16::try_from(number).ok())
        };
        detection.ports = sets
            .iter()
            .filter_map(|set| s.judge(set, None, port))
            .collect();
    }
    s.close();
}

pub(super) fn models(mut s: Section, author: Author, models: &mut ModelPatterns) {
    let insists = author == Author::Operator;
    s.parse("name_format", (), |text| match text {
        "{{.Name}}" => Ok(()),
        _ => Err(Wrong::new(
            format!("`{text}` is not a format of names"),
            "write `{{.Name}}`: models keep the names their nodes give them",
        )),
    });
    models.loose_names = s.flag("loose_names", models.loose_names);
    let capabilities = s.section("capability_patterns");
    for entry in capabilities.entries() {
        let Value::List(items) = &entry.tree.value else {
            let message = format!(
                "`{}` must be a list of patterns, and this is {}",
                capabilities.path_of(&entry.key),
                entry.tree.value.noun()
            );
            s.reading.report(Problem::new(entry.tree.at, message));
            continue;
        };
        let sets = capabilities.scalars_in(&entry.key, items);
        let fits = |set| capabilities.judge(set, None, |text| glob(text).map(Some));
        let globs = sets.iter().filter_map(fits).collect();
        models.capabilities.insert(entry.key.clone(), globs);
        if insists {
            models.insisted.capabilities.insert(entry.key.clone());
        }
    }
    if let Some((items, _)) = s.list("context_patterns") {
        models.contexts = items.iter().filter_map(|item| context(&s, item)).collect();
        models.insisted.contexts = insists;
    }
    s.close();
}

fn context(models: &Section, item: &Tree) -> Option<(Glob, u64)> {
    let mut s =
        Section::new(models.reading, "models.context_patterns[]", Some(item)).without_environment();
    let written = s.text("pattern");
    let pattern = written
        .as_ref()
        .and_then(|set| s.judge(set, None, |text| glob(text).map(Some)));
    let tokens = s.parse("context", None, |text| {
        number(text, &(1..=1_000_000_000)).map(Some)
    });
    if written.is_none() || s.entries().iter().all(|entry| entry.key != "context") {
        let problem = Problem::new(
            item.at,
            "an item of `models.context_patterns` needs a `pattern` and a `context`",
        );
        s.reading
            .report(problem.hint("write `{ pattern: \"*-32k*\", context: 32768 }`"));
    }
    s.close();
    Some((pattern?, u64::from(tokens?)))
}
