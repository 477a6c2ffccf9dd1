//! Which encodings are read, and where decoding stops.

use std::io::Write;

use proptest::prelude::*;
use zstd::stream::write::Encoder;

use super::{BYTES_FREE, Encoding, RATIO_MAX, decode_zstd, encoding};
use crate::dialect::testing::fixed;

fn pack(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

/// Bytes that do not compress, from a fixed linear congruence.
fn noise(len: usize) -> Vec<u8> {
    let next = |x: &u32| Some(x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223));
    std::iter::successors(Some(1), next)
        .map(|x| (x >> 24) as u8)
        .take(len)
        .collect()
}

#[test]
fn only_v1_takes_zstd() {
    for (value, v1, expected) in [
        (None, false, Ok(Encoding::Identity)),
        (None, true, Ok(Encoding::Identity)),
        (Some(""), false, Ok(Encoding::Identity)),
        (Some("identity"), false, Ok(Encoding::Identity)),
        (Some(" Identity "), true, Ok(Encoding::Identity)),
        (Some("zstd"), true, Ok(Encoding::Zstd)),
        (Some("ZSTD"), true, Ok(Encoding::Zstd)),
        (
            Some("zstd"),
            false,
            Err("only `identity` (`zstd` as well on /v1)"),
        ),
        (Some("gzip"), false, Err("only `identity`")),
        (
            Some("gzip"),
            true,
            Err("`gzip`, but this path accepts `identity` and `zstd`"),
        ),
        (Some("zstd, zstd"), true, Err("`identity` and `zstd`")),
        (Some("br"), true, Err("`br`")),
    ] {
        match (encoding(value, v1), expected) {
            (Ok(got), Ok(expected)) => assert_eq!(got, expected, "{value:?}"),
            (Err(fault), Err(part)) => {
                assert_eq!(
                    (fault.status(), fault.code()),
                    (415, "unsupported_encoding")
                );
                assert!(fault.message.contains(part), "{fault}");
            }
            (got, _) => panic!("{value:?} on v1 {v1}: {got:?}"),
        }
    }
}

#[test]
fn several_frames_are_one_body() {
    let body = [pack(b"{\"model\":"), pack(b""), pack(b"\"a\"}")].concat();
    assert_eq!(decode_zstd(&body, 100).unwrap(), b"{\"model\":\"a\"}");
}

#[test]
fn the_limit_is_exact() {
    for len in [0, 1, 1000, 16 * 1024, 200_000] {
        let body = pack(&noise(len));
        assert_eq!(decode_zstd(&body, len).unwrap(), noise(len));
        if 0 < len {
            let fault = decode_zstd(&body, len - 1).unwrap_err();
            assert_eq!((fault.status(), fault.code()), (413, "body_too_large"));
        }
    }
}

#[test]
fn a_bomb_is_refused_by_its_ratio() {
    let free = pack(&vec![b'a'; BYTES_FREE]);
    assert_eq!(decode_zstd(&free, usize::MAX).unwrap().len(), BYTES_FREE);
    let bomb = pack(&vec![b'a'; 64 << 20]);
    assert!(bomb.len() * RATIO_MAX < 64 << 20);
    let fault = decode_zstd(&bomb, usize::MAX).unwrap_err();
    assert_eq!(fault.status(), 413);
    assert!(fault.message.contains("100 times"), "{fault}");
}

#[test]
fn a_body_cut_short_is_refused_wherever_it_is_cut() {
    let body = pack(&noise(1000));
    for len in 1..body.len() {
        let fault = decode_zstd(&body[..len], 10_000).unwrap_err();
        assert_eq!(
            (fault.status(), fault.code()),
            (400, "bad_zstd"),
            "cut at {len}"
        );
    }
}

#[test]
fn a_window_has_a_limit() {
    for (window_log, whole) in [(23, true), (24, false)] {
        let mut encoder = Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(window_log).unwrap();
        encoder.write_all(&noise(1000)).unwrap();
        // Flushed before its end is known, a frame has to name its window.
        encoder.flush().unwrap();
        encoder.write_all(&noise(1000)).unwrap();
        let decoded = decode_zstd(&encoder.finish().unwrap(), 10_000);
        match whole {
            true => assert_eq!(decoded.unwrap(), [noise(1000), noise(1000)].concat()),
            false => assert_eq!(decoded.unwrap_err().code(), "bad_zstd"),
        }
    }
}

proptest! {
    #![proptest_config(fixed())]

    #[test]
    fn bytes_never_panic(body in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = decode_zstd(&body, 1 << 20);
        let _ = decode_zstd(&[b"\x28\xb5\x2f\xfd", &*body].concat(), 1 << 20);
    }

    #[test]
    fn what_was_packed_is_unpacked(body in prop::collection::vec(any::<u8>(), 0..5000)) {
        prop_assert_eq!(decode_zstd(&pack(&body), 5000).unwrap(), body);
    }
}
