//! The architecture, as a test: who may depend on whom, what is named where, how long a file may be.

use std::fs;
use std::path::Path;

/// `module: modules it may name`. Absence is the point of this table; `docs/architecture.md` §2 tells the reasons.
const ALLOWED: &[(&str, &[&str])] = &[
    ("error", &[]),
    ("model", &["error"]),
    ("glob", &[]),
    ("text", &[]),
    ("profile", &["error", "glob", "dialect"]),
    ("config", &["error", "model", "glob", "profile"]),
    ("dialect", &["error", "model", "text", "profile"]),
    ("discovery", &[]),
    (
        "fleet",
        &[
            "error", "model", "glob", "text", "config", "profile", "dialect",
        ],
    ),
    // What it remembers is kept as long as the configuration says, and names nodes.
    ("affinity", &["config", "fleet"]),
    (
        "routing",
        &[
            "error", "model", "glob", "config", "profile", "dialect", "fleet", "affinity",
        ],
    ),
    ("admission", &["error", "model", "config"]),
    // It plans by the same harm as routing does.
    (
        "placement",
        &["model", "config", "dialect", "fleet", "routing"],
    ),
    (
        "management",
        &[
            "error", "model", "text", "config", "profile", "dialect", "fleet",
        ],
    ),
    (
        "telemetry",
        &["error", "model", "config", "profile", "dialect"],
    ),
    // It tells why a request would go where it goes.
    (
        "admin",
        &[
            "error",
            "model",
            "text",
            "config",
            "fleet",
            "affinity",
            "routing",
            "telemetry",
        ],
    ),
    ("demo", &["error", "model"]),
    // Part of the binary: it names the library as `arriero`, and of its own modules nothing but `cli`.
    ("cli", &[]),
    (
        "gateway",
        &[
            "error",
            "model",
            "text",
            "profile",
            "config",
            "dialect",
            "discovery",
            "fleet",
            "affinity",
            "routing",
            "admission",
            "placement",
            "management",
            "telemetry",
            "admin",
        ],
    ),
];

/// Words that belong to the shell: the gateway, the simulated nodes, and the binary.
const SHELL_ONLY: &[&str] = &[
    "pingora",
    "tokio::net",
    "std::net::Tcp",
    "std::fs",
    "std::env",
    "Instant::now",
    "SystemTime::now",
];
const SHELL: &[&str] = &["gateway", "demo", "cli", "main"];
/// Modules that never await.
const PURE: &[&str] = &[
    "error",
    "model",
    "glob",
    "text",
    "profile",
    "config",
    "dialect",
    "discovery",
    "affinity",
    "routing",
    "admission",
    "placement",
    "management",
    "admin",
];

const LINES_MAX: usize = 400;
/// Files that may be longer; this list may only shrink.
const LONG: &[&str] = &[];

#[test]
fn modules_depend_only_on_what_the_table_allows() {
    let mut faults = Vec::new();
    each_file("src", "rs", &mut |path, text| {
        let module = module_of(path);
        if module == "lib" || module == "main" {
            return;
        }
        let Some((_, allowed)) = ALLOWED.iter().find(|(name, _)| *name == module) else {
            faults.push(format!(
                "{path}: `{module}` is not in ALLOWED; add it and say what it may use"
            ));
            return;
        };
        for named in named_modules(text) {
            if named != module && !allowed.contains(&named.as_str()) {
                faults.push(format!("{path}: `{module}` may not use `{named}`"));
            }
        }
    });
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

#[test]
fn only_the_shell_names_sockets_files_and_clocks() {
    let mut faults = Vec::new();
    each_file("src", "rs", &mut |path, text| {
        if SHELL.contains(&module_of(path).as_str())
            || path.ends_with("tests.rs")
            || path.ends_with("/fixture.rs")
            || path.contains("/tests/")
        {
            return;
        }
        let code = without_tests_and_comments(text);
        for word in SHELL_ONLY.iter().filter(|word| code.contains(**word)) {
            faults.push(format!("{path}: only {SHELL:?} may use `{word}`"));
        }
        let pure = PURE.contains(&module_of(path).as_str());
        if pure && (code.contains(".await") || code.contains("async fn")) {
            faults.push(format!("{path}: a pure module never awaits"));
        }
    });
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

#[test]
fn files_have_one_idea_and_open_with_it() {
    let mut faults = Vec::new();
    for dir in ["src", "tests", "benches"] {
        each_file(dir, "rs", &mut |path, text| {
            let lines = text.lines().count();
            if LINES_MAX < lines && !LONG.contains(&path) {
                faults.push(format!("{path}: {lines} lines, the limit is {LINES_MAX}"));
            }
            if !text.starts_with("//! ") {
                faults.push(format!(
                    "{path}: opens without a sentence of what it is for"
                ));
            }
        });
    }
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

#[test]
fn no_registry_is_named_and_nothing_outside_the_project_is_referred_to() {
    // Spelled apart, so that this file does not name them.
    let words = [
        ["crates", ".io/"],
        ["pypi", ".org"],
        ["registry.npm", "js"],
        ["../sha", "red"],
        ["/wo", "rk/"],
    ]
    .map(|two| two.concat());
    let mut faults = Vec::new();
    for ext in [
        "rs", "md", "yaml", "yml", "toml", "py", "mjs", "json", "txt", "sh",
    ] {
        for dir in ["src", "tests", "benches", "docs", "deploy", "conf"] {
            each_file(dir, ext, &mut |path, text| {
                for word in words.iter().filter(|word| text.contains(word.as_str())) {
                    faults.push(format!("{path}: names `{word}`"));
                }
            });
        }
    }
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

fn module_of(path: &str) -> String {
    path.trim_start_matches("src/")
        .split(['/', '.'])
        .next()
        .unwrap_or_default()
        .to_owned()
}

/// The code of a file up to its `#[cfg(test)]`, comment lines left out.
fn without_tests_and_comments(text: &str) -> String {
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    let lines = code
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"));
    lines.collect::<Vec<_>>().join("\n")
}

/// Every `x` in `crate::x` and in `crate::{x, y::Z}`.
fn named_modules(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, _) in text.match_indices("crate::") {
        let rest = &text[at + "crate::".len()..];
        let list = match rest.strip_prefix('{') {
            Some(inner) => top_level(inner),
            None => vec![rest.to_owned()],
        };
        let names = list.iter().map(|part| {
            part.trim()
                .chars()
                .take_while(|c| c.is_alphanumeric() || *c == '_')
                .collect()
        });
        found.extend(names);
    }
    found
}

/// Splits `a, b::{c, d}, e} …` at the commas of its own level, up to the closing brace.
fn top_level(text: &str) -> Vec<String> {
    let (mut parts, mut depth) = (vec![String::new()], 0);
    for c in text.chars() {
        match c {
            '}' if depth == 0 => break,
            ',' if depth == 0 => {
                parts.push(String::new());
                continue;
            }
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => (),
        }
        parts.last_mut().expect("never empty").push(c);
    }
    parts
}

fn each_file(dir: &str, ext: &str, visit: &mut impl FnMut(&str, &str)) {
    let Ok(entries) = fs::read_dir(dir) else {
        return;
    };
    let mut entries: Vec<_> = entries
        .map(|entry| entry.expect("an entry").path())
        .collect();
    entries.sort();
    for path in entries {
        let name = path.to_str().expect("a UTF-8 path");
        let skipped = ["node_modules", ".venv", ".work", "__pycache__"]
            .iter()
            .any(|part| name.contains(part));
        if skipped {
            continue;
        }
        if Path::new(name).is_dir() {
            each_file(name, ext, visit);
        } else if name.ends_with(&format!(".{ext}")) {
            visit(name, &fs::read_to_string(name).unwrap_or_default());
        }
    }
}
