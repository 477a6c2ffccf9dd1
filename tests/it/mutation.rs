//! Requests that something on the way has damaged: the gateway neither hangs nor panics nor tells a node of more than was sent.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arriero::demo;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::support::client::{Raw, request};
use crate::support::{Herd, herd, spawn, within};

const CHAT: &str =
    r#"{"model":"llama3","messages":[{"role":"user","content":"hi"}],"stream":false}"#;
/// Comes behind every damaged request, so that what is cut short finds an end, and is itself no node's business.
const KNOCK: &str = "GET /knock HTTP/1.1\r\nhost: g\r\nconnection: close\r\n\r\n";
/// Damaged requests that are under way at once.
const AT_ONCE: usize = 12;

/// One kind of damage; positions are parts of the whole, in 65536ths.
#[derive(Debug, Clone)]
enum Damage {
    Replace(u16, u8),
    Insert(u16, Vec<u8>),
    Remove(u16, usize),
    Truncate(u16),
    RepeatLine(u16),
}

impl Damage {
    fn apply(&self, bytes: &mut Vec<u8>) {
        let place = |at: u16| usize::from(at) * bytes.len() / 65_536;
        match self {
            Damage::Replace(at, byte) => {
                let at = place(*at);
                bytes[at..].iter_mut().take(1).for_each(|b| *b = *byte);
            }
            Damage::Insert(at, new) => {
                let at = place(*at);
                bytes.splice(at..at, new.iter().copied());
            }
            Damage::Remove(at, count) => {
                let at = place(*at);
                bytes.drain(at..bytes.len().min(at + count));
            }
            Damage::Truncate(at) => bytes.truncate(place(*at)),
            Damage::RepeatLine(at) => {
                let at = place(*at);
                let start = bytes[..at]
                    .iter()
                    .rposition(|b| *b == b'\n')
                    .map_or(0, |n| n + 1);
                let end = bytes[start..].iter().position(|b| *b == b'\n');
                let line = bytes[start..end.map_or(bytes.len(), |n| start + n + 1)].to_vec();
                bytes.splice(start..start, line);
            }
        }
    }
}

fn damage() -> impl Strategy<Value = Damage> {
    let telling: Vec<&[u8]> = vec![
        b"\r\n",
        b"\n",
        b"\r",
        b"\0",
        b" ",
        b":",
        b"\r\n\r\n",
        b"0\r\n\r\n",
        b"\xff",
        b"transfer-encoding: chunked\r\n",
        b"content-length: 5\r\n",
        b"expect: 100-continue\r\n",
        b"connection: close, host\r\n",
        b"\r\n ",
    ];
    let telling = prop::sample::select(telling).prop_map(<[u8]>::to_vec);
    prop_oneof![
        (any::<u16>(), any::<u8>()).prop_map(|(at, byte)| Damage::Replace(at, byte)),
        (any::<u16>(), telling).prop_map(|(at, new)| Damage::Insert(at, new)),
        (any::<u16>(), 1..8_usize).prop_map(|(at, count)| Damage::Remove(at, count)),
        any::<u16>().prop_map(Damage::Truncate),
        any::<u16>().prop_map(Damage::RepeatLine),
    ]
}

/// A good request with up to three damages.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let chunked = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\nx-a: 1\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{CHAT}\r\n0\r\n\r\n",
        CHAT.len()
    );
    let good = vec![
        request("POST", "/api/chat", CHAT),
        request("POST", "/olla/ollama/api/chat?a=1", CHAT),
        chunked,
        "GET /api/version/0 HTTP/1.1\r\nhost: g\r\naccept: */*\r\n\r\n".to_owned(),
        "GET /api/tags HTTP/1.1\r\nhost: g\r\naccept: */*\r\n\r\n".to_owned(),
    ];
    let damages = prop::collection::vec(damage(), 1..4);
    (prop::sample::select(good), damages).prop_map(|(good, damages)| {
        let mut bytes = good.into_bytes();
        for damage in damages {
            damage.apply(&mut bytes);
        }
        bytes.extend(KNOCK.as_bytes());
        bytes
    })
}

/// Sends the bytes and reads answers until the gateway closes.
async fn send(addr: std::net::SocketAddr, bytes: Vec<u8>) {
    let mut raw = Raw::open(addr).await;
    raw.send_what_goes(bytes).await;
    while raw.head().await.is_some() {
        if !raw.rest().await.1 {
            break;
        }
    }
}

/// Requests with our id, which the gateway's own questions have not.
fn caused(herd: &Herd) -> usize {
    let seen = herd.nodes[0].seen();
    seen.iter()
        .filter(|seen| seen.header("x-request-id").is_some() || seen.method != "GET")
        .count()
}

async fn a_batch(herd: &Herd, batch: Vec<Vec<u8>>) {
    let (before, sent) = (caused(herd), batch.len());
    let under_way: Vec<_> = batch
        .into_iter()
        .map(|bytes| spawn(send(herd.addr(), bytes)))
        .collect();
    for one in under_way {
        within("an end", one).await.expect("no failure");
    }
    herd.is_idle().await;
    herd.post("/api/chat", CHAT).await.is(200);
    let caused = caused(herd) - before;
    assert!(
        caused <= sent + 1,
        "{caused} requests came out of {sent} and an ordinary one"
    );
    for seen in herd.nodes[0].seen() {
        let host = seen.header("host");
        assert_eq!(host, Some(&*herd.nodes[0].addr().to_string()), "{seen:?}");
        let known = ["/", "/api/chat", "/api/chat?a=1", "/v1/chat/completions"];
        let is_probe = seen.method == "GET" && seen.path.starts_with("/api/");
        assert!(
            is_probe || known.contains(&seen.path.split('?').next().unwrap_or_default()),
            "{seen:?}"
        );
    }
}

#[test]
fn damaged_requests_neither_hang_nor_break_anything() {
    let panics = Arc::new(AtomicUsize::new(0));
    let counted = panics.clone();
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        // The gateway's tasks swallow their panics; only this tells of them. A test that fails elsewhere is no news to us.
        let ours = info
            .location()
            .is_some_and(|place| place.file().contains("src/"));
        counted.fetch_add(usize::from(ours), Ordering::Relaxed);
        before(info);
    }));
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let limits = "server: { read_header_timeout: 200ms, body_timeout: 200ms, idle_timeout: 1s }";
    let node = demo::Node::builder().loaded("llama3").tokens(2).slots(64);
    let herd = runtime.block_on(herd(vec![node], limits));
    let config = Config {
        cases: 40,
        failure_persistence: None,
        ..Config::default()
    };
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    TestRunner::new_with_rng(config, rng)
        .run(&prop::collection::vec(damaged(), AT_ONCE), |batch| {
            runtime.block_on(a_batch(&herd, batch));
            Ok(())
        })
        .unwrap_or_else(|failure| panic!("{failure}"));
    assert_eq!(panics.load(Ordering::Relaxed), 0, "a panic in the gateway");
    drop(runtime);
}
