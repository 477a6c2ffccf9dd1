//! `arriero explain`: which node would get a request for a model, and why, as a table.

use std::fmt::Write as _;

use arriero::config::Config;
use clap::Args;
use serde::Deserialize;

use super::admin::AdminArgs;
use super::table::{NAME_CHARS_MAX, aligned, percent_encoded, plain, unreadable};

/// Longest sentence shown, characters.
const TEXT_CHARS_MAX: usize = 400;

#[derive(Args)]
pub(crate) struct ExplainArgs {
    #[command(flatten)]
    admin: AdminArgs,
    /// The model, or an alias.
    model: String,
    /// The call, as a client would send it.
    #[arg(long, default_value = "/api/chat")]
    path: String,
    /// The context it asks for, tokens.
    #[arg(long, value_name = "TOKENS")]
    num_ctx: Option<u32>,
    /// How long its prompt is, tokens.
    #[arg(long, value_name = "TOKENS")]
    prompt_tokens: Option<u32>,
    /// Print what the gateway says, as JSON.
    #[arg(long)]
    json: bool,
}

/// What the gateway says, for standard output.
pub(crate) fn run(
    args: &ExplainArgs,
    config: impl FnOnce() -> Result<Config, String>,
) -> Result<String, String> {
    let mut path = format!(
        "/internal/explain?model={}&path={}",
        percent_encoded(&args.model),
        percent_encoded(&args.path)
    );
    for (name, tokens) in [
        ("num_ctx", args.num_ctx),
        ("prompt_tokens", args.prompt_tokens),
    ] {
        if let Some(tokens) = tokens {
            // Writing into a String cannot fail.
            let _ = write!(path, "&{name}={tokens}");
        }
    }
    let page = args.admin.find(config)?.ask("GET", &path)?;
    match args.json {
        true => Ok(page + "\n"),
        false => table(&page),
    }
}

/// `/internal/explain`, as far as the table needs it.
#[derive(Deserialize)]
struct Page {
    decision: Decision,
    candidates: Vec<Row>,
    queue: Queue,
}

#[derive(Deserialize)]
struct Decision {
    text: String,
}

#[derive(Deserialize)]
struct Row {
    node: String,
    verdict: String,
    text: String,
    loaded: bool,
    in_flight: u64,
    slots: Option<u64>,
    cost: Option<Cost>,
}

#[derive(Deserialize)]
struct Cost {
    total_s: f64,
}

#[derive(Deserialize)]
struct Queue {
    waiting: u64,
}

const HEAD: [&str; 6] = ["NAME", "VERDICT", "LOADED", "SLOTS", "COST", "WHY"];

fn table(page: &str) -> Result<String, String> {
    let page: Page = serde_json::from_str(page).map_err(|error| unreadable(&error))?;
    let mut lines = vec![HEAD.map(str::to_owned)];
    lines.extend(page.candidates.iter().map(cells));
    let mut text = aligned(&lines);
    let waiting = page.queue.waiting;
    let decision = plain(&page.decision.text, TEXT_CHARS_MAX);
    // Writing into a String cannot fail.
    let _ = writeln!(text, "{decision}");
    if 0 < waiting {
        let _ = writeln!(text, "Requests that wait for a node: {waiting}");
    }
    Ok(text)
}

fn cells(row: &Row) -> [String; HEAD.len()] {
    let slots = row
        .slots
        .map_or("auto".to_owned(), |slots| slots.to_string());
    let cost = row.cost.as_ref();
    [
        plain(&row.node, NAME_CHARS_MAX),
        plain(&row.verdict, NAME_CHARS_MAX),
        if row.loaded { "yes" } else { "no" }.to_owned(),
        format!("{}/{slots}", row.in_flight),
        cost.map_or("-".to_owned(), |cost| format!("{:.2}s", cost.total_s)),
        plain(&row.text, TEXT_CHARS_MAX),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_aligned_and_plain() {
        let page = r#"{"decision":{"text":"gpu1 gets it."},"queue":{"waiting":2,"in_line":0},"candidates":[
            {"node":"gpu1","verdict":"chosen","text":"gpu1 has it.","loaded":true,"in_flight":1,"slots":4,"cost":{"total_s":0.5}},
            {"node":"a\u001b[31m","verdict":"no_model","text":"none","loaded":false,"in_flight":0,"slots":null,"cost":null}]}"#;
        let expected = "\
NAME    VERDICT   LOADED  SLOTS   COST   WHY
gpu1    chosen    yes     1/4     0.50s  gpu1 has it.
a?[31m  no_model  no      0/auto  -      none
gpu1 gets it.
Requests that wait for a node: 2
";
        assert_eq!(table(page).unwrap(), expected);
    }
}
