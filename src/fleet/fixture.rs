//! Fleets for tests, written as text: one node per line.
//!
//! `gpu1@vllm up 2/4 p200 w3 llama* qwen` is a node of type vllm (or odd; without `@`: ollama), up, with 2 of 4 slots taken, priority 200
//! (else 100), weight 3 (else 1), with two models of which llama is warm. Health is `up`, `down` (failed probes), `ejected`
//! (failed requests), `trial` (back from that), `refused` (our key), `limited` (for 30 s), `draining` (and up), `unknown`, `new` (unknown,
//! and its models were never told), `heard` (up, and its models were never told) or `silent` (down, and its models were never told).
//! Slots may be `auto`. `llama^` is a model that the node would ask another company's server for.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use super::*;
use crate::config::{Connection, NodeAuth, NodeTls, NodeUrl};
use crate::dialect::Operation::{self, *};
use crate::glob::Filter;
use crate::profile::{Api, Listing, MessagesApi, Profile};

pub(crate) const LIMITS: HealthConfig = HealthConfig {
    unhealthy_threshold: 2,
    healthy_threshold: 1,
    eject_base: Duration::from_secs(5),
    eject_max: Duration::from_secs(60),
    ejected_percent_max: 50,
};

fn profile(name: &str, listing: Listing, health_path: &str, paths: &[&str]) -> Arc<Profile> {
    let mut profile = Profile::new(
        name,
        Api {
            openai_compatible: true,
            messages: (listing == Listing::Ollama).then(|| MessagesApi {
                path: "/v1/messages".to_owned(),
                counts_tokens: false,
                min_version: None,
                limitations: Vec::new(),
            }),
            paths: paths.iter().map(|path| (*path).to_owned()).collect(),
            model_path: "/api/tags".to_owned(),
            health_path: health_path.to_owned(),
        },
    );
    profile.prefixes.push(name.to_owned());
    profile.listing = listing;
    Arc::new(profile)
}

static OLLAMA: LazyLock<Arc<Profile>> = LazyLock::new(|| {
    let paths = [
        "/api/chat",
        "/api/generate",
        "/api/embed",
        "/api/show",
        "/api/blobs",
        "/api/pull",
        "/api/push",
        "/api/create",
        "/api/copy",
        "/api/delete",
        "/v1/chat/completions",
        "/v1/embeddings",
    ];
    profile("ollama", Listing::Ollama, "/", &paths)
});

static VLLM: LazyLock<Arc<Profile>> = LazyLock::new(|| {
    let paths = ["/v1/chat/completions", "/v1/completions", "/v1/embeddings"];
    profile("vllm", Listing::OpenAi, "/health", &paths)
});

/// A type of its own kind: no stream, and nothing under `/openai`.
static ODD: LazyLock<Arc<Profile>> = LazyLock::new(|| {
    let plain = profile("odd", Listing::OpenAi, "/", &["/v1/chat/completions"]);
    let mut odd = (*plain).clone();
    odd.characteristics.streaming = Some(false);
    let api = Api {
        openai_compatible: false,
        ..odd.api().clone()
    };
    Arc::new(odd.with_api(api))
});

pub(crate) fn operation(word: &str) -> Option<Operation> {
    let known = [
        ("chat", Chat),
        ("generate", Generate),
        ("embed", Embed),
        ("show", Show),
        ("blob", Blob),
        ("chat_completions", ChatCompletions),
        ("responses", Responses),
    ];
    known
        .iter()
        .find(|(name, _)| *name == word)
        .map(|(_, operation)| *operation)
}

pub(crate) fn node(name: &str, profile: &Arc<Profile>) -> NodeConfig {
    NodeConfig {
        name: name.to_owned(),
        url: NodeUrl {
            tls: false,
            host: "127.0.0.1".to_owned(),
            port: 1,
            base_path: String::new(),
        },
        type_is_found: false,
        profile: profile.clone(),
        priority: 100,
        weight: 1,
        slots: None,
        check_interval: Duration::from_secs(5),
        check_timeout: Duration::from_secs(2),
        health_path: profile.api().health_path.clone(),
        model_path: "/api/tags".to_owned(),
        headers: Vec::new(),
        auth: NodeAuth::None,
        tls: NodeTls::default(),
        model_filter: Filter::default(),
        model_ids: Vec::new(),
        prefix_id: None,
        tags: Vec::new(),
        connection: Connection::Local,
        preserve_path: true,
    }
}

pub(crate) fn ollama(name: &str) -> NodeConfig {
    node(name, &OLLAMA)
}

pub(crate) fn vllm(name: &str) -> NodeConfig {
    node(name, &VLLM)
}

/// A fleet and the leases that keep its slots taken.
pub(crate) struct Herd {
    pub(crate) fleet: Fleet,
    pub(crate) leases: Vec<Lease>,
}

pub(crate) fn herd(text: &str) -> Herd {
    herd_with(text, LIMITS)
}

pub(crate) fn herd_with(text: &str, limits: HealthConfig) -> Herd {
    let lines = || text.lines().map(str::trim).filter(|line| !line.is_empty());
    let herd = Fleet::new(lines().map(config).collect(), limits);
    let mut herd = Herd {
        fleet: herd,
        leases: Vec::new(),
    };
    for (place, line) in lines().enumerate() {
        herd.live(NodeId(place), line);
    }
    herd
}

fn config(line: &str) -> NodeConfig {
    let words: Vec<&str> = line.split_whitespace().collect();
    let (name, kind) = words[0].split_once('@').unwrap_or((words[0], "ollama"));
    let profile = match kind {
        "vllm" => &VLLM,
        "odd" => &ODD,
        _ => &OLLAMA,
    };
    let mut config = node(name, profile);
    config.slots = words[2].split_once('/').unwrap().1.parse().ok();
    for word in &words[3..] {
        if let Some(priority) = word
            .strip_prefix('p')
            .and_then(|number| number.parse().ok())
        {
            config.priority = priority;
        }
        if let Some(weight) = word
            .strip_prefix('w')
            .and_then(|number| number.parse().ok())
        {
            config.weight = weight;
        }
    }
    config
}

impl Herd {
    fn live(&mut self, id: NodeId, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let is_model = |word: &&&str| word[1..].parse::<u32>().is_err();
        let models: Vec<&str> = words[3..].iter().filter(is_model).copied().collect();
        let now = Instant::now();
        let see = |seen| self.fleet.observe(id, seen, now);
        let broken = || Err("connection refused".to_owned());
        match words[1] {
            "up" | "heard" | "draining" => see(Observation::Probe(Ok(()))),
            "down" | "silent" => (0..2).for_each(|_| see(Observation::Probe(broken()))),
            "ejected" => self.eject(id, now),
            "trial" => {
                self.eject(id, now);
                let later = now + LIMITS.eject_max;
                self.fleet.observe(id, Observation::Probe(Ok(())), later);
            }
            "refused" => see(Observation::Refused("GET / answered 401".to_owned())),
            "limited" => see(Observation::RateLimited {
                why: "GET / answered 429".to_owned(),
                retry_after: Some(Duration::from_secs(30)),
            }),
            _ => (),
        }
        if !["new", "heard", "silent"].contains(&words[1]) {
            let is_ollama = self.fleet.view().nodes[id.0].config.profile.listing == Listing::Ollama;
            see(Observation::Installed {
                models: installed(is_ollama, &models),
                version: None,
            });
            if is_ollama {
                see(Observation::Loaded(loaded(&models)));
            }
        }
        let taken: usize = words[2].split_once('/').unwrap().0.parse().unwrap();
        self.leases
            .extend((0..taken).map(|_| self.fleet.try_lease(id).unwrap()));
        if words[1] == "draining" {
            assert!(self.fleet.drain(words[0], true));
        }
    }

    /// The fleet would spare a node that has nobody to take over, so a failed probe does the last of it.
    fn eject(&self, id: NodeId, now: Instant) {
        let broken = || Err("connection refused".to_owned());
        for seen in [
            Observation::Traffic(broken()),
            Observation::Probe(broken()),
            Observation::Probe(Ok(())),
        ] {
            self.fleet.observe(id, seen, now);
        }
    }
}

pub(crate) fn installed(is_ollama: bool, models: &[&str]) -> Vec<Installed> {
    let names = models.iter().map(|model| model.trim_end_matches('*'));
    let entries: Vec<String> = if is_ollama {
        let entry = |name: &str| match name.strip_suffix('^') {
            Some(name) => format!(
                r#"{{"name":"{name}","digest":"d-{name}","remote_host":"https://ollama.com:443"}}"#
            ),
            None => format!(r#"{{"name":"{name}","digest":"d-{name}"}}"#),
        };
        names.map(entry).collect()
    } else {
        names.map(|name| format!(r#"{{"id":"{name}"}}"#)).collect()
    };
    let entries = entries.join(",");
    if is_ollama {
        listing::tags(format!(r#"{{"models":[{entries}]}}"#).as_bytes()).unwrap()
    } else {
        listing::v1_models(format!(r#"{{"data":[{entries}]}}"#).as_bytes()).unwrap()
    }
}

pub(crate) fn loaded(models: &[&str]) -> Vec<Loaded> {
    let names = models.iter().filter_map(|model| model.strip_suffix('*'));
    let entries: Vec<_> = names
        .map(|name| format!(r#"{{"name":"{name}","digest":"d-{name}"}}"#))
        .collect();
    listing::ps(format!(r#"{{"models":[{}]}}"#, entries.join(",")).as_bytes()).unwrap()
}
