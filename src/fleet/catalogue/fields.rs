//! The fields of an entry that clients parse: a node's own value passes only with the type that they expect.
//!
//! Go's and Python's clients refuse a whole listing for one field, so an odd node would hide all others' models from them.

use crate::fleet::listing::Fields;
use crate::fleet::timestamp::Timestamp;

/// `ollama list` cuts so much off a digest without looking, bytes.
const DIGEST_BYTES_MIN: usize = 12;

/// What a value must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Digest,
    /// RFC 3339.
    Moment,
    /// Not negative, and no more than an `int64` holds.
    Integer,
    /// A list of strings, or `null`.
    Words,
    /// An object, whose own fields are judged by [`details`].
    Details,
    Any,
}

/// A listing's fields by name, in lower case.
pub(super) type Kinds = fn(&str) -> Kind;

/// Of `/api/tags` and `/api/ps`.
pub(super) fn ollama(field: &str) -> Kind {
    match field {
        "name" | "model" | "remote_model" | "remote_host" => Kind::Text,
        "digest" => Kind::Digest,
        "modified_at" | "expires_at" => Kind::Moment,
        "size" | "size_vram" | "context_length" => Kind::Integer,
        "capabilities" => Kind::Words,
        "details" => Kind::Details,
        _ => Kind::Any,
    }
}

/// Of their `details`.
pub(super) fn details(field: &str) -> Kind {
    match field {
        "parent_model" | "format" | "family" | "parameter_size" | "quantization_level" => {
            Kind::Text
        }
        "families" => Kind::Words,
        "context_length" | "embedding_length" => Kind::Integer,
        _ => Kind::Any,
    }
}

/// Of `/v1/models`.
pub(super) fn openai(field: &str) -> Kind {
    match field {
        "id" | "object" | "owned_by" => Kind::Text,
        "created" => Kind::Integer,
        _ => Kind::Any,
    }
}

/// Whether a field may pass. Go's clients take `Size` for `size`, so no known name passes in another spelling.
pub(super) fn passes(field: &str, value: &str, kinds: Kinds) -> bool {
    let kind = kinds(&field.to_ascii_lowercase());
    kind == Kind::Any || (kind == kinds(field) && kind.fits(value))
}

impl Kind {
    fn fits(self, value: &str) -> bool {
        let text = || serde_json::from_str::<String>(value).ok();
        match self {
            Kind::Text => text().is_some(),
            Kind::Digest => text().is_some_and(|digest| DIGEST_BYTES_MIN <= digest.len()),
            Kind::Moment => text().is_some_and(|it| Timestamp::is_rfc3339(&it)),
            Kind::Integer => {
                let number = serde_json::from_str::<u64>(value).ok();
                number.is_some_and(|number| i64::try_from(number).is_ok())
            }
            Kind::Words => serde_json::from_str::<Option<Vec<String>>>(value).is_ok(),
            Kind::Details => value != "null" && Fields::parse(value).is_ok(),
            Kind::Any => true,
        }
    }
}
