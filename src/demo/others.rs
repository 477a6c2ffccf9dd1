//! The pages of the other servers: llama.cpp, vLLM, SGLang and LM Studio, each with what tells it from the rest.

use super::http::{Answer, BARE_JSON, Head, JSON, lock};
use super::json::quote;
use super::library::{Model, Use};
use super::{Kind, Shared, clock};

/// Headers that every answer of such a server carries.
pub(super) fn headers(kind: Kind) -> &'static [(&'static str, &'static str)] {
    match kind {
        Kind::Ollama => &[],
        Kind::OpenAi => &[("Server", "llama.cpp")],
        Kind::Vllm | Kind::SgLang => &[("Server", "uvicorn")],
        Kind::LmStudio => &[("X-Powered-By", "Express")],
    }
}

/// Any page that is not a call.
pub(super) fn page(shared: &Shared, head: &Head) -> Answer {
    let is_get = head.method == "GET";
    let path = head.path();
    let found = match shared.settings.kind {
        Kind::OpenAi if is_get => llama_cpp(shared, path),
        Kind::Vllm if is_get => vllm(shared, path),
        Kind::SgLang if is_get => sglang(shared, path),
        Kind::LmStudio if is_get => lm_studio(shared, path),
        _ => None,
    };
    found.unwrap_or_else(|| missing(shared.settings.kind, head))
}

fn missing(kind: Kind, head: &Head) -> Answer {
    match kind {
        Kind::Vllm | Kind::SgLang => {
            Answer::new(404, BARE_JSON, "{\"detail\":\"Not Found\"}".to_owned())
        }
        Kind::LmStudio => {
            // With status 200: who looks at the status alone takes this server for any other.
            let said = format!(
                "Unexpected endpoint or method. ({} {})",
                head.method,
                head.path()
            );
            Answer::new(200, JSON, format!("{{\"error\":{}}}", quote(&said)))
        }
        Kind::OpenAi | Kind::Ollama => Answer::new(
            404,
            JSON,
            "{\"error\":{\"code\":404,\"message\":\"File Not Found\",\"type\":\"not_found_error\"}}"
                .to_owned(),
        ),
    }
}

fn json(body: String) -> Option<Answer> {
    Some(Answer::new(200, BARE_JSON, body))
}

/// `{"object":"list","data":[…]}` with one element per model.
fn list(shared: &Shared, element: impl Fn(&Model) -> String) -> Option<Answer> {
    let elements: Vec<String> = lock(&shared.models).iter().map(element).collect();
    json(format!(
        "{{\"object\":\"list\",\"data\":[{}]}}",
        elements.join(",")
    ))
}

fn open(model: &Model, owner: &str) -> String {
    format!(
        "{{\"id\":{},\"object\":\"model\",\"created\":{},\"owned_by\":\"{owner}\"",
        quote(&model.name),
        clock::unix_s(model.modified)
    )
}

fn llama_cpp(shared: &Shared, path: &str) -> Option<Answer> {
    match path {
        "/health" | "/v1/health" => Some(Answer::new(200, JSON, "{\"status\":\"ok\"}".to_owned())),
        "/v1/models" | "/models" => list(shared, |model| {
            format!(
                "{},\"meta\":{{\"vocab_type\":2,\"n_vocab\":128256,\"n_ctx_train\":{},\"n_embd\":{},\"n_params\":{},\"size\":{}}}}}",
                open(model, "llamacpp"),
                model.context_length,
                model.embedding_length(),
                model.parameters(),
                model.size_bytes()
            )
        }),
        "/props" => {
            let models = lock(&shared.models);
            let model = models.first();
            let file = format!("/models/{}.gguf", model.map_or("none", |m| m.name.as_str()));
            json(format!(
                "{{\"default_generation_settings\":{{\"id\":0,\"n_ctx\":{}}},\"total_slots\":{},\"model_path\":{},\
                 \"chat_template\":\"{{{{ prompt }}}}\",\"modalities\":{{\"vision\":{},\"audio\":false}},\"build_info\":{}}}",
                model.map_or(0, |m| m.context_length),
                shared.engine.slots(),
                quote(&file),
                model.is_some_and(|m| m.can("vision")),
                quote(&shared.settings.version),
            ))
        }
        _ => None,
    }
}

fn vllm(shared: &Shared, path: &str) -> Option<Answer> {
    match path {
        "/health" | "/ping" => Some(Answer::empty(200)),
        "/version" => json(format!(
            "{{\"version\":{}}}",
            quote(&shared.settings.version)
        )),
        "/v1/models" => list(shared, |model| {
            format!(
                "{},\"root\":{},\"parent\":null,\"max_model_len\":{},\"permission\":[{{\"id\":\"modelperm-{}\",\
                 \"object\":\"model_permission\",\"created\":{},\"allow_create_engine\":false,\"allow_sampling\":true,\
                 \"allow_logprobs\":true,\"allow_search_indices\":false,\"allow_view\":true,\"allow_fine_tuning\":false,\
                 \"organization\":\"*\",\"group\":null,\"is_blocking\":false}}]}}",
                open(model, "vllm"),
                quote(&model.name),
                model.context_length,
                &model.digest[..32],
                clock::unix_s(model.modified),
            )
        }),
        _ => None,
    }
}

fn sglang(shared: &Shared, path: &str) -> Option<Answer> {
    match path {
        "/health" | "/health_generate" => Some(Answer::empty(200)),
        "/get_model_info" | "/model_info" => {
            let models = lock(&shared.models);
            let model = models.first()?;
            let name = quote(&model.name);
            json(format!(
                "{{\"model_path\":{name},\"tokenizer_path\":{name},\"is_generation\":{}}}",
                model.purpose != Use::Embedding
            ))
        }
        "/v1/models" => list(shared, |model| {
            format!(
                "{},\"root\":{},\"max_model_len\":{}}}",
                open(model, "sglang"),
                quote(&model.name),
                model.context_length
            )
        }),
        _ => None,
    }
}

fn lm_studio(shared: &Shared, path: &str) -> Option<Answer> {
    match path {
        "/v1/models" => list(shared, |model| {
            format!(
                "{{\"id\":{},\"object\":\"model\",\"owned_by\":\"organization_owner\"}}",
                quote(&model.name)
            )
        }),
        "/api/v0/models" => list(shared, |model| lm_studio_model(shared, model)),
        _ => {
            let name = path.strip_prefix("/api/v0/models/")?;
            let models = lock(&shared.models);
            let model = models.iter().find(|m| m.name == name)?;
            json(lm_studio_model(shared, model))
        }
    }
}

fn lm_studio_model(shared: &Shared, model: &Model) -> String {
    let kind = match model.purpose {
        Use::Embedding => "embeddings",
        _ if model.can("vision") => "vlm",
        _ => "llm",
    };
    let state = match shared.engine.has_loaded(model) {
        true => "\"loaded\",\"loaded_context_length\":4096",
        false => "\"not-loaded\"",
    };
    format!(
        "{{\"id\":{},\"object\":\"model\",\"type\":\"{kind}\",\"publisher\":\"simulated\",\"arch\":{},\
         \"compatibility_type\":\"gguf\",\"quantization\":{},\"state\":{state},\"max_context_length\":{}}}",
        quote(&model.name),
        quote(&model.family),
        quote(&model.quantization),
        model.context_length
    )
}
