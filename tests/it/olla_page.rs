//! Every YAML snippet of the Ollama page of Olla's documentation, word for word: it loads, and it changes what happens.
//!
//! For the sockets only hosts are replaced, and in a second run times that are too long to wait for.

use std::path::Path;

use arriero::config::{self, Config};
use arriero::demo::{self, Fault};
use arriero::gateway::local::LocalGateway;

use crate::support::{Herd, within};

const ANSWER: &str =
    r#"{"model":"llama3","stream":false,"messages":[{"role":"user","content":"hi"}]}"#;
const STREAM: &str = r#"{"model":"llama3","messages":[{"role":"user","content":"hi"}]}"#;
/// A configuration that has what a snippet leaves out.
const ONE_NODE: &str = "discovery: { static: { endpoints: [{ url: 'http://ollama:11434', name: gpu, type: ollama }] } }\n";

fn snippet(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/olla-page");
    std::fs::read_to_string(folder.join(format!("{name}.yaml"))).expect("the snippet")
}

fn load(text: &str) -> Config {
    load_with_profile(text, None)
}

/// A configuration, with this file in its `profiles.dir`.
fn load_with_profile(text: &str, profile: Option<&str>) -> Config {
    let text = match profile {
        Some(_) => format!("profiles: {{ dir: /profiles }}\n{text}"),
        None => text.to_owned(),
    };
    let read = |path: &str| match (path, profile) {
        ("/profiles/it.yaml", Some(profile)) => Ok(profile.as_bytes().to_vec()),
        _ => Err(format!("{path}: this test has no such file")),
    };
    config::load(&config::Sources {
        file: Some(("arriero.yaml", &text)),
        env: &|_| None,
        env_names: Vec::new(),
        read_file: &read,
        list_dir: &|_| Ok(vec!["it.yaml".to_owned()]),
        cores: 2,
        terminal: false,
    })
    .unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// The text with a part replaced that must be there.
fn with(text: &str, part: &str, other: &str) -> String {
    assert!(text.contains(part), "`{part}` is not in\n{text}");
    text.replace(part, other)
}

/// Nodes in the place of these hosts, behind a gateway with this configuration, which has to load as it is, too.
async fn on_nodes(
    text: &str,
    profile: Option<&str>,
    nodes: Vec<(&str, demo::NodeBuilder)>,
) -> Herd {
    load_with_profile(text, profile);
    let (mut text, mut running) = (text.to_owned(), Vec::new());
    for (url, node) in nodes {
        let node = node.start().await.expect("a node");
        text = with(&text, url, &node.url());
        running.push(node);
    }
    let config = load_with_profile(&text, profile);
    let gateway = LocalGateway::start(config).await.expect("a gateway");
    let herd = Herd {
        nodes: running,
        gateway,
    };
    herd.settled().await;
    herd
}

/// As [`on_nodes`], for a snippet that names no endpoint.
async fn on_one(text: &str, node: demo::NodeBuilder) -> Herd {
    let text = format!("{ONE_NODE}{text}");
    on_nodes(&text, None, vec![("http://ollama:11434", node)]).await
}

fn llama() -> demo::NodeBuilder {
    demo::Node::builder().loaded("llama3").tokens(2).slots(8)
}

/// A node whose model has no size that the built-in type would grant time to load for.
fn sizeless() -> demo::NodeBuilder {
    demo::Node::builder()
        .model("llama3")
        .details("llama3", "llama", "", "")
        .tokens(2)
}

async fn node_of(herd: &Herd, path: &str, body: &str) -> String {
    let reply = herd.post(path, body).await;
    reply.header("x-arriero-node").expect("a node").to_owned()
}

/// How many of as many requests at once for a model its node works on, while the others wait.
async fn at_once(herd: &Herd, requests: usize, body: &str) -> usize {
    let (node, before) = (&herd.nodes[0], herd.served(0).len());
    node.pause_after(1);
    let mut all = Vec::new();
    for _ in 0..requests {
        all.push(herd.begin("/api/chat", body).await);
    }
    let sent = || herd.served(0).len() - before;
    within("every request is sent or waits", async {
        while sent() + herd.metric("arriero_queue_depth").await as usize != requests {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let taken = sent();
    node.resume();
    for stream in &mut all {
        stream.reply().await.is(200);
    }
    herd.is_idle().await;
    taken
}

#[tokio::test]
async fn basic_setup() {
    let text = snippet("basic");
    for (health_path, written) in [("/", "\"/\""), ("/api/version", "\"/api/version\"")] {
        let text = with(
            &text,
            "health_check_url: \"/\"",
            &format!("health_check_url: {written}"),
        );
        let herd = on_nodes(&text, None, vec![("http://localhost:11434", llama())]).await;
        assert_eq!(node_of(&herd, "/api/chat", ANSWER).await, "local-ollama");
        let node = &herd.gateway.gateway.fleet().view().nodes[0];
        assert_eq!(node.config.priority, 100);
        assert_eq!(node.config.check_interval.as_secs(), 2);
        assert_eq!(node.config.check_timeout.as_secs(), 1);
        let seen = herd.nodes[0].seen();
        let asked = |path: &str| seen.iter().any(|it| it.method == "GET" && it.path == path);
        assert!(asked(health_path) && asked("/api/tags"));
        assert_eq!(asked("/"), health_path == "/");
    }
}

#[tokio::test]
async fn multiple_instances() {
    let hosts = ["gpu-server", "backup-server", "dev-machine"];
    let urls = hosts.map(|host| format!("http://{host}:11434"));
    let nodes = urls.iter().map(|url| (url.as_str(), llama())).collect();
    let herd = on_nodes(&snippet("multiple"), None, nodes).await;
    for (at, name) in ["ollama-gpu", "ollama-backup", "ollama-dev"]
        .iter()
        .enumerate()
    {
        for _ in 0..3 {
            assert_eq!(node_of(&herd, "/api/chat", ANSWER).await, *name);
        }
        herd.nodes[at].kill();
    }
}

#[tokio::test]
async fn remote_configuration() {
    let text = snippet("remote");
    let url = load(&text).nodes[0].url.clone();
    assert!(url.tls && url.port == 443 && url.host == "ollama.example.com");
    let text = with(&with(&text, "10s", "500ms"), "5s", "200ms");
    let herd = on_nodes(&text, None, vec![("https://ollama.example.com", llama())]).await;
    assert_eq!(node_of(&herd, "/api/chat", ANSWER).await, "ollama-cloud");
    // In this interval a probe is sent, and after this time it has failed.
    herd.nodes[0].freeze();
    herd.eventually("the node is down", |view| view.nodes[0].health.is_down())
        .await;
    herd.nodes[0].thaw();
    herd.settled().await;
}

#[tokio::test]
async fn anthropic_messages() {
    let body = r#"{"model":"llama3","max_tokens":2,"messages":[{"role":"user","content":"hi"}]}"#;
    let text = format!("name: ollama\n{}", snippet("anthropic-support"));
    for (profile, version, expected) in [
        (text.clone(), "0.14.0", 200),
        (text.clone(), "0.13.9", 501),
        (with(&text, "0.14.0", "0.13.9"), "0.13.9", 200),
        (
            with(&text, "enabled: true", "enabled: false"),
            "0.14.0",
            501,
        ),
    ] {
        let node = llama().version(version);
        let nodes = vec![("http://ollama:11434", node)];
        let herd = on_nodes(ONE_NODE, Some(&profile), nodes).await;
        herd.post("/v1/messages", body).await.is(expected);
        herd.post("/v1/messages/count_tokens", body).await.is(501);
    }

    let text = with(&text, "token_counting_404", "no_tool_use");
    let nodes = vec![("http://ollama:11434", llama())];
    let herd = on_nodes(ONE_NODE, Some(&text), nodes).await;
    herd.post("/v1/messages", body).await.is(200);
    let tools = r#"{"tools":[{"name":"f","input_schema":{"type":"object"}}],"#;
    let body = body.replacen('{', tools, 1);
    let refused = herd.post("/v1/messages", &body).await.is(501).text();
    assert!(refused.contains("has the call without tools"), "{refused}");
}

/// A node with a model for each pattern of the customised profile, whose listing tells neither abilities nor context.
fn silent(names: &[&str]) -> demo::NodeBuilder {
    names.iter().fold(llama(), |node, name| {
        node.model(name).capabilities(name, &[]).context(name, 0)
    })
}

#[tokio::test]
async fn a_customised_profile_has_its_prefix_and_timeout() {
    let text = snippet("profile-customisation");
    let url = "http://ollama:11434";
    let impatient = format!("{ONE_NODE}proxy: {{ response_header_timeout: 200ms }}\n");
    let herd = on_nodes(&impatient, Some(&text), vec![(url, sizeless())]).await;
    herd.nodes[0].fault(Fault::DelayHeaders { ms: 600 });
    for path in ["/ai/api/chat", "/olla/ai/api/chat", "/olla/ollama/api/chat"] {
        herd.post(path, ANSWER).await.is(200);
    }
    let plain = on_nodes(&impatient, None, vec![(url, sizeless())]).await;
    plain.post("/ai/api/chat", ANSWER).await.is(404);
    plain.nodes[0].fault(Fault::DelayHeaders { ms: 600 });
    plain.post("/api/chat", ANSWER).await.is(504);
}

#[tokio::test]
async fn a_customised_profile_sends_images_and_long_prompts_where_its_patterns_say() {
    let text = snippet("profile-customisation");
    let aliases = "model_aliases: { any: [llama3, yi-32k, eyes, vision-mini] }\n";
    let config = format!("{ONE_NODE}{aliases}");
    let long = "word ".repeat(8000);
    let asked = STREAM.replace("llama3", "any");
    let image = asked.replace(r#""hi""#, r#""hi","images":["QUJD"]"#);
    let prompt = asked.replace("hi", &long);
    let no_context = with(&text, "llama3*", "mistral*");
    let other_eyes = with(&text, "\"vision*\"", "\"eyes*\"");
    for (profile, body, expected) in [
        (&text, &asked, "llama3:latest"),
        (&text, &image, "vision-mini:latest"),
        (&other_eyes, &image, "eyes:latest"),
        (&text, &prompt, "yi-32k:latest"),
        (&no_context, &prompt, "llama3:latest"),
    ] {
        let names = ["llama3", "eyes", "vision-mini", "yi-32k"];
        // An operator's pattern counts whether the node is silent or says that none of them sees and all have room.
        let telling = names.iter().fold(llama(), |node, name| node.model(name));
        for node in [silent(&names), telling] {
            let nodes = vec![("http://ollama:11434", node)];
            let herd = on_nodes(&config, Some(profile), nodes).await;
            // The simulated node refuses images to a model that it does not know to see; where it was sent is what counts.
            let reply = herd.post("/api/chat", body).await;
            assert_eq!(reply.header("x-arriero-model"), Some(expected));
        }
    }
}

#[tokio::test]
async fn unification() {
    let text = snippet("unification");
    let off = with(&text, "enable_unifier: true", "enable_unifier: false");
    let digest = "a".repeat(64);
    for (text, expected) in [(text, 1), (off, 2)] {
        let names = ["llama3", "my-llama"];
        let node = |name: &str| {
            let node = demo::Node::builder().model(name);
            node.digest(name, &digest)
        };
        let endpoints = "{ url: 'http://a', name: a, type: ollama }, { url: 'http://b', name: b, type: ollama }";
        let config = format!("discovery: {{ static: {{ endpoints: [{endpoints}] }} }}\n{text}");
        let nodes = vec![("http://a", node(names[0])), ("http://b", node(names[1]))];
        let herd = on_nodes(&config, None, nodes).await;
        let page = herd.get("/olla/models").await.is(200).json();
        let entries = page["data"].as_array().expect("a list");
        assert_eq!(entries.len(), expected, "{page}");
    }
}

#[tokio::test]
async fn timeouts() {
    let text = snippet("timeouts");
    let config = load(&text);
    assert_eq!(config.proxy.connection_timeout.as_secs(), 30);
    assert_eq!(config.nodes[0].check_timeout.as_secs(), 5);
    for (text, is_whole) in [(with(&text, "600s", "1s"), false), (text, true)] {
        let herd = on_nodes(&text, None, vec![("http://localhost:11434", llama())]).await;
        herd.nodes[0].pause_after(1);
        let mut stream = herd.begin("/api/chat", STREAM).await;
        assert_eq!(stream.head().await.expect("a head").0, 200);
        if is_whole {
            herd.nodes[0].resume();
        }
        let (bytes, _) = stream.rest().await;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        assert_eq!(text.contains(r#""done":true"#), is_whole, "{text}");
        assert_eq!(text.contains(r#""error""#), !is_whole, "{text}");
        herd.is_idle().await;
    }
}

#[tokio::test]
async fn hardware() {
    for (name, url, node_name, priority, limit) in [
        (
            "gpu-servers",
            "http://gpu-server:11434",
            "ollama-gpu",
            100,
            4,
        ),
        (
            "cpu-servers",
            "http://cpu-server:11434",
            "ollama-cpu",
            50,
            1,
        ),
    ] {
        let herd = on_nodes(&snippet(name), None, vec![(url, llama())]).await;
        assert_eq!(node_of(&herd, "/api/chat", ANSWER).await, node_name);
        let node = &herd.gateway.gateway.fleet().view().nodes[0];
        assert_eq!(node.config.priority, priority);
        assert_eq!(at_once(&herd, 6, STREAM).await, limit, "{name}");
    }
}

#[tokio::test]
async fn out_of_memory() {
    let text = snippet("out-of-memory");
    let more = with(&text, "max_concurrent: 1", "max_concurrent: 3");
    for (text, limit) in [(text, 1), (more, 3)] {
        let seven = llama().details("llama3", "llama", "7.6B", "Q4_0");
        let herd = on_one(&text, seven).await;
        assert_eq!(at_once(&herd, 5, STREAM).await, limit);
        let page = herd
            .admin("/internal/status/models?detailed=true")
            .await
            .json();
        assert_eq!(page["models"][0]["resources"]["memory_gb"], 4.0);
    }
}

#[tokio::test]
async fn adjusting_the_timeout() {
    let text = snippet("adjust-timeout");
    let impatient = |text: &str| format!("{text}proxy: {{ response_header_timeout: 200ms }}\n");
    for (text, status) in [(with(&text, "10m", "300ms"), 504), (text, 200)] {
        let herd = on_one(&impatient(&text), sizeless()).await;
        herd.nodes[0].fault(Fault::DelayHeaders { ms: 900 });
        herd.post("/api/chat", ANSWER).await.is(status);
    }
}
