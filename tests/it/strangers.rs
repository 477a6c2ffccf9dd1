//! Servers whose names, places and answers are not like those of the simulated nodes: paths as model ids, Ollama behind a path.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use arriero::gateway::local::LocalGateway;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::support::herd::parse;
use crate::support::{Herd, spawn};

/// A server that answers GET with fixed pages and every POST with `{}`; it ends with the test.
struct Stranger {
    addr: SocketAddr,
    /// Path and body of every POST.
    posts: Arc<Mutex<Vec<(String, String)>>>,
}

type Pages = &'static [(&'static str, &'static str)];

impl Stranger {
    async fn start(pages: Pages) -> Stranger {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let addr = listener.local_addr().expect("an address");
        let posts = Arc::new(Mutex::default());
        let journal = Arc::clone(&posts);
        drop(spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                drop(spawn(serve(socket, pages, Arc::clone(&journal))));
            }
        }));
        Stranger { addr, posts }
    }

    fn last_post(&self) -> (String, String) {
        let posts = self.posts.lock().expect("no panic");
        posts.last().cloned().expect("a POST")
    }
}

async fn serve(mut socket: TcpStream, pages: Pages, posts: Arc<Mutex<Vec<(String, String)>>>) {
    let mut read = Vec::new();
    let whole = loop {
        let text = String::from_utf8_lossy(&read).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let lower = head.to_ascii_lowercase();
            let length = lower.split_once("content-length: ");
            let length = length.map_or("0", |(_, rest)| rest.lines().next().unwrap_or("0"));
            if length.trim().parse::<usize>().expect("a length") <= body.len() {
                break text;
            }
        }
        if matches!(socket.read_buf(&mut read).await, Ok(0) | Err(_)) {
            return;
        }
    };
    let mut words = whole.split(' ');
    let (method, path) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
    let page = match method {
        "POST" => {
            let body = whole.split_once("\r\n\r\n").map_or("", |(_, body)| body);
            let post = (path.to_owned(), body.to_owned());
            posts.lock().expect("no panic").push(post);
            Some("{}")
        }
        _ => pages.iter().find(|(at, _)| *at == path).map(|(_, it)| *it),
    };
    let (status, body) = page.map_or(("404 Not Found", "{}"), |page| ("200 OK", page));
    let length = body.len();
    let answer = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    );
    let _ = socket.write_all(answer.as_bytes()).await;
}

/// A gateway over such servers, each with the type that it is said to have.
async fn gateway_over(nodes: &[(&Stranger, &str)]) -> Herd {
    let lines = nodes.iter().enumerate().map(|(at, (node, kind))| {
        format!(
            "      - {{ url: \"http://{}\", name: gpu-{at}, type: {kind}, check_interval: 1s, check_timeout: 1s }}\n",
            node.addr
        )
    });
    let lines: String = lines.collect();
    let text = format!(
        "discovery:\n  model_discovery: {{ interval: 1s, loaded_interval: 50ms, timeout: 2s }}\n  static:\n    endpoints:\n{lines}"
    );
    let gateway = LocalGateway::start(parse(&text)).await.expect("a gateway");
    let herd = Herd {
        nodes: Vec::new(),
        gateway,
    };
    herd.settled().await;
    herd
}

const VLLM: Pages = &[
    ("/health", ""),
    (
        "/v1/models",
        r#"{"object":"list","data":[{"id":"/models/Qwen3-8B"},{"id":"C:\\models\\Phi 4.gguf"},{"id":"/a/../../b"},{"id":"who?"}]}"#,
    ),
    ("/version", r#"{"version":"0.10.2"}"#),
];

#[tokio::test]
async fn a_model_that_is_called_like_its_file_is_served() {
    let vllm = Stranger::start(VLLM).await;
    let herd = gateway_over(&[(&vllm, "vllm")]).await;
    for name in [
        "/models/Qwen3-8B",
        "/models/qwen3-8b",
        r"C:\\models\\Phi 4.gguf",
    ] {
        let body = format!(r#"{{"model":"{name}","messages":[]}}"#);
        herd.post("/v1/chat/completions", &body).await.is(200);
    }
    let sent = r#"{"model":"C:\\models\\Phi 4.gguf","messages":[]}"#;
    let expected = ("/v1/chat/completions".to_owned(), sent.to_owned());
    assert_eq!(vllm.last_post(), expected);
    for path in [
        "/v1/models//models/Qwen3-8B",
        "/v1/models/%2Fmodels%2FQwen3-8B",
    ] {
        assert_eq!(
            herd.get(path).await.is(200).json()["id"],
            "/models/Qwen3-8B"
        );
    }
    // Ollama has no such names.
    let native = r#"{"model":"/models/Qwen3-8B","messages":[]}"#;
    herd.post("/api/chat", native).await.is(400);
}

#[tokio::test]
async fn the_status_tells_what_a_listing_lost_what_is_loaded_and_the_version() {
    let vllm = Stranger::start(VLLM).await;
    let herd = gateway_over(&[(&vllm, "vllm")]).await;
    let page = herd
        .admin("/internal/status/endpoints")
        .await
        .is(200)
        .json();
    let node = &page["endpoints"][0];
    let loaded = ["/models/Qwen3-8B", "C:\\models\\Phi 4.gguf"];
    assert_eq!(node["lost_model_count"], 2);
    assert_eq!(
        node["lost_models"],
        serde_json::json!(["/a/../../b", "who?"])
    );
    assert_eq!(node["loaded"], serde_json::json!(loaded));
    assert_eq!(node["version"], "0.10.2");
    let series = "arriero_upstream_model_loaded{model=\"/models/Qwen3-8B\",node=\"gpu-0\"}";
    assert!((herd.metric(series).await - 1.0).abs() < f64::EPSILON);
}

#[tokio::test]
async fn the_least_version_counts_for_every_type_that_tells_one() {
    let old = Stranger::start(VLLM).await;
    let new = Stranger::start(&[
        ("/health", ""),
        ("/v1/models", r#"{"data":[{"id":"/models/Qwen3-8B"}]}"#),
        ("/version", r#"{"version":"0.11.1"}"#),
    ])
    .await;
    let silent = Stranger::start(&[
        ("/health", ""),
        ("/v1/models", r#"{"data":[{"id":"other"}]}"#),
    ])
    .await;
    let cpp = Stranger::start(&[
        ("/health", ""),
        ("/v1/models", r#"{"data":[{"id":"third"}]}"#),
        ("/props", r#"{"build_info":"b4846-0123abc"}"#),
    ])
    .await;
    let nodes = [
        (&old, "vllm"),
        (&new, "vllm"),
        (&silent, "vllm"),
        (&cpp, "llamacpp"),
    ];
    let herd = gateway_over(&nodes).await;
    for (model, status) in [("/models/Qwen3-8B", 200), ("other", 200), ("third", 501)] {
        let body = format!(r#"{{"model":"{model}","max_tokens":1,"messages":[]}}"#);
        herd.post("/v1/messages", &body).await.is(status);
    }
    assert!(old.posts.lock().unwrap().is_empty());
    assert_eq!(new.posts.lock().unwrap().len(), 1);
}

const OPEN_WEBUI: Pages = &[
    ("/ollama/", "true"),
    (
        "/ollama/api/tags",
        r#"{"models":[{"name":"Llama3:8B","model":"Llama3:8B","digest":"d"}]}"#,
    ),
    (
        "/ollama/api/ps",
        r#"{"models":[{"name":"Llama3:8B","model":"Llama3:8B","digest":"d"}]}"#,
    ),
    ("/ollama/api/version", r#"{"version":"0.24.0"}"#),
    // Its own, and what vLLM has here.
    ("/api/version", r#"{"version":"0.6.5"}"#),
];

#[tokio::test]
async fn ollama_behind_a_path_is_asked_there_for_everything() {
    let webui = Stranger::start(OPEN_WEBUI).await;
    let vllm = Stranger::start(VLLM).await;
    let herd = gateway_over(&[(&webui, "openwebui"), (&vllm, "vllm")]).await;
    herd.eventually("what is loaded there", |view| {
        view.nodes[0].in_memory().eq(["Llama3:8B"])
    })
    .await;
    let version = herd.get("/api/version").await.is(200).json();
    assert_eq!(
        version["version"], "0.24.0",
        "vLLM's is lower and is none of Ollama's"
    );
    // It looks names up as they are written.
    let body = r#"{"model":"llama3:8b","messages":[]}"#;
    herd.post("/api/chat", body).await.is(200);
    let sent = r#"{"model":"Llama3:8B","messages":[]}"#;
    assert_eq!(
        webui.last_post(),
        ("/ollama/api/chat".to_owned(), sent.to_owned())
    );
}
