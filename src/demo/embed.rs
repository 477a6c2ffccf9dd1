//! Vectors out of nothing: the same text gives the same vector of length 1 on every node.

use std::time::Duration;

use serde_json::Value;

use super::answer::Act;
use super::ask::{Ask, Call, Read, refusal};
use super::engine::Wish;
use super::http::{Answer, BARE_JSON, JSON};
use super::json::{field, quote};
use super::library::{Model, Use, mix};
use super::script::tokens;

pub(super) const DIMENSIONS: usize = 8;

/// The vector of a text, cut to `dimensions` numbers and of length 1.
pub(super) fn vector(text: &str, dimensions: usize) -> Vec<f32> {
    let mut seed = text.bytes().fold(0_u64, |h, b| mix(h ^ u64::from(b)));
    let mut numbers = Vec::with_capacity(dimensions);
    for _ in 0..dimensions.clamp(1, DIMENSIONS) {
        seed = mix(seed);
        numbers.push((seed >> 40) as f32 / (1_u64 << 23) as f32 - 1.0);
    }
    let length = numbers
        .iter()
        .map(|x| x * x)
        .sum::<f32>()
        .sqrt()
        .max(f32::MIN_POSITIVE);
    numbers.iter().map(|x| x / length).collect()
}

/// A JSON array.
pub(super) fn array(numbers: &[f32]) -> String {
    let texts: Vec<String> = numbers.iter().map(f32::to_string).collect();
    format!("[{}]", texts.join(","))
}

/// A JSON string: base64 of the little-endian bytes, what OpenAI's libraries ask for.
pub(super) fn base64(numbers: &[f32]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bytes: Vec<u8> = numbers.iter().flat_map(|x| x.to_le_bytes()).collect();
    let mut out = String::from("\"");
    for three in bytes.chunks(3) {
        let byte = |i: usize| u32::from(three.get(i).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for i in 0..4 {
            if i <= three.len() {
                out.push(char::from(LETTERS[(bits >> (18 - 6 * i) & 63) as usize]));
            } else {
                out.push('=');
            }
        }
    }
    out.push('"');
    out
}

impl Ask<'_> {
    pub(super) fn embed(&self, body: &Value, asked: &str, model: &Model, wish: Wish) -> Read<Act> {
        if model.purpose != Use::Embedding {
            let status = if self.call == Call::Embeddings {
                500
            } else {
                501
            };
            return Err(self.late(
                status,
                "This server does not support embeddings. Start it with `--embeddings`",
            ));
        }
        let name = if self.call == Call::Embeddings {
            "prompt"
        } else {
            "input"
        };
        let inputs: Vec<String> = match field(body, name) {
            None => Vec::new(),
            Some(Value::String(s)) if s.is_empty() => Vec::new(),
            Some(Value::String(s)) => vec![s.clone()],
            Some(Value::Array(items)) if items.iter().all(Value::is_string) => items
                .iter()
                .filter_map(Value::as_str)
                .map(str::to_owned)
                .collect(),
            Some(_) => return Err(self.early(400, "invalid input type")),
        };
        let wanted = field(body, "dimensions")
            .and_then(Value::as_u64)
            .unwrap_or(0) as usize;
        let dimensions = if wanted == 0 { DIMENSIONS } else { wanted };
        let is_base64 = field(body, "encoding_format").and_then(Value::as_str) == Some("base64");
        let (call, voice, asked) = (self.call, self.voice(&Value::Null, ""), quote(asked));
        Ok(Act::Compute(
            wish,
            Box::new(move |load| match load {
                Err(message) => refusal(&*voice, false, 503, message),
                Ok(load) => {
                    let vectors: Vec<_> = inputs.iter().map(|t| vector(t, dimensions)).collect();
                    let tokens = inputs.iter().map(|t| tokens(t.len())).sum();
                    embedded(call, &asked, &vectors, is_base64, (load, tokens))
                }
            }),
        ))
    }
}

fn embedded(
    call: Call,
    asked: &str,
    vectors: &[Vec<f32>],
    is_base64: bool,
    (load, tokens): (Duration, usize),
) -> Answer {
    let arrays: Vec<String> = vectors.iter().map(|v| array(v)).collect();
    match call {
        Call::Embeddings => {
            let first = arrays.into_iter().next().unwrap_or_else(|| "[]".to_owned());
            Answer::new(200, JSON, format!("{{\"embedding\":{first}}}"))
        }
        Call::V1Embeddings => {
            let items = vectors.iter().enumerate().map(|(i, v)| {
                let v = if is_base64 { base64(v) } else { array(v) };
                format!("{{\"object\":\"embedding\",\"embedding\":{v},\"index\":{i}}}")
            });
            let items: Vec<String> = items.collect();
            let body = format!(
                "{{\"object\":\"list\",\"data\":[{}],\"model\":{asked},\"usage\":{{\"prompt_tokens\":{tokens},\"total_tokens\":{tokens}}}}}\n",
                items.join(",")
            );
            Answer::new(200, BARE_JSON, body)
        }
        _ if arrays.is_empty() => Answer::new(
            200,
            JSON,
            format!("{{\"model\":{asked},\"embeddings\":[]}}"),
        ),
        _ => {
            let nanos = load.as_nanos() + 1;
            let body = format!(
                "{{\"model\":{asked},\"embeddings\":[{}],\"total_duration\":{},\"load_duration\":{nanos},\"prompt_eval_count\":{tokens}}}",
                arrays.join(","),
                nanos + 1
            );
            Answer::new(200, JSON, body)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_have_length_one_and_are_the_same_each_time() {
        let v = vector("the sea", DIMENSIONS);
        assert_eq!(v, vector("the sea", DIMENSIONS));
        assert_ne!(v, vector("the moon", DIMENSIONS));
        assert!((v.iter().map(|x| x * x).sum::<f32>() - 1.0).abs() < 1e-5);
        assert_eq!(vector("the sea", 4).len(), 4);
    }

    #[test]
    fn base64_as_rfc_4648_pads_it() {
        assert_eq!(base64(&[1.0]), "\"AACAPw==\"");
        assert_eq!(base64(&[1.0, -2.5]), "\"AACAPwAAIMA=\"");
        assert_eq!(base64(&[1.0, -2.5, 0.0]), "\"AACAPwAAIMAAAAAA\"");
    }
}
