//! The table of request lines in `tests/golden/recognize/cases.txt`; `UPDATE=1` rewrites its right-hand sides.

use std::fmt::Write as _;
use std::fs;

use http::Method;
use proptest::prelude::*;

use super::{dialect_of, recognize};
use crate::dialect::{Call, Mount};
use crate::error::Kind;

const CASES: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/golden/recognize/cases.txt"
);

#[test]
fn every_request_line_means_what_the_table_says() {
    let table = fs::read_to_string(CASES).unwrap();
    let mut got = String::new();
    let mut cases = 0;
    for line in table.lines() {
        let Some((request, _)) = line.split_once(" => ") else {
            writeln!(got, "{line}").unwrap();
            continue;
        };
        let (method, path) = request.split_once(' ').unwrap();
        let method: Method = method.parse().unwrap();
        writeln!(got, "{request} => {}", told(&method, path)).unwrap();
        cases += 1;
    }
    if std::env::var_os("UPDATE").is_some() {
        fs::write(CASES, &got).unwrap();
    }
    for (line, (expected, got)) in table.lines().zip(got.lines()).enumerate() {
        assert_eq!(got, expected, "{CASES}:{}", line + 1);
    }
    assert!(120 <= cases, "{cases} cases");
}

fn told(method: &Method, path: &str) -> String {
    match recognize(method, path) {
        Ok(call) => told_call(&call),
        Err(fault) => {
            let more = match fault.kind {
                Kind::MethodNotAllowed { allow } => allow,
                _ => fault.code(),
            };
            format!("{} {more}, {:?}", fault.status(), dialect_of(path))
        }
    }
}

fn told_call(call: &Call) -> String {
    let mut told = format!("{:?} {:?} {:?}", call.dialect, call.operation, call.serve);
    match call.mount {
        Mount::All => {}
        Mount::Profile(name) => write!(told, " on {name}").unwrap(),
    }
    if call.olla {
        told.push_str(" olla");
    }
    write!(told, " {}", call.node_path).unwrap();
    if let Some(index) = call.node_index {
        write!(told, " node {index}").unwrap();
    }
    if let Some(argument) = &call.argument {
        write!(told, " of {argument}").unwrap();
    }
    told
}

proptest! {
    #[test]
    fn what_a_node_is_asked_for_can_be_read_in_one_way_only(path in "(/(api|v1|olla|openai|models|blobs|chat|[.%a-f0-9/:]{0,6}|\\PC{0,3})){0,6}") {
        dialect_of(&path);
        if let Ok(call) = recognize(&Method::GET, &path) {
            let node_path = &call.node_path;
            prop_assert!(node_path.bytes().all(|b| b.is_ascii_graphic() && b != b'\\'));
            prop_assert!(!node_path.contains("//") && !node_path.split('/').any(|s| s == "." || s == ".."));
            prop_assert!(!node_path.to_ascii_lowercase().contains("%2f"));
        }
    }
}
