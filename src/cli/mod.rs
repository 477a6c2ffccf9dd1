//! Commands that ask a running gateway, over its admin listener.

mod admin;

mod table;

pub(crate) mod explain;

pub(crate) mod nodes;

pub(crate) use admin::{AdminArgs, reload};
