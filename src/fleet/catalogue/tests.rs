//! Two recorded Ollama servers and a vLLM listing merged, compared as text. `UPDATE=1` rewrites the expected files.

mod laws;
mod mixed;

use std::time::Instant;

use super::*;
use crate::fleet::fixture::{LIMITS, herd, ollama, vllm};
use crate::fleet::{Fleet, NodeId, Observation, Timestamp, listing};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/catalogue");

fn golden(file: &str) -> Vec<u8> {
    std::fs::read(format!("{FOLDER}/{file}")).unwrap()
}

/// Two Ollama servers of different versions, then vLLM.
fn merged() -> Fleet {
    let fleet = Fleet::new(vec![ollama("old"), ollama("new"), vllm("v")], LIMITS);
    let now = Instant::now();
    for (place, version) in ["0.24.0", "0.33.0-rc2"].into_iter().enumerate() {
        let models = listing::whole::tags(&golden(&format!("ollama-{version}-tags.json"))).unwrap();
        let loaded = listing::ps(&golden(&format!("ollama-{version}-ps.json"))).unwrap();
        let version = Some(version.to_owned());
        fleet.observe(
            NodeId(place),
            Observation::Installed { models, version },
            now,
        );
        fleet.observe(NodeId(place), Observation::Loaded(loaded), now);
    }
    let models = listing::whole::v1_models(&golden("vllm-models.json")).unwrap();
    fleet.observe(
        NodeId(2),
        Observation::Installed {
            models,
            version: None,
        },
        now,
    );
    fleet
}

fn tags_of(view: &Snapshot) -> Bytes {
    view.listing(&Scope::ALL, Format::Ollama)
}

fn moment() -> Moment {
    Moment {
        now: Instant::now(),
        unix_s: 1_795_300_000,
    }
}

fn item(view: &Snapshot, asked: &str) -> Option<Bytes> {
    view.item(&Scope::ALL, Format::OpenAi, asked, moment())
}

/// Compares with the expected file, in which each entry stands on a line of its own.
fn check(file: &str, actual: &[u8]) {
    let actual = std::str::from_utf8(actual).unwrap();
    serde_json::from_str::<serde::de::IgnoredAny>(actual).unwrap();
    let actual = actual.replace("},{\"", "},\n{\"") + "\n";
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(format!("{FOLDER}/{file}"), &actual).unwrap();
    }
    assert_eq!(actual, String::from_utf8(golden(file)).unwrap(), "{file}");
}

#[test]
fn three_nodes_answer_as_one() {
    let view = merged().view();
    check("merged-tags.json", &tags_of(&view));
    check("merged-ps.json", &view.ps(&Scope::ALL));
    check(
        "merged-v1-models.json",
        &view.listing(&Scope::ALL, Format::OpenAi),
    );
}

#[test]
fn an_empty_fleet_lists_nothing() {
    let view = Fleet::new(vec![], LIMITS).view();
    assert_eq!(tags_of(&view), r#"{"models":[]}"#);
    assert_eq!(view.ps(&Scope::ALL), r#"{"models":[]}"#);
    assert_eq!(
        view.listing(&Scope::ALL, Format::OpenAi),
        r#"{"object":"list","data":[]}"#
    );
    assert_eq!(view.version(), r#"{"version":"0.0.0"}"#);
}

#[test]
fn one_model_is_told_in_the_asked_spelling() {
    let view = merged().view();
    for (asked, expected) in [
        (
            "tiny-CHAT",
            r#"{"id":"tiny-CHAT","object":"model","created":1795212468,"owned_by":"library"}"#,
        ),
        (
            "qwen/qwen3-8b",
            r#"{"id":"qwen/qwen3-8b","object":"model","created":1795000000,"owned_by":"vllm","root":"/models/qwen3","parent":null,"max_model_len":40960,"permission":[{"id":"modelperm-1","allow_view":true}]}"#,
        ),
    ] {
        assert_eq!(item(&view, asked).unwrap(), expected);
    }
    assert_eq!(item(&view, "llama"), None);
    assert_eq!(item(&view, "no such name"), None);
}

#[test]
fn the_version_is_the_lowest_of_the_nodes_that_are_up() {
    for (versions, expected) in [
        (&[("up", "0.33.0-rc2"), ("up", "0.9.12")][..], "0.9.12"),
        (&[("up", "0.33.0-rc2"), ("down", "0.24.0")], "0.33.0"),
        (&[("down", "0.33.0"), ("unknown", "v0.24.0")], "0.24.0"),
        (
            &[
                ("up", "main"),
                ("up", ""),
                ("up", "0..1"),
                ("up", "1.99999999999"),
            ],
            "0.0.0",
        ),
        (&[("up", "0.24.0+cuda")], "0.24.0"),
    ] {
        let lines: Vec<String> = versions
            .iter()
            .map(|(health, _)| format!("n {health} 0/1"))
            .collect();
        let fleet = herd(&lines.join("\n")).fleet;
        for (place, (_, version)) in versions.iter().enumerate() {
            let version = Some((*version).to_owned());
            let seen = Observation::Installed {
                models: vec![],
                version,
            };
            fleet.observe(NodeId(place), seen, Instant::now());
        }
        let expected = format!("{{\"version\":\"{expected}\"}}");
        assert_eq!(fleet.view().version(), expected, "{versions:?}");
    }
}

/// Values that clients cannot parse, one after the other in the fields that they do.
const ODD: [&str; 9] = [
    "7",
    "-1",
    "1.5",
    "\"x\"",
    "null",
    "[7]",
    "{\"family\":7}",
    "true",
    "1e400",
];

#[test]
fn an_odd_entry_reads_like_all_others() {
    let node = ollama("odd");
    let fleet = Fleet::new(vec![node, vllm("v")], LIMITS);
    let body = golden("odd-tags.json");
    let models = listing::whole::tags(&body).unwrap();
    let version = None;
    fleet.observe(
        NodeId(0),
        Observation::Installed { models, version },
        Instant::now(),
    );
    fleet.observe(
        NodeId(0),
        Observation::Loaded(listing::ps(&golden("odd-ps.json")).unwrap()),
        Instant::now(),
    );
    let body = br#"[{"id":"m","object":7,"created":"now","owned_by":null,"extra":[null]}]"#;
    let models = listing::whole::v1_models(body).unwrap();
    let version = None;
    fleet.observe(
        NodeId(1),
        Observation::Installed { models, version },
        Instant::now(),
    );
    let view = fleet.view();
    check("odd-expected-tags.json", &tags_of(&view));
    check("odd-expected-ps.json", &view.ps(&Scope::ALL));
    let expected = r#"{"id":"m","extra":[null],"object":"model","created":0,"owned_by":"library"}"#;
    assert_eq!(item(&view, "m").unwrap(), expected);
}

/// What the clients of Ollama in Go and in Python take; other fields may be anything.
#[derive(serde::Deserialize)]
#[expect(dead_code, reason = "read for their types")]
struct Strict {
    name: String,
    model: String,
    modified_at: Option<String>,
    expires_at: Option<serde_json::Value>,
    size: i64,
    size_vram: Option<i64>,
    context_length: Option<i64>,
    digest: String,
    details: StrictDetails,
    capabilities: Option<Vec<String>>,
    remote_model: Option<String>,
}

#[derive(serde::Deserialize)]
#[expect(dead_code, reason = "read for their types")]
struct StrictDetails {
    parent_model: Option<String>,
    format: Option<String>,
    family: Option<String>,
    families: Option<Vec<String>>,
    parameter_size: Option<String>,
    quantization_level: Option<String>,
}

#[derive(serde::Deserialize)]
struct StrictPage {
    models: Vec<Strict>,
}

#[test]
fn no_value_of_a_field_breaks_a_listing() {
    let fields = "name model modified_at expires_at size size_vram context_length digest details capabilities remote_model Size";
    let details = "parent_model format family families parameter_size quantization_level";
    for odd in ODD {
        let top = fields.split(' ').map(|field| format!("\"{field}\":{odd}"));
        let inner = details
            .split(' ')
            .map(|field| format!("\"details\":{{\"{field}\":{odd}}}"));
        for field in top.chain(inner) {
            let body = format!(
                "{{\"models\":[{{{field},\"name\":\"a\"}},{{\"name\":\"b\"}},{{\"model\":\"c\",{field}}}]}}"
            );
            let fleet = Fleet::new(vec![ollama("odd")], LIMITS);
            let models = listing::whole::tags(body.as_bytes()).unwrap();
            let version = None;
            fleet.observe(
                NodeId(0),
                Observation::Installed { models, version },
                Instant::now(),
            );
            let loaded = listing::ps(body.as_bytes()).unwrap();
            fleet.observe(NodeId(0), Observation::Loaded(loaded), Instant::now());
            let view = fleet.view();
            for page in [tags_of(&view), view.ps(&Scope::ALL)] {
                let told = String::from_utf8_lossy(&page).into_owned();
                let page: StrictPage =
                    serde_json::from_slice(&page).unwrap_or_else(|error| panic!("{error}: {told}"));
                assert!(2 <= page.models.len(), "{told}");
                for model in page.models {
                    assert!(
                        12 <= model.digest.len() && !told.contains("\"Size\""),
                        "{told}"
                    );
                    assert!(
                        model
                            .modified_at
                            .is_none_or(|it| Timestamp::is_rfc3339(&it)),
                        "{told}"
                    );
                }
            }
        }
    }
}

#[test]
fn a_gateway_behind_a_gateway_says_its_own_nodes() {
    let fleet = Fleet::new(vec![ollama("a")], LIMITS);
    let body = br#"{"models":[{"model":"m:latest","urls":[7],"connection_type":"external","expires_at":1,"size":10,"x\"y":"\u00e9"}]}"#;
    let models = listing::whole::tags(body).unwrap();
    fleet.observe(
        NodeId(0),
        Observation::Installed {
            models,
            version: None,
        },
        Instant::now(),
    );
    let told = String::from_utf8(tags_of(&fleet.view()).to_vec()).unwrap();
    assert!(told.starts_with(r#"{"models":[{"model":"m:latest","size":10,"x\"y":"\u00e9","name":"m:latest","modified_at""#), "{told}");
    assert!(
        told.ends_with(r#"},"urls":[0],"connection_type":"local"}]}"#),
        "{told}"
    );
}
