//! What extractions refuse to be, and how they say so.

use super::super::{Extraction, ExtractionText};
use super::text;

/// Section, name and text of an entry, and what is said about it.
#[rustfmt::skip]
const MISTAKES: &[(&str, (&str, &str), &str)] = &[
    ("paths", ("a", "usage"), "paths.a: it does not begin with `$`"),
    ("paths", ("a", "$"), "paths.a: it names the whole answer, not a value in it"),
    ("paths", ("a", "$[0].x"), "paths.a: answers are objects, not lists"),
    ("paths", ("a", "$..x"), "paths.a: `..x` does not begin with a member's name"),
    ("paths", ("a", "$.x[*]"), "paths.a: `[*]` is neither a quoted name nor an item's number up to 9999"),
    ("paths", ("a", "$.x[-1]"), "paths.a: `[-1]` is neither a quoted name nor an item's number up to 9999"),
    ("paths", ("a", "$.x[10000]"), "paths.a: `[10000]` is neither a quoted name nor an item's number up to 9999"),
    ("paths", ("a", "$.x['ä']"), "paths.a: `['ä']` is not a name of printable ASCII"),
    ("paths", ("a", "$.x['']"), "paths.a: `['']` is not a name of printable ASCII"),
    ("paths", ("a", "$.x[0"), "paths.a: `[0` is neither a member nor an item"),
    ("paths", ("a", "$.x y"), "paths.a: ` y` is neither a member nor an item"),
    ("paths", ("A", "$.x"), "paths: `A` can't be a metric's name"),
    ("headers", ("a", "X Y"), "headers.a: `X Y` is no name of a header"),
    ("headers", ("a", ""), "headers.a: `` is no name of a header"),
    ("calculations", ("n", "1"), "calculations.n: the name is given twice"),
    ("calculations", ("a", "m + 1"), "calculations.a: `m` is no path, no header and no calculation before this one"),
    ("calculations", ("a", "a + 1"), "calculations.a: `a` is no path, no header and no calculation before this one"),
    ("calculations", ("a", "round(n)"), "calculations.a: `round` is no path, no header and no calculation before this one"),
    ("calculations", ("a", ""), "calculations.a: the end stands where a value should"),
    ("calculations", ("a", "(n"), "calculations.a: the end stands where `)` should"),
    ("calculations", ("a", "n ? 1"), "calculations.a: the end stands where `:` should"),
    ("calculations", ("a", "n 1"), "calculations.a: `1` stands where it should end"),
    ("calculations", ("a", "n * / 2"), "calculations.a: `/` stands where a value should"),
    ("calculations", ("a", "n % 2"), "calculations.a: it can't hold `%`"),
    ("calculations", ("a", "n + 'x"), "calculations.a: the text that begins with ' does not end"),
    ("calculations", ("a", "1.2.3"), "calculations.a: it can't hold `.`"),
    ("calculations", ("a", "2x"), "calculations.a: `2x` is no number"),
    ("calculations", ("a", "1e999"), "calculations.a: `1e999` is no number"),
];

#[track_caller]
fn check_mistake(section: &str, entry: (&str, &str), expected: &str) {
    let text = match section {
        "paths" => text(&[entry], &[], &[]),
        "headers" => text(&[], &[entry], &[]),
        _ => text(&[("n", "$.n")], &[], &[entry]),
    };
    let problems = Extraction::compile(&text).unwrap_err();
    let told: Vec<String> = problems
        .iter()
        .map(|problem| format!("{}: {}", problem.what, problem.why))
        .collect();
    assert_eq!(told, [expected]);
    assert!(problems.iter().all(|problem| problem.hint.is_some()));
}

#[test]
fn a_mistake_is_told_with_its_place() {
    for (section, entry, expected) in MISTAKES {
        check_mistake(section, *entry, expected);
    }
}

#[test]
fn paths_and_calculations_have_limits() {
    let (deep_path, long_path) = (
        format!("${}", ".a".repeat(17)),
        format!("$.{}", "a".repeat(255)),
    );
    let (deep, long) = ("(".repeat(80), "1+".repeat(257));
    let cases: [(&str, (&str, &str), &str); 4] = [
        (
            "paths",
            ("a", &deep_path),
            "paths.a: it has more than 16 steps",
        ),
        (
            "paths",
            ("a", &long_path),
            "paths.a: it is longer than 256 bytes",
        ),
        (
            "calculations",
            ("a", &deep),
            "calculations.a: it is nested deeper than 64 levels",
        ),
        (
            "calculations",
            ("a", &long),
            "calculations.a: it is longer than 512 bytes",
        ),
    ];
    for (section, entry, expected) in cases {
        check_mistake(section, entry, expected);
    }
    let longest = format!("{}1", "1+".repeat(255));
    let most = text(&[("a", &deep_path[..33])], &[], &[("b", &longest)]);
    assert!(Extraction::compile(&most).is_ok());
}

#[test]
fn all_mistakes_are_told_at_once() {
    let everywhere = ExtractionText {
        source: "response_trailers".into(),
        format: "xml".into(),
        ..text(&[("a", "x")], &[("b", ":")], &[("c", "?")])
    };
    let problems = Extraction::compile(&everywhere).unwrap_err();
    let places: Vec<&str> = problems.iter().map(|problem| &*problem.what).collect();
    assert_eq!(
        places,
        ["source", "format", "paths.a", "headers.b", "calculations.c"]
    );
}

#[test]
fn limits_and_switches() {
    let none = |text| Extraction::compile(&text).unwrap().is_none();
    let off = ExtractionText {
        enabled: false,
        ..text(&[("a", "nonsense")], &[], &[])
    };
    assert!(none(off));
    assert!(none(text(&[], &[], &[])));
    assert!(none(text(&[("a", "")], &[], &[])), "an empty path is none");

    let headers_only = ExtractionText {
        source: "response_headers".into(),
        ..text(&[("a", "$.a")], &[], &[])
    };
    let problems = Extraction::compile(&headers_only).unwrap_err();
    assert_eq!(problems[0].what, "paths");

    let names: Vec<String> = (0..65).map(|at| format!("n{at}")).collect();
    let entries: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "$.a")).collect();
    assert!(Extraction::compile(&text(&entries, &[], &[])).is_err());
    let most = Extraction::compile(&text(&entries[1..], &[], &[])).unwrap();
    assert_eq!(most.unwrap().sight(br#"{"a":1}"#), u64::MAX);

    let long_name = "a".repeat(65);
    assert!(Extraction::compile(&text(&[(&long_name, "$.a")], &[], &[])).is_err());
}
