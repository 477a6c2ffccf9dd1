//! The scanner against serde_json, against its own limits, and at every place where a string can end.

use proptest::prelude::*;
use serde_json::{Map, Value};

use super::{Broken, DEPTH_MAX, KEYS_MAX, Scanner, Token, Why};
use crate::dialect::testing::fixed;
use crate::error::Fault;

/// Scans to the end.
fn scan(body: &[u8]) -> Result<(), Broken> {
    let mut scanner = Scanner::new(body);
    while scanner.token()? != Token::End {}
    Ok(())
}

/// What serde_json makes of a body; `None` where it refuses a number for its size, which we do not look at.
fn serde_accepts(body: &[u8]) -> Option<bool> {
    match serde_json::from_slice::<Value>(body) {
        Ok(_) => Some(true),
        Err(error) if error.to_string().contains("number out of range") => None,
        Err(_) => Some(false),
    }
}

/// Builds the tree that the tokens tell of.
fn tree<'a>(scanner: &mut Scanner<'a>, token: Token<'a>) -> Value {
    match token {
        Token::Null => Value::Null,
        Token::Bool(value) => value.into(),
        Token::Number(digits) => serde_json::from_slice(digits).unwrap(),
        Token::String(text) => text.unescape().into(),
        Token::ArrayStart => {
            let mut items = Vec::new();
            loop {
                match scanner.token().unwrap() {
                    Token::ArrayEnd => return Value::Array(items),
                    item => items.push(tree(scanner, item)),
                }
            }
        }
        Token::ObjectStart => {
            let mut fields = Map::new();
            while let Token::Key(key) = scanner.token().unwrap() {
                assert_eq!(scanner.body()[key.span()].first(), Some(&b'"'));
                assert_eq!(scanner.body()[key.span()].last(), Some(&b'"'));
                let value = scanner.token().unwrap();
                fields.insert(key.unescape().into_owned(), tree(scanner, value));
            }
            Value::Object(fields)
        }
        token => panic!("{token:?} begins no value"),
    }
}

fn document() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        // Quarters, because serde_json does not read every float back as it wrote it.
        any::<i32>().prop_map(|quarters| Value::from(f64::from(quarters) / 4.0)),
        any::<String>().prop_map(Value::from),
        "[ -~]{0,200}".prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec((any::<String>(), inner), 0..6)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

/// A small change somewhere in a document.
fn mutate(mut body: Vec<u8>, at: usize, way: u8, piece: &[u8]) -> Vec<u8> {
    let at = at % (body.len() + 1);
    match way {
        0 => drop(body.splice(at..at, piece.iter().copied())),
        1 => body.truncate(at),
        2 if at < body.len() => drop(body.remove(at)),
        _ => {
            let end = body.len().min(at + piece.len());
            drop(body.splice(at..end, piece.iter().copied()));
        }
    }
    body
}

const PIECES: [&[u8]; 28] = [
    b"\"",
    b"\\",
    b"\\u",
    b"\\ud83e\\udd99",
    b"\\ud83e",
    b"\\udd99",
    b"\\u00e9",
    b"\\/",
    b"\\x",
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"-",
    b"0",
    b"1.5e+3",
    b"e",
    b".",
    b" \t\r\n",
    b"\x00",
    b"\x1f",
    b"\x7f",
    b"\xff",
    b"\xc3\xa9",
    b"null",
    b"true",
];

proptest! {
    #![proptest_config(fixed())]

    #[test]
    fn tokens_tell_the_whole_document(value in document(), pretty in any::<bool>()) {
        let body = match pretty {
            true => serde_json::to_vec_pretty(&value).unwrap(),
            false => serde_json::to_vec(&value).unwrap(),
        };
        let mut scanner = Scanner::new(&body);
        let first = scanner.token().unwrap();
        prop_assert_eq!(tree(&mut scanner, first), value);
        prop_assert_eq!(scanner.token(), Ok(Token::End));
        prop_assert_eq!(scanner.token(), Ok(Token::End));
    }

    #[test]
    fn skipping_ends_where_the_value_ends(value in document(), next in any::<u32>()) {
        let next = next.to_string();
        let body = format!("[{value},{next}]");
        let mut scanner = Scanner::new(body.as_bytes());
        scanner.token().unwrap();
        let first = scanner.token().unwrap();
        scanner.skip(first).unwrap();
        prop_assert_eq!(scanner.at(), body.len() - next.len() - 2);
        prop_assert_eq!(scanner.token(), Ok(Token::Number(next.as_bytes())));
    }

    #[test]
    fn a_changed_document_is_accepted_as_by_serde_json(
        value in document(),
        edits in prop::collection::vec((any::<usize>(), 0..4u8, prop::sample::select(PIECES.to_vec())), 1..4),
    ) {
        let whole = serde_json::to_vec(&value).unwrap();
        let body = edits.iter().fold(whole, |body, &(at, way, piece)| mutate(body, at, way, piece));
        if let Some(accepted) = serde_accepts(&body) {
            prop_assert_eq!(scan(&body).is_ok(), accepted, "{:?} {:?}", String::from_utf8_lossy(&body), scan(&body));
        }
    }

    #[test]
    fn pieces_alone_are_accepted_as_by_serde_json(
        pieces in prop::collection::vec(prop::sample::select(PIECES.to_vec()), 0..8),
    ) {
        let body = pieces.concat();
        for body in [body.clone(), [b"\"", &*body, b"\""].concat(), [b"[", &*body, b"]"].concat()] {
            if let Some(accepted) = serde_accepts(&body) {
                prop_assert_eq!(scan(&body).is_ok(), accepted, "{:?} {:?}", String::from_utf8_lossy(&body), scan(&body));
            }
        }
    }

    #[test]
    fn bytes_never_panic(body in prop::collection::vec(any::<u8>(), 0..300)) {
        if let Some(accepted) = serde_accepts(&body) {
            prop_assert_eq!(scan(&body).is_ok(), accepted);
        }
    }
}

#[test]
fn every_byte_is_seen_at_every_place_of_a_string() {
    for len in 0..200 {
        for at in 0..len {
            for byte in [b'"', b'\\', 0, 0x1f, b'\n', 0x80, 0xc3, 0xff] {
                let mut body = vec![b'a'; len + 2];
                (body[0], body[len + 1]) = (b'"', b'"');
                body[at + 1] = byte;
                assert!(scan(&body).is_err(), "{byte:#x} at {at} of {len}");
            }
            for byte in [b' ', b'!', b'#', b'[', b']', 0x7f] {
                let mut body = vec![b'a'; len + 2];
                (body[0], body[len + 1]) = (b'"', b'"');
                body[at + 1] = byte;
                assert_eq!(scan(&body), Ok(()), "{byte:#x} at {at} of {len}");
            }
        }
    }
}

#[test]
fn every_two_bytes_are_read_as_serde_json_reads_them() {
    for first in 0..=255 {
        for second in 0..=255 {
            for body in [&[first, second][..], &[b'"', first, second, b'"']] {
                let ours = scan(body).is_ok();
                assert_eq!(Some(ours), serde_accepts(body), "{body:?}");
            }
        }
    }
}

#[test]
fn depth_has_a_limit() {
    let nested = |depth: usize| {
        let body = [r#"{"a":["#.repeat(depth / 2), "]}".repeat(depth / 2)].concat();
        scan(body.as_bytes())
    };
    let depth_max = usize::from(DEPTH_MAX);
    assert_eq!(nested(depth_max), Ok(()));
    let broken = nested(depth_max + 2).unwrap_err();
    assert_eq!(broken.why, Why::TooDeep);
    assert_eq!(broken.at, depth_max / 2 * r#"{"a":["#.len());
    assert_eq!(
        scan("[".repeat(1 << 20).as_bytes()).unwrap_err().why,
        Why::TooDeep
    );
}

#[test]
fn keys_have_a_limit_in_the_top_two_levels_only() {
    let keys_max = usize::from(KEYS_MAX);
    let object = |keys: usize| format!("{{{}}}", vec![r#""k":1"#; keys].join(","));
    let check = |body: String| scan(body.as_bytes()).map_err(|broken| broken.why);
    assert_eq!(check(object(keys_max)), Ok(()));
    assert_eq!(check(object(keys_max + 1)), Err(Why::TooManyKeys));
    assert_eq!(
        check(format!("[{}]", object(keys_max + 1))),
        Err(Why::TooManyKeys)
    );
    let halves = [object(keys_max / 2), object(keys_max / 2 + 1)].join(",");
    assert_eq!(check(format!("[{halves}]")), Err(Why::TooManyKeys));
    assert_eq!(check(format!("[[{}]]", object(keys_max + 1))), Ok(()));
}

#[test]
fn a_fault_names_its_limit() {
    for (why, code) in [
        (Why::TooDeep, "too_deep"),
        (Why::TooManyKeys, "too_many_keys"),
        (Why::Colon, "bad_json"),
    ] {
        let fault = Fault::from(Broken { at: 17, why });
        assert_eq!((fault.status(), fault.code()), (400, code));
        assert!(fault.message.contains("at byte 17;"), "{fault}");
    }
    assert!(
        Fault::from(Broken {
            at: 0,
            why: Why::TooDeep
        })
        .message
        .contains(&DEPTH_MAX.to_string())
    );
    assert!(
        Fault::from(Broken {
            at: 0,
            why: Why::TooManyKeys
        })
        .message
        .contains(&KEYS_MAX.to_string())
    );
}
