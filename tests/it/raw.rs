//! Bytes that are no ordinary request: what the client hears, whether its connection stays, and above all what the node received.
//!
//! The cases stand in `tests/golden/raw-http/cases.txt`; `UPDATE=1 cargo test --test it raw::` rewrites what follows their bytes.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::fs;

use arriero::demo::{self, Outcome, Seen};

use crate::support::client::{Raw, request};
use crate::support::{Herd, herd, within};

const CASES: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/golden/raw-http/cases.txt"
);
const CHAT: &str =
    r#"{"model":"llama3","messages":[{"role":"user","content":"hi"}],"stream":false}"#;
/// A path that is served nowhere, so the answer that repeats it tells that the connection was still open.
const KNOCK: &str = "/knock-knock";
/// What the gateway asks of a node on its own account.
const PROBES: &[&str] = &["/", "/api/tags", "/api/ps", "/api/version"];

/// One block of the file.
struct Case {
    name: String,
    /// As written.
    lines: Vec<String>,
    bytes: Vec<u8>,
    /// The client closes its side after the bytes.
    fin: bool,
}

fn cases(text: &str) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    for line in text.lines() {
        if let Some(name) = line
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
        {
            cases.push(Case {
                name: name.to_owned(),
                lines: Vec::new(),
                bytes: Vec::new(),
                fin: false,
            });
        } else if let Some(case) = cases.last_mut() {
            match line.strip_prefix("> ") {
                Some("FIN") => case.fin = true,
                Some(bytes) => case.bytes.extend(unescaped(&expanded(bytes))),
                None => continue,
            }
            case.lines.push(line.to_owned());
        }
    }
    cases
}

/// `{H}` a Host line, `{N}` the length of the chat and `{X}` the same in hexadecimal, `{L}` its Content-Length line, `{CHAT}`
/// the chat, `{CHUNKED}` the chat as one chunk and the last one, `{3*ab}` ababab. Other braces mean themselves.
fn expanded(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        out += before;
        let (word, behind) = after.split_once('}').unwrap_or((after, ""));
        let meant = match word {
            "H" => "host: gateway\\r\\n".to_owned(),
            "N" => CHAT.len().to_string(),
            "X" => format!("{:x}", CHAT.len()),
            "L" => format!("content-length: {}\\r\\n", CHAT.len()),
            "CHAT" => CHAT.to_owned(),
            "CHUNKED" => format!("{:x}\\r\\n{CHAT}\\r\\n0\\r\\n\\r\\n", CHAT.len()),
            _ => match word.split_once('*').map(|(n, what)| (n.parse(), what)) {
                Some((Ok(times), what)) => what.repeat(times),
                _ => {
                    out.push('{');
                    rest = after;
                    continue;
                }
            },
        };
        out += &meant;
        rest = behind;
    }
    out + rest
}

/// `\r`, `\n`, `\t`, `\\` and `\x00` become bytes.
fn unescaped(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        out.push(match bytes.next() {
            Some(b'r') => b'\r',
            Some(b'n') => b'\n',
            Some(b't') => b'\t',
            Some(b'\\') => b'\\',
            Some(b'x') => {
                let digits = [bytes.next(), bytes.next()].map(|digit| digit.expect("two digits"));
                let digits = std::str::from_utf8(&digits).expect("ASCII");
                u8::from_str_radix(digits, 16).expect("hexadecimal digits")
            }
            other => panic!("`\\{other:?}` is no escape: {text}"),
        });
    }
    out
}

/// Requests that clients caused; the gateway's own questions carry no request id.
fn caused(herd: &Herd) -> Vec<Seen> {
    let asks = |seen: &Seen| {
        seen.method == "GET"
            && PROBES.contains(&seen.path.as_str())
            && seen.header("x-request-id").is_none()
    };
    let mut seen = herd.nodes[0].seen();
    seen.retain(|seen| !asks(seen));
    seen
}

/// Sends a case and tells what the client heard: statuses, and whether the connection is still good for a request.
async fn heard(herd: &Herd, case: &Case) -> String {
    let mut raw = Raw::open(herd.addr()).await;
    raw.send_what_goes(&case.bytes).await;
    if case.fin {
        raw.finish_sending().await;
    }
    let mut told = String::from("=");
    let mut knocked = case.fin;
    let mut headless = case.bytes.starts_with(b"HEAD ");
    while let Some((status, headers)) = raw.head().await {
        let (body, complete) = match std::mem::take(&mut headless) {
            true => (Vec::new(), true),
            false => raw.rest().await,
        };
        if String::from_utf8_lossy(&body).contains(KNOCK) {
            return told + " open";
        }
        let cut = if complete { "" } else { " cut" };
        write!(told, " {status}{cut}").expect("a String takes all");
        let closes = headers
            .iter()
            .any(|(name, value)| name == "connection" && value == "close");
        if !closes && !knocked {
            knocked = true;
            raw.send_what_goes(format!("GET {KNOCK} HTTP/1.1\r\nhost: g\r\n\r\n"))
                .await;
        }
    }
    told + " closed"
}

/// What the node received of one request: the line, every header that is not the gateway's own, and the body.
fn received(herd: &Herd, seen: &Seen) -> String {
    let mut told = format!("< {} {}", seen.method, seen.path);
    let mut known = HashSet::new();
    for (name, value) in &seen.headers {
        let name = name.to_ascii_lowercase();
        let ours = match name.as_str() {
            "host" => *value == herd.nodes[0].addr().to_string(),
            "content-length" => *value == seen.body.len().to_string(),
            "content-type" => {
                value == "application/json"
                    || (value == "application/octet-stream" && seen.path.starts_with("/api/blobs/"))
            }
            "accept" => value.ends_with("application/json"),
            "user-agent" => value.starts_with("arriero/"),
            "x-request-id" => true,
            _ => false,
        };
        if !(ours && known.insert(name.clone())) {
            write!(told, " ({name}: {})", value.escape_debug()).expect("a String takes all");
        }
    }
    match &seen.body[..] {
        b"" => told,
        body if body == CHAT.as_bytes() => told + " {CHAT}",
        body => format!("{told} {}", body.escape_ascii()),
    }
}

#[tokio::test]
async fn every_odd_request_ends_as_the_table_says_and_no_node_gets_more_than_was_sent() {
    let node = demo::Node::builder().loaded("llama3").tokens(2);
    let limits = "management: { enabled: true }\nadmin: { allowed_hosts: [localhost, gateway] }\nserver: { read_header_timeout: 1s, body_timeout: 1s, \
                  request_limits: { max_body_size: 64KiB, max_header_size: 32KiB } }";
    let herd = herd(vec![node], limits).await;
    let text = fs::read_to_string(CASES).expect("the table");
    let cases = cases(&text);
    let mut got: String = text
        .lines()
        .take_while(|line| !line.starts_with('['))
        .fold(String::new(), |head, line| head + line + "\n");
    let mut total = 0;
    for case in &cases {
        writeln!(got, "[{}]\n{}", case.name, case.lines.join("\n")).expect("a String takes all");
        writeln!(got, "{}", heard(&herd, case).await).expect("a String takes all");
        herd.is_idle().await;
        let seen = caused(&herd);
        for seen in &seen[total..] {
            writeln!(got, "{}", received(&herd, seen)).expect("a String takes all");
        }
        if seen.len() == total {
            got += "< nothing\n";
        }
        got.push('\n');
        total = seen.len();
    }
    if std::env::var_os("UPDATE").is_some() {
        fs::write(CASES, &got).expect("the table is written");
    }
    let mut pairs = text.lines().zip(got.lines()).enumerate();
    if let Some((line, (expected, got))) = pairs.find(|(_, (expected, got))| expected != got) {
        panic!("{CASES}:{}: expected `{expected}`, got `{got}`", line + 1);
    }
    assert_eq!(text.lines().count(), got.lines().count());
    assert!(110 <= cases.len(), "{} cases", cases.len());
    // What a node could still hold of a request that nobody sent would come out before this one's answer.
    let mut raw = Raw::open(herd.addr()).await;
    raw.send(request("POST", "/api/chat", CHAT)).await;
    raw.reply().await.is(200);
    assert_eq!(caused(&herd).len(), total + 1);
}

#[tokio::test]
async fn a_blob_on_its_way_to_a_node_is_invited_and_ends_with_its_framing() {
    let herd = herd(vec![demo::Node::builder()], "management: { enabled: true }").await;
    // Of the bytes `blob`.
    let digest = "sha256:fa2c8cc4f28176bbeed4b736df569a34c79cd3723e9ec42f9674b4d46ac6b8b8";
    let head = format!("POST /api/blobs/{digest} HTTP/1.1\r\nhost: localhost\r\n");
    let mut raw = Raw::open(herd.addr()).await;
    raw.send(format!(
        "{head}expect: 100-continue\r\ncontent-length: 4\r\n\r\n"
    ))
    .await;
    raw.continues().await;
    raw.send("blob").await;
    raw.reply().await.is(201);
    let other = head.replace("fa2c", "fa2d");
    let mut raw = Raw::open(herd.addr()).await;
    raw.send(format!("{other}transfer-encoding: chunked\r\n\r\n"))
        .await;
    herd.nodes[0].until(|_| herd.served(0).len() == 2).await;
    raw.send("4\r\nblob\r\n0x4\r\nblob\r\n0\r\n\r\n").await;
    let reply = raw.reply().await.is(400);
    assert!(reply.text().contains("framing"), "{}", reply.text());
    assert!(raw.is_closed().await);
    let cut = |node: &demo::Node| {
        node.seen()
            .last()
            .is_some_and(|seen| seen.outcome == Outcome::Cancelled)
    };
    within("the node to see the cut", herd.nodes[0].until(cut)).await;
    assert_eq!(herd.served(0).len(), 2);
    assert!(
        herd.gateway.gateway.fleet().view().nodes[0].health.is_up(),
        "a client's mistake is not the node's"
    );
    herd.is_idle().await;
}
