//! What the body of a management call asks for, read without guessing; its other fields reach the nodes byte for byte.

use bytes::Bytes;

use crate::dialect::json::{Scanner, Token};
use crate::error::Fault;

/// A JSON object, its fields in the order they came.
#[derive(Debug)]
pub struct Body<'a> {
    fields: Vec<Field<'a>>,
}

#[derive(Debug)]
struct Field<'a> {
    /// As Ollama compares keys: in any case, `ſ` for s and the Kelvin sign for k.
    folded: String,
    /// Quotes included.
    key: &'a [u8],
    value: &'a [u8],
}

impl<'a> Body<'a> {
    /// Reads a whole body.
    ///
    /// # Errors
    /// 400: what is not a JSON object within limits, and `ambiguous_body` when two keys mean one field.
    pub fn parse(body: &'a [u8]) -> Result<Body<'a>, Fault> {
        let mut scanner = Scanner::new(body);
        if scanner.token()? != Token::ObjectStart {
            let message = "the body is no JSON object; send one, such as {\"model\": …}";
            return Err(Fault::malformed("bad_json", message));
        }
        let mut fields: Vec<Field<'a>> = Vec::new();
        let mut seen = std::collections::HashSet::new();
        while let Token::Key(key) = scanner.token()? {
            let start = scanner.at();
            let value = scanner.token()?;
            scanner.skip(value)?;
            let folded = folded(&key.unescape());
            if !seen.insert(folded.clone()) {
                let message = format!(
                    "the body says `{}` twice; send it once",
                    crate::management::outcome::shortened(&folded)
                );
                return Err(Fault::malformed("ambiguous_body", message));
            }
            fields.push(Field {
                folded,
                key: &body[key.span()],
                value: body[start..scanner.at()].trim_ascii(),
            });
        }
        scanner.token()?;
        Ok(Body { fields })
    }

    /// A field that is a string; `None` when it is missing, null or empty.
    ///
    /// # Errors
    /// 400 for another type.
    pub fn text(&self, name: &str) -> Result<Option<String>, Fault> {
        let text: Option<String> = self.read(name, "a string")?;
        Ok(text.filter(|text| !text.is_empty()))
    }

    /// A field that is true or false; `None` when it is missing or null.
    ///
    /// # Errors
    /// 400 for another type.
    pub fn flag(&self, name: &str) -> Result<Option<bool>, Fault> {
        self.read(name, "true or false")
    }

    /// The model: `model`, or `name` where older clients write it.
    ///
    /// # Errors
    /// 400 when there is none, or when both name different ones.
    pub fn model(&self) -> Result<String, Fault> {
        match (self.text("model")?, self.text("name")?) {
            (Some(model), Some(name)) if model != name => Err(Fault::malformed(
                "ambiguous_body",
                "`model` and `name` name different models; send only `model`",
            )),
            (Some(model), _) | (None, Some(model)) => Ok(model),
            (None, None) => Err(Fault::malformed(
                "model_required",
                "model is required: the body names no model; set `model` to the name of one",
            )),
        }
    }

    /// A field that must be there.
    ///
    /// # Errors
    /// 400 when it is missing, empty or no string.
    pub fn required(&self, name: &str) -> Result<String, Fault> {
        self.text(name)?.ok_or_else(|| {
            Fault::malformed("field_required", format!("`{name}` is missing; set it"))
        })
    }

    /// The object with these fields in front, in place of those of the same meaning, and without those of `dropped`. Values are
    /// JSON.
    pub fn with(&self, set: &[(&str, String)], dropped: &[&str]) -> Bytes {
        let mut out = b"{".to_vec();
        let mut put = |key: &[u8], value: &[u8]| {
            if out.len() > 1 {
                out.push(b',');
            }
            out.extend_from_slice(key);
            out.push(b':');
            out.extend_from_slice(value);
        };
        for (name, value) in set {
            put(format!("\"{name}\"").as_bytes(), value.as_bytes());
        }
        for field in &self.fields {
            let name = field.folded.as_str();
            if !dropped.contains(&name) && !set.iter().any(|(known, _)| *known == name) {
                put(field.key, field.value);
            }
        }
        out.push(b'}');
        out.into()
    }

    fn read<T: serde::de::DeserializeOwned>(
        &self,
        name: &str,
        wanted: &str,
    ) -> Result<Option<T>, Fault> {
        let Some(field) = self.fields.iter().find(|field| field.folded == name) else {
            return Ok(None);
        };
        serde_json::from_slice(field.value).map_err(|_| {
            let message = format!("`{name}` must be {wanted}; correct it");
            Fault::malformed("wrong_type", message)
        })
    }
}

fn folded(key: &str) -> String {
    let fold = |c: char| match c {
        'ſ' => 's',
        '\u{212a}' => 'k',
        c => c.to_ascii_lowercase(),
    };
    key.chars().map(fold).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::quoted;

    #[test]
    fn a_body_is_read_as_the_node_reads_it() {
        let cases = [
            (r#"{"model":"a"}"#, Ok("a")),
            (r#"{"name":"a","model":""}"#, Ok("a")),
            (r#"{"name":"a","model":"a"}"#, Ok("a")),
            (r#"{"MODEL":"a"}"#, Ok("a")),
            (r#"{"model":null,"name":"a"}"#, Ok("a")),
            (r#"{"\u006dodel":"a"}"#, Ok("a")),
            (r#"{"name":"a","model":"b"}"#, Err("ambiguous_body")),
            (r#"{"model":"a","Model":"b"}"#, Err("ambiguous_body")),
            (r#"{"model":7}"#, Err("wrong_type")),
            (r#"{}"#, Err("model_required")),
            (r#"[]"#, Err("bad_json")),
            (r#"{"model":"a"} x"#, Err("bad_json")),
            ("", Err("bad_json")),
        ];
        for (text, expected) in cases {
            let got = Body::parse(text.as_bytes()).and_then(|body| body.model());
            assert_eq!(
                got.as_deref().map_err(|fault| fault.code()),
                expected,
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_not_replaced_stays_byte_for_byte() {
        let text = r#"{ "Name":"a", "parameters": {"top_p": 0.10 , "n":12345678901234567890123}, "stream" :false,"insecure":true}"#;
        let body = Body::parse(text.as_bytes()).unwrap();
        assert_eq!(body.flag("stream"), Ok(Some(false)));
        let sent = body.with(
            &[("model", quoted("b\"")), ("stream", "true".into())],
            &["name"],
        );
        assert_eq!(
            sent,
            r#"{"model":"b\"","stream":true,"parameters":{"top_p": 0.10 , "n":12345678901234567890123},"insecure":true}"#
        );
        assert_eq!(Body::parse(b"{}").unwrap().with(&[], &[]), "{}");
    }
}
