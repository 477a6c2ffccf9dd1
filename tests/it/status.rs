//! The status pages over sockets: they tell the truth, all of it once, and nobody's secrets.

use arriero::demo::{self, Fault, Kind};
use serde_json::Value;

use crate::support::client::Raw;
use crate::support::herd::{herd_of, parse};
use crate::support::{Herd, herd, within};

const CHAT: &str = r#"{"model":"llama3","messages":[{"role":"user","content":"hi"}]}"#;
const PAGES: &[&str] = &[
    "/internal/status",
    "/internal/status/endpoints",
    "/internal/status/models?detailed=true&group=family",
    "/internal/stats/models?include_endpoints&include_summary",
    "/internal/stats/translators",
    "/internal/stats/sticky",
    "/internal/process",
    "/version",
    "/metrics",
];

fn llama() -> demo::NodeBuilder {
    demo::Node::builder().loaded("llama3").tokens(2)
}

/// Two Ollama nodes and a vLLM.
async fn mixed() -> Herd {
    let vllm = demo::Node::builder()
        .kind(Kind::OpenAi)
        .loaded("mistral-7b")
        .tokens(2);
    let nodes = vec![(llama(), ""), (llama(), "slots: 3"), (vllm, "type: vllm")];
    herd_of(nodes, "").await
}

async fn page(herd: &Herd, path: &str) -> Value {
    herd.admin(path).await.is(200).json()
}

/// The page once it suits: a request is counted a moment after its last byte.
async fn until(herd: &Herd, path: &str, suits: impl Fn(&Value) -> bool) -> Value {
    let seen = async {
        loop {
            let page = page(herd, path).await;
            if suits(&page) {
                return page;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    within(path, seen).await
}

async fn until_counted(herd: &Herd, requests: u64) -> Value {
    let all = |status: &Value| status["system"]["total_requests"] == requests;
    until(herd, "/internal/status", all).await
}

fn sum<'a>(entries: impl IntoIterator<Item = &'a Value>, field: &str) -> u64 {
    let numbers = entries.into_iter().map(|entry| entry[field].as_u64());
    numbers.map(|number| number.expect("a number")).sum()
}

fn items(value: &Value) -> &Vec<Value> {
    value.as_array().expect("a list")
}

#[tokio::test]
async fn ten_requests_are_ten_on_every_page() {
    let herd = mixed().await;
    for _ in 0..6 {
        herd.post("/api/chat", CHAT).await.is(200);
    }
    let mistral = CHAT.replace("llama3", "Mistral-7B");
    for _ in 0..3 {
        herd.post("/v1/chat/completions", &mistral).await.is(200);
    }
    let message = r#"{"model":"llama3","max_tokens":9,"stream":true,"messages":[{"role":"user","content":"hi"}]}"#;
    herd.post("/v1/messages", message).await.is(200);
    herd.get("/api/tags").await.is(200); // asks no node

    let status = until_counted(&herd, 10).await;
    let system = &status["system"];
    assert_eq!(sum(items(&status["endpoints"]), "requests"), 10);
    assert_eq!(
        (&system["total_failures"], &system["total_succeeded"]),
        (&0.into(), &10.into())
    );
    assert_eq!(system["status"], "healthy");
    assert_eq!(system["endpoints_up"], "3/3");
    assert_eq!(system["success_rate"], "100%");
    assert!(0 < system["total_traffic_bytes"].as_u64().expect("bytes"));

    let endpoints = page(&herd, "/internal/status/endpoints").await;
    let nodes = items(&endpoints["endpoints"]);
    assert_eq!(sum(nodes, "request_count"), 10);
    assert_eq!(sum(nodes, "succeeded_count"), 10);
    assert_eq!(nodes[2]["request_count"], 3);
    assert_eq!(nodes[2]["type"], "vllm");
    assert_eq!(
        (&nodes[1]["slots"], &nodes[1]["status"]),
        (&3.into(), &"healthy".into())
    );
    assert_eq!(nodes[0]["loaded"], serde_json::json!(["llama3:latest"]));
    assert!(nodes[0]["health_check_at"].is_string() && nodes[0]["last_model_sync_at"].is_string());
    for count in ["total_count", "healthy_count", "routable_count"] {
        assert_eq!(endpoints[count], 3, "{count}");
    }

    let all = "/internal/stats/models?include_endpoints=true&include_summary=true";
    let usage = page(&herd, all).await;
    let models = items(&usage["models"]);
    assert_eq!(models.len(), 2);
    assert_eq!(sum(models, "total_requests"), 10);
    assert_eq!(sum(models, "routing_hits"), 10);
    assert_eq!(models[0]["name"], "llama3:latest");
    assert_eq!(models[0]["unique_clients"], 1);
    let broken_down = models[0]["endpoint_breakdown"].as_object().expect("nodes");
    assert_eq!(sum(broken_down.values(), "total_requests"), 7);
    assert_eq!(usage["summary"]["most_popular_model"], "llama3:latest");
    assert_eq!(usage["summary"]["total_requests"], 10);

    let translators = page(&herd, "/internal/stats/translators").await;
    let anthropic = &translators["translators"][0];
    let counted = [
        "total_requests",
        "passthrough_requests",
        "streaming_requests",
    ];
    assert!(
        counted.iter().all(|field| anthropic[field] == 1),
        "{anthropic}"
    );
}

#[tokio::test]
async fn a_nodes_failures_are_failures_and_nobody_elses_are() {
    let herd = herd(vec![llama()], "").await;
    let node = &herd.nodes[0];
    let refuse = |status| Fault::Refuse {
        status,
        message: "no".into(),
    };
    node.fault_times(refuse(500), 1);
    herd.post("/api/chat", CHAT).await.is(500);
    node.fault_times(Fault::FinAfter { after: 1 }, 1);
    assert!(!herd.post("/api/chat", CHAT).await.is(200).complete);
    node.fault_times(refuse(400), 1);
    herd.post("/api/chat", CHAT).await.is(400);
    herd.post("/api/chat", "{").await.is(400);
    herd.post("/api/chat", CHAT).await.is(200);
    node.pause_after(1);
    let mut stream = herd.begin("/api/chat", CHAT).await;
    stream.head().await.expect("a head");
    drop(stream);
    let status = until_counted(&herd, 6).await;
    node.resume();
    let system = &status["system"];
    let told = [
        "total_succeeded",
        "total_failures",
        "total_refused",
        "total_client_left",
    ];
    assert_eq!(
        told.map(|field| system[field].as_u64()),
        [Some(2), Some(2), Some(1), Some(1)]
    );
    assert_eq!(system["success_rate"], "50.0%");
    let endpoints = page(&herd, "/internal/status/endpoints").await;
    let node = &endpoints["endpoints"][0];
    let told = [
        "succeeded_count",
        "failed_count",
        "client_left_count",
        "request_count",
    ];
    assert_eq!(
        told.map(|field| node[field].as_u64()),
        [Some(2), Some(2), Some(1), Some(5)]
    );
}

#[tokio::test]
async fn an_attempt_that_went_on_elsewhere_speaks_against_its_node() {
    let nodes = vec![(llama(), "priority: 200"), (llama(), "priority: 100")];
    let herd = herd_of(nodes, "").await;
    herd.nodes[0].fault_times(Fault::FinBeforeHead, 1);
    herd.post("/api/chat", CHAT).await.is(200);
    let status = until_counted(&herd, 1).await;
    assert_eq!(status["system"]["success_rate"], "100%");
    let endpoints = page(&herd, "/internal/status/endpoints").await;
    let told = |at: usize| {
        let node = &endpoints["endpoints"][at];
        ["request_count", "failed_over_count", "success_percent"].map(|field| node[field].as_f64())
    };
    assert_eq!(told(0), [Some(0.0), Some(1.0), Some(0.0)]);
    assert_eq!(told(1), [Some(1.0), Some(0.0), Some(100.0)]);
    let usage = page(&herd, "/internal/stats/models").await;
    assert_eq!(usage["models"][0]["routing_fallbacks"], 1);
}

#[tokio::test]
async fn a_killed_node_shows() {
    let herd = mixed().await;
    herd.nodes[0].kill();
    herd.eventually("gpu-0 is down", |view| view.nodes[0].health.is_down())
        .await;
    let endpoints = page(&herd, "/internal/status/endpoints").await;
    let dead = &endpoints["endpoints"][0];
    assert_eq!(
        (&dead["status"], &dead["is_routable"]),
        (&"offline".into(), &false.into())
    );
    let issues = dead["issues"].as_str().expect("a reason");
    assert!(issues.contains("refused"), "{issues}");
    assert_eq!(
        (&endpoints["healthy_count"], &endpoints["total_count"]),
        (&2.into(), &3.into())
    );
    let status = page(&herd, "/internal/status").await;
    assert_eq!(status["system"]["endpoints_up"], "2/3");
    assert_eq!(status["system"]["status"], "degraded");
}

#[tokio::test]
async fn a_node_that_leaves_is_shown_until_its_last_request_has_ended() {
    let herd = herd(vec![llama(), llama()], "").await;
    for node in &herd.nodes {
        node.pause_after(1);
    }
    let mut stream = herd.begin("/api/chat", CHAT).await;
    let (_, headers) = stream.head().await.expect("a head");
    let by = headers.iter().find(|(name, _)| name == "x-arriero-node");
    let (_, leaver) = by.expect("a node");
    let stays = usize::from(leaver == "gpu-0");
    let url = herd.nodes[stays].url();
    let text = format!("endpoints: [{{ url: \"{url}\", name: gpu-{stays}, type: ollama }}]");
    herd.gateway
        .gateway
        .reload(parse(&text))
        .expect("a good configuration");
    let endpoints = page(&herd, "/internal/status/endpoints").await;
    assert_eq!(
        (&endpoints["total_count"], &endpoints["leaving_count"]),
        (&1.into(), &1.into())
    );
    let shown = &endpoints["endpoints"][1];
    assert_eq!(
        (&shown["name"], &shown["status"]),
        (&leaver.as_str().into(), &"leaving".into())
    );
    assert_eq!(shown["active_connections"], 1);
    for node in &herd.nodes {
        node.resume();
    }
    stream.rest().await;
    let gone = |page: &Value| page["leaving_count"] == 0;
    let endpoints = until(&herd, "/internal/status/endpoints", gone).await;
    assert_eq!(items(&endpoints["endpoints"]).len(), 1);
}

#[tokio::test]
async fn names_that_clients_make_up_become_one_entry() {
    let herd = herd(vec![llama()], "").await;
    for n in 0..50 {
        let body = CHAT.replace("llama3", &format!("made-up-{n}"));
        herd.post("/api/chat", &body).await.is(404);
    }
    until_counted(&herd, 50).await;
    let usage = page(&herd, "/internal/stats/models").await;
    let models = items(&usage["models"]);
    assert_eq!(models.len(), 1);
    assert_eq!(
        (&models[0]["name"], &models[0]["routing_misses"]),
        (&"other".into(), &50.into())
    );
    for path in PAGES {
        assert!(!herd.admin(path).await.text().contains("made-up"), "{path}");
    }
}

#[tokio::test]
async fn no_page_tells_a_secret_not_even_when_a_node_repeats_it() {
    const KEYS: &str =
        "auth: { type: bearer, token: open-sesame-1 }\nheaders: { X-Tenant: open-sesame-2 }";
    // With a second one, or the first would be the last that has the model, which is never ejected.
    let nodes = vec![(llama(), KEYS), (llama(), "")];
    let herd = herd_of(nodes, "admin: { key: open-sesame-3 }").await;
    herd.nodes[0].fault(Fault::Refuse {
        status: 500,
        message: "model runner has unexpectedly stopped: open-sesame-1 open-sesame-2".into(),
    });
    for _ in 0..2 {
        herd.post("/api/chat/0", CHAT).await;
    }
    herd.eventually("gpu-0 is down", |view| view.nodes[0].health.is_down())
        .await;
    for path in PAGES {
        let mut raw = Raw::open(herd.gateway.admin_addr).await;
        let head = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n");
        raw.send(format!("{head}authorization: Bearer open-sesame-3\r\n\r\n"))
            .await;
        let text = raw.reply().await.is(200).text();
        assert!(!text.contains("open-sesame"), "{path}: {text}");
        let names_it = path.ends_with("/status") || path.ends_with("/endpoints");
        assert_eq!(
            text.contains("it answered 500: its runner failed"),
            names_it,
            "{path}: {text}"
        );
        let mut raw = Raw::open(herd.gateway.admin_addr).await;
        raw.send(format!("{head}\r\n")).await;
        raw.reply().await.is(401);
    }
}

#[tokio::test]
async fn refused_sizes_are_counted_as_such() {
    let limit = "server: { request_limits: { max_body_size: 1000 } }";
    let herd = herd(vec![llama()], limit).await;
    let long = CHAT.replace("hi", &"long ".repeat(400));
    herd.post("/api/chat", &long).await.is(413);
    let status = until_counted(&herd, 1).await;
    let security = &status["security"];
    assert_eq!(
        security["violations"],
        serde_json::json!({ "rate_limits": 0, "size_limits": 1 })
    );
    assert_eq!(status["system"]["security_violations"], 1);
    assert_eq!(status["system"]["total_failures"], 0);
}

#[tokio::test]
async fn whoever_has_a_page_is_told_so_and_a_head_has_no_body() {
    // One probe and no more, so that nothing but the clock moves.
    let seldom = "check_interval: 1h\ncheck_timeout: 1s";
    let herd = herd_of(vec![(llama(), seldom)], "").await;
    let status = herd.admin("/internal/status").await;
    assert!(status.header("etag").is_some());
    for path in ["/internal/status/endpoints", "/internal/status/models"] {
        let first = herd.admin(path).await.is(200);
        assert_eq!(first.header("cache-control"), Some("private, no-cache"));
        let etag = first.header("etag").expect("an entity tag").to_owned();
        for addr in [herd.addr(), herd.gateway.admin_addr] {
            let ask = |method: &str, more: &str| {
                format!("{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n{more}\r\n")
            };
            // One connection for all: an answer with a stray body would spoil the next one.
            let mut raw = Raw::open(addr).await;
            raw.send(ask("HEAD", "")).await;
            let head = raw.reply_to_head().await.is(200);
            assert!(head.header("content-length") != Some("0"));
            raw.send(ask("GET", &format!("if-none-match: {etag}\r\n")))
                .await;
            raw.reply_to_head().await.is(304);
            raw.send(ask("GET", "if-none-match: W/\"another\"\r\n"))
                .await;
            assert!(raw.reply().await.is(200).json()["timestamp"].is_string());
        }
    }
}

#[tokio::test]
async fn version_is_the_gateways_at_the_root_and_no_nodes() {
    let herd = mixed().await;
    let told = page(&herd, "/version").await;
    assert_eq!(
        (&told["name"], &told["version"]),
        (&"Arriero".into(), &env!("CARGO_PKG_VERSION").into())
    );
    let backends = items(&told["supported_backends"]);
    assert!(backends.contains(&"ollama".into()) && backends.contains(&"vllm".into()));
    let mut raw = Raw::open(herd.addr()).await;
    raw.send("GET /version HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
        .await;
    assert_eq!(raw.reply().await.is(200).json()["name"], "Arriero");
    herd.get("/vllm/version").await.is(404);
    let process = page(&herd, "/internal/process").await;
    if cfg!(target_os = "linux") {
        assert!(0 < process["memory"]["rss_bytes"].as_u64().expect("bytes"));
        assert!(0 < process["goroutines"]["count"].as_u64().expect("threads"));
    }
}
