//! Frames do not depend on how the bytes were cut.

use std::borrow::Cow;

use proptest::prelude::*;

use super::{Event, Events, FRAME_BYTES_MAX, KEPT_BYTES_MAX, Lines};

/// The frames of a body, and whether it ended at a border.
type Cut = (Vec<Vec<u8>>, bool);

fn lines(chunks: &[&[u8]]) -> Cut {
    let (mut cutter, mut frames) = (Lines::default(), Vec::new());
    for chunk in chunks {
        cutter.push(chunk, |frame| frames.push(frame.to_vec()));
    }
    let at_border = cutter.at_border();
    cutter.finish(|frame| frames.push(frame.to_vec()));
    (frames, at_border)
}

fn events(chunks: &[&[u8]]) -> Cut {
    let (mut cutter, mut frames) = (Events::default(), Vec::new());
    let mut keep = |frame: &[u8]| {
        let event = Event::parse(frame);
        let mut flat = event.name.to_vec();
        flat.push(b'|');
        flat.extend_from_slice(&event.data);
        frames.push(flat);
    };
    for chunk in chunks {
        cutter.push(chunk, &mut keep);
    }
    let at_border = cutter.at_border();
    cutter.finish(&mut keep);
    (frames, at_border)
}

/// Cuts the body at every place, and into bytes: the frames are the same.
fn check(cut: fn(&[&[u8]]) -> Cut, body: &str, expected: &[&str], border: bool) {
    let bytes = body.as_bytes();
    let expected: Vec<Vec<u8>> = expected
        .iter()
        .map(|frame| frame.as_bytes().to_vec())
        .collect();
    for at in 0..=bytes.len() {
        let got = cut(&[&bytes[..at], &bytes[at..]]);
        assert_eq!(got, (expected.clone(), border), "{body:?} cut at {at}");
    }
    let single: Vec<&[u8]> = bytes.chunks(1).collect();
    assert_eq!(cut(&single), (expected, border), "{body:?} byte by byte");
}

#[test]
fn lines_end_in_lf_or_crlf_and_blank_ones_do_not_count() {
    check(lines, "", &[], true);
    check(lines, "{}\n{\"a\":1}\n", &["{}", "{\"a\":1}"], true);
    check(lines, "{}\r\n\r\n\n[]\n", &["{}", "[]"], true);
    check(lines, "{}\n{\"half\":", &["{}", "{\"half\":"], false);
}

#[test]
fn events_end_in_a_blank_line_of_any_kind() {
    check(events, "", &[], true);
    check(events, "data: a\n\ndata: b\n\n", &["|a", "|b"], true);
    check(events, "data: a\r\n\r\ndata:b\r\n\r\n", &["|a", "|b"], true);
    check(events, "data: a\r\rdata: b\r\r", &["|a", "|b"], true);
    check(
        events,
        "\n\r\n\rdata: a\n\n\n\ndata: b\n\r\n",
        &["|a", "|b"],
        true,
    );
    check(
        events,
        "event: x\ndata: 1\ndata:  2\ndata\n\n",
        &["x|1\n 2\n"],
        true,
    );
    check(
        events,
        ": ping\n\nid: 7\nretry: 1\nevent:y\ndata:z\n\n",
        &["|", "y|z"],
        true,
    );
    check(
        events,
        "database: no\nevents: no\ndata: yes\n\n",
        &["|yes"],
        true,
    );
    check(
        events,
        "data: a\n\ndata: [DONE]\n",
        &["|a", "|[DONE]"],
        false,
    );
    check(events, "data: a\n\ndata: {\"ha", &["|a", "|{\"ha"], false);
}

#[test]
fn one_line_of_data_is_borrowed() {
    let event = Event::parse(b"event: m\r\ndata: {}\r\n");
    assert_eq!(event.name, b"m");
    assert!(matches!(event.data, Cow::Borrowed(b"{}")));
}

#[test]
fn a_frame_over_the_limit_is_counted_skipped_and_not_held() {
    let longest = vec![b'x'; FRAME_BYTES_MAX];
    let too_long = vec![b'x'; FRAME_BYTES_MAX + 1];
    for piece_bytes in [1000, 4096, FRAME_BYTES_MAX, FRAME_BYTES_MAX + 2] {
        let mut cutter = Lines::default();
        let mut lengths = Vec::new();
        for body in [&longest, &too_long, &longest] {
            let mut body = body.clone();
            body.push(b'\n');
            for piece in body.chunks(piece_bytes) {
                cutter.push(piece, |frame| lengths.push(frame.len()));
                assert!(cutter.held.bytes.capacity() <= 2 * FRAME_BYTES_MAX);
            }
            assert!(cutter.at_border());
            assert!(cutter.held.bytes.capacity() <= KEPT_BYTES_MAX);
        }
        assert_eq!(lengths, [FRAME_BYTES_MAX, FRAME_BYTES_MAX], "{piece_bytes}");
        assert_eq!(cutter.skipped(), 1);
    }
}

#[test]
fn an_endless_line_is_not_held_and_is_no_border() {
    let mut cutter = Events::default();
    for _ in 0..40 {
        cutter.push(&[b'x'; 64 << 10], |_| panic!("there is no frame"));
        assert!(!cutter.at_border());
    }
    assert_eq!(cutter.held.bytes.capacity(), 0);
    cutter.finish(|_| panic!("a skipped frame is not handed out"));
    assert_eq!(cutter.skipped(), 1);
}

proptest! {
    #[test]
    fn any_bytes_cut_anyhow_give_the_same_frames(
        body in proptest::collection::vec(prop_oneof![Just(b'\n'), Just(b'\r'), Just(b'd'), Just(b':'), any::<u8>()], 0..200),
        piece in 1_usize..20,
    ) {
        let pieces: Vec<&[u8]> = body.chunks(piece).collect();
        prop_assert_eq!(lines(&pieces), lines(&[&body]));
        prop_assert_eq!(events(&pieces), events(&[&body]));
    }
}
