//! How lines reach stderr: text for people, JSON for machines. The access line goes the same way, under its own target.

use std::io::Write as _;

use crate::config::{LogFormat, Logging};

use super::record::Record;

/// The target of access lines, so that `RUST_LOG`-style filters can name them.
pub const ACCESS: &str = "access";

/// Installs the process's one logger. Called once, from `main`. `silent` names modules of others that only repeat what we say.
pub fn install(logging: &Logging, silent: &[&str]) {
    let format = logging.format;
    let access = match logging.access_log {
        true => log::LevelFilter::Info,
        false => log::LevelFilter::Off,
    };
    let mut builder = env_logger::Builder::new();
    for module in silent {
        builder.filter_module(module, log::LevelFilter::Off);
    }
    builder
        // What libraries tell below a warning is for their own developers.
        .filter_level(logging.level.min(log::LevelFilter::Warn))
        .filter_module("arriero", logging.level)
        .filter_module(ACCESS, access)
        .format(move |out, line| match format {
            LogFormat::Text => writeln!(out, "{} {:5} {}", out.timestamp_millis(), line.level(), line.args()),
            LogFormat::Json => {
                let (at, level) = (out.timestamp_millis(), line.level());
                match (line.target(), line.args().to_string()) {
                    (ACCESS, object) => {
                        writeln!(out, "{{\"ts\":\"{at}\",\"level\":\"{level}\",\"log\":\"access\",{}", &object[1..])
                    }
                    (target, message) => {
                        let message = serde_json::Value::from(message);
                        writeln!(out, "{{\"ts\":\"{at}\",\"level\":\"{level}\",\"log\":\"{target}\",\"message\":{message}}}")
                    }
                }
            }
        })
        .init();
}

/// Writes a request's access line.
pub fn access(record: &Record, format: LogFormat) {
    match format {
        LogFormat::Text => log::info!(target: ACCESS, "{}", record.text()),
        LogFormat::Json => log::info!(target: ACCESS, "{}", record.json()),
    }
}
