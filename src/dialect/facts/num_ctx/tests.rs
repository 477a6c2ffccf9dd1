//! The table of edits in `tests/golden/options`, and that nothing else of a body changes.

use std::fmt::Write;
use std::path::Path;

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Map, Value};

use crate::dialect::facts::tests::{bytes, call};
use crate::dialect::splice::splice;
use crate::dialect::testing::fixed;
use crate::dialect::{Facts, facts};

fn read(name: &str, body: &[u8]) -> Facts {
    facts(&call(name), body, 100).unwrap()
}

/// The body after the edit; `None` when there is none to make.
fn edited(name: &str, body: &Bytes, tokens: Option<i64>) -> Option<Vec<u8>> {
    let edit = read(name, body).num_ctx_at.edit(tokens)?;
    Some(splice(body, &[edit]).concat())
}

/// Writes control characters as the table does.
fn escaped(body: &[u8]) -> String {
    let mut text = String::new();
    for c in std::str::from_utf8(body).unwrap().chars() {
        match c {
            c if c.is_control() => write!(text, "%{:02X}", u32::from(c)).unwrap(),
            c => text.push(c),
        }
    }
    text
}

#[test]
fn every_line_of_the_table_holds() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/options/num_ctx.txt");
    let table = std::fs::read_to_string(&path).unwrap();
    let (mut now, mut cases) = (String::new(), 0);
    for line in table.lines() {
        let Some((case, _)) = line.rsplit_once(" =>") else {
            writeln!(now, "{line}").unwrap();
            continue;
        };
        let (name, rest) = case.split_once(' ').unwrap();
        let (tokens, body) = rest.split_once(' ').unwrap();
        let body = Bytes::from(bytes(body));
        let sent = edited(name, &body, tokens.parse().ok());
        let shown = sent.map_or("-".to_owned(), |sent| escaped(&sent));
        writeln!(now, "{case} => {shown}").unwrap();
        cases += 1;
    }
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &now).unwrap();
        return;
    }
    assert!(40 <= cases, "the table lost its cases");
    for (was, now) in table.lines().zip(now.lines()) {
        assert_eq!(was, now);
    }
}

/// A value without floats, which are not written as they were read.
fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[ -~]{0,6}".prop_map(Value::from),
        Just(Value::from("\"num_ctx\":1,")),
    ];
    leaf.prop_recursive(2, 8, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            ("[a-m]{1,3}|num_ctx", inner)
                .prop_map(|(key, value)| { Value::Object(Map::from_iter([(key, value)])) }),
        ]
    })
}

/// Options, and before which of them `num_ctx` stands, if it does.
type Options = (Vec<(String, Value)>, Option<usize>);

fn options() -> impl Strategy<Value = Option<Options>> {
    let others = prop::collection::btree_map("[a-m]{1,4}|seed|temperature", value(), 0..4);
    let others = others.prop_map(|map| map.into_iter().collect::<Vec<_>>());
    prop::option::of((others, prop::option::of(0..5_usize)))
}

proptest! {
    #![proptest_config(fixed())]

    #[test]
    fn only_that_member_changes(
        options in options(),
        was in any::<i32>(),
        tokens in prop::option::of(any::<i64>()),
        is_first in any::<bool>(),
        spaces in prop::collection::vec("[ \n\t]{0,2}", 4),
    ) {
        // Written by hand, since a map would sort its keys and so fix the member's place.
        let [a, b, c, d] = [&*spaces[0], &*spaces[1], &*spaces[2], &*spaces[3]];
        let model = format!("\"model\"{a}:{b}\"m\"");
        let options = options.map(|(others, place)| {
            let member = |(key, value): &(String, Value)| format!("{a}\"{key}\"{b}:{c}{value}{d}");
            let mut members: Vec<_> = others.iter().map(member).collect();
            if let Some(place) = place {
                members.insert(place.min(members.len()), format!("{b}\"num_ctx\"{c}:{d}{was}{a}"));
            }
            format!("\"options\"{b}:{a}{{{}{c}}}", members.join(","))
        });
        let members = match (options, is_first) {
            (None, _) => model,
            (Some(options), true) => format!("{options}{d},{model}"),
            (Some(options), false) => format!("{model},{c}{options}"),
        };
        let body = Bytes::from(format!("{c}{{{members}{d}}}{a}"));

        let before: Value = serde_json::from_slice(&body).unwrap();
        let had = before.pointer("/options/num_ctx").is_some();
        let Some(sent) = edited("chat", &body, tokens) else {
            prop_assert!(tokens.is_none() && !had);
            return Ok(());
        };
        let mut expected = before;
        match tokens {
            Some(tokens) => expected["options"]["num_ctx"] = tokens.into(),
            None => {
                let options = expected["options"].as_object_mut().unwrap();
                prop_assert!(options.remove("num_ctx").is_some());
            }
        }
        prop_assert_eq!(serde_json::from_slice::<Value>(&sent).unwrap(), expected);

        // And it reads as was wanted, under the rules for a client's body.
        let (was, is) = (read("chat", &body), read("chat", &sent));
        prop_assert_eq!(is.runner.num_ctx, tokens);
        prop_assert_eq!((is.model, is.affinity), (was.model, was.affinity));
    }
}
