//! How a document that is not JSON is told to the client.

use crate::error::Fault;

/// Why a document was refused, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Broken {
    /// Offset in the body, bytes.
    pub at: usize,
    pub why: Why,
}

/// What was expected or forbidden where a document breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    Empty,
    ByteOrderMark,
    Value,
    ItemOrEnd,
    Key,
    KeyOrEnd,
    Colon,
    CommaOrBrace,
    CommaOrBracket,
    Trailing,
    Digit,
    Control,
    Escape,
    Surrogate,
    Quote,
    Utf8,
    TooDeep,
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
