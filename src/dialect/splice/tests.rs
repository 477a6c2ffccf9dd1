//! A spliced body differs from the body in its spans, and in nothing else.

use bytes::Bytes;
use proptest::prelude::*;

use super::splice;
use crate::dialect::facts::facts;
use crate::dialect::testing::fixed;
use crate::dialect::{Call, Dialect, Mount, Operation, Serve};
use crate::text::quoted;

const CHAT: Call = Call {
    dialect: Dialect::Ollama,
    operation: Operation::Chat,
    serve: Serve::ByModel,
    mount: Mount::All,
    olla: false,
    node_index: None,
    node_path: std::borrow::Cow::Borrowed("/api/chat"),
    argument: None,
};

#[test]
fn untouched_bytes_are_not_copied() {
    let body = Bytes::from_static(b"0123456789");
    let x = Bytes::from_static(b"x");
    for (edits, expected) in [
        (vec![], "0123456789"),
        (vec![(0..0, x.clone())], "x|0123456789"),
        (vec![(0..1, x.clone()), (9..10, x.clone())], "x|12345678|x"),
        (
            vec![(2..4, x.clone()), (4..5, Bytes::new()), (10..10, x.clone())],
            "01|x|56789|x",
        ),
        (vec![(0..10, Bytes::new())], ""),
    ] {
        let pieces = splice(&body, &edits);
        let shown: Vec<_> = pieces
            .iter()
            .map(|p| std::str::from_utf8(p).unwrap())
            .collect();
        assert_eq!(shown.join("|"), expected);
        for piece in pieces.iter().filter(|piece| **piece != x) {
            assert!(
                body.as_ptr_range().contains(&piece.as_ptr()),
                "{piece:?} was copied"
            );
        }
    }
}

#[test]
fn edits_out_of_order_do_not_reach_a_node() {
    let body = Bytes::from_static(b"0123456789");
    let edits = [(5..6, Bytes::new()), (1..2, Bytes::new())];
    assert!(std::panic::catch_unwind(|| splice(&body, &edits)).is_err());
}

proptest! {
    #![proptest_config(fixed())]

    #[test]
    fn only_the_spans_change(text in "[a-z]{20}", cuts in prop::collection::btree_set(0..=20usize, 4), new in "[A-Z]{0,5}") {
        let cuts: Vec<_> = cuts.into_iter().collect();
        let (a, b) = (cuts[0]..cuts[1], cuts[2]..cuts[3]);
        let edits = [(a.clone(), Bytes::from(new.clone())), (b.clone(), Bytes::from(new.clone()))];
        let expected = [&text[..a.start], &new, &text[a.end..b.start], &new, &text[b.end..]].concat();
        prop_assert_eq!(splice(&Bytes::from(text), &edits).concat(), expected.into_bytes());
    }

    #[test]
    fn a_string_survives_its_escaping(text in any::<String>()) {
        prop_assert_eq!(serde_json::from_slice::<String>(quoted(&text).as_bytes()).unwrap(), text);
    }

    #[test]
    fn a_new_model_leaves_all_other_facts(
        old in "[^\0]{1,20}",
        new in "[^\0]{1,20}",
        said in any::<String>(),
        num_ctx in any::<i64>(),
        stream in any::<bool>(),
        last in any::<bool>(),
    ) {
        let rest = serde_json::json!({
            "messages": [{"role": "user", "content": said, "images": ["QUJD"]}],
            "options": {"num_ctx": num_ctx, "temperature": 1e-9},
            "stream": stream,
            "tools": [{}],
        });
        let rest = rest.to_string();
        let (rest, model) = (&rest[1..rest.len() - 1], quoted(&old));
        let body = Bytes::from(match last {
            true => format!("{{{rest} , \"model\" : {model}\n}}"),
            false => format!("{{\"\\u006dodel\":{model},{rest}}}"),
        });
        let before = facts(&CHAT, &body, 100).unwrap();
        prop_assert_eq!(&before.model, &old);

        let spliced = |name: &str| splice(&body, &[(before.model_span.clone(), quoted(name).into())]).concat();
        let mut after = facts(&CHAT, &spliced(&new), 100).unwrap();
        prop_assert_eq!(&after.model, &new);
        prop_assert_eq!(after.body_bytes, spliced(&new).len());
        // The conversation's key holds the model's name, so it may change with it.
        after.model = old.clone();
        after.model_span = before.model_span.clone();
        after.num_ctx_at = before.num_ctx_at.clone();
        after.body_bytes = before.body_bytes;
        after.affinity = before.affinity;
        prop_assert_eq!(&after, &before);
        prop_assert_eq!(facts(&CHAT, &spliced(&old), 100).unwrap().affinity, before.affinity);
    }
}
