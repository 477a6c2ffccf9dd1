//! Listings as recorded from real servers, and as a hostile server might write them.

use proptest::prelude::*;

use super::whole::{tags, v1_models};
use super::*;

const TAGS: &[u8] = include_bytes!("../../../tests/golden/catalogue/ollama-0.24.0-tags.json");
const PS: &[u8] = include_bytes!("../../../tests/golden/catalogue/ollama-0.24.0-ps.json");
const V1_MODELS: &[u8] = include_bytes!("../../../tests/golden/catalogue/vllm-models.json");

#[test]
fn recorded_listings_are_read_whole() {
    let models = tags(TAGS).unwrap();
    assert_eq!(models.len(), 12);
    assert_eq!(&*models[0].name, "tiny-broken:latest");
    assert_eq!(&models[0].digest[..8], "59edc45d");
    assert_eq!(models[0].modified.unix_s, 1_795_212_468);
    assert!(models[0].raw.contains("\"quantization_level\":\"F16\""));

    let loaded = ps(PS).unwrap();
    assert_eq!(&*loaded[1].name, "tiny-embed:latest");
    assert_eq!(
        loaded[1].expires.unwrap().to_rfc3339(),
        "2026-11-20T22:12:49Z"
    );

    let served = v1_models(V1_MODELS).unwrap();
    assert_eq!(&*served[0].name, "Qwen/Qwen3-8B");
    assert_eq!(
        version(br#"{"version":"0.33.0-rc2"}"#, "version").unwrap(),
        "0.33.0-rc2"
    );
}

#[test]
fn odd_listings_are_read_as_far_as_they_make_sense() {
    for (body, names) in [
        (r#"{"models":[]}"#, vec![]),
        (r#"{"models":null}"#, vec![]),
        // Old servers write `name` only; a `model` beats it.
        (
            r#"{"models":[{"name":"a"},{"name":"x","model":"b"}]}"#,
            vec!["a", "b"],
        ),
        // A name that nobody could ask for, or none at all, costs the entry and not the node.
        (
            r#"{"models":[{"name":"a?b"},{"name":7},{},{"name":"c"}]}"#,
            vec!["c"],
        ),
        // Two spellings of one model are one model.
        (
            r#"{"models":[{"name":"A"},{"name":"a:latest"}]}"#,
            vec!["A"],
        ),
        (r#"{"models":[{"name":"a","name":"b"}]}"#, vec!["a"]),
        (
            r#"{"models":[{"name":"a","digest":7,"modified_at":"now"}]}"#,
            vec!["a"],
        ),
    ] {
        let models = tags(body.as_bytes()).unwrap();
        let found: Vec<&str> = models.iter().map(|model| model.name.as_ref()).collect();
        assert_eq!(found, names, "{body}");
    }
    assert_eq!(v1_models(br#"{"object":"list","data":null}"#), Ok(vec![]));
}

#[test]
fn hostile_listings_are_refused_with_a_reason() {
    let deep = format!(r#"{{"models":[{{"name":{}"#, "[".repeat(100_000));
    let many = format!(r#"{{"models":[{}{{}}]}}"#, "{},".repeat(MODELS_MAX));
    let fields: Vec<String> = (0..=FIELDS_MAX).map(|at| format!("\"f{at}\":0")).collect();
    let wide = format!(r#"{{"models":[{{{}}}]}}"#, fields.join(","));
    let long = " ".repeat(LISTING_BYTES_MAX + 1);
    for (body, reason) in [
        ("", "not the expected JSON"),
        ("<html>", "not the expected JSON"),
        ("[]", "not the expected JSON"),
        (r#"{"models":[]} x"#, "not the expected JSON"),
        (r#"{"error":"no"}"#, "has no `models`"),
        (r#"{"models":{}}"#, "is no list"),
        (r#"{"models":["a"]}"#, "unusable"),
        (&deep, "not the expected JSON"),
        (&many, "the limit is 10000"),
        (&wide, "unusable"),
        (&long, "longer than"),
    ] {
        let error = tags(body.as_bytes()).unwrap_err();
        assert!(error.contains(reason), "{error}, not {reason}");
    }
    let at_the_limit = format!(r#"{{"models":[{}{{}}]}}"#, "{},".repeat(MODELS_MAX - 1));
    assert_eq!(tags(at_the_limit.as_bytes()), Ok(vec![]));
    assert!(tags(b"{\"models\":[{\"name\":\"\xff\"}]}").is_err());
    for body in [r#"{"version":7}"#, r#"{"version":""}"#, "{}"] {
        assert!(version(body.as_bytes(), "version").is_err(), "{body}");
    }
    let long = format!(r#"{{"version":"{}"}}"#, "1".repeat(WORD_BYTES_MAX + 1));
    assert!(version(long.as_bytes(), "version").is_err());
}

#[test]
fn lists_of_many_servers_are_read() {
    for (body, models) in [
        (r#"{"data":[{"id":"a"}]}"#, "a None"),
        (r#" [{"id":"bare"},{"id":"list"}]"#, "bare None, list None"),
        (
            r#"{"object":"list","data":[{"id":"l","state":"loaded"},{"id":"n","state":"not-loaded"},{"id":"o","state":7}]}"#,
            "l Some(true), n Some(false), o None",
        ),
        (
            r#"{"data":[{"id":"r","status":{"value":"unloaded"}},{"id":"s","status":{"value":"loaded"}},{"id":"t","status":[]}]}"#,
            "r Some(false), s Some(true), t None",
        ),
        // llama.cpp writes Ollama's list beside its own.
        (
            r#"{"models":[{"name":"other"}],"data":[{"id":"own","meta":null}]}"#,
            "own None",
        ),
        (
            r#"{"data":[{"id":"Qwen3-0.6B-GGUF","checkpoint":"unsloth/Qwen3-0.6B-GGUF:Q4_0","recipe":"llamacpp","created":1.5}]}"#,
            "Qwen3-0.6B-GGUF None",
        ),
        ("[]", ""),
        ("null", "error"),
        ("[7]", "error"),
        (r#"{"data":{}}"#, "error"),
        (r#"{"error":{"message":"no"}}"#, "error"),
        (r#"[{"id":"a"}] x"#, "error"),
    ] {
        let read = v1_models(body.as_bytes()).map(|models| {
            let told = models
                .iter()
                .map(|model| format!("{} {:?}", model.name, model.loaded));
            told.collect::<Vec<_>>().join(", ")
        });
        assert_eq!(
            read.unwrap_or_else(|_| "error".to_owned()),
            models,
            "{body}"
        );
    }
    let many = format!("[{}{{}}]", "{},".repeat(MODELS_MAX));
    assert!(
        v1_models(many.as_bytes())
            .unwrap_err()
            .contains("the limit is 10000")
    );
    let deep = format!(
        r#"{{"data":[{{"id":"a","meta":{}{}}}]}}"#,
        r#"{"x":"#.repeat(2000),
        "}".repeat(2000)
    );
    assert!(v1_models(deep.as_bytes()).is_err());
}

proptest! {
    #[test]
    fn garbage_never_panics(body in prop::collection::vec(any::<u8>(), 0..200), cut in 0_usize..4000) {
        let _ = tags(&body);
        let _ = version(&body, "version");
        let _ = v1_models(&body);
        prop_assert!(tags(&TAGS[..cut.min(TAGS.len() - 2)]).is_err());
    }
}
