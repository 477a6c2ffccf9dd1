//! Downloads and uploads: a file from outside becomes a model on every node, and nothing is fetched from where it must not be.

use std::fmt::Write as _;

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::server::{Answer, Server};
use super::{call, ends, has, listed, node};
use crate::support::client::{Raw, Reply};
use crate::support::{Herd, herd, within};

const FILE: &[u8] = b"GGUF and what follows";

fn sha256(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in Sha256::digest(bytes) {
        write!(text, "{byte:02x}").expect("text");
    }
    text
}

/// The place a test downloads from: listed below `/listed/`, with ways out of it.
async fn shop() -> Server {
    Server::start(|_, path| match path {
        "/listed/tiny.gguf" => Answer::ok(FILE),
        "/listed/big.gguf" => Answer::ok(vec![7; 3_000_000]),
        "/listed/moved.gguf" => Answer::to("tiny.gguf"),
        "/listed/loop.gguf" => Answer::to("/listed/loop.gguf"),
        "/listed/metadata.gguf" => Answer::to("http://169.254.169.254/latest/meta-data/"),
        "/listed/secure-metadata.gguf" => Answer::to("https://169.254.169.254/latest/"),
        "/listed/inside.gguf" => Answer::to("https://localhost:1/x.gguf"),
        "/listed/aside.gguf" => Answer::to("/secret/x.gguf"),
        "/listed/up.gguf" => Answer::to("/listed/../secret/x.gguf"),
        "/listed/half.gguf" => Answer::Half(vec![7; 1000]),
        "/secret/x.gguf" => Answer::ok("secret"),
        _ => Answer::Whole(404, Vec::new(), Vec::new()),
    })
    .await
}

async fn over_shop(shop: &Server, state_dir: &std::path::Path) -> Herd {
    let yaml = format!(
        "management: {{ enabled: true, download_hosts: [\"http://{}/listed/\"] }}\nstate_dir: {}",
        shop.addr,
        state_dir.display()
    );
    herd(vec![node(), node()], &yaml).await
}

fn events(reply: &Reply) -> Vec<Value> {
    assert_eq!(reply.header("content-type"), Some("text/event-stream"));
    assert!(reply.complete, "{}", reply.text());
    let parse = |event: &str| {
        let data = event.strip_prefix("data: ").expect("an event");
        serde_json::from_str(data).expect("JSON")
    };
    reply.text().trim_end().split("\n\n").map(parse).collect()
}

async fn download(herd: &Herd, url: &str, more: &str) -> Reply {
    let body = format!("{{\"url\":\"{url}\"{more}}}");
    call(herd, "POST", "/models/download", &body).await
}

#[tokio::test]
async fn a_file_is_fetched_checked_and_made_a_model_on_every_node() {
    let (shop, dir) = (shop().await, Dir::new("download"));
    let herd = over_shop(&shop, &dir.0).await;
    for (path, sum) in [
        ("tiny.gguf", true),
        ("moved.gguf", false),
        ("big.gguf", false),
    ] {
        let url = format!("http://{}/listed/{path}", shop.addr);
        let check = match sum {
            true => format!(",\"sha256\":\"{}\"", sha256(FILE).to_uppercase()),
            false => String::new(),
        };
        let reply = download(&herd, &url, &check).await.is(200);
        let model = path.strip_suffix(".gguf").expect("a file");
        // The next answer comes from the catalogue.
        assert!(
            listed(&herd).await.contains(&format!("{model}:latest")),
            "{path}"
        );
        let events = events(&reply);
        let (last, progress) = events.split_last().expect("events");
        assert_eq!(last["done"], true, "{last}");
        assert_eq!(
            (&last["name"], &last["model_created"]),
            (&path.into(), &model.into())
        );
        assert!(
            last["blob"]
                .as_str()
                .is_some_and(|blob| blob.starts_with("sha256:"))
        );
        assert!(
            progress.iter().any(|event| event["progress"] == 100.0),
            "{progress:?}"
        );
        assert!(
            progress
                .iter()
                .all(|event| event["completed"].as_u64() <= event["total"].as_u64())
        );
        for node in 0..2 {
            assert!(has(&herd, node, &format!("{model}:latest")), "{path}");
        }
    }
    assert_eq!(ends(&herd).await, ["download done 3"]);
    assert_eq!(dir.files(), 0, "nothing is left behind");
    herd.is_idle().await;
}

#[tokio::test]
async fn what_is_not_allowed_is_not_fetched() {
    let (shop, dir) = (shop().await, Dir::new("refused"));
    let herd = over_shop(&shop, &dir.0).await;
    let at = |path: &str| format!("http://{}{path}", shop.addr);
    let cases = [
        (
            "https://huggingface.co/x.gguf".to_owned(),
            403,
            "download_hosts",
        ),
        (at("/secret/x.gguf"), 403, "download_hosts"),
        (at("/listed/../secret/x.gguf"), 400, "read in two ways"),
        (at("/listed/%2e%2e/secret/x.gguf"), 400, "read in two ways"),
        (
            format!("http://{}@evil.test/listed/x", shop.addr),
            400,
            "host",
        ),
        (
            "file:///etc/passwd".to_owned(),
            400,
            "neither http nor https",
        ),
        (at("/listed/metadata.gguf"), 403, "which is not https"),
        (at("/listed/secure-metadata.gguf"), 403, "no public address"),
        (at("/listed/inside.gguf"), 403, "no public address"),
        (at("/listed/aside.gguf"), 403, "which is not https"),
        (at("/listed/up.gguf"), 502, "redirect is refused"),
        (at("/listed/loop.gguf"), 502, "redirects too often"),
        (at("/listed/none.gguf"), 502, "answered 404"),
        (at("/listed/"), 400, "file's name"),
    ];
    for (url, status, why) in cases {
        let reply = download(&herd, &url, "").await;
        assert_eq!(reply.status, status, "{url}: {}", reply.text());
        assert!(reply.text().contains(why), "{url}: {}", reply.text());
    }
    assert_eq!(
        herd.served(0).len() + herd.served(1).len(),
        0,
        "no node was asked"
    );
    assert_eq!(dir.files(), 0, "nothing is left behind");
    herd.is_idle().await;
}

#[tokio::test]
async fn a_file_that_is_not_what_was_meant_reaches_no_node() {
    let (shop, dir) = (shop().await, Dir::new("wrong"));
    let herd = over_shop(&shop, &dir.0).await;
    let at = |path: &str| format!("http://{}{path}", shop.addr);
    let url = at("/listed/tiny.gguf");
    let wrong = download(&herd, &url, &format!(",\"sha256\":\"{}\"", "0".repeat(64))).await;
    let last = events(&wrong.is(200)).pop().expect("an event");
    assert!(
        last["error"]
            .as_str()
            .is_some_and(|text| text.contains("SHA-256")),
        "{last}"
    );
    download(&herd, &url, ",\"sha256\":\"abc\"").await.is(400);
    let half = download(&herd, &at("/listed/half.gguf"), "").await.is(200);
    let last = events(&half).pop().expect("an event");
    assert!(
        last["error"]
            .as_str()
            .is_some_and(|text| text.contains("can't be fetched")),
        "{last}"
    );
    assert_eq!(
        herd.served(0).len() + herd.served(1).len(),
        0,
        "no node was asked"
    );
    assert_eq!(ends(&herd).await, ["download failed 2"]);
    assert_eq!(dir.files(), 0, "nothing is left behind");
    herd.is_idle().await;
}

fn form(parts: &[(&str, &str, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, file, bytes) in parts {
        let file = match *file {
            "" => String::new(),
            file => format!("; filename=\"{file}\""),
        };
        body.extend_from_slice(
            format!("--edge\r\nContent-Disposition: form-data; name=\"{name}\"{file}\r\n\r\n")
                .as_bytes(),
        );
        body.extend_from_slice(bytes);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"--edge--\r\n");
    body
}

async fn upload(herd: &Herd, body: &[u8]) -> Reply {
    let mut raw = Raw::open(herd.addr()).await;
    raw.send(format!(
        "POST /ollama/models/upload HTTP/1.1\r\nhost: localhost\r\ncontent-type: multipart/form-data; boundary=edge\r\n\
         content-length: {}\r\n\r\n",
        body.len()
    ))
    .await;
    raw.send_what_goes(body).await;
    raw.reply().await
}

#[tokio::test]
async fn an_uploaded_file_becomes_a_model_on_every_node() {
    let (shop, dir) = (shop().await, Dir::new("upload"));
    let herd = over_shop(&shop, &dir.0).await;
    let big = vec![9u8; 5_000_000];
    let reply = upload(
        &herd,
        &form(&[("note", "", b"hi"), ("file", "../My model.gguf", &big)]),
    )
    .await;
    let events = events(&reply.is(200));
    let (last, progress) = events.split_last().expect("events");
    let expected = serde_json::json!({
        "done": true, "blob": format!("sha256:{}", sha256(&big)), "name": "Mymodel.gguf", "model_created": "Mymodel",
    });
    assert_eq!(*last, expected);
    assert!(
        progress.iter().any(|event| event["progress"] == 100.0),
        "{progress:?}"
    );
    assert!((0..2).all(|node| has(&herd, node, "Mymodel:latest")));
    assert_eq!(ends(&herd).await, ["upload done 1"]);
    assert!(listed(&herd).await.contains(&"Mymodel:latest".to_owned()));

    let endless = vec![b'x'; 2 << 20];
    let mut header = b"--edge\r\nContent-Disposition: form-data; name=\"file\"; x=".to_vec();
    header.extend_from_slice(&endless);
    let cases = [
        (form(&[("note", "", b"hi")]), "no part `file`"),
        (form(&[("file", "", b"hi")]), "no usable name"),
        (form(&[("file", "..", b"hi")]), "no usable name"),
        (
            form(&[("note", "", &endless), ("file", "x", b"hi")]),
            "too much",
        ),
        (header, "too much"),
        (b"no form".to_vec(), "no form"),
    ];
    for (body, why) in cases {
        let reply = upload(&herd, &body).await.is(400);
        assert!(reply.text().contains(why), "{why}: {}", reply.text());
    }
    assert_eq!(dir.files(), 0, "nothing is left behind");
    herd.is_idle().await;
}

#[tokio::test]
async fn files_on_their_way_have_a_limit_of_their_own() {
    let (shop, dir) = (shop().await, Dir::new("many"));
    let herd = over_shop(&shop, &dir.0).await;
    let half = &form(&[("file", "x.gguf", b"half")])[..80];
    let head = "POST /models/upload HTTP/1.1\r\nhost: localhost\r\ncontent-type: multipart/form-data; boundary=edge\r\n\
                content-length: 1000\r\n\r\n";
    let mut waiting = Vec::new();
    for _ in 0..4 {
        let mut raw = Raw::open(herd.addr()).await;
        raw.send(head).await;
        raw.send(half).await;
        waiting.push(raw);
    }
    // No form at all is 400 as long as there is room.
    within("the limit", async {
        while upload(&herd, b"no form").await.status != 503 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    drop(waiting);
    herd.is_idle().await;
    assert!(ends(&herd).await.contains(&"upload left 4".to_owned()));
    upload(&herd, b"no form").await.is(400);
    assert_eq!(dir.files(), 0, "nothing is left behind");
}

/// A folder of the test's own.
struct Dir(std::path::PathBuf);

impl Dir {
    fn new(name: &str) -> Dir {
        let name = format!("arriero-test-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).expect("a folder");
        Dir(path)
    }

    fn files(&self) -> usize {
        std::fs::read_dir(&self.0).expect("a folder").count()
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
