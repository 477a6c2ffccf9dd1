//! Merged lines (`tests/golden/management/*.txt`), and the laws that hold whatever the nodes say.

use proptest::prelude::*;

use super::*;

/// Each file: a line with the nodes' names, then `node < what it says`, `node !` when it is taken out, `? ` for a client that
/// joins; what a client is told stands below with `> `. `UPDATE=1` rewrites those.
#[test]
fn lines_of_several_nodes_become_one_stream() {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/management");
    let mut files: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|it| it.unwrap().path())
        .collect();
    files.sort();
    assert!(3 <= files.len());
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let got = played(&text);
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&file, &got).unwrap();
            continue;
        }
        assert_eq!(got, text, "{}", file.display());
    }
}

fn played(text: &str) -> String {
    let mut lines = text.lines().filter(|line| !line.starts_with("> "));
    let first = lines.next().unwrap();
    let names: Vec<&str> = first.split(' ').collect();
    let mut progress = Progress::new(names.iter().map(|name| (*name).to_owned()));
    let mut got = format!("{first}\n");
    for line in lines {
        got += &format!("{line}\n");
        let (name, rest) = line.split_once(' ').unwrap_or((line, ""));
        let node = names.iter().position(|known| *known == name);
        let (told, end) = match (node, rest) {
            (None, _) => (progress.since(0), None),
            (Some(node), "!") => (progress.leave(node), None),
            (Some(node), said) => {
                let news = progress.push(node, said.strip_prefix("< ").unwrap().as_bytes());
                (news.lines, news.end)
            }
        };
        for line in told {
            got += &format!("> {}", String::from_utf8_lossy(&line));
        }
        if let Some(end) = end {
            got += &format!("> ({end:?})\n");
        }
    }
    got
}

#[test]
fn a_node_that_says_nothing_sensible_is_given_up() {
    for said in [
        "",
        "x",
        "{}",
        "[]",
        r#"{"status":7}"#,
        r#"{"status":"a","total":-1}"#,
    ] {
        let mut progress = Progress::new(["a".to_owned()]);
        let ends = (0..=JUNK_MAX).map(|_| progress.push(0, said.as_bytes()).end);
        let ends: Vec<_> = ends.collect();
        assert!(ends[..ends.len() - 1].iter().all(Option::is_none), "{said}");
        assert!(matches!(ends.last(), Some(Some(Err(_)))), "{said}");
    }
    let long = format!(r#"{{"status":"{}"}}"#, "x".repeat(LINE_BYTES_MAX));
    assert_eq!(
        Progress::new(["a".to_owned()]).push(0, long.as_bytes()),
        News::default()
    );
}

#[test]
fn a_size_that_is_told_late_is_news_and_so_is_what_comes_after_it() {
    let mut progress = Progress::new(["a".to_owned()]);
    let said = [
        (r#"{"status":"p","digest":"d"}"#, true),
        (r#"{"status":"p","digest":"d"}"#, false),
        (r#"{"status":"p","digest":"d","total":9}"#, true),
        (r#"{"status":"p","digest":"d","total":9}"#, false),
        (
            r#"{"status":"p","digest":"d","total":9,"completed":4}"#,
            true,
        ),
        (
            r#"{"status":"p","digest":"d","total":99,"completed":4}"#,
            false,
        ),
    ];
    for (line, moved) in said {
        assert_eq!(progress.push(0, line.as_bytes()).moved, moved, "{line}");
    }
}

#[test]
fn endless_novelties_are_neither_kept_nor_taken_for_progress() {
    let mut progress = Progress::new(["a".to_owned()]);
    let mut moved = 0;
    for number in 0..3 * STATUSES_MAX {
        let status = format!(r#"{{"status":"{number}"}}"#);
        let layer = format!(r#"{{"status":"p","digest":"d{number}","total":1}}"#);
        moved += usize::from(progress.push(0, status.as_bytes()).moved);
        moved += usize::from(progress.push(0, layer.as_bytes()).moved);
    }
    assert_eq!(moved, STATUSES_MAX + LAYERS_MAX);
    assert_eq!(progress.since(0).len(), STATUSES_MAX + LAYERS_MAX);
}

#[derive(Debug, Clone)]
enum Step {
    Layer(usize, u8, u64, u64),
    Success(usize),
    Leave(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let numbers = prop_oneof![0..50u64, any::<u64>()];
    prop_oneof![
        8 => (0..3usize, 0..2u8, numbers.clone(), numbers)
            .prop_map(|(node, layer, done, total)| Step::Layer(node, layer, done, total)),
        1 => (0..3usize).prop_map(Step::Success),
        1 => (0..3usize).prop_map(Step::Leave),
    ]
}

proptest! {
    #[test]
    fn a_bar_never_runs_backwards_nor_over_its_end(steps in proptest::collection::vec(step(), 0..60)) {
        let mut progress = Progress::new(["a", "b", "c"].map(str::to_owned));
        let mut seen: std::collections::HashMap<String, u64> = Default::default();
        for step in steps {
            let lines = match step {
                Step::Layer(node, layer, done, total) => {
                    let said = format!(r#"{{"status":"p","digest":"d{layer}","completed":{done},"total":{total}}}"#);
                    progress.push(node, said.as_bytes()).lines
                }
                Step::Success(node) => progress.push(node, br#"{"status":"success"}"#).lines,
                Step::Leave(node) => progress.leave(node),
            };
            for line in lines {
                let line: serde_json::Value = serde_json::from_slice(&line).unwrap();
                let done = line["completed"].as_u64().unwrap_or(0);
                prop_assert!(done <= line["total"].as_u64().unwrap_or(0), "{line}");
                let digest = line["digest"].as_str().unwrap().to_owned();
                let before = seen.insert(digest, done);
                prop_assert!(before.unwrap_or(0) <= done, "{line}");
            }
        }
    }
}
