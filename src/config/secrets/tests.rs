//! Secrets in all the shapes that YAML has for them, in files that can be read and in files that cannot.

use super::{mask, starred};

#[test]
fn secrets_are_starred() {
    let table = [
        ("token: ab#c,d # why", "token: ****** # why"),
        (
            "{ type: basic, password: \"a,}b\", username: me }",
            "{ type: basic, password: ******, username: me }",
        ),
        (r#"password: "a\"b, c" # d"#, "password: ****** ** # d"),
        ("{ key: abc, header: X-A }", "{ key: ***, header: X-A }"),
        ("{ key: 'a''b', header: X }", "{ key: ******, header: X }"),
        ("tokn: abc", "tokn: ***"),
        ("X-Api-Key: abc", "X-Api-Key: ***"),
        ("\"token\": abc", "\"token\": ***"),
        ("{\"token\":abc, a: b}", "{\"token\":***, a: b}"),
        ("token : abc", "token : ***"),
        ("token:abc", "token:***"),
        ("name: monkey:7b", "name: monkey:7b"),
        ("Authorization: Bearer abc", "Authorization: ****** ***"),
        ("token: ${GPU_TOKEN}", "token: ${GPU_TOKEN}"),
        ("token: ${GPU_TOKEN}abc", "token: ${GPU_TOKEN}***"),
        ("token: ${GPU_TOKEN:-abc}", "token: *****************"),
        ("token_file: /run/token", "token_file: /run/token"),
        ("url: http://me:p@ss@gpu:1/x", "url: http://*******@gpu:1/x"),
        ("url: 'me:pass@gpu:1'", "url: '*******@gpu:1'"),
        ("url: http://gpu:1/x", "url: http://gpu:1/x"),
        ("type: bearer", "type: bearer"),
    ];
    for (line, masked) in table {
        assert_eq!(mask(line), masked);
    }
}

/// All that an excerpt could show of a file.
fn shown(text: &str) -> String {
    let lines: Vec<String> = starred(text).iter().map(|line| mask(line)).collect();
    lines.join("\n")
}

/// A section with a secret of the two words `hunter2` and `continued`, and `port: 17` behind it.
const SHAPES: &[&str] = &[
    "admin:\n  key: >-\n    hunter2\n    continued\n  port: 17\n",
    "admin:\n  key: |2\n      hunter2\n\n    # continued\n  port: 17\n",
    "admin:\n  key: |+ # why\n   hunter2\n   continued: yes\n\n  port: 17\n",
    "admin:\n  key:\n    hunter2\n    continued\n  port: 17\n",
    "admin:\n  key: # why\n\n    hunter2\n    continued\n  port: 17\n",
    "admin:\n  key: hunter2\n   continued\n  port: 17\n",
    "admin:\n  key: \"hunter2\n    continued\"\n  port: 17\n",
    "admin:\n  key: \"hunter2 \\\"\n\n    port: 18, continued\"\n  port: 17\n",
    "admin:\n  key: 'hunter2 ''\n    port: 18, continued'\n  port: 17\n",
    "admin:\n  key:\n    \"hunter2\n    continued\"\n  port: 17\n",
    "admin:\n  key: !!str &k\n    'hunter2\n    continued'\n  port: 17\n",
    "admin:\n  key: !hunter2\n    continued\n  port: 17\n",
    "admin:\n  key:\n    !hunter2\n    continued\n  port: 17\n",
    "admin:\n  key: ${NAME}\n    hunter2 continued\n  port: 17\n",
    "admin:\n  'key' :\n    hunter2\n    continued\n  port: 17\n",
    "admin:\n  key:\n    - hunter2\n    - continued\n  port: 17\n",
    "admin:\n  key:\n  - hunter2\n  - continued\n  port: 17\n",
    "admin:\n  key: [\n    hunter2,\n    continued ]\n  port: 17\n",
    "admin:\n  key:\n    a: hunter2\n    continued: 1\n  port: 17\n",
    "admin: { key:\n hunter2\n continued, port: 17 }\n",
    "admin: { key: hunter2\n continued,\n port: 17 }\n",
    "admin: { key: \"hunter2,\n continued\", port: 17 }\n",
    "admin: { \"key\":'hunter2,\n continued', port: 17 }\n",
    "admin: {\n port: 17,\n key: hunter2\n  continued\n}\n",
    "admin: {\n key\n : hunter2\n  continued,\n port: 17\n}\n",
    "admin: [ { key:\n hunter2\n continued }, port: 17 ]\n",
    "admin:\n  ? key\n  : hunter2\n    continued\n  port: 17\n",
    "admin:\n  ? >-\n    key\n  : 'hunter2\n    continued'\n  port: 17\n",
    "- key: |-\n    hunter2\n    continued\n  port: 17\n",
    "- - key: hunter2\n     continued\n    port: 17\n",
    "admin:\r\n  key: >-\r\n    hunter2\r\n    continued\r\n  port: 17\r\n",
    "admin:\r  key:\r    hunter2\r    continued\r  port: 17\r",
    "\u{feff}{ key:\n  \"hunter2\n  é continued\", port: 17 }\n",
    "é: \"é\n  é\"\nkey: 'é hunter2\n  é continued'\nport: 17\n",
];

/// Shapes that only a file that can be read tells as such.
const READ_SHAPES: &[&str] = &[
    "x:\n  - &k hunter2\n   continued\nadmin:\n  key: *k\n  port: 17\n",
    "x: &x\n  - >-\n   hunter2\n   continued\nadmin:\n  key: *x\n  port: 17\n",
    "admin: { \"k\\x65y\": hunter2\n  continued, port: 17 }\n",
];

#[test]
fn values_over_several_lines_are_starred() {
    for text in SHAPES.iter().chain(READ_SHAPES) {
        let shown = shown(text);
        for word in ["hunter2", "continued"] {
            assert!(!shown.contains(word), "{text}\n{shown}");
        }
        assert!(shown.contains("17"), "{text}\n{shown}");
        let breaks = text.replace("\r\n", "\n").replace('\r', "\n");
        let text = breaks.trim_start_matches('\u{feff}');
        assert_eq!(shown.chars().count(), text.chars().count(), "carets move");
    }
}

#[test]
fn values_are_starred_in_files_that_cannot_be_read() {
    let before = ["zebra: [\n", "zebra: \"\n", "a: b: c\n", "%x\n", "\tx: 1\n"];
    let after = ["zebra: ]\n", "zebra: \"", "a: b: c\n", "\t- x: 1\n", "}\n"];
    let broken = |text: &str| {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let above = before.map(|line| format!("{line}{text}"));
        let below = after.map(|line| format!("{text}{line}"));
        above.into_iter().chain(below).collect::<Vec<String>>()
    };
    let cut = |text: &str| {
        let ends = text.char_indices().map(|(at, _)| text[..at].to_owned());
        ends.collect::<Vec<String>>()
    };
    for text in SHAPES {
        for text in broken(text).iter().chain(&cut(text)) {
            let shown = shown(text);
            for word in ["hunter2", "continued", "unter", "ontin"] {
                assert!(!shown.contains(word), "{text}\n{shown}");
            }
        }
    }
}

#[test]
fn what_follows_a_secret_is_shown_in_files_that_cannot_be_read() {
    let table = [
        (
            "admin:\n  key: abc\n  port: 1\nzebra: ]",
            "admin:\n  key: ***\n  port: 1\nzebra: ]",
        ),
        (
            "- key: abc\n# next\n- url: b\n  x: ]",
            "- key: ***\n# next\n- url: b\n  x: ]",
        ),
        (
            "a: { token: abc, url: b }\nzebra: ]",
            "a: { token: ***, url: b }\nzebra: ]",
        ),
        (
            "token: \"a\nb\"\n\"port\": 1\n---\nx: ]",
            "token: **\n**\n\"port\": 1\n---\nx: ]",
        ),
    ];
    for (text, expected) in table {
        assert_eq!(shown(text), expected);
    }
}
