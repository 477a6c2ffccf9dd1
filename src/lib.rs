//! Arriero: one address in front of a herd of Ollama nodes.
//!
//! The way of one request, from socket to socket:
//!
//! ```text
//! client ─▶ gateway::proxy ─▶ dialect::recognize ─▶ dialect::facts ─▶ routing ─▶ fleet.try_lease ─▶ gateway::upstream ─▶ node
//!    ◀──────────────── gateway::relay ◀──────── dialect::Meter (look, count) ◀──────────────────────────────────┘
//!                                                      │
//!                                                      ▼  exactly once, on every path
//!                                               telemetry::Record
//! ```
//!
//! `docs/architecture.md` tells the steps, the words and the invariants; `tests/it/tidy.rs` enforces who may name whom.

// In reading order, which blank lines keep rustfmt from sorting away.

pub mod error;

pub mod model;

pub mod glob;

pub mod text;

pub mod profile;

pub mod config;

pub mod dialect;

pub mod discovery;

pub mod fleet;

pub mod affinity;

pub mod routing;

pub mod admission;

pub mod placement;

pub mod management;

pub mod telemetry;

pub mod admin;

pub mod demo;

pub mod gateway;
