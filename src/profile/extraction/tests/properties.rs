//! Laws of paths and calculations.

use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use serde_json::json;

use super::super::path::Path;
use super::super::sight::Sight;
use super::super::{Value, parse, walk};

/// Documents with few names, so that paths meet them.
fn document() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(json!(null)),
        any::<bool>().prop_map(|b| json!(b)),
        any::<i64>().prop_map(|n| json!(n)),
        any::<u64>().prop_map(|n| json!(n)),
        any::<f64>()
            .prop_filter("JSON has no other", |n| n.is_finite())
            .prop_map(|n| json!(n)),
        "[a-c\"\\\\é\n]{0,5}".prop_map(|text| json!(text)),
    ];
    leaf.prop_recursive(4, 40, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(|list| json!(list)),
            proptest::collection::btree_map("[a-c]", inner, 0..4).prop_map(|map| json!(map)),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { rng_seed: RngSeed::Fixed(3), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn paths_lead_where_json_pointers_lead(
        document in document(),
        first in "[a-c]",
        steps in proptest::collection::vec("[a-c0-2]", 0..4),
    ) {
        let mut path = format!("$.{first}");
        let mut pointer = format!("/{first}");
        for step in &steps {
            path += &match step.as_bytes()[0].is_ascii_digit() {
                true => format!("[{step}]"),
                false => format!("['{step}']"),
            };
            pointer += &format!("/{step}");
        }
        // A pointer's `0` means a member of that name as well, which these documents do not have.
        let expected = match document.pointer(&pointer) {
            Some(serde_json::Value::Bool(truth)) => Some(Value::Bool(*truth)),
            Some(serde_json::Value::Number(n)) => n.as_f64().map(Value::Number),
            Some(serde_json::Value::String(text)) => Some(Value::Text(text.clone())),
            _ => None,
        };
        let paths = [Path::parse(&path).unwrap(), Path::parse("$.a").unwrap()];
        let bytes = document.to_string();
        prop_assert_eq!(&walk::values(bytes.as_bytes(), &paths)[0], &expected, "{} in {}", path, bytes);
        if expected.is_some() {
            prop_assert_eq!(Sight::new(&paths).of(bytes.as_bytes()) & 1, 1, "out of sight: {}", bytes);
        }
    }

    #[test]
    fn no_calculation_and_no_path_makes_it_panic(
        picks in proptest::collection::vec(0..WORDS.len(), 0..60),
        noise in ".{0,8}",
    ) {
        let text: String = picks.iter().map(|pick| WORDS[*pick]).collect::<String>() + &noise;
        let place_of = |name: &str| (name == "n").then_some(0);
        if let Ok(parsed) = parse::parse(&text, &place_of) {
            for input in [None, Some(Value::Number(-0.0)), Some(Value::Bool(true)), Some(Value::Text("x".into()))] {
                if let Some(Value::Number(n)) = parsed.evaluate(&[input]) {
                    prop_assert!(n.is_finite());
                }
            }
        }
        let _ = Path::parse(&format!("${text}"));
        let paths = [Path::parse("$.n[0].n").unwrap()];
        prop_assert_eq!(walk::values(text.as_bytes(), &paths).len(), 1);
    }
}

/// Pieces of calculations, paths and documents.
const WORDS: &[&str] = &[
    "n", "len", "(", ")", "n", "1", "0", ".5", "1e3", "'x'", "\"", " ", "+", "-", "*", "/", "<",
    "<=", "==", "!=", "!", "&&", "||", "?", ":", "null", "[", "]", "['n']", ".n", "{", "}", "é",
];
