//! How far a string goes before something in it needs a look, many bytes at a time.

/// A run of string bytes that mean themselves.
pub(super) struct Run {
    pub(super) len: usize,
    /// False when a byte outside ASCII may be among them, true only when none is.
    pub(super) ascii: bool,
}

/// Bytes before the first quote, backslash or control character.
///
/// Short strings are looked at a word at a time; long ones, such as images in base64, in blocks that the compiler turns
/// into vector instructions.
#[inline]
pub(super) fn plain(bytes: &[u8]) -> Run {
    const WORDS_FIRST: usize = 64;
    let (mut len, mut seen) = (0, 0u64);
    let ascii = |seen: u64| seen & HIGH == 0;
    while let Some(word) = bytes[len..].first_chunk::<8>() {
        let word = u64::from_le_bytes(*word);
        seen |= word;
        let stop = stops(word);
        if stop != 0 {
            len += stop.trailing_zeros() as usize / 8;
            return Run {
                len,
                ascii: ascii(seen),
            };
        }
        len += 8;
        if len == WORDS_FIRST {
            let blocks = clear_blocks(&bytes[len..]);
            len += blocks.len;
            seen |= if blocks.ascii { 0 } else { HIGH };
        }
    }
    for &byte in &bytes[len..] {
        if byte < 0x20 || byte == b'"' || byte == b'\\' {
            break;
        }
        seen |= u64::from(byte);
        len += 1;
    }
    Run {
        len,
        ascii: ascii(seen),
    }
}

fn clear_blocks(bytes: &[u8]) -> Run {
    const BLOCK: usize = 64;
    let (mut len, mut seen) = (0, 0u8);
    while let Some(block) = bytes[len..].first_chunk::<BLOCK>() {
        let (mut stop, mut bits) = (0u8, 0u8);
        for &byte in block {
            stop |= u8::from(byte < 0x20) | u8::from(byte == b'"') | u8::from(byte == b'\\');
            bits |= byte;
        }
        if stop != 0 {
            break;
        }
        seen |= bits;
        len += BLOCK;
    }
    Run {
        len,
        ascii: seen < 0x80,
    }
}

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x8080_8080_8080_8080;

/// A word whose lowest set bit belongs to the first byte that ends a run. Higher bits may be wrong: a borrow walks upwards.
#[inline]
fn stops(word: u64) -> u64 {
    let zero = |w: u64| w.wrapping_sub(ONES) & !w;
    let control = word.wrapping_sub(ONES * 0x20) & !word;
    (zero(word ^ (ONES * u64::from(b'"'))) | zero(word ^ (ONES * u64::from(b'\\'))) | control)
        & HIGH
}
