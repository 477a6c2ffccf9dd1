//! Sticky sessions: a conversation stays with the node that answered it, as long as that can take it.

use std::collections::{BTreeMap, BTreeSet};

use arriero::demo;

use crate::support::client::{Raw, Reply};
use crate::support::herd::{herd_of, parse};
use crate::support::{Herd, herd};

const CHAT: &str = "/olla/ollama/api/chat";

fn llama() -> demo::NodeBuilder {
    demo::Node::builder().loaded("llama3").tokens(2).slots(8)
}

fn sticky(keys: &str) -> String {
    format!("proxy: {{ sticky_sessions: {{ enabled: true, {keys} }} }}")
}

async fn three(keys: &str) -> Herd {
    herd(vec![llama(), llama(), llama()], &sticky(keys)).await
}

/// A chat that begins with these words of system and user.
fn body(system: &str, user: &str) -> String {
    format!(
        r#"{{"model":"llama3","messages":[{{"role":"system","content":"{system}"}},{{"role":"user","content":"{user}"}}]}}"#
    )
}

impl Herd {
    async fn begin_with(&self, path: &str, headers: &str, body: &str) -> Raw {
        let mut raw = Raw::open(self.addr()).await;
        let length = body.len();
        raw.send(format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\n{headers}content-length: {length}\r\n\r\n{body}"
        ))
        .await;
        raw
    }

    async fn chat(&self, headers: &str, body: &str) -> Reply {
        let mut raw = self.begin_with(CHAT, headers, body).await;
        raw.reply().await.is(200)
    }

    async fn sessions(&self) -> serde_json::Value {
        self.admin("/internal/stats/sticky").await.is(200).json()
    }
}

fn node(reply: &Reply) -> String {
    reply.header("x-arriero-node").expect("a node").to_owned()
}

/// What an answer's head says of the session: its result and what it is known by.
fn told(reply: &Reply) -> (&str, &str) {
    let header = |name| reply.header(name).unwrap_or("-");
    (
        header("x-olla-sticky-session"),
        header("x-olla-sticky-key-source"),
    )
}

#[tokio::test]
async fn a_session_header_keeps_a_conversation_on_one_node() {
    let headers = ["X-Arriero-Session-ID", "X-Olla-Session-ID", "X-Session-Id"];
    for balancer in ["adaptive", "round-robin", "random"] {
        let yaml = sticky("").replace("{ sticky", &format!("{{ load_balancer: {balancer}, sticky"));
        let herd = herd(vec![llama(), llama(), llama()], &yaml).await;
        for header in headers {
            let named = format!("{header}: {header}-1\r\n");
            let first = herd.chat(&named, &body("be brief", "hi")).await;
            assert_eq!(told(&first), ("miss", "session_header"), "{header}");
            for turn in 0..5 {
                // What it says does not matter.
                let next = herd
                    .chat(&named, &body("be brief", &turn.to_string()))
                    .await;
                assert_eq!(told(&next), ("hit", "session_header"));
                assert_eq!(node(&next), node(&first), "{balancer}");
                assert_eq!(next.route(), Some("sticky"));
                let echo = format!("{header}-1");
                assert_eq!(next.header("x-olla-session-id"), Some(&*echo));
            }
        }
        herd.is_idle().await;
    }
}

#[tokio::test]
async fn each_source_tells_conversations_apart_and_the_first_that_yields_wins() {
    let (one, other) = (body("be brief", "one"), body("be brief", "other"));
    let cases = [
        (
            "session_header",
            ("X-Olla-Session-ID: 1\r\n", &one),
            ("X-Olla-Session-ID: 2\r\n", &one),
        ),
        (
            "chat_id",
            ("X-OpenWebUI-Chat-Id: 1\r\n", &one),
            ("X-OpenWebUI-Chat-Id: 2\r\n", &one),
        ),
        ("prefix_hash", ("", &one), ("", &other)),
        (
            "auth_header",
            ("Authorization: Bearer 1\r\n", &one),
            ("x-api-key: 2\r\n", &one),
        ),
    ];
    for (source, mine, others) in cases {
        let herd = three(&format!("key_sources: [{source}]")).await;
        for (result, (headers, body)) in [
            ("miss", mine),
            ("hit", mine),
            ("miss", others),
            ("hit", mine),
            ("hit", others),
        ] {
            assert_eq!(told(&herd.chat(headers, body).await), (result, source));
        }
    }
    // Of an address there is but one here, and it comes last.
    let herd = three("").await;
    let all = "X-OpenWebUI-Chat-Id: 1\r\nAuthorization: Bearer 1\r\n";
    assert_eq!(told(&herd.chat(all, &one).await), ("miss", "chat_id"));
    let empty = "X-Olla-Session-ID:\r\nX-OpenWebUI-Chat-Id: 1\r\n";
    assert_eq!(told(&herd.chat(empty, &one).await), ("hit", "chat_id"));
    let herd = three("key_sources: [session_header, ip]").await;
    assert_eq!(told(&herd.chat("", &one).await), ("miss", "ip"));
    assert_eq!(told(&herd.chat("", &other).await), ("hit", "ip"));
}

#[tokio::test]
async fn conversations_with_one_system_prompt_are_not_one_session() {
    let herd = three("").await;
    let system = "You are a helpful assistant. ".repeat(40);
    let mut nodes = Vec::new();
    for user in [
        "one", "two", "three", "four", "five", "six", "seven", "eight",
    ] {
        let reply = herd.chat("", &body(&system, user)).await;
        assert_eq!(told(&reply), ("miss", "prefix_hash"));
        nodes.push((node(&reply), user));
    }
    let used: BTreeSet<&String> = nodes.iter().map(|(node, _)| node).collect();
    assert!(1 < used.len(), "{nodes:?}");
    for (node_of, user) in nodes {
        let next = r#",{"role":"assistant","content":"yes"},{"role":"user","content":"go on"}]}"#;
        let turn = body(&system, user).replace("]}", next);
        let reply = herd.chat("", &turn).await;
        assert_eq!((told(&reply).0, node(&reply)), ("hit", node_of));
    }
}

#[tokio::test]
async fn how_much_of_a_prompt_counts_is_configured() {
    let (one, other) = (body("same", "0123456789abc"), body("same", "0123456789xyz"));
    for (bytes, expected) in [(10, "hit"), (11, "miss")] {
        let herd = three(&format!("prefix_hash_bytes: {bytes}")).await;
        herd.chat("", &one).await;
        assert_eq!(told(&herd.chat("", &other).await).0, expected);
    }
}

#[tokio::test]
async fn a_node_that_is_full_gives_its_session_to_another() {
    let nodes = vec![(llama(), "slots: 1"), (llama(), "slots: 1")];
    let herd = herd_of(nodes, &sticky("")).await;
    let (named, chat) = ("X-Olla-Session-ID: 1\r\n", body("", "hi"));
    let first = herd.chat(named, &chat).await;
    herd.is_idle().await;
    herd.nodes.iter().for_each(|node| node.pause_after(1));
    let mut busy = herd.begin_with(CHAT, named, &chat).await;
    busy.head().await.expect("a head");
    let mut second = herd.begin_with(CHAT, named, &chat).await;
    let (_, head) = second.head().await.expect("a head");
    let of = |wanted: &str| head.iter().find(|(name, _)| name == wanted).cloned();
    assert_eq!(of("x-olla-sticky-session").expect("a result").1, "repin");
    let moved_to = of("x-arriero-node").expect("a node").1;
    assert_ne!(moved_to, node(&first));
    herd.nodes.iter().for_each(demo::Node::resume);
    assert!(busy.rest().await.1 && second.rest().await.1);
    herd.is_idle().await;
    let after = herd.chat(named, &chat).await;
    assert_eq!((told(&after).0, node(&after)), ("hit", moved_to));
    assert_eq!(herd.sessions().await["repins"], 1);
}

#[tokio::test]
async fn a_node_that_dies_loses_its_sessions_one_by_one_and_gets_none_back() {
    let herd = three("").await;
    let (named, chat) = ("X-Olla-Session-ID: 1\r\n", body("", "hi"));
    let first = herd.chat(named, &chat).await;
    let place = node(&first).trim_start_matches("gpu-").parse::<usize>();
    let dead = &herd.nodes[place.expect("a number")];
    dead.kill();
    let second = herd.chat(named, &chat).await;
    assert_eq!(told(&second), ("repin", "session_header"));
    dead.revive().await.expect("the port is free again");
    herd.settled().await;
    let third = herd.chat(named, &chat).await;
    assert_eq!((told(&third).0, node(&third)), ("hit", node(&second)));
}

#[tokio::test]
async fn what_everybody_has_in_common_is_no_hot_spot() {
    let herd = three("key_sources: [auth_header]").await;
    herd.nodes.iter().for_each(|node| node.pause_after(1));
    let mut streams = Vec::new();
    for user in 0..9 {
        let body = body("", &user.to_string());
        let mut raw = herd
            .begin_with(CHAT, "Authorization: Bearer shared\r\n", &body)
            .await;
        assert_eq!(raw.head().await.expect("a head").0, 200);
        streams.push(raw);
    }
    let shares = [0, 1, 2].map(|node| herd.served(node).len());
    assert!(
        shares.iter().all(|share| (1..=5).contains(share)),
        "{shares:?}"
    );
    herd.nodes.iter().for_each(demo::Node::resume);
    for mut raw in streams {
        assert!(raw.rest().await.1);
    }
    herd.is_idle().await;
}

#[tokio::test]
async fn the_page_counts_and_the_oldest_makes_room() {
    let herd = three("max_sessions: 2, idle_ttl_seconds: 60").await;
    for (name, result) in [
        (1, "miss"),
        (2, "miss"),
        (1, "hit"),
        (3, "miss"),
        (2, "miss"),
        (3, "hit"),
    ] {
        let named = format!("X-Olla-Session-ID: {name}\r\n");
        let reply = herd.chat(&named, &body("", "hi")).await;
        assert_eq!(told(&reply).0, result, "{name}");
    }
    let expected = serde_json::json!({
        "enabled": true,
        "active_sessions": 2,
        "insertions": 4,
        "hits": 2,
        "misses": 4,
        "repins": 0,
        "evictions": 2,
        "max_sessions": 2,
        "idle_ttl_seconds": 60,
        "key_sources": ["session_header", "chat_id", "prefix_hash", "auth_header", "ip"],
    });
    assert_eq!(herd.sessions().await, expected);
}

#[tokio::test]
async fn where_it_is_off_nobody_is_bound_and_what_was_where_is_known_all_the_same() {
    let herd = herd(vec![llama(), llama(), llama()], "").await;
    let named = "X-Olla-Session-ID: 1\r\n";
    let mut nodes = BTreeMap::new();
    for _ in 0..6 {
        let reply = herd.chat(named, &body("", "hi")).await;
        assert_eq!(told(&reply), ("-", "-"));
        assert_eq!(reply.header("x-olla-session-id"), None);
        assert_eq!(reply.header("x-arriero-route"), Some("warm"));
        *nodes.entry(node(&reply)).or_insert(0) += 1;
    }
    assert_eq!(nodes.into_values().collect::<Vec<_>>(), [2, 2, 2]);
    let page = herd.sessions().await;
    assert_eq!(
        (&page["enabled"], &page["hits"]),
        (&false.into(), &5.into())
    );
    let known_by = serde_json::json!(["session_header", "chat_id", "prefix_hash"]);
    assert_eq!(page["key_sources"], known_by);
}

#[tokio::test]
async fn what_has_no_session_says_so_and_leaves_none() {
    let node = || llama().embedder("nomic");
    let herd = herd(
        vec![node(), node()],
        &sticky("key_sources: [session_header]"),
    )
    .await;
    let reply = herd
        .chat("Authorization: Bearer 1\r\n", &body("", "hi"))
        .await;
    assert_eq!(told(&reply), ("disabled", "none"));
    let named = "X-Olla-Session-ID: 1\r\n";
    for (call, body) in [
        ("embed", r#"{"model":"nomic","input":"hi"}"#),
        ("show", r#"{"model":"llama3"}"#),
    ] {
        let path = format!("/olla/ollama/api/{call}");
        let mut raw = herd.begin_with(&path, named, body).await;
        assert_eq!(told(&raw.reply().await.is(200)), ("disabled", "none"));
    }
    // An error is no answer that a later turn could build on, and only Olla's mounts say these words.
    herd.nodes.iter().for_each(|node| {
        node.fault(demo::Fault::Status {
            status: 400,
            body: r#"{"error":"no"}"#.to_owned(),
        });
    });
    let mut raw = herd.begin_with(CHAT, named, &body("", "hi")).await;
    assert_eq!(told(&raw.reply().await.is(400)).0, "miss");
    herd.nodes.iter().for_each(demo::Node::clear_fault);
    assert_eq!(herd.sessions().await["insertions"], 0);
    let mut raw = herd.begin_with("/api/chat", named, &body("", "hi")).await;
    assert_eq!(told(&raw.reply().await.is(200)), ("-", "-"));
    assert_eq!(herd.sessions().await["insertions"], 1);
}

#[tokio::test]
async fn a_name_that_no_header_should_hold_counts_and_is_not_said_back() {
    let herd = three("").await;
    for name in ["two words".to_owned(), "x".repeat(129), "x".repeat(20_000)] {
        let named = format!("X-Olla-Session-ID: {name}\r\n");
        for result in ["miss", "hit"] {
            let reply = herd.chat(&named, &body("", "hi")).await;
            assert_eq!(told(&reply), (result, "session_header"));
            assert_eq!(reply.header("x-olla-session-id"), None);
        }
    }
}

#[tokio::test]
async fn a_node_that_leaves_takes_its_sessions_with_it() {
    let herd = three("").await;
    let named = "X-Olla-Session-ID: 1\r\n";
    let first = herd.chat(named, &body("", "hi")).await;
    assert_eq!(herd.sessions().await["active_sessions"], 1);
    let staying = (0..3).filter(|at| format!("gpu-{at}") != node(&first));
    let endpoints = staying.map(|at| {
        let url = herd.nodes[at].url();
        format!("  - {{ url: \"{url}\", name: gpu-{at}, type: ollama }}\n")
    });
    let text = format!(
        "{}\nendpoints:\n{}",
        sticky(""),
        endpoints.collect::<String>()
    );
    let reloaded = herd.gateway.gateway.reload(parse(&text));
    reloaded.expect("a good configuration");
    let page = herd.sessions().await;
    assert_eq!(
        (&page["active_sessions"], &page["evictions"]),
        (&0.into(), &1.into())
    );
    let next = herd.chat(named, &body("", "hi")).await;
    assert_eq!(told(&next).0, "miss");
}
