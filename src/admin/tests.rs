//! Who is let in, and the shapes of the pages.

use std::fs;
use std::sync::LazyLock;
use std::time::Duration;

use crate::config::KeySource;
use crate::fleet::fixture::{Herd, LIMITS, herd};
use crate::fleet::{Observation, Probed, Rules, listing};
use crate::telemetry::stats::fixture::served;

use super::*;

#[test]
fn the_host_guard_lets_addresses_and_listed_names_in() {
    let allowed = ["localhost".to_owned(), "gw.example".to_owned()];
    let cases = [
        (Some("127.0.0.1:40115"), true),
        (Some("[::1]:40115"), true),
        (Some("10.1.2.3"), true),
        (Some("localhost:40115"), true),
        (Some("LOCALHOST"), true),
        (Some("gw.example:40115"), true),
        (Some("evil.example"), false),
        (Some("localhost.evil.example:40115"), false),
        (Some(""), false),
        (None, true),
    ];
    for (host, expected) in cases {
        assert_eq!(host_is_allowed(host, &allowed), expected, "{host:?}");
    }
}

/// What the pages are made of, without a word from the machine.
fn state<'a>(view: &'a Snapshot, stats: &'a Stats) -> State<'a> {
    State {
        view,
        draining: false,
        aliases: &[],
        now: NOW,
        about: &about,
        metrics: &Vec::new,
        stats,
        sticky: &STICKY,
        sessions: &|| SESSIONS,
        process: &|| ProcessFiles {
            status: None,
            meminfo: None,
            memory_max: None,
        },
    }
}

#[test]
fn the_models_page_and_the_unified_listing_agree_on_what_is_one_model() {
    let herd = fleet();
    let view = herd.fleet.view();
    let stats = served(NOW.wall_ms);
    let state = state(&view, &stats);
    let page = page(
        "GET",
        "/internal/status/models",
        Some("detailed=true"),
        &state,
    );
    let page: serde_json::Value = serde_json::from_slice(&page.body).unwrap();
    let sorted = |mut names: Vec<String>| {
        names.sort();
        names
    };
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let mut seen = 0;
    for model in view.unified(&crate::fleet::Scope::ALL) {
        let expected = sorted(
            model
                .lines
                .iter()
                .map(|line| line.name.to_owned())
                .collect(),
        );
        for name in &expected {
            let entries = page["models"].as_array().unwrap().iter();
            let entry = entries
                .clone()
                .find(|entry| entry["name"] == **name)
                .unwrap();
            let others = entry["aliases"].as_array().unwrap().iter().map(text);
            let names = others.chain([name.clone()]).collect();
            assert_eq!(sorted(names), expected);
            seen += 1;
        }
    }
    assert_eq!(page["models"].as_array().unwrap().len(), seen);
    assert_eq!(page["total_models"], seen);
}

const STATUS: &str = "Name:\tarriero\nVmSize:\t 4096 kB\nVmHWM:\t 3072 kB\nVmRSS:\t 2048 kB\nRssAnon:\t 1024 kB\n\
                      VmData:\t 2560 kB\nVmStk:\t 132 kB\nThreads:\t5\n";

/// Another build of a model that others have, and a copy of theirs under another name.
const NEWER: &str = r#"{"models":[
    {"name":"llama3","digest":"d-newer","size":4005057004,"modified_at":"2025-11-24T12:00:00+02:00","capabilities":["completion","tools"],
     "details":{"family":"llama","parameter_size":"7B","quantization_level":"Q4_0"}},
    {"name":"my-llama","digest":"d-llama3","size":4005057004,"modified_at":"2025-11-24T10:00:01Z",
     "details":{"family":"llama","parameter_size":"7B","quantization_level":"Q4_0"}}]}"#;

static STICKY: LazyLock<StickySessions> = LazyLock::new(|| StickySessions {
    enabled: true,
    idle_ttl: Duration::from_secs(600),
    sessions_max: 10_000,
    sources: vec![KeySource::SessionHeader, KeySource::Ip],
    hashed_bytes_max: 8192,
});

const SESSIONS: Figures = Figures {
    active: 3,
    insertions: 5,
    hits: 40,
    misses: 6,
    repins: 1,
    evictions: 2,
};

const NOW: Now = Now {
    wall_ms: 1_764_000_100_000,
    uptime: Duration::from_secs(100),
};

fn about() -> About {
    About {
        version: "1.2.3",
        commit: "none",
        build_date: "",
        platform: "linux/x86_64".into(),
        started_ms: 1_764_000_000_000,
        balancer: "adaptive",
        backends: vec!["ollama".into(), "vllm".into()],
        connections: 3,
        requests: 1,
        cpus: 8,
        threads: 4,
        pid: 42,
    }
}

/// A node of each kind: busy, leaving, down, and one that has only told its models.
fn fleet() -> Herd {
    let herd = herd(
        "gpu1 up 1/4 p200 llama3* qwen3
         gpu2@vllm up 1/auto mistral
         gpu3 down 0/4 llama3
         gpu4 new 0/2",
    );
    let staying = herd.fleet.view();
    for node in &staying.nodes[..3] {
        let (at, took) = (Duration::from_secs(96), Duration::from_millis(2));
        node.moments().note_probe(Probed { at, took });
        node.moments().note_listing(Duration::from_secs(40));
    }
    let models = listing::whole::tags(NEWER.as_bytes()).unwrap();
    let told = Observation::Installed {
        models,
        version: Some("0.33.0".into()),
    };
    herd.fleet
        .observe(staying.nodes[3].id, told, std::time::Instant::now());
    let kept = staying
        .nodes
        .iter()
        .filter(|node| node.config.name != "gpu2");
    let kept = kept.map(|node| node.config.clone()).collect();
    herd.fleet
        .reconfigure(kept, LIMITS, Rules::default(), |_| ());
    herd
}

/// Name of the golden file, path, query.
const PAGES: &[(&str, &str, &str)] = &[
    ("status", "/internal/status", ""),
    ("endpoints", "/internal/status/endpoints", ""),
    ("models", "/internal/status/models", ""),
    (
        "models-detailed",
        "/internal/status/models",
        "detailed=true&group=family",
    ),
    ("usage", "/internal/stats/models", ""),
    (
        "usage-all",
        "/internal/stats/models",
        "include_endpoints&include_summary",
    ),
    ("translators", "/internal/stats/translators", ""),
    ("sticky", "/internal/stats/sticky", ""),
    ("process", "/internal/process", ""),
    ("version", "/version", ""),
];

#[test]
fn the_pages_are_as_the_golden_files_have_them() {
    let herd = fleet();
    let stats = served(NOW.wall_ms - 10_000);
    let files = || ProcessFiles {
        status: Some(STATUS.into()),
        meminfo: Some("MemTotal: 8192 kB\n".into()),
        memory_max: Some("max\n".into()),
    };
    let view = herd.fleet.view();
    let state = State {
        process: &files,
        ..state(&view, &stats)
    };
    for (name, path, query) in PAGES {
        let page = page("GET", path, Some(query), &state);
        let value: serde_json::Value = serde_json::from_slice(&page.body).unwrap();
        let actual = serde_json::to_string_pretty(&value).unwrap() + "\n";
        let file = format!("tests/golden/admin/{name}.json");
        if std::env::var_os("UPDATE").is_some() {
            fs::write(&file, &actual).unwrap();
        }
        assert_eq!(actual, fs::read_to_string(&file).unwrap(), "{file}");
        assert_eq!(
            page.etag.is_some(),
            path.starts_with("/internal/status"),
            "{path}"
        );
    }
}
