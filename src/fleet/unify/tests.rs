//! Entries of real listings, and names that real servers list, with what is understood of each.

use proptest::prelude::*;

use super::*;

fn about(entry: &str) -> Arc<About> {
    let fields = Fields::parse(entry).unwrap();
    let name = ["model", "name", "id"]
        .iter()
        .find_map(|key| fields.string(key));
    About::read(&name.unwrap(), &fields)
}

fn told(about: &About) -> String {
    let words = [
        &*about.family,
        &about.variant,
        &about.publisher,
        &about.parameter_size(),
        &about.quantization,
        &about.format,
        about.kind.as_str(),
    ];
    words
        .map(|word| if word.is_empty() { "-" } else { word })
        .join(" ")
}

#[test]
fn a_name_says_what_it_can() {
    for (name, expected) in [
        ("llama3.2:3b", "llama 3.2 meta 3b - - llm"),
        ("llama3:latest", "llama 3 meta - - - llm"),
        ("llama2:7b-chat-q4_K_M", "llama 2 meta 7b q4km - llm"),
        ("codellama:13b", "llama - meta 13b - - llm"),
        ("Qwen/Qwen2.5-7B-Instruct-AWQ", "qwen 2.5 Qwen 7b awq - llm"),
        ("qwen3:30b-a3b-fp16", "qwen 3 qwen 30b f16 - llm"),
        ("mixtral:8x7b", "mixtral - mistralai 8x7b - - llm"),
        (
            "mistralai/Mistral-7B-Instruct-v0.3",
            "mistral - mistralai 7b - - llm",
        ),
        (
            "deepseek-r1-distill-qwen-7b",
            "deepseek 1 deepseek 7b - - llm",
        ),
        ("gpt-oss:120b", "gpt-oss - openai 120b - - llm"),
        ("openai/gpt-oss-20b", "gpt-oss - openai 20b - - llm"),
        (
            "hf.co/bartowski/Llama-3.2-3B-Instruct-GGUF:Q6_K_L",
            "llama 3.2 bartowski 3b q6kl gguf llm",
        ),
        (
            "phi-4-mini-instruct.Q8_0.gguf",
            "phi 4 microsoft - q8 gguf llm",
        ),
        ("llama-2-7b.Q4_K_M.gguf", "llama 2 meta 7b q4km gguf llm"),
        (
            "mlx-community/Qwen3-8B-4bit",
            "qwen 3 mlx-community 8b 4bit mlx llm",
        ),
        ("qwen2-vl-7b-instruct", "qwen 2 qwen 7b - - vlm"),
        ("llava:13b-v1.6", "llava - llava 13b - - vlm"),
        ("nomic-embed-text", "nomic-bert - nomic-ai - - - embeddings"),
        ("BAAI/bge-m3", "bert - BAAI - - - embeddings"),
        ("all-minilm:22m", "bert - - 22m - - embeddings"),
        (
            "smollm2:135m-instruct-bf16",
            "smollm 2 huggingface 135m bf16 - llm",
        ),
        ("alpha", "- - - - - - llm"),
        ("delphi", "- - - - - - llm"),
    ] {
        let entry = format!(r#"{{"id":"{name}"}}"#);
        assert_eq!(told(&about(&entry)), expected, "{name}");
    }
}

#[test]
fn a_listing_knows_better_than_the_name() {
    for (entry, expected, count, context) in [
        (
            r#"{"name":"house-chat:latest","details":{"format":"gguf","family":"qwen2","parameter_size":"7.6B","quantization_level":"Q4_K_M","context_length":32768}}"#,
            "qwen 2 qwen 7.6b q4km gguf llm",
            Some(7_600_000_000),
            Some(32768),
        ),
        (
            r#"{"name":"qwen2.5:7b","details":{"family":"qwen2","quantization_level":"F16"},"capabilities":["completion","vision"]}"#,
            "qwen 2.5 qwen 7b f16 - vlm",
            Some(7_000_000_000),
            None,
        ),
        (
            r#"{"id":"google/gemma-3n-e4b","type":"vlm","publisher":"google","arch":"gemma3n","compatibility_type":"mlx","quantization":"4bit","max_context_length":131072}"#,
            "gemma 3 google - 4bit mlx vlm",
            None,
            Some(131_072),
        ),
        (
            r#"{"id":"m.gguf","owned_by":"llamacpp","meta":{"n_ctx_train":4096,"n_params":8030261312,"size":4912898304}}"#,
            "- - - 8b - gguf llm",
            Some(8_030_261_312),
            Some(4096),
        ),
        (
            r#"{"id":"embedder","type":"embeddings","max_model_len":512}"#,
            "- - - - - - embeddings",
            None,
            Some(512),
        ),
        (
            r#"{"id":"odd","details":[1],"meta":"no","type":7,"capabilities":{"vision":true},"max_model_len":-1,"quantization":{"a":1}}"#,
            "- - - - - - llm",
            None,
            None,
        ),
    ] {
        let about = about(entry);
        assert_eq!(told(&about), expected, "{entry}");
        assert_eq!(
            (about.parameter_count, about.context_max),
            (count, context),
            "{entry}"
        );
    }
}

#[test]
fn a_capability_has_many_words() {
    let tools = about(r#"{"id":"m","capabilities":["tool_use","Reasoning","chat","chat"]}"#);
    let words: Vec<&str> = tools.capabilities.iter().map(AsRef::as_ref).collect();
    assert_eq!(words, ["tools", "thinking", "completion"]);
    assert!(tools.can("function-calling") && tools.can("Tools") && !tools.can("vision"));
    assert!(about(r#"{"id":"nomic-embed-text"}"#).can("embeddings"));
    let many: Vec<String> = (0..99).map(|n| format!("\"c{n}\"")).collect();
    let many = about(&format!(
        r#"{{"id":"m","capabilities":[{}]}}"#,
        many.join(",")
    ));
    assert_eq!(many.capabilities.len(), CAPABILITIES_MAX);
}

#[test]
fn the_type_of_the_node_knows_more_by_name() {
    let profile = crate::config::profiles::builtin();
    let profile = profile.find("ollama").unwrap();
    let body = br#"{"models":[{"name":"my-llava"},{"name":"bakllava","capabilities":["completion"]},
        {"name":"super-embedder"},{"name":"starcoder-32k","details":{"context_length":7}},{"name":"plain-32k"}]}"#;
    let mut models = crate::fleet::listing::whole::tags(body).unwrap();
    complete(&mut models, profile);
    let told: Vec<String> = models
        .iter()
        .map(|model| {
            format!(
                "{} {} {:?}",
                model.about.kind.as_str(),
                model.about.capabilities.join("+"),
                model.about.context_max
            )
        })
        .collect();
    let expected = [
        "vlm completion+vision None",
        "llm completion None",
        "embeddings embedding None",
        "llm completion+code Some(7)",
        "llm completion Some(32768)",
    ];
    assert_eq!(told, expected);
}

#[test]
fn quantisations_have_one_spelling() {
    for (word, normal) in [
        ("Q4_K_M", "q4km"),
        ("q4_k_m", "q4km"),
        ("Q4_0", "q4"),
        ("Q8_0", "q8"),
        ("Q5_1", "q51"),
        ("IQ4_XS", "iq4xs"),
        ("FP16", "f16"),
        ("F16", "f16"),
        ("BF16", "bf16"),
        ("AWQ_4BIT", "awq4"),
        ("GPTQ-4bit", "gptq4"),
        ("MXFP4", "mxfp4"),
        ("4bit", "4bit"),
        ("", ""),
    ] {
        assert_eq!(normal_quantization(word), normal, "{word}");
    }
}

#[test]
fn sizes_are_counted() {
    for (word, parameters) in [
        ("7.6B", Some(7_600_000_000)),
        ("137M", Some(137_000_000)),
        ("111K", Some(111_000)),
        ("8x7B", Some(56_000_000_000)),
        ("1.5T", Some(1_500_000_000_000)),
        ("B", None),
        ("-1B", None),
        ("1e9B", None),
        ("99999999999T", None),
        ("7", None),
        ("", None),
        ("7é", None),
    ] {
        assert_eq!(count(word), parameters, "{word}");
    }
}

proptest! {
    #[test]
    fn any_name_and_any_words_are_read_without_panic(name in "\\PC{0,40}", word in "\\PC{0,20}", number in any::<i64>()) {
        let entry = serde_json::json!({
            "id": name, "arch": word, "quantization": word, "type": word, "capabilities": [word],
            "details": {"family": word, "parameter_size": word, "quantization_level": word}, "max_model_len": number,
        });
        let about = about(&entry.to_string());
        prop_assert!(about.context_max.is_none_or(|tokens| i64::try_from(tokens).is_ok_and(|t| t == number)));
        prop_assert!(about.quantization.len() <= WORD_BYTES_MAX * 2);
    }
}
