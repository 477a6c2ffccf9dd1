//! What happened: one `Record` per request, one access line, one set of metrics. Decides nothing.

pub mod metrics;

pub mod record;

pub mod stats;

pub mod log;
