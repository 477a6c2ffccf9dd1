//! `arriero nodes`: the nodes of a running gateway as a table, and taking one out of service.

use std::fmt::Write as _;

use arriero::config::Config;
use clap::{Args, Subcommand};
use serde::Deserialize;

use super::admin::AdminArgs;
use super::table::{NAME_CHARS_MAX, aligned, percent_encoded, plain, unreadable};

/// Longest reason shown, characters.
const ERROR_CHARS_MAX: usize = 100;

#[derive(Args)]
pub(crate) struct NodesArgs {
    #[command(flatten)]
    admin: AdminArgs,
    /// Print what the gateway says, as JSON.
    #[arg(long)]
    json: bool,
    #[command(subcommand)]
    action: Option<NodesAction>,
}

#[derive(Subcommand)]
enum NodesAction {
    /// Send a node no new requests; those that are with it go on.
    Drain {
        /// As the configuration names it.
        name: String,
    },
    /// Send a node requests again.
    Undrain {
        /// As the configuration names it.
        name: String,
    },
}

/// What the gateway says, for standard output.
pub(crate) fn run(
    args: &NodesArgs,
    config: impl FnOnce() -> Result<Config, String>,
) -> Result<String, String> {
    let admin = args.admin.find(config)?;
    let act = |name: &str, verb| {
        let path = format!("/internal/nodes/{}/{verb}", percent_encoded(name));
        admin.ask("POST", &path)
    };
    match &args.action {
        Some(NodesAction::Drain { name }) => act(name, "drain"),
        Some(NodesAction::Undrain { name }) => act(name, "undrain"),
        None => {
            let page = admin.ask("GET", "/internal/status/endpoints")?;
            match args.json {
                true => Ok(page + "\n"),
                false => table(&page),
            }
        }
    }
}

/// `/internal/status/endpoints`, as far as the table needs it.
#[derive(Deserialize)]
struct Page {
    endpoints: Vec<Row>,
    total_count: u64,
    healthy_count: u64,
    routable_count: u64,
}

#[derive(Deserialize)]
struct Row {
    name: String,
    #[serde(rename = "type")]
    kind: String,
    status: String,
    priority: u64,
    active_connections: u64,
    slots: Option<u64>,
    model_count: u64,
    loaded: Vec<String>,
    request_count: u64,
    success_rate: String,
    avg_latency_ms: u64,
    #[serde(default)]
    issues: String,
}

const HEAD: [&str; 11] = [
    "NAME",
    "TYPE",
    "STATE",
    "PRIORITY",
    "SLOTS",
    "MODELS",
    "LOADED",
    "REQUESTS",
    "OK",
    "AVG",
    "LAST ERROR",
];

/// The page as people read it: aligned, plain ASCII.
fn table(page: &str) -> Result<String, String> {
    let page: Page = serde_json::from_str(page).map_err(|error| unreadable(&error))?;
    let mut lines = vec![HEAD.map(str::to_owned)];
    lines.extend(page.endpoints.iter().map(cells));
    let mut text = aligned(&lines);
    let (healthy, all, routable) = (page.healthy_count, page.total_count, page.routable_count);
    // Writing into a String cannot fail.
    let _ = writeln!(
        text,
        "{healthy} of {all} healthy, {routable} taking requests"
    );
    Ok(text)
}

fn cells(row: &Row) -> [String; HEAD.len()] {
    let slots = row
        .slots
        .map_or("auto".to_owned(), |slots| slots.to_string());
    [
        plain(&row.name, NAME_CHARS_MAX),
        plain(&row.kind, NAME_CHARS_MAX),
        plain(&row.status, NAME_CHARS_MAX),
        row.priority.to_string(),
        format!("{}/{slots}", row.active_connections),
        row.model_count.to_string(),
        row.loaded.len().to_string(),
        row.request_count.to_string(),
        plain(&row.success_rate, NAME_CHARS_MAX),
        format!("{}ms", row.avg_latency_ms),
        match row.issues.is_empty() {
            true => "-".to_owned(),
            false => plain(&row.issues, ERROR_CHARS_MAX),
        },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_aligned_and_plain() {
        let golden = include_str!("../../tests/golden/admin/endpoints.json");
        let text = table(golden).unwrap();
        let expected = "\
NAME  TYPE    STATE    PRIORITY  SLOTS   MODELS  LOADED  REQUESTS  OK     AVG    LAST ERROR
gpu1  ollama  healthy  200       1/4     2       1       3         66.7%  300ms  -
gpu3  ollama  offline  100       0/4     1       0       0         0%     0ms    connection refused
gpu4  ollama  unknown  100       0/2     2       0       0         100%   0ms    -
gpu2  vllm    leaving  100       1/auto  1       1       2         0%     0ms    -
1 of 3 healthy, 1 taking requests
";
        assert_eq!(text, expected);
    }
}
