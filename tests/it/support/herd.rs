//! A gateway over simulated nodes, ready when the test begins.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arriero::config::{self, Config};
use arriero::demo;
use arriero::gateway::local::LocalGateway;

use super::client::{Raw, Reply, post, request};
use super::within;

/// A running gateway and its nodes.
pub(crate) struct Herd {
    pub(crate) nodes: Vec<demo::Node>,
    pub(crate) gateway: LocalGateway,
}

/// Starts a gateway over these nodes, named gpu-0, gpu-1, … and waits until it knows their models. `yaml` is added to the
/// configuration: whole sections, or keys of an endpoint behind `endpoint N:` lines are not possible; use `herd_of`.
pub(crate) async fn herd(nodes: Vec<demo::NodeBuilder>, yaml: &str) -> Herd {
    herd_of(nodes.into_iter().map(|node| (node, "")).collect(), yaml).await
}

/// As `herd`, with YAML lines for each endpoint, such as `priority: 50\nslots: 2`.
pub(crate) async fn herd_of(nodes: Vec<(demo::NodeBuilder, &str)>, yaml: &str) -> Herd {
    let herd = starting(nodes, yaml, |_, _| ()).await;
    herd.settled().await;
    herd
}

/// As `herd_of`, with a last word on the nodes and the configuration before the gateway starts; it may know nothing yet.
pub(crate) async fn starting(
    nodes: Vec<(demo::NodeBuilder, &str)>,
    yaml: &str,
    prepare: impl FnOnce(&[demo::Node], &mut Config),
) -> Herd {
    let mut running = Vec::new();
    let mut endpoints = String::new();
    for (at, (node, keys)) in nodes.into_iter().enumerate() {
        let node = node.start().await.expect("a node");
        endpoints += &format!("      - url: {}\n        name: gpu-{at}\n", node.url());
        if !keys.contains("type:") {
            endpoints += "        type: ollama\n";
        }
        if !keys.contains("check_interval") {
            endpoints += "        check_interval: 1s\n        check_timeout: 1s\n";
        }
        for line in keys.lines() {
            endpoints += &format!("        {}\n", line.trim());
        }
        running.push(node);
    }
    let text = format!("{yaml}\n{}", discovery(yaml, &endpoints));
    let mut config = parse(&text);
    prepare(&running, &mut config);
    let gateway = LocalGateway::start(config).await.expect("a gateway");
    Herd {
        nodes: running,
        gateway,
    }
}

fn discovery(yaml: &str, endpoints: &str) -> String {
    assert!(
        !yaml.contains("discovery:"),
        "the herd writes the discovery section itself"
    );
    format!(
        "discovery:\n  health_check: {{ unhealthy_threshold: 2, eject_base: 300ms, eject_max: 2s }}\n  \
         model_discovery: {{ interval: 1s, loaded_interval: 50ms, timeout: 2s }}\n  static:\n    endpoints:\n{endpoints}"
    )
}

/// Parses a configuration as `arriero -c` would, without an environment.
pub(crate) fn parse(text: &str) -> Config {
    parse_with(text, &|path| {
        Err(format!("{path}: this test reads no files"))
    })
}

/// As `parse`, where files hold what `read_file` says.
pub(crate) fn parse_with(
    text: &str,
    read_file: &dyn Fn(&str) -> Result<Vec<u8>, String>,
) -> Config {
    config::load(&config::Sources {
        file: Some(("test.yaml", text)),
        env: &|_| None,
        env_names: Vec::new(),
        read_file,
        list_dir: &|path| Err(format!("{path}: this test reads no files")),
        cores: 2,
        terminal: false,
    })
    .unwrap_or_else(|error| panic!("{error}\n{text}"))
}

impl Herd {
    pub(crate) fn addr(&self) -> SocketAddr {
        self.gateway.addr
    }

    /// Waits until every node is up and its models are known.
    pub(crate) async fn settled(&self) {
        self.eventually("all nodes up with their models", |view| {
            view.nodes
                .iter()
                .all(|node| node.health.is_up() && node.addr.is_some() && node.knows_models())
        })
        .await;
    }

    /// Waits until the gateway believes something. It looks each time the fleet tells of a change, and every few
    /// milliseconds besides, since not every belief rings a bell.
    pub(crate) async fn eventually(
        &self,
        what: &str,
        holds: impl Fn(&arriero::fleet::Snapshot) -> bool,
    ) {
        let fleet = self.gateway.gateway.fleet().clone();
        within(what, async {
            while !holds(&fleet.view()) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    }

    /// No lease is out: every flow must end like this.
    pub(crate) async fn is_idle(&self) {
        self.eventually("all slots given back", |view| {
            view.nodes.iter().all(|node| node.in_flight() == 0)
        })
        .await;
        let lifecycle = self.gateway.gateway.lifecycle().clone();
        within("no request in flight", async {
            while lifecycle.in_flight() > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    }

    pub(crate) async fn post(&self, path: &str, body: &str) -> Reply {
        post(self.addr(), path, body).await
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        let mut raw = Raw::open(self.addr()).await;
        raw.send(format!("GET {path} HTTP/1.1\r\nhost: gateway\r\n\r\n"))
            .await;
        raw.reply().await
    }

    /// Sends a request and leaves the answer to be read.
    pub(crate) async fn begin(&self, path: &str, body: &str) -> Raw {
        let mut raw = Raw::open(self.addr()).await;
        raw.send(request("POST", path, body)).await;
        raw
    }

    pub(crate) async fn admin(&self, path: &str) -> Reply {
        let mut raw = Raw::open(self.gateway.admin_addr).await;
        raw.send(format!(
            "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
        ))
        .await;
        raw.reply().await
    }

    /// The value of one metric, 0 when it is not there yet. `series` is the whole name with its labels.
    pub(crate) async fn metric(&self, series: &str) -> f64 {
        let text = self.admin("/metrics").await.text();
        let line = text.lines().find(|line| {
            line.strip_prefix(series)
                .is_some_and(|rest| rest.starts_with(' '))
        });
        line.and_then(|line| line.rsplit(' ').next()?.parse().ok())
            .unwrap_or(0.0)
    }

    /// Waits until a metric has a value that suits.
    pub(crate) async fn until_metric(&self, series: &str, suits: impl Fn(f64) -> bool) {
        within(series, async {
            while !suits(self.metric(series).await) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    }

    /// Requests that a node got from clients; probes are left out, and so are loads that the gateway asked for.
    pub(crate) fn served(&self, node: usize) -> Vec<demo::Seen> {
        let mut seen = self.nodes[node].seen();
        seen.retain(|seen| seen.method == "POST" && !is_load(seen));
        seen
    }

    /// Loads that the gateway asked a node for.
    pub(crate) fn asked_to_load(&self, node: usize) -> Vec<demo::Seen> {
        let mut seen = self.nodes[node].seen();
        seen.retain(is_load);
        seen
    }
}

/// Whether the gateway itself asked for it, to have a model loaded.
pub(crate) fn is_load(seen: &demo::Seen) -> bool {
    let is_ours = |(name, value): &(String, String)| {
        name.eq_ignore_ascii_case("user-agent") && value.starts_with("arriero/")
    };
    let is_call = seen.path.ends_with("/api/generate") || seen.path.ends_with("/api/embed");
    is_call && seen.headers.iter().any(is_ours)
}

/// Shares a herd between tasks.
pub(crate) fn shared(herd: Herd) -> Arc<Herd> {
    Arc::new(herd)
}
