//! Two recorded Ollama servers and a vLLM listing merged, compared as text. `UPDATE=1` rewrites the expected files.

mod laws;
mod mixed;

use std::time::Instant;

use super::*;
use crate::fleet::fixture::{LIMITS, herd, ollama, vllm};
use crate::fleet::{Fleet, NodeId, Observation, listing};

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

#[test]
fn a_gateway_behind_a_gateway_says_its_own_nodes() {
    let fleet = Fleet::new(vec![ollama("a")], LIMITS);
    let body = br#"{"models":[{"model":"m:latest","urls":[7],"connection_type":"external","expires_at":1,"size":1.0,"x\"y":"\u00e9"}]}"#;
    let models = listing::whole::tags(body).unwrap();
    fleet.observe(
        NodeId(0),
        Observation::Installed {
            models,
            version: None,
        },
        Instant::now(),
    );
    let expected = r#"{"models":[{"model":"m:latest","size":1.0,"x\"y":"\u00e9","name":"m:latest","urls":[0],"connection_type":"local"}]}"#;
    assert_eq!(tags_of(&fleet.view()), expected);
}
