//! How a document that is not JSON is told to the client.

use crate::error::Fault;

/// Why a document was refused, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Broken {
    /// Offset in the body, bytes.
    pub at: usize,
    /// What should have stood there, or must not.
    pub why: Why,
}

/// What was expected or forbidden where a document breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// Nothing but white space.
    Empty,
    /// U+FEFF in front of the document, which RFC 8259 forbids to send.
    ByteOrderMark,
    /// No value where one must stand.
    Value,
    /// Neither a value nor `]` after `[`.
    ItemOrEnd,
    /// No string after a comma in an object.
    Key,
    /// Neither a string nor `}` after `{`.
    KeyOrEnd,
    /// No `:` after a key.
    Colon,
    /// Neither `,` nor `}` after a member of an object.
    CommaOrBrace,
    /// Neither `,` nor `]` after an item of an array.
    CommaOrBracket,
    /// More than white space after the document.
    Trailing,
    /// A number without the digit it needs, such as `-`, `1.` or `1e`.
    Digit,
    /// A byte below 0x20 inside a string.
    Control,
    /// A `\` that is followed by none of JSON's escapes.
    Escape,
    /// `\uD800` to `\uDFFF` without its other half.
    Surrogate,
    /// The document ends inside a string.
    Quote,
    /// Bytes in a string that are not UTF-8.
    Utf8,
    /// More than [`DEPTH_MAX`](super::DEPTH_MAX) open objects and arrays.
    TooDeep,
    /// More than [`KEYS_MAX`](super::KEYS_MAX) keys at depth 1 or at depth 2.
    TooManyKeys,
}

impl Why {
    fn text(self) -> &'static str {
        match self {
            Why::Empty => "expected an object, found nothing",
            Why::ByteOrderMark => "expected an object, found a byte order mark",
            Why::Value => "expected a value",
            Why::ItemOrEnd => "expected a value or `]`",
            Why::Key => "expected a key in quotes",
            Why::KeyOrEnd => "expected a key in quotes or `}`",
            Why::Colon => "expected `:` after a key",
            Why::CommaOrBrace => "expected `,` or `}`",
            Why::CommaOrBracket => "expected `,` or `]`",
            Why::Trailing => "expected nothing after the document",
            Why::Digit => "expected a digit",
            Why::Control => "expected no unescaped control character in a string",
            Why::Escape => "expected one of `\"\\/bfnrt` or `u` and four hex digits after `\\`",
            Why::Surrogate => "expected no lone half of a surrogate pair",
            Why::Quote => "expected the closing quote of a string",
            Why::Utf8 => "expected UTF-8",
            Why::TooDeep => "nested deeper than 128",
            Why::TooManyKeys => "more than 10000 keys in one of the top two levels",
        }
    }
}

impl From<Broken> for Fault {
    #[cold]
    fn from(Broken { at, why }: Broken) -> Fault {
        let text = why.text();
        match why {
            Why::TooDeep => Fault::malformed(
                "too_deep",
                format!("the body is {text} at byte {at}; flatten it"),
            ),
            Why::TooManyKeys => Fault::malformed(
                "too_many_keys",
                format!("the body has {text} at byte {at}; send fewer"),
            ),
            _ => Fault::malformed(
                "bad_json",
                format!("the body is not JSON: {text} at byte {at}; send one JSON object in UTF-8"),
            ),
        }
    }
}
