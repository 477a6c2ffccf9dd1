//! Listings of models that only one place has: Olla's unified one, and those that a type of node keeps at a path of its own.

use std::borrow::Cow;

use super::{Dialect, Operation, Row, Serve, Tail, What, row};

const fn listing(path: &'static str, operation: Operation, tail: Tail) -> Row {
    let what = What::Serve(operation, Serve::Catalogue);
    row(path, "GET", Dialect::OpenAi, what, tail)
}

const fn list_and_item(path: &'static str) -> [Row; 2] {
    [
        listing(path, Operation::Models, Tail::None),
        listing(path, Operation::Model, Tail::Name),
    ]
}

/// What stands behind `/olla`.
pub(super) static UNIFIED: &[Row] = &list_and_item("/models");

static LM_STUDIO: &[Row] = {
    let [list, item] = list_and_item("/api/v0/models");
    let [list_v1, item_v1] = list_and_item("/api/v1/models");
    &[list, item, list_v1, item_v1]
};
static LEMONADE: &[Row] = &list_and_item("/api/v1/models");
static DOCKER: &[Row] = &list_and_item("/engines/v1/models");

/// What a type of node has besides the common calls.
pub(super) fn of(profile: &str) -> &'static [Row] {
    match profile {
        "lm-studio" => LM_STUDIO,
        "lemonade" => LEMONADE,
        "docker-model-runner" => DOCKER,
        _ => &[],
    }
}

/// Ids like `Qwen/Qwen3-8B` come with their slash escaped. Such a path is only looked up, never passed on, so it cannot mean
/// something else to a node; everywhere else an escaped slash is refused.
pub(super) fn with_slashes(rest: Cow<'_, str>) -> Cow<'_, str> {
    if !rest.contains("/models/") || !rest.contains('%') {
        return rest;
    }
    rest.replace("%2F", "/").replace("%2f", "/").into()
}
