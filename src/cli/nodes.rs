//! `arriero nodes`: the nodes of a running gateway as a table, and taking one out of service.

use std::fmt::Write as _;

use arriero::config::Config;
use clap::{Args, Subcommand};
use serde::Deserialize;

use super::admin::AdminArgs;

/// Longest name and longest reason shown, characters.
const NAME_CHARS_MAX: usize = 40;
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
    let page: Page = serde_json::from_str(page)
        .map_err(|error| format!("the gateway's answer can't be read: {error}; its version may be another one than this command's"))?;
    let mut lines = vec![HEAD.map(str::to_owned)];
    lines.extend(page.endpoints.iter().map(cells));
    let width = |column: usize| {
        let lengths = lines.iter().map(|cells| cells[column].len());
        lengths.max().unwrap_or_default()
    };
    let widths: [usize; HEAD.len()] = std::array::from_fn(width);
    let mut text = String::new();
    for cells in &lines {
        let mut line = String::new();
        for (cell, width) in cells.iter().zip(widths) {
            // Writing into a String cannot fail.
            let _ = write!(line, "{cell:width$}  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    let (healthy, all, routable) = (page.healthy_count, page.total_count, page.routable_count);
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

/// A node may have written the text; it must not steer the terminal.
fn plain(text: &str, chars_max: usize) -> String {
    let shown = |c: char| match c {
        ' '..='~' => c,
        _ => '?',
    };
    text.chars().take(chars_max).map(shown).collect()
}

fn percent_encoded(name: &str) -> String {
    name.bytes().fold(String::new(), |mut text, byte| {
        match byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            true => text.push(char::from(byte)),
            // Writing into a String cannot fail.
            false => drop(write!(text, "%{byte:02X}")),
        }
        text
    })
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

    #[test]
    fn hostile_words_stay_in_their_cell() {
        assert_eq!(plain("a\u{1b}[31m\nb\u{e9}", 40), "a?[31m?b?");
        assert_eq!(plain(&"x".repeat(1000), 40).len(), 40);
        assert_eq!(percent_encoded("a/b c\u{e9}"), "a%2Fb%20c%C3%A9");
    }
}
