//! What one client sent is nobody else's business, however a node repeats it.

use std::fs;
use std::time::Duration;

use arriero::demo::{self, Fault};

use crate::support::client::{Raw, Reply, post};
use crate::support::process::{Process, arriero};
use crate::support::within;

const CHAT: &str = r#"{"model":"llama3","messages":[{"role":"user","content":"hi"}]}"#;
/// What Alice wrote, as a careless proxy in front of a node quotes it.
const SECRET: &str = "my account is 8731";

async fn node() -> demo::Node {
    let node = demo::Node::builder().loaded("llama3").tokens(2);
    node.start().await.expect("a node")
}

fn quotes(status: u16) -> Fault {
    let body = format!(r#"{{"error":"cannot work on `{SECRET}`"}}"#);
    Fault::Status { status, body }
}

/// A gateway over the nodes `za`, which is asked first, and `zb`.
async fn start(za: &demo::Node, zb: &demo::Node) -> Process {
    let nodes = [("za", za, 200), ("zb", zb, 100)].map(|(name, node, priority)| {
        let url = node.url();
        format!("{{ url: \"{url}\", name: {name}, priority: {priority}, check_interval: 500ms, check_timeout: 500ms }}")
    });
    let yaml = format!(
        "discovery: {{ health_check: {{ unhealthy_threshold: 2, eject_base: 1h, eject_max: 1h }}, static: {{ endpoints: [ {} ] }} }}\n",
        nodes.join(", ")
    );
    let file = std::env::temp_dir().join(format!("arriero-secrecy-{}.yaml", std::process::id()));
    fs::write(&file, yaml).expect("a configuration");
    let mut command = arriero();
    command.arg("-c").arg(&file);
    let process = Process::start(command).await;
    fs::remove_file(&file).expect("the file is there");
    process
}

async fn endpoints_page(gateway: &Process) -> Reply {
    let mut raw = Raw::open(gateway.admin).await;
    raw.send("GET /internal/status/endpoints HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .await;
    raw.reply().await.is(200)
}

#[tokio::test]
async fn a_prompt_that_a_node_repeats_reaches_nobody_but_its_client() {
    let (za, zb) = (node().await, node().await);
    let gateway = start(&za, &zb).await;
    za.fault(quotes(502));
    zb.fault_times(quotes(502), 1);
    let told = post(gateway.addr, "/api/chat", CHAT).await.is(502);
    assert!(told.text().contains(SECRET), "it is Alice's own");
    post(gateway.addr, "/api/chat", CHAT).await.is(200); // by zb; za is ejected now
    zb.kill();
    let bobs = within("both nodes to be out", async {
        loop {
            let reply = post(gateway.addr, "/v1/chat/completions", CHAT).await;
            assert!(!reply.text().contains(SECRET), "{}", reply.text());
            match reply.status {
                503 => break reply.text(),
                _ => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    })
    .await;
    assert!(
        bobs.contains("(za is ejected, zb is down)"),
        "states, no reasons: {bobs}"
    );
    let page = endpoints_page(&gateway).await.text();
    assert!(page.contains("it answered 502"), "{page}");
    assert!(!page.contains(SECRET), "{page}");
    gateway.signal("TERM");
    let (_, log) = gateway.ended().await;
    let with_secret: Vec<&str> = log.lines().filter(|line| line.contains(SECRET)).collect();
    let [alices] = with_secret[..] else {
        panic!("{with_secret:#?}")
    };
    let line: serde_json::Value = serde_json::from_str(alices).expect("JSON");
    assert_eq!(
        (&line["log"], &line["status"]),
        (&"access".into(), &502.into())
    );
    assert!(
        log.contains("node `za` is down (ejected): it answered 502"),
        "{log}"
    );
}
