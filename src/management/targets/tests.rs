//! Which nodes are asked, as a table over one fleet.

use std::time::Instant;

use super::*;
use crate::dialect::recognize;
use crate::fleet::Observation;
use crate::fleet::fixture::{Herd, herd};

const FLEET: &str = "
    a up 0/4 llama* qwen
    b down 0/4 llama
    c up 0/4 llama
    d@vllm up 0/4 llama
    e unknown 0/4 qwen
";

fn fleet() -> Herd {
    let herd = herd(FLEET);
    let view = herd.fleet.view();
    for node in &view.nodes {
        let addr = Observation::Resolved("127.0.0.1:1".parse().unwrap());
        herd.fleet.observe(node.id, addr, Instant::now());
    }
    herd
}

/// `asked / skipped`, or the status.
fn told(aim: Aim, reach: Reach<'_>) -> String {
    match targets(
        &aim,
        Operation::Pull,
        &Mount::All,
        reach,
        &fleet().fleet.view(),
    ) {
        Err(fault) => fault.status().to_string(),
        Ok(targets) => {
            let asked: Vec<&str> = targets.nodes.iter().map(|it| it.name.as_str()).collect();
            let skipped: Vec<&str> = targets.skipped.iter().map(|it| it.node.as_str()).collect();
            format!("{} / {}", asked.join(" "), skipped.join(" "))
        }
    }
}

fn named(names: &str) -> Aim {
    Aim::Named(names.split(' ').map(str::to_owned).collect())
}

#[test]
fn who_is_asked() {
    let key = |name| ModelKey::parse(name).unwrap();
    let (llama, qwen, none) = (key("llama"), key("QWEN:latest"), key("none"));
    let (all, first) = (DefaultTarget::All, DefaultTarget::First);
    let node = |name: &str| DefaultTarget::Node(name.to_owned());
    let (c, b, gone) = (node("c"), node("b"), node("gone"));
    let cases = [
        (Aim::Unsaid, Reach::Default(&all), "a c e / b"),
        (Aim::Unsaid, Reach::Default(&first), "a / "),
        (Aim::Unsaid, Reach::Default(&c), "c / "),
        (Aim::Unsaid, Reach::Default(&b), "503"),
        (Aim::Unsaid, Reach::Default(&gone), "404"),
        (Aim::Unsaid, Reach::Holders(&llama), "a c / b"),
        (Aim::Unsaid, Reach::Holders(&qwen), "a e / "),
        (Aim::Unsaid, Reach::Holders(&none), "404"),
        (Aim::Unsaid, Reach::FirstHolder(&llama), "a / "),
        (Aim::Unsaid, Reach::Loaded(&llama), "a / "),
        (Aim::Unsaid, Reach::Loaded(&qwen), " / "),
        (Aim::Unsaid, Reach::Loaded(&none), "404"),
        (Aim::Index(2), Reach::Default(&all), "c / "),
        (Aim::Index(2), Reach::Holders(&qwen), "c / "),
        (Aim::Index(1), Reach::Default(&all), "503"),
        (Aim::Index(3), Reach::Default(&all), "501"),
        (Aim::Index(9), Reach::Default(&all), "404"),
        (named("c a c"), Reach::Default(&first), "c a / "),
        (named("c b"), Reach::Default(&all), "503"),
        (named("c x"), Reach::Default(&all), "404"),
        (named("d"), Reach::Holders(&llama), "501"),
    ];
    for (aim, reach, expected) in cases {
        assert_eq!(told(aim.clone(), reach), expected, "{aim:?} {reach:?}");
    }
}

#[test]
fn an_unknown_node_is_told_with_those_there_are() {
    let all = DefaultTarget::All;
    let view = fleet().fleet.view();
    let reach = Reach::Default(&all);
    let fault = targets(&named("x"), Operation::Pull, &Mount::All, reach, &view).unwrap_err();
    assert_eq!(
        fault.message,
        "no node is named `x`; there are a, b, c, d, e"
    );
}

#[test]
fn a_mount_of_another_type_has_nobody_to_ask() {
    let all = DefaultTarget::All;
    let view = fleet().fleet.view();
    let mount = &Mount::Profile("vllm".into());
    let fault = targets(
        &Aim::Unsaid,
        Operation::Pull,
        mount,
        Reach::Default(&all),
        &view,
    );
    assert_eq!(fault.unwrap_err().status(), 501);
}

#[test]
fn the_node_keeps_its_own_spelling_of_the_model() {
    let key = ModelKey::parse("LLAMA:latest").unwrap();
    let view = fleet().fleet.view();
    let found = targets(
        &Aim::Unsaid,
        Operation::Delete,
        &Mount::All,
        Reach::Holders(&key),
        &view,
    );
    assert_eq!(found.unwrap().nodes[0].spelled.as_deref(), Some("llama"));
}

#[test]
fn the_query_and_the_index_say_where_to() {
    let cases = [
        ("/api/pull", None, Ok(Aim::Unsaid)),
        ("/api/pull", Some("x=1"), Err("unknown_parameter")),
        ("/api/unload", Some("nodes=a"), Err("unknown_parameter")),
        (
            "/api/pull",
            Some("node=a&nodes=b"),
            Err("unknown_parameter"),
        ),
        ("/api/pull", Some("NODE=a"), Err("unknown_parameter")),
        ("/api/pull", Some(""), Ok(Aim::Unsaid)),
        ("/api/pull", Some("node=a&node=b,c&"), Ok(named("a b c"))),
        ("/api/pull/3", None, Ok(Aim::Index(3))),
        ("/api/pull", Some("&n%6fde=a,b"), Ok(named("a b"))),
        ("/api/pull", Some("node=a%2Cb%2c,"), Ok(named("a b"))),
        ("/api/pull", Some("node=%zz%"), Ok(named("%zz%"))),
        ("/api/pull", Some("node="), Err("no_node")),
        ("/api/pull/3", Some("node=a"), Err("ambiguous_node")),
    ];
    for (path, query, expected) in cases {
        let call = recognize(
            &http::Method::POST,
            path,
            &crate::profile::Profiles::new(Vec::new()),
        )
        .unwrap();
        let aim = Aim::of(&call, query).map_err(|fault| fault.code());
        assert_eq!(aim, expected, "{path} {query:?}");
    }
}
