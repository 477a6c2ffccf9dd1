//! `/internal/explain` and `X-Arriero-Route`: why a request goes where it goes, told before and after.

use arriero::demo;
use serde_json::Value;

use crate::nodes::{ask, run};
use crate::support::client::{Raw, Reply, post, request};
use crate::support::process::{Process, arriero};
use crate::support::{Herd, herd};

const CHAT: &str = r#"{"model":"llama3","messages":[{"role":"user","content":"hi"}]}"#;

/// One node has the model in memory, one on disk, one not at all.
async fn three(yaml: &str) -> Herd {
    let node = || demo::Node::builder().tokens(2).slots(8);
    let nodes = vec![
        node().loaded("llama3"),
        node().model("llama3"),
        node().loaded("qwen3"),
    ];
    let herd = herd(nodes, yaml).await;
    herd.settled().await;
    herd
}

fn column<'a>(page: &'a Value, field: &str) -> Vec<&'a Value> {
    let candidates = page["candidates"].as_array().expect("candidates");
    candidates.iter().map(|it| &it[field]).collect()
}

async fn post_admin(herd: &Herd, path: &str, body: &str) -> Reply {
    post(herd.gateway.admin_addr, path, body).await
}

async fn get_main(herd: &Herd, path: &str) -> Reply {
    let mut raw = Raw::open(herd.addr()).await;
    raw.send(request("GET", path, "")).await;
    raw.reply().await.is(200)
}

#[tokio::test]
async fn what_is_explained_is_what_happens() {
    let herd = three("").await;
    let page = post_admin(&herd, "/internal/explain", CHAT).await.is(200);
    let page = page.json();
    assert_eq!(page["decision"]["outcome"], "routed");
    assert_eq!(page["decision"]["node"], "gpu-0");
    assert_eq!(column(&page, "node"), ["gpu-0", "gpu-1", "gpu-2"]);
    assert_eq!(column(&page, "verdict"), ["chosen", "weighed", "no_model"]);
    assert_eq!(column(&page, "loaded"), [true, false, false]);
    let cost = |at: usize| page["candidates"][at]["cost"]["total_s"].as_f64();
    assert!(cost(0) < cost(1), "{page}");
    assert_eq!(cost(2), None);
    assert_eq!(page["queue"]["waiting"], 0);
    // The same by the query, and on the main listener, which only this machine reaches.
    let path = "/internal/explain?model=llama3&path=%2Fapi%2Fchat";
    let asked = herd.admin(path).await.is(200).json();
    assert_eq!(asked["decision"], page["decision"]);
    assert_eq!(
        get_main(&herd, path).await.json()["decision"],
        page["decision"]
    );
    let posted = herd.post("/internal/explain", CHAT).await.is(200);
    assert_eq!(posted.json()["decision"], page["decision"]);

    let reply = herd.post("/api/chat", CHAT).await.is(200);
    assert_eq!(
        reply.header("x-arriero-node"),
        page["decision"]["node"].as_str()
    );
    assert_eq!(
        reply.header("x-arriero-route"),
        page["decision"]["route"].as_str()
    );
}

#[tokio::test]
async fn asking_why_changes_nothing() {
    let herd =
        three("proxy: { load_balancer: round-robin, sticky_sessions: { enabled: true } }").await;
    let before = herd.admin("/internal/stats/sticky").await.json();
    for _ in 0..5 {
        let page = post_admin(&herd, "/internal/explain", CHAT)
            .await
            .is(200)
            .json();
        // Nobody's turn is taken.
        let again = post_admin(&herd, "/internal/explain", CHAT).await.json();
        assert_eq!(page["decision"], again["decision"]);
    }
    herd.is_idle().await;
    assert_eq!(herd.admin("/internal/stats/sticky").await.json(), before);
    let models = herd.admin("/internal/stats/models").await.json();
    assert_eq!(
        models["models"].as_array().map(Vec::len),
        Some(0),
        "{models}"
    );
    for node in 0..3 {
        assert!(herd.served(node).is_empty() && herd.asked_to_load(node).is_empty());
    }
}

#[tokio::test]
async fn a_load_is_told_in_words() {
    let herd = herd(vec![demo::Node::builder().model("llama3").tokens(2)], "").await;
    herd.settled().await;
    let reply = herd.post("/api/chat", CHAT).await.is(200);
    let route = reply.header("x-arriero-route").unwrap_or_default();
    assert!(route.starts_with("only; loads in about "), "{route}");
    assert!(route.is_ascii());
}

#[tokio::test]
async fn what_would_be_refused_is_refused_in_the_same_words() {
    let herd = three("").await;
    let ghost = CHAT.replace("llama3", "ghost");
    let page = post_admin(&herd, "/internal/explain", &ghost)
        .await
        .is(200)
        .json();
    assert_eq!(page["decision"]["outcome"], "refused");
    assert_eq!(page["decision"]["status"], 404);
    let text = page["decision"]["text"].as_str().unwrap_or_default();
    assert!(
        text.contains("ghost") && text.contains("not found"),
        "{text}"
    );

    let large = format!(r#"{{"model":"{}"}}"#, "x".repeat(1024 * 1024));
    for (path, body, status) in [
        ("/internal/explain", "{", 400),
        ("/internal/explain", "", 400),
        ("/internal/explain", r#"{"messages":[]}"#, 400),
        ("/internal/explain", &*large, 413),
        ("/internal/explain?path=/api/tags", CHAT, 405),
        ("/internal/explain?path=/api/delete", CHAT, 405),
        ("/internal/explain?path=/api/pull", CHAT, 400),
        ("/internal/explain?path=/nowhere", CHAT, 404),
    ] {
        let reply = post_admin(&herd, path, body).await;
        assert_eq!(reply.status, status, "{path} {}", reply.text());
        assert!(reply.json()["error"].is_string(), "{path}");
    }
    // Its limit holds on the main listener too.
    herd.post("/internal/explain", &large).await.is(413);
}

#[tokio::test]
async fn the_admin_key_is_asked_for_before_the_question_is_read() {
    let herd = three("admin: { key: secret-admin-key }").await;
    let mut raw = Raw::open(herd.gateway.admin_addr).await;
    // The body never comes.
    raw.send("POST /internal/explain HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n")
        .await;
    assert_eq!(raw.head().await.map(|(status, _)| status), Some(401));
    let mut raw = Raw::open(herd.gateway.admin_addr).await;
    let keyed = "host: localhost\r\nauthorization: Bearer secret-admin-key\r\n";
    let asked =
        request("POST", "/internal/explain", CHAT).replacen("host: localhost\r\n", keyed, 1);
    raw.send(asked).await;
    raw.reply().await.is(200);
}

#[tokio::test]
async fn the_command_prints_a_table_and_json() {
    let node = demo::Node::builder().loaded("llama3").tokens(2);
    let node = node.start().await.expect("a node");
    let mut command = arriero();
    command.env("OLLAMA_BASE_URLS", node.url());
    let gateway = Process::start(command).await;
    let (code, table, why) = run(ask(gateway.admin, &["explain", "llama3"])).await;
    assert_eq!(code, Some(0), "{why}");
    let name = node.addr().to_string();
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines[0].starts_with("NAME"), "{table}");
    let words: Vec<&str> = lines[1].split_whitespace().collect();
    assert_eq!(words[..4], [&name, "chosen", "yes", "0/auto"]);
    assert_eq!(
        lines[2],
        format!("{name} gets it: there is no other candidate.")
    );

    let words = ["explain", "ghost", "--num-ctx", "8192", "--json"];
    let (code, json, _) = run(ask(gateway.admin, &words)).await;
    assert_eq!(code, Some(0));
    let json: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json["decision"]["status"], 404);
    let words = ["explain", "llama3", "--path", "/api/nothing"];
    let (code, _, why) = run(ask(gateway.admin, &words)).await;
    assert_eq!(code, Some(1));
    assert!(why.contains("404"), "{why}");
}
