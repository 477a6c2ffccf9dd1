//! What the steps of a request cost by themselves, ns per call; `docs/benchmarks.md` tells how to run it.
#![expect(clippy::print_stdout, reason = "its table is for a terminal")]

use std::hint::black_box;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use arriero::config::profiles::builtin;
use arriero::config::{
    Balancer, Connection, HealthConfig, NodeAuth, NodeConfig, NodeTls, NodeUrl, Unsaid,
};
use arriero::dialect::facts::facts;
use arriero::dialect::meter::Meter;
use arriero::dialect::recognize::recognize;
use arriero::dialect::{Framing, Operation};
use arriero::fleet::{Fleet, NodeId, Observation, listing};
use arriero::glob::Filter;
use arriero::model::ModelKey;
use arriero::profile::Listing;
use arriero::routing::{Ask, Wanted, route};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// How long one batch of calls lasts, about.
const BATCH: Duration = Duration::from_millis(40);
/// The fastest of them counts: whatever else runs on the machine only ever makes a batch slower.
const BATCHES: usize = 7;
const CALLS_MAX: u32 = 1 << 24;
/// The default of `prefix_hash_bytes`.
const HASHED_BYTES_MAX: usize = 8 * 1024;

fn main() -> Result<()> {
    println!("{:<52} {:>12}", "", "ns per call");
    bodies()?;
    routes()?;
    snapshots()?;
    chunks();
    Ok(())
}

fn print(what: &str, call: impl FnMut()) {
    println!("{what:<52} {:>12.0}", nanos(call));
}

/// Calls as often as fills a batch, several times over.
fn nanos(mut call: impl FnMut()) -> f64 {
    let mut timed = |calls: u32| {
        let start = Instant::now();
        (0..calls).for_each(|_| call());
        start.elapsed()
    };
    let mut calls = 1;
    while timed(calls) < BATCH && calls < CALLS_MAX {
        calls *= 2;
    }
    let best = (0..BATCHES).map(|_| timed(calls)).min();
    best.unwrap_or_default().as_secs_f64() * 1e9 / f64::from(calls)
}

fn bodies() -> Result<()> {
    let call = recognize(&http::Method::POST, "/api/chat", &builtin())?;
    let short = r#"{"role":"user","content":"tell me about the sea and the moon"},"#;
    let image = |bytes: usize| {
        let data = "iVBORw0K".repeat(bytes / 8);
        format!(r#"{{"role":"user","content":"what is this?","images":["{data}"]}},"#)
    };
    let cases = [
        ("1.6 KB, model first", true, short.repeat(24)),
        ("98 KB, model last", false, short.repeat(1550)),
        ("5 MB image, model last", false, image(5 << 20)),
    ];
    for (what, is_first, messages) in cases {
        let messages = messages.trim_end_matches(',');
        let body = if is_first {
            format!(r#"{{"model":"llama3.2","messages":[{messages}],"stream":true}}"#)
        } else {
            format!(r#"{{"messages":[{messages}],"stream":true,"model":"llama3.2"}}"#)
        };
        facts(&call, body.as_bytes(), HASHED_BYTES_MAX)?;
        print(&format!("dialect::facts, {what}"), || {
            drop(black_box(facts(
                &call,
                black_box(body.as_bytes()),
                HASHED_BYTES_MAX,
            )));
        });
    }
    Ok(())
}

fn routes() -> Result<()> {
    let model = ModelKey::parse("model-1")?;
    let ask = Ask::plain(Wanted::new("model-1", &model, &[]), Operation::Chat);
    for (nodes, models) in [(3, 3), (50, 3), (200, 200), (500, 3)] {
        let fleet = fleet(nodes, models)?;
        let view = fleet.view();
        let now = Instant::now();
        route(&ask, &view, Balancer::Adaptive, 0, now).map_err(|none| format!("{none:?}"))?;
        let mut seed = 0;
        print(
            &format!("routing::route, {nodes} nodes with {models} models each"),
            || {
                seed += 1;
                drop(black_box(route(
                    black_box(&ask),
                    &view,
                    Balancer::Adaptive,
                    seed,
                    now,
                )));
            },
        );
    }
    Ok(())
}

fn snapshots() -> Result<()> {
    let fleet = fleet(200, 200)?;
    let (more, fewer) = (tags(201)?, tags(200)?);
    let mut turn = false;
    let now = Instant::now();
    print("fleet snapshot, 200 nodes with 200 models each", || {
        turn = !turn;
        let models = if turn { more.clone() } else { fewer.clone() };
        let seen = Observation::Installed {
            models,
            version: None,
        };
        fleet.observe(NodeId(0), seen, now);
    });
    Ok(())
}

fn chunks() {
    let line = concat!(
        r#"{"model":"llama3.2","created_at":"2026-11-20T22:09:37.971228841Z","#,
        r#""message":{"role":"assistant","content":" because"},"done":false}"#,
        "\n"
    );
    let event = concat!(
        r#"data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1763676577,"model":"llama3.2","#,
        r#""system_fingerprint":"fp_ollama","choices":[{"index":0,"delta":{"role":"assistant","content":" because"},"finish_reason":null}]}"#,
        "\n\n"
    );
    let cases = [
        ("NDJSON line", Operation::Chat, Framing::Ndjson, line),
        ("SSE event", Operation::ChatCompletions, Framing::Sse, event),
    ];
    for (what, operation, framing, chunk) in cases {
        let mut meter = Meter::new(operation, framing);
        print(&format!("Meter, one token as {what}"), || {
            meter.push(black_box(chunk.as_bytes()));
        });
        black_box(meter.first_token_seen());
    }
    let extraction = builtin()
        .find("ollama")
        .and_then(|profile| profile.figures.extraction());
    let mut meter = Meter::new(Operation::Chat, Framing::Ndjson).keeping(extraction);
    print("Meter, the same line, its figures wanted", || {
        meter.push(black_box(line.as_bytes()));
    });
    black_box(meter.has_missed_values());
}

/// A fleet whose nodes are all up and all have the same models, of which every third node holds the second in memory.
fn fleet(nodes: usize, models: usize) -> Result<Fleet> {
    let health = HealthConfig {
        unhealthy_threshold: 2,
        healthy_threshold: 1,
        eject_base: Duration::from_secs(5),
        eject_max: Duration::from_secs(60),
        ejected_percent_max: 50,
    };
    let configs: Result<Vec<NodeConfig>> = (0..nodes).map(node).collect();
    let fleet = Fleet::new(configs?, health);
    let installed = tags(models)?;
    let loaded = listing::ps(br#"{"models":[{"name":"model-1:latest","digest":"d1"}]}"#)?;
    let now = Instant::now();
    for place in 0..nodes {
        let see = |seen| fleet.observe(NodeId(place), seen, now);
        see(Observation::Resolved(SocketAddr::from((
            Ipv4Addr::LOCALHOST,
            1,
        ))));
        see(Observation::Probe(Ok(())));
        see(Observation::Installed {
            models: installed.clone(),
            version: None,
        });
        if place % 3 == 0 {
            see(Observation::Loaded(loaded.clone()));
        }
    }
    Ok(fleet)
}

fn node(place: usize) -> Result<NodeConfig> {
    let profiles = builtin();
    let profile = profiles
        .find("ollama")
        .ok_or("no profile is named ollama")?;
    Ok(NodeConfig {
        name: format!("gpu-{place}"),
        url: NodeUrl {
            tls: false,
            host: "127.0.0.1".to_owned(),
            port: 1,
            base_path: String::new(),
        },
        profile: profile.clone(),
        type_is_found: false,
        unsaid: Unsaid::default(),
        priority: 100,
        weight: 1,
        slots: None,
        check_interval: Duration::from_secs(5),
        check_timeout: Duration::from_secs(2),
        health_path: profile.api().health_path.clone(),
        model_path: profile.api().model_path.clone(),
        headers: Vec::new(),
        auth: NodeAuth::None,
        tls: NodeTls::default(),
        model_filter: Filter::default(),
        model_ids: Vec::new(),
        prefix_id: None,
        tags: Vec::new(),
        connection: Connection::Local,
        preserve_path: true,
    })
}

fn tags(models: usize) -> Result<Vec<listing::Installed>> {
    let entry = |place| format!(r#"{{"name":"model-{place}:latest","digest":"d{place}"}}"#);
    let entries: Vec<String> = (0..models).map(entry).collect();
    let list = format!(r#"{{"models":[{}]}}"#, entries.join(","));
    Ok(listing::installed(Listing::Ollama, list.as_bytes())?.models)
}
