//! The sums, over tables of ends and over whatever comes.

use std::time::Duration;

use proptest::prelude::*;

use super::*;

const CHAT: Option<Operation> = Some(Operation::Chat);

fn record(end_by: EndBy, status: u16, node: &str, model: &str) -> Record {
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    Record {
        client: Some("10.0.0.7:5000".parse().unwrap()),
        operation: CHAT,
        model: some(model),
        model_label: some(model)
            .filter(|name| !name.starts_with('?'))
            .map(Into::into),
        node: some(node),
        status,
        end_by,
        duration: Duration::from_millis(20),
        bytes_in: 10,
        bytes_out: 100,
        ..Record::new(String::new())
    }
}

#[test]
fn each_way_to_end_is_counted_for_what_it_is() {
    let cases = [
        (EndBy::Done, 200, Outcome::Succeeded),
        (EndBy::Done, 400, Outcome::Succeeded),
        (EndBy::Done, 500, Outcome::Failed),
        (EndBy::Node, 200, Outcome::Failed),
        (EndBy::Node, 429, Outcome::Failed),
        (EndBy::Node, 502, Outcome::Failed),
        (EndBy::Client, 499, Outcome::Left),
        (EndBy::Client, 200, Outcome::Left),
        (EndBy::Gateway, 404, Outcome::Refused),
        (EndBy::Gateway, 501, Outcome::Refused),
        (EndBy::Gateway, 503, Outcome::Failed),
        (EndBy::Gateway, 500, Outcome::Failed),
    ];
    for (end_by, status, expected) in cases {
        let outcome = Outcome::of(&record(end_by, status, "a", "m"));
        assert_eq!(outcome, expected, "{end_by:?} {status}");
    }
}

#[test]
fn an_attempt_that_went_on_elsewhere_speaks_against_its_node_without_being_a_request_more() {
    let stats = Stats::default();
    let saved = Record {
        tried: vec!["dead".into()],
        ..record(EndBy::Done, 200, "well", "m")
    };
    stats.record(&saved, 1);
    let report = stats.full_report();
    assert_eq!(report.total.counts.requests(), 1);
    assert_eq!(report.nodes["dead"].all.counts.requests(), 0);
    assert_eq!(report.nodes["dead"].success_percent(), 0.0);
    assert_eq!(report.nodes["well"].success_percent(), 100.0);
    assert_eq!(report.models["m"].routing.fallbacks, 1);
}

#[test]
fn what_is_for_no_node_is_no_request_but_refusals_are_known() {
    let stats = Stats::default();
    for operation in [None, Some(Operation::Tags), Some(Operation::Root)] {
        let page = Record {
            operation,
            model: None,
            ..record(EndBy::Done, 200, "", "")
        };
        stats.record(&page, 1);
    }
    for status in [413, 414, 431, 429] {
        stats.record(&record(EndBy::Gateway, status, "", ""), 1);
    }
    stats.record(&record(EndBy::Node, 429, "a", "m"), 1);
    let report = stats.full_report();
    assert_eq!(report.total.counts.refused, 4);
    assert_eq!(report.total.counts.requests(), 5);
    let refusals = Refusals {
        body_too_large: 1,
        head_too_large: 2,
        too_many: 1,
    };
    assert_eq!(report.refusals, refusals);
}

#[test]
fn durations_of_successes_alone_are_told() {
    let stats = Stats::default();
    for ms in 1..=100 {
        let served = Record {
            duration: Duration::from_millis(ms),
            ..record(EndBy::Done, 200, "a", "m")
        };
        stats.record(&served, ms);
    }
    let late = Record {
        duration: Duration::from_secs(90),
        ..record(EndBy::Client, 200, "a", "m")
    };
    stats.record(&late, 200);
    let all = stats.full_report().models["m"].all;
    assert_eq!((all.min_ms, all.max_ms, all.counts.avg_ms()), (1, 100, 51));
    assert!((95..=100).contains(&all.p95_ms), "{}", all.p95_ms);
    assert!((all.p95_ms..=100).contains(&all.p99_ms), "{}", all.p99_ms);
    assert_eq!(all.counts.last_ms, 200);
}

#[test]
fn clients_are_counted_by_address_without_keeping_any() {
    let stats = Stats::default();
    let ask = |ip: u32, port: u16| {
        let from = Record {
            client: Some((std::net::Ipv4Addr::from(ip), port).into()),
            ..record(EndBy::Done, 200, "a", "m")
        };
        stats.record(&from, 1);
        stats.full_report().models["m"].clients
    };
    assert_eq!(ask(1, 1), 1);
    assert_eq!(ask(1, 2), 1);
    assert_eq!(ask(2, 1), 2);
    for ip in 3..=10_000 {
        stats.record(
            &Record {
                client: Some((std::net::Ipv4Addr::from(ip), 1).into()),
                ..record(EndBy::Done, 200, "a", "m")
            },
            1,
        );
    }
    let many = ask(1, 3);
    assert!((9_000..=11_000).contains(&many), "{many}");
}

#[test]
fn anthropics_calls_are_told_apart() {
    let stats = Stats::default();
    let messages = |status, node: &str, stream| Record {
        operation: Some(Operation::Messages),
        stream,
        ..record(EndBy::Done, status, node, "m")
    };
    stats.record(&messages(200, "a", true), 1);
    stats.record(&messages(200, "a", false), 1);
    let unspoken = Record {
        end_by: EndBy::Gateway,
        ..messages(501, "", false)
    };
    stats.record(&unspoken, 1);
    stats.record(&record(EndBy::Done, 200, "a", "m"), 1);
    let anthropic = stats.full_report().anthropic;
    assert_eq!(anthropic.counts.requests(), 3);
    assert_eq!(
        (
            anthropic.passthrough,
            anthropic.streaming,
            anthropic.unspoken
        ),
        (2, 1, 1)
    );
}

fn sum<'a>(all: impl Iterator<Item = &'a Counts>) -> Counts {
    all.fold(Counts::default(), |mut sum, counts| {
        sum.absorb(counts);
        sum
    })
}

proptest! {
    /// Whatever comes, and however small the tables: nothing is lost and nothing is counted twice.
    #[test]
    fn the_sums_agree(
        told in prop::collection::vec((0..4usize, 200..600u16, 0..6u8, 0..6u8, 0..3usize), 0..200),
        limits in (1..5usize, 1..5usize, 0..6usize),
    ) {
        let stats = Stats::new(limits.0, limits.1, limits.2);
        let (mut all, mut at_nodes, mut named) = (0, 0, 0);
        for (at, (end, status, node, model, tried)) in told.into_iter().enumerate() {
            let ends = [EndBy::Done, EndBy::Client, EndBy::Node, EndBy::Gateway];
            let name = |n: u8, letter: char| match n {
                0 => String::new(),
                1 => format!("?{letter}"),
                n => format!("{letter}{n}"),
            };
            let (node, model) = (name(node, 'n'), name(model, 'm'));
            let told = Record {
                tried: vec!["n2".into(); tried],
                ..record(ends[end], status, &node, &model)
            };
            stats.record(&told, at as u64);
            all += 1;
            at_nodes += u64::from(!node.is_empty());
            named += u64::from(!model.is_empty());
        }
        let report = stats.full_report();
        prop_assert!(report.nodes.len() <= limits.0);
        prop_assert!(report.models.len() <= limits.1 + 1);
        prop_assert_eq!(report.total.counts.requests(), all);
        let nodes = report.nodes.values().chain([&report.other_nodes]);
        let nodes = sum(nodes.map(|node| &node.all.counts));
        prop_assert_eq!(nodes.requests(), at_nodes);
        let models = sum(report.models.values().map(|model| &model.all.counts));
        prop_assert_eq!(models.requests(), named);
        let mut pairs = 0;
        for model in report.models.values() {
            let by_node = sum(model.nodes.iter().map(|(_, counts)| counts));
            let Routing { hits, misses, fallbacks } = model.routing;
            prop_assert_eq!(by_node.requests(), hits + fallbacks);
            prop_assert_eq!(by_node.requests() + misses, model.all.counts.requests());
            pairs += model.nodes.iter().filter(|(name, _)| name != OTHER).count();
        }
        prop_assert!(pairs <= limits.2);
    }
}
