//! Compressed bodies: which encodings are read, and how far one may unfold.

use std::io::Read;

use zstd::stream::read::Decoder;

use crate::error::Fault;

/// 8 MiB, the largest window that a decoder must support (RFC 8878 §3.1.1.1.2), and Ollama's own limit.
const WINDOW_LOG_MAX: u32 = 23;
/// What a body may unfold to whatever its ratio.
const BYTES_FREE: usize = 64 * 1024;
/// How many times longer than the encoded body the decoded one may be, beyond `BYTES_FREE`.
const RATIO_MAX: usize = 100;

/// How a body is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// Bytes as they are; also when the header is absent or empty.
    Identity,
    /// Zstandard (RFC 8878), on `/v1` only, as Ollama has it.
    Zstd,
}

/// Reads a `Content-Encoding`. `v1` is true on the paths under `/v1`, the only ones where Ollama decodes anything.
///
/// # Errors
/// 415 for any other encoding: Ollama would ignore the header and read compressed bytes as JSON.
pub fn encoding(value: Option<&str>, v1: bool) -> Result<Encoding, Fault> {
    let value = value.unwrap_or_default().trim();
    if value.is_empty() || value.eq_ignore_ascii_case("identity") {
        return Ok(Encoding::Identity);
    }
    if v1 && value.eq_ignore_ascii_case("zstd") {
        return Ok(Encoding::Zstd);
    }
    let accepted = match v1 {
        true => "`identity` and `zstd`",
        false => "only `identity` (`zstd` as well on /v1)",
    };
    let shown: String = value.escape_debug().take(64).collect();
    Err(Fault::refused(
        415,
        "unsupported_encoding",
        format!(
            "the body's Content-Encoding is `{shown}`, but this path accepts {accepted}; send the body without it"
        ),
    ))
}

/// Decodes a zstd body of one frame or more.
///
/// # Errors
/// 413 when it is longer than `bytes_max` decoded, or unfolds too far; 400 when it is cut short, needs a window over 8 MiB,
/// or is not zstd.
pub fn decode_zstd(body: &[u8], bytes_max: usize) -> Result<Vec<u8>, Fault> {
    let ratio_bytes_max = BYTES_FREE.max(body.len().saturating_mul(RATIO_MAX));
    let mut decoder = Decoder::with_buffer(body).map_err(|e| bad(&e))?;
    decoder
        .window_log_max(WINDOW_LOG_MAX)
        .map_err(|e| bad(&e))?;
    let mut decoded = Vec::new();
    let mut chunk = [0; 16 * 1024];
    loop {
        let len = decoder.read(&mut chunk).map_err(|e| bad(&e))?;
        if len == 0 {
            return Ok(decoded);
        }
        let bytes = decoded.len() + len;
        if bytes_max < bytes {
            return Err(too_large(&format!(
                "is longer than {bytes_max} bytes decoded; send less"
            )));
        }
        if ratio_bytes_max < bytes {
            return Err(too_large(&format!(
                "unfolds to more than {RATIO_MAX} times its size; send it without Content-Encoding"
            )));
        }
        decoded.extend_from_slice(&chunk[..len]);
    }
}

fn too_large(what: &str) -> Fault {
    Fault::refused(413, "body_too_large", format!("the zstd body {what}"))
}

fn bad(error: &std::io::Error) -> Fault {
    Fault::malformed(
        "bad_zstd",
        format!(
            "the body is not whole zstd with a window of at most 8 MiB ({error}); send it again, or without Content-Encoding"
        ),
    )
}

#[cfg(test)]
mod tests;
