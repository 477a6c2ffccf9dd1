//! Vectors out of nothing: the same text gives the same vector of length 1 on every node.

use super::library::mix;

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
