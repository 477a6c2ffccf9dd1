//! The binary itself: how it starts, what it says, how it ends.

use std::io::{BufRead as _, BufReader, Read};
use std::net::{SocketAddr, TcpListener};
use std::process::Stdio;
use std::time::{Duration, Instant};

use arriero::demo;

use crate::support::client::{Raw, Reply, post, request};
use crate::support::process::{Process, arriero, ready};
use crate::support::{PATIENCE, within};

const CHAT: &str = r#"{"model":"llama3","messages":[{"role":"user","content":"hi"}]}"#;

async fn node() -> demo::Node {
    let node = demo::Node::builder().loaded("llama3").tokens(4);
    node.start().await.expect("a node")
}

/// Starts a gateway over a node and waits until it is ready.
async fn start(node: &demo::Node, more: &str) -> Process {
    let mut command = arriero();
    command.env("OLLAMA_BASE_URLS", node.url());
    for (name, value) in more
        .split_whitespace()
        .filter_map(|pair| pair.split_once('='))
    {
        command.env(name, value);
    }
    Process::start(command).await
}

impl Process {
    /// A stream that has begun and is held back by its node.
    async fn stream(&self, node: &demo::Node) -> Raw {
        node.pause_after(2);
        let mut stream = Raw::open(self.addr).await;
        stream.send(request("POST", "/api/chat", CHAT)).await;
        assert_eq!(stream.head().await.expect("a head").0, 200);
        stream
    }

    /// Sends SIGTERM and waits until it shows.
    async fn begins_to_drain(&self) {
        self.signal("TERM");
        within("readiness to go off", async {
            while ready(self.admin, "").await == Some(200) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    }

    /// Waits for the end; the exit code and the log.
    pub(crate) async fn ended(mut self) -> (Option<i32>, String) {
        let started = Instant::now();
        let code = loop {
            if let Some(status) = self.child.try_wait().expect("wait") {
                break status.code();
            }
            assert!(started.elapsed() < PATIENCE, "still running");
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        let mut log = String::new();
        self.child
            .stderr
            .take()
            .expect("stderr")
            .read_to_string(&mut log)
            .expect("a log");
        (code, log)
    }
}

#[tokio::test]
async fn without_any_configuration_it_starts_and_serves() {
    let node = demo::Node::builder()
        .loaded("llama3")
        .tokens(2)
        .start()
        .await
        .expect("a node");
    let gateway = start(&node, "").await;
    post(gateway.addr, "/api/chat", CHAT).await.is(200);
    let title = request("POST", "/api/chat", CHAT);
    let mut raw = Raw::open(gateway.addr).await;
    raw.send(title.replacen("\r\n", "\r\nx-task: title_generation\r\n", 1))
        .await;
    raw.reply().await.is(200);
    gateway.signal("INT");
    let (code, log) = gateway.ended().await;
    assert_eq!(code, Some(0), "{log}");
    assert_eq!(log.matches("\"class\":\"background\"").count(), 1);
    let line = log
        .lines()
        .find(|line| line.contains("\"log\":\"access\""))
        .expect("an access line");
    let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
    assert_eq!(
        (&line["path"], &line["status"], &line["end_by"]),
        (&"/api/chat".into(), &200.into(), &"done".into())
    );
    assert_eq!(line["phase"], "stream");
    assert_eq!(line["tokens_out"], 2);
    assert!(
        line["node"]
            .as_str()
            .is_some_and(|node| node.starts_with("127.0.0.1:")),
        "{line}"
    );
}

#[tokio::test]
async fn sigterm_turns_readiness_off_serves_on_and_exits_when_the_last_stream_ends() {
    let node = node().await;
    let gateway = start(&node, "").await;
    let mut stream = gateway.stream(&node).await;
    gateway.begins_to_drain().await;
    let mut late = Raw::open(gateway.addr).await;
    late.send("GET /api/version HTTP/1.1\r\nhost: g\r\n\r\n")
        .await;
    late.reply().await.is(200); // briefly, requests are still taken
    within("new requests to be refused", async {
        while post(gateway.addr, "/api/show", r#"{"model":"llama3"}"#)
            .await
            .status
            != 503
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    node.resume();
    let (body, complete) = stream.rest().await;
    assert!(
        complete && String::from_utf8_lossy(&body).contains("\"done\":true"),
        "the stream arrives whole"
    );
    let (code, log) = gateway.ended().await;
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("drained, nothing in flight"), "{log}");
}

#[tokio::test]
async fn a_second_signal_exits_at_once() {
    let node = node().await;
    let gateway = start(&node, "").await;
    let mut stream = gateway.stream(&node).await;
    gateway.begins_to_drain().await;
    gateway.signal("TERM");
    let (code, log) = gateway.ended().await;
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("second signal"), "{log}");
    assert!(!stream.rest().await.1, "the stream is cut, visibly");
    node.until(|node| node.generating() == 0).await;
}

#[tokio::test]
async fn the_longest_drain_has_a_limit() {
    let node = node().await;
    let gateway = start(&node, "ARRIERO_SERVER_SHUTDOWN_TIMEOUT=1s").await;
    let mut stream = gateway.stream(&node).await;
    gateway.signal("TERM");
    let (code, log) = gateway.ended().await;
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("shutdown_timeout is over"), "{log}");
    assert!(!stream.rest().await.1);
}

/// Exit code, standard output, standard error.
fn run(args: &[&str]) -> (Option<i32>, String, String) {
    let output = arriero().args(args).output().expect("arriero runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

#[test]
fn ollas_configuration_becomes_one_that_serves_and_the_schema_is_json() {
    let (code, out, _) = run(&["schema"]);
    let schema: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert!(code == Some(0) && schema["properties"]["server"].is_object());

    let dir = std::env::temp_dir().join(format!("arriero-import-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a folder");
    let path = |name: &str| dir.join(name).to_str().expect("a path").to_owned();
    let olla = "server: { read_timeout: 30s, port: 4711 }\nproxy: { engine: olla }\n";
    std::fs::write(path("olla.yaml"), olla).expect("a file");
    let (code, yaml, told) = run(&["import-olla", &path("olla.yaml")]);
    assert_eq!(code, Some(0), "{told}");
    assert!(yaml.contains("# olla: `proxy.engine`"), "{yaml}");
    assert!(
        told.contains("olla.yaml: line 1: `server.read_timeout`"),
        "{told}"
    );
    std::fs::write(path("arriero.yaml"), yaml).expect("a file");
    let (code, out, err) = run(&["check", &path("arriero.yaml")]);
    assert!(code == Some(0) && out.contains("4711"), "{out}{err}");
    let olla =
        "endpoints: [{ url: 'http://h:1/v1', type: openai }, { url: 'ftp://h', name: old }]\n";
    std::fs::write(path("olla.yaml"), olla).expect("a file");
    let (code, yaml, told) = run(&["import-olla", &path("olla.yaml")]);
    assert_eq!(code, Some(1), "{told}");
    assert!(yaml.contains("url: http://h:1\n"), "{yaml}");
    let missing = "olla.yaml: nodes are missing in the result: node `old`\n";
    assert!(told.ends_with(missing), "{told}");
    let (code, _, err) = run(&["import-olla", &path("none.yaml")]);
    assert!(code == Some(1) && err.contains("none.yaml: "), "{err}");
    std::fs::remove_dir_all(&dir).expect("removed");
}

#[test]
fn version_help_and_mistakes_are_for_people() {
    let (code, out, _) = run(&["--version"]);
    assert_eq!(
        (code, out.as_str()),
        (
            Some(0),
            concat!("arriero ", env!("CARGO_PKG_VERSION"), "\n")
        )
    );
    let (code, out, _) = run(&["--help"]);
    assert!(
        code == Some(0)
            && ["serve", "check", "schema", "import-olla", "demo"]
                .iter()
                .all(|word| out.contains(word)),
        "{out}"
    );

    let dir = std::env::temp_dir().join(format!("arriero-test-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a folder");
    let file = dir.join("arriero.yaml");
    let check = |text: &str| {
        std::fs::write(&file, text).expect("a file");
        run(&["check", file.to_str().expect("a path")])
    };
    let (code, out, err) = check("server: { port: 1234 }\n");
    assert!(code == Some(0) && out.contains("1234"), "{out}{err}");
    let (code, _, err) = check("server:\n  prot: 1234\n");
    assert_eq!(code, Some(1), "{err}");
    assert!(
        err.contains("arriero.yaml:2:3")
            && err.contains("prot")
            && err.contains('^')
            && err.contains("port"),
        "{err}"
    );
    let (code, _, err) = run(&["serve", "-c", "/nonexistent/arriero.yaml"]);
    assert!(
        code == Some(1) && err.contains("/nonexistent/arriero.yaml"),
        "{err}"
    );
    std::fs::remove_dir_all(&dir).expect("removed");
}

#[test]
fn an_address_in_use_is_a_sentence_not_a_panic() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").port().to_string();
    let output = arriero()
        .env("ARRIERO_SERVER_PORT", &port)
        .output()
        .expect("arriero runs");
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{err}");
    assert!(
        err.contains(&port) && err.contains("server.port") && !err.contains("panic"),
        "{err}"
    );
}

/// The lines of a running process until one satisfies; the rest stays to be read, or the process could not go on writing.
async fn lines_until(
    output: impl Read + Send + 'static,
    is_last: impl Fn(&str) -> bool + Send + 'static,
) -> (Vec<String>, impl Read) {
    let mut output = BufReader::new(output);
    let read = tokio::task::spawn_blocking(move || {
        let mut lines: Vec<String> = Vec::new();
        while lines.last().is_none_or(|line| !is_last(line)) {
            let mut line = String::new();
            assert_ne!(output.read_line(&mut line).expect("a line"), 0, "{lines:?}");
            lines.push(line.trim().to_owned());
        }
        (lines, output)
    });
    within("the line", read).await.expect("lines")
}

/// What follows a text up to the next character that no address has.
fn address_after(text: &str, before: &str) -> SocketAddr {
    let (_, rest) = text.split_once(before).expect(before);
    let is_other = |c: char| !c.is_ascii_digit() && !".:".contains(c);
    let address = rest.split(is_other).next().expect("an address");
    address.trim_end_matches('.').parse().expect(address)
}

async fn get(addr: SocketAddr, path: &str) -> Reply {
    let mut raw = Raw::open(addr).await;
    raw.send(request("GET", path, "")).await;
    raw.reply().await
}

#[tokio::test]
async fn free_ports_are_two_and_the_log_tells_them() {
    let node = node().await;
    let mut child = arriero()
        .env("OLLAMA_BASE_URLS", node.url())
        .env("ARRIERO_SERVER_PORT", "0")
        .env("ARRIERO_ADMIN_PORT", "0")
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("arriero starts");
    let log = child.stderr.take().expect("stderr");
    let (lines, _log) = lines_until(log, |line| line.contains("listens on")).await;
    let line = lines.last().expect("a line");
    let addr = address_after(line, "listens on ");
    let admin = address_after(line, "admin on ");
    assert!(
        addr.port() != 0 && admin.port() != 0 && addr != admin,
        "{line}"
    );
    let gateway = Process { child, addr, admin };
    gateway.is_ready("llama3").await;
    for (addr, path, status) in [
        (addr, "/api/tags", 200),
        (admin, "/internal/status", 200),
        (admin, "/api/tags", 404),
    ] {
        get(addr, path).await.is(status);
    }
}

#[tokio::test]
async fn the_demos_three_curl_lines_work() {
    let mut child = arriero()
        .args(["demo", "--port", "0", "--admin-port", "0"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("arriero starts");
    let said = child.stdout.take().expect("stdout");
    let (lines, _said) = lines_until(said, |line| line.contains("/metrics")).await;
    let addr = address_after(&lines[0], "at http://");
    let admin = address_after(lines.last().expect("a line"), "curl http://");
    let process = Process { child, addr, admin };
    for model in ["qwen3", "llama3.2"] {
        process.is_ready(model).await;
    }
    let curls: Vec<&String> = lines
        .iter()
        .filter(|line| line.starts_with("curl "))
        .collect();
    assert_eq!(curls.len(), 3, "{lines:?}");
    for line in curls {
        let path = line
            .split(&process.addr.to_string())
            .nth(1)
            .expect("its address")
            .split(' ')
            .next()
            .expect("a path")
            .to_owned();
        let reply = match line.split_once("-d '") {
            Some((_, body)) => post(process.addr, &path, body.trim_end_matches('\'')).await,
            None => get(process.addr, &path).await,
        };
        let reply = reply.is(200);
        assert!(
            reply.complete && !reply.text().contains("\"error\""),
            "{line}: {}",
            reply.text()
        );
    }
}

#[test]
fn a_demonstration_does_not_seem_to_show_a_file() {
    for command in ["demo", "demo-node"] {
        let output = arriero()
            .args([command, "--port", "0", "-c", "mine.yaml"])
            .output()
            .expect("arriero runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{command}");
        assert!(said.contains("arriero -c mine.yaml"), "{command}: {said}");
    }
}
