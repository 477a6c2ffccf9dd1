//! `metrics.extraction` of a file over what the built-in profile of its name says.

use super::*;

/// Names of paths, headers and calculations of the type `it`, or why the file is refused.
fn names(over: &str) -> Result<[Vec<String>; 3], String> {
    let below = "name: it
api: { paths: [/v1/chat/completions] }
metrics:
  extraction:
    enabled: true
    paths: { tokens: $.tokens, ns: $.ns }
    headers: { wait: X-Wait }
    calculations: { rate: tokens / ns, twice: rate * 2, waited: wait * 2, took: response_time_ms }
";
    let over = format!("name: it\nmetrics: {{ extraction: {{ {over} }} }}\n");
    let mut world = World::default();
    for (name, text) in [("a.yaml", below), ("b.yaml", &over)] {
        let path = format!("/profiles/{name}");
        world.files.insert(path, text.as_bytes().to_vec());
    }
    let config = world.load("profiles: { dir: /profiles }")?;
    let text = config.profiles.find("it").unwrap().figures.text();
    let lists = [&text.paths, &text.headers, &text.calculations];
    Ok(lists.map(|list| list.iter().map(|(name, _)| name.clone()).collect()))
}

#[test]
fn inherited_entries_stay_until_a_file_takes_them_away() {
    let all = [
        &["tokens", "ns"][..],
        &["wait"],
        &["rate", "twice", "waited", "took"],
    ];
    let only_headers = [&[][..], &["wait", "q"], &["waited", "took"]];
    let table = [
        ("", all),
        ("source: response_body", all),
        (
            "source: response_headers, headers: { q: X-Q }",
            only_headers,
        ),
        (
            "source: response_headers, headers: { q: X-Q }, paths: { ns: '' }",
            only_headers,
        ),
        (
            "source: response_headers, calculations: { twice: wait * 4 }",
            [&[], &["wait"], &["waited", "took", "twice"]],
        ),
        (
            "calculations: { twice: '', took: ' ', never: '' }",
            [&["tokens", "ns"], &["wait"], &["rate", "waited"]],
        ),
        (
            "paths: { ns: '', never: '' }, calculations: { rate: tokens * 2 }",
            [&["tokens"], &["wait"], &["rate", "twice", "waited", "took"]],
        ),
    ];
    for (over, expected) in table {
        let names = names(over).unwrap();
        let names = names
            .each_ref()
            .map(|list| list.iter().map(String::as_str).collect());
        let names: [Vec<&str>; 3] = names;
        assert_eq!(names, expected.map(<[&str]>::to_vec), "{over}");
    }
}

#[test]
fn what_a_file_itself_says_is_not_taken_away_silently() {
    let table = [
        (
            "source: response_headers, paths: { a: $.a }",
            "paths lead through bodies",
        ),
        (
            "source: response_headers, calculations: { a: ns * 2 }",
            "calculations.a",
        ),
        ("paths: { ns: '' }", "calculations.rate"),
        ("headers: { wait: '' }", "headers.wait"),
    ];
    for (over, wrong) in table {
        let error = names(over).unwrap_err();
        assert!(error.contains(wrong), "{over}: {error}");
    }
}
