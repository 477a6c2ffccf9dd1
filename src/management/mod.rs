//! Changing the models of nodes: what was asked, of which nodes, how far they are, and what became of it.
//!
//! Pure: values in, values out. The gateway asks the nodes (`gateway::manage`); this decides what that means.

pub mod request;

pub mod targets;

pub mod plan;

pub mod names;

pub mod progress;

pub mod outcome;

pub mod source;

pub use names::free_name;
pub use outcome::{Failure, Outcome, Words};
pub use plan::{Asked, Errand, Manner, OnceKey, Plan, create_from_file, plan};
pub use progress::{News, Progress};
pub use request::Body;
pub use source::Source;
pub use targets::{Aim, Reach, Skipped, Target, Targets, targets};
