//! Listings as servers that speak OpenAI's dialect write them, and Anthropic's.

use bytes::Bytes;

use super::entry::{Entry, list};
use super::fields;
use super::line::Line;
use crate::dialect::Format;
use crate::profile::Listing;
use crate::text::quoted;

/// The entries of a listing in its frame.
pub(super) fn page(format: Format, lines: &[Line<'_>]) -> Bytes {
    let entries = lines.iter().map(|line| item(format, line, line.name));
    match format {
        Format::Anthropic => {
            let end = |line: Option<&Line<'_>>| {
                line.map_or_else(|| "null".to_owned(), |line| quoted(line.name))
            };
            let (first, last) = (end(lines.first()), end(lines.last()));
            let tail = format!("],\"has_more\":false,\"first_id\":{first},\"last_id\":{last}}}");
            list("{\"data\":[", entries, &tail)
        }
        Format::LmStudioV1 => list("{\"models\":[", entries, "]}"),
        _ => list("{\"object\":\"list\",\"data\":[", entries, "]}"),
    }
}

/// One entry, under the asked name.
pub(super) fn item(format: Format, line: &Line<'_>, id: &str) -> String {
    match format {
        Format::Anthropic => anthropic(line, id),
        Format::LmStudio => lm_studio(line, id),
        Format::LmStudioV1 => lm_studio_v1(line, id),
        _ => openai(format, line, id),
    }
}

/// Who owns a model of that name: the part before its last slash.
pub(super) fn owner(name: &str) -> &str {
    name.rsplit('/').nth(1).unwrap_or("library")
}

/// The fields of a server that speaks this dialect stay; ours fill what is missing.
fn openai(format: Format, line: &Line<'_>, id: &str) -> String {
    let (model, about) = (line.model, &line.model.about);
    let mut entry = Entry::default();
    entry.text("id", id);
    if line.teller.config.profile.listing != Listing::Ollama {
        entry.keep(&model.raw, &["id"], line.renamed(), fields::openai);
    }
    entry.default_field("object", "\"model\"");
    entry.default_field("created", &model.modified.unix_s.to_string());
    entry.default_field("owned_by", &quoted(owner(&model.name)));
    match format {
        Format::Vllm => {
            entry.default_field("root", &quoted(&model.name));
            entry.default_field("parent", "null");
            entry.number("max_model_len", about.context_max);
            entry.default_field("permission", &permission(id, model.modified.unix_s));
        }
        Format::Sglang => {
            entry.default_field("root", &quoted(&model.name));
            entry.number("max_model_len", about.context_max);
        }
        Format::Lemonade => {
            entry.default_field("checkpoint", &quoted(&model.name));
            entry.default_field("recipe", &quoted(&line.teller.config.profile.name));
        }
        _ => (),
    }
    entry.finish()
}

/// What vLLM says of every model: anybody may use it, nobody may change it.
fn permission(id: &str, created: i64) -> String {
    let id = quoted(&format!("modelperm-{id}"));
    format!(
        "[{{\"id\":{id},\"object\":\"model_permission\",\"created\":{created},\"allow_create_engine\":false,\
         \"allow_sampling\":true,\"allow_logprobs\":true,\"allow_search_indices\":false,\"allow_view\":true,\
         \"allow_fine_tuning\":false,\"organization\":\"*\",\"group\":null,\"is_blocking\":false}}]"
    )
}

fn anthropic(line: &Line<'_>, id: &str) -> String {
    let mut entry = Entry::default();
    entry.text("type", "model");
    entry.text("id", id);
    entry.text("display_name", id);
    entry.text("created_at", &line.model.modified.to_rfc3339());
    entry.finish()
}

fn lm_studio(line: &Line<'_>, id: &str) -> String {
    let about = &line.model.about;
    let mut entry = Entry::default();
    entry.text("id", id);
    entry.text("object", "model");
    entry.text("type", about.kind.as_str());
    entry.text("publisher", &about.publisher);
    entry.text("arch", &about.family);
    entry.text("compatibility_type", &about.format);
    entry.text("quantization", &about.quantization_word);
    entry.text(
        "state",
        if line.is_loaded() {
            "loaded"
        } else {
            "not-loaded"
        },
    );
    entry.number("max_context_length", about.context_max);
    if line.teller.config.profile.listing != Listing::Ollama {
        let ours = [
            "id",
            "object",
            "type",
            "publisher",
            "arch",
            "compatibility_type",
            "quantization",
            "state",
            "max_context_length",
        ];
        entry.keep(&line.model.raw, &ours, line.renamed(), fields::openai);
    }
    entry.finish()
}

fn lm_studio_v1(line: &Line<'_>, id: &str) -> String {
    let about = &line.model.about;
    let or_null = |word: &str| match word {
        "" => "null".to_owned(),
        word => quoted(word),
    };
    let is_embedder = about.can("embedding");
    let mut entry = Entry::default();
    entry.text("type", if is_embedder { "embedding" } else { "llm" });
    entry.text("publisher", &about.publisher);
    entry.text("key", id);
    entry.text("display_name", id);
    entry.field("architecture", &or_null(&about.family));
    let quantization = format!(
        "{{\"name\":{},\"bits_per_weight\":null}}",
        or_null(&about.quantization_word)
    );
    entry.field("quantization", &quantization);
    entry.field(
        "size_bytes",
        &about.size_bytes.unwrap_or_default().to_string(),
    );
    entry.field("params_string", &or_null(&about.size_word));
    let instance = format!("[{{\"id\":{},\"config\":{{}}}}]", quoted(id));
    let instances = if line.is_loaded() { &instance } else { "[]" };
    entry.field("loaded_instances", instances);
    entry.field(
        "max_context_length",
        &about.context_max.unwrap_or_default().to_string(),
    );
    entry.field("format", &or_null(&about.format));
    if !is_embedder {
        let (vision, tools) = (about.can("vision"), about.can("tools"));
        let capabilities = format!("{{\"vision\":{vision},\"trained_for_tool_use\":{tools}}}");
        entry.field("capabilities", &capabilities);
    }
    entry.finish()
}
