//! Words as other formats write them.

/// `text` as a JSON string, quotes included.
pub fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// `%3A` → `:`; what is no escape stays as it is. Bytes that are not UTF-8 become U+FFFD.
pub fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let digits = (*first == b'%').then(|| after.get(..2)).flatten();
        match digits.and_then(hex) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The byte that two hexadecimal digits stand for.
fn hex(digits: &[u8]) -> Option<u8> {
    let digits = digits.iter().map(|digit| char::from(*digit).to_digit(16));
    digits
        .reduce(|high, low| Some(high? * 16 + low?))
        .flatten()
        .and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_two_hexadecimal_digits_and_nothing_else() {
        for (text, expected) in [
            ("gpt-oss%3A120b", "gpt-oss:120b"),
            ("a%2Cb%2cc", "a,b,c"),
            ("50%", "50%"),
            ("%zz%3", "%zz%3"),
            ("%+5%-1% 1", "%+5%-1% 1"),
            ("%C3%A9", "é"),
            ("%FF", "\u{fffd}"),
        ] {
            assert_eq!(percent_decoded(text), expected);
        }
    }
}
