//! Commands that ask a running gateway, over its admin listener.

mod admin;

pub(crate) mod nodes;

pub(crate) use admin::{AdminArgs, reload};
