//! Sizes, quantisations and limits, as tables.

use super::*;

fn size(patterns: &[&str], min_gb: f64, load_s: u64, most: Option<Limit>) -> ModelSize {
    ModelSize {
        patterns: patterns
            .iter()
            .map(|text| SizePattern::new(text).unwrap())
            .collect(),
        figures: Figures {
            min_gb: Some(min_gb),
            load_time: Some(Duration::from_secs(load_s)),
            ..Figures::default()
        },
        max_concurrent: most,
    }
}

fn soft(requests: u32) -> Limit {
    Limit {
        requests,
        hard: false,
    }
}

fn hard(requests: u32) -> Limit {
    Limit {
        requests,
        hard: true,
    }
}

fn resources() -> Resources {
    let limit = |min_gb, requests| ConcurrencyLimit {
        min_gb,
        limit: soft(requests),
    };
    Resources {
        sizes: Some(vec![
            size(&["70b"], 40.0, 300, None),
            size(&["*34b*", "30b"], 20.0, 120, None),
            size(&["7b", "8b"], 6.0, 30, None),
            size(&["1b", "1.5b"], 2.0, 10, None),
            size(&["tiny*"], 1.0, 1, None),
        ]),
        multipliers: [("q4", 0.5), ("q4_k", 0.6), ("q8", 0.875)]
            .map(|(k, v)| (k.to_owned(), v))
            .into(),
        defaults: Figures {
            min_gb: Some(4.0),
            recommended_gb: Some(8.0),
            load_time: Some(Duration::from_secs(5)),
            ..Figures::default()
        },
        concurrency: Some(vec![limit(0.0, 8), limit(30.0, 1), limit(8.0, 4)]),
        base_timeout: None,
        load_time_buffer: None,
    }
}

#[test]
fn what_models_need() {
    type Told<'a> = (Option<&'a str>, Option<&'a str>);
    let table: &[(&str, Told, f64, u64, u32)] = &[
        ("llama3:70b", (None, None), 40.0, 300, 1),
        ("llama3:70b-q4_0", (None, None), 20.0, 300, 4),
        ("llama3:70b-q4_0", (None, Some("Q8_0")), 35.0, 300, 1),
        ("llama3:70b", (None, Some("Q4_K_M")), 24.0, 300, 4),
        ("llama3:70b", (None, Some("F16")), 40.0, 300, 1),
        ("qwen3:30b-a3b", (None, None), 20.0, 120, 4),
        // What the node tells is truer than the name.
        ("my-7b", (Some("70.6B"), None), 40.0, 300, 1),
        ("qwen2.5", (Some("7.6B"), None), 6.0, 30, 8),
        ("codellama", (Some("6.7B"), None), 6.0, 30, 8),
        ("deepseek:1.5b", (None, None), 2.0, 10, 8),
        ("smollm", (Some("137M"), None), 2.0, 10, 8),
        // No entry has it: the next larger, or the largest.
        ("gemma:12b", (None, None), 20.0, 120, 4),
        ("llama3.1:405b", (None, None), 40.0, 300, 1),
        ("mixtral:8x7b", (None, None), 40.0, 300, 1),
        ("TinyLlama:1.1b", (None, None), 1.0, 1, 8),
        ("mistral", (None, None), 4.0, 5, 8),
        ("mistral", (Some("nonsense"), Some("")), 4.0, 5, 8),
    ];
    for (name, (size, quantization), gb, load_s, most) in table {
        let demand = resources().demand(name, *size, *quantization);
        let case = format!("{name} {size:?} {quantization:?}: {demand:?}");
        assert!((demand.memory_gb - gb).abs() < 1e-9, "{case}");
        assert_eq!(demand.load_time, Duration::from_secs(*load_s), "{case}");
        assert_eq!(demand.max_concurrent, Some(soft(*most)), "{case}");
        assert!(demand.memory_gb <= demand.recommended_gb, "{case}");
    }
}

#[test]
fn a_word_for_one_size_leaves_the_others_known() {
    let written = Resources {
        sizes: Some(vec![size(&["7b"], 8.0, 0, Some(hard(1)))]),
        ..Resources::default()
    };
    let both = written.clone().on_top_of(&resources());
    assert_eq!(
        both.demand("m:7b", None, None).max_concurrent,
        Some(hard(1))
    );
    assert_eq!(both.demand("m:7b", None, None).memory_gb, 8.0);
    assert_eq!(
        both.demand("m:8b", None, None).max_concurrent,
        Some(soft(8))
    );
    assert_eq!(both.demand("m:70b", None, None).memory_gb, 40.0);
    // Alone it is a guess for other sizes, and a guess refuses nobody.
    let alone = written.clone().over(&resources());
    assert_eq!(
        alone.demand("m:70b", None, None).max_concurrent,
        Some(soft(1))
    );
    // So are the limits that hold for the memory that was guessed.
    let by_memory = Resources {
        sizes: written.sizes,
        concurrency: Some(vec![ConcurrencyLimit {
            min_gb: 0.0,
            limit: hard(2),
        }]),
        ..Resources::default()
    };
    let limit = |name| by_memory.demand(name, None, None).max_concurrent;
    assert_eq!(limit("m:70b").map(|it| it.hard), Some(false));
    assert_eq!(limit("named"), Some(hard(2)), "whose size nothing says");
}

#[test]
fn sizes_are_read_from_text() {
    let table: &[(&str, Option<f64>)] = &[
        ("7b", Some(7.0)),
        ("7.6B", Some(7.6)),
        ("137M", Some(0.137)),
        ("8x7b", Some(56.0)),
        ("b", None),
        ("", None),
        ("7", None),
        ("infb", None),
        ("1e9b", None),
        ("nanb", None),
        ("1.2.3b", None),
        ("9999999999b", None),
        ("é", None),
        ("7é", None),
    ];
    for (text, billions) in table {
        assert_eq!(parse_billions(text), *billions, "{text}");
    }
}
