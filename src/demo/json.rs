//! JSON as Go reads and writes it: case-insensitive keys, `<>&` escaped, its own sentences for what is wrong.

use serde_json::Value;

/// A JSON string, quotes included, with `<`, `>` and `&` escaped as Go's encoder does.
pub(super) fn quote(text: &str) -> String {
    let plain = serde_json::to_string(text).unwrap_or_default();
    if !plain.contains(['<', '>', '&']) {
        return plain;
    }
    plain
        .replace('&', "\\u0026")
        .replace('<', "\\u003c")
        .replace('>', "\\u003e")
}

/// The first JSON value of a body; what follows it is ignored, as Go's decoder does.
///
/// # Errors
/// Go's sentence: `EOF`, `unexpected EOF` or `invalid character …`.
pub(super) fn decode(body: &[u8]) -> Result<Value, String> {
    let mut values = serde_json::Deserializer::from_slice(body).into_iter::<Value>();
    match values.next() {
        None => Err("EOF".to_owned()),
        Some(Ok(value)) => Ok(value),
        Some(Err(e)) if e.is_eof() => Err("unexpected EOF".to_owned()),
        Some(Err(e)) => {
            let line = body.split(|b| *b == b'\n').nth(e.line().saturating_sub(1));
            let at = line.and_then(|l| l.get(e.column().saturating_sub(1)));
            let c = char::from(at.copied().unwrap_or(b' '));
            Err(format!(
                "invalid character '{c}' looking for beginning of value"
            ))
        }
    }
}

/// A member that is there and not null; the exact key wins over one in other letter case.
pub(super) fn field<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    let members = value.as_object()?;
    members
        .get(name)
        .or_else(|| {
            let mut folded = members.iter().filter(|(k, _)| k.eq_ignore_ascii_case(name));
            folded.next().map(|(_, v)| v)
        })
        .filter(|v| !v.is_null())
}

/// A text member, empty when absent.
///
/// # Errors
/// Go's sentence about the wrong type; `shape` is the name of Ollama's struct, such as `ChatRequest`.
pub(super) fn text<'a>(value: &'a Value, shape: &str, name: &str) -> Result<&'a str, String> {
    match field(value, name) {
        None => Ok(""),
        Some(Value::String(s)) => Ok(s),
        Some(other) => Err(mistyped(other, shape, name, "string")),
    }
}

/// A whole number.
///
/// # Errors
/// As [`text`].
pub(super) fn integer(value: &Value, shape: &str, name: &str) -> Result<Option<i64>, String> {
    match field(value, name) {
        None => Ok(None),
        Some(v) => match v.as_i64() {
            Some(n) => Ok(Some(n)),
            None => Err(mistyped(v, shape, name, "int")),
        },
    }
}

/// A switch.
///
/// # Errors
/// As [`text`].
pub(super) fn flag(value: &Value, shape: &str, name: &str) -> Result<Option<bool>, String> {
    match field(value, name) {
        None => Ok(None),
        Some(Value::Bool(b)) => Ok(Some(*b)),
        Some(other) => Err(mistyped(other, shape, name, "bool")),
    }
}

/// A list; absent is empty.
///
/// # Errors
/// As [`text`]; `of` is the Go type of the list.
pub(super) fn list<'a>(
    value: &'a Value,
    shape: &str,
    name: &str,
    of: &str,
) -> Result<&'a [Value], String> {
    match field(value, name) {
        None => Ok(&[]),
        Some(Value::Array(items)) => Ok(items),
        Some(other) => Err(mistyped(other, shape, name, of)),
    }
}

pub(super) fn mistyped(found: &Value, shape: &str, name: &str, wanted: &str) -> String {
    let found = match found {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    format!("json: cannot unmarshal {found} into Go struct field {shape}.{name} of type {wanted}")
}

/// Calls `each` with every text inside a prompt, whatever its shape (a string, parts, messages).
pub(super) fn texts(value: &Value, each: &mut impl FnMut(&str)) {
    match value {
        Value::String(s) => each(s),
        Value::Array(items) => items.iter().for_each(|item| texts(item, each)),
        Value::Object(_) => {
            for name in ["content", "text", "input"] {
                if let Some(inner) = field(value, name) {
                    texts(inner, each);
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_fail_with_gos_sentences() {
        for (body, said) in [
            ("", "EOF"),
            ("{\"model\": \"a\", \"messages\": [{", "unexpected EOF"),
            (
                "{\"model\": @}",
                "invalid character '@' looking for beginning of value",
            ),
        ] {
            assert_eq!(decode(body.as_bytes()), Err(said.to_owned()), "{body}");
        }
    }

    #[test]
    fn keys_fold_and_null_is_absent() {
        let v = decode(br#"{"MODEL":"a","stream":null} trailing"#).unwrap();
        assert_eq!(text(&v, "ChatRequest", "model"), Ok("a"));
        assert_eq!(flag(&v, "ChatRequest", "stream"), Ok(None));
        assert_eq!(quote("<a & b>\n"), "\"\\u003ca \\u0026 b\\u003e\\n\"");
    }
}
