//! Fleets for tests, written as text: one node per line.
//!
//! `gpu1@vllm up 2/4 p200 w3 llama* qwen` is a node of type vllm (or odd; without `@`: ollama), up, with 2 of 4 slots taken, priority 200
//! (else 100), weight 3 (else 1), with two models of which llama is warm. Health is `up`, `down` (failed probes), `ejected`
//! (failed requests), `failing` (that too, and spared), `trial` (back from that), `refused` (our key), `limited` (for 30 s), `draining` (and up), `unknown`, `new` (unknown,
//! and its models were never told), `heard` (up, and its models were never told) or `silent` (down, and its models were never told).
//! Slots may be `auto`. A model may say more of itself, in this order: `llava=completion+vision` lists what it can do, `yi#8192` its
//! context in tokens, `qwen:7b^2` has 2 requests in flight. Of types hard and soft, 7b models are limited to one request at once.
//! `llama!` is a model that the node would ask another company's server for.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use super::*;
use crate::config::{Connection, NodeAuth, NodeTls, NodeUrl, Unsaid};
use crate::dialect::Operation::{self, *};
use crate::glob::Filter;
use crate::model::ModelKey;
use crate::profile::resources::{Figures, ModelSize, SizePattern};
use crate::profile::{Api, Limit, Listing, MessagesApi, Profile, VersionPlace};

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
            version: (listing == Listing::Ollama).then(|| VersionPlace {
                path: "/api/version".to_owned(),
                field: "version".to_owned(),
                is_ollamas: true,
            }),
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

/// Ollama with a limit for models of one size, written by the operator (hard) or assumed by us.
fn limited(name: &str, hard: bool) -> Arc<Profile> {
    let mut limited = (**OLLAMA).clone();
    limited.name = name.into();
    limited.resources.sizes = Some(vec![ModelSize {
        patterns: SizePattern::new("7b").into_iter().collect(),
        figures: Figures::default(),
        max_concurrent: Some(Limit { requests: 1, hard }),
    }]);
    Arc::new(limited)
}

static HARD: LazyLock<Arc<Profile>> = LazyLock::new(|| limited("hard", true));
static SOFT: LazyLock<Arc<Profile>> = LazyLock::new(|| limited("soft", false));

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
        unsaid: Unsaid::default(),
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
        "hard" => &HARD,
        "soft" => &SOFT,
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
        if words[1] == "failing" {
            see(Observation::Probe(Ok(())));
            (0..2).for_each(|_| see(Observation::Traffic(broken())));
            assert!(self.fleet.view().nodes[id.0].spared.is_some(), "{line}");
        }
        let taken: usize = words[2].split_once('/').unwrap().0.parse().unwrap();
        for model in &models {
            let model = Model::parse(model);
            for _ in 0..model.in_flight {
                let seat = self.seat(id, model.name);
                self.leases.push(seat);
            }
        }
        let seated = self.leases.iter().filter(|it| it.node() == id).count();
        let lease = |_| self.fleet.try_lease(id, None).unwrap();
        self.leases.extend((seated..taken).map(lease));
        if words[1] == "draining" {
            assert!(self.fleet.drain(words[0], true));
        }
    }

    /// Takes a seat of a model on a node.
    pub(crate) fn seat(&self, id: NodeId, model: &str) -> Lease {
        let traits = self.traits(id, model);
        self.fleet.try_lease(id, Some(&traits)).unwrap()
    }

    pub(crate) fn traits(&self, id: NodeId, model: &str) -> Arc<Traits> {
        let view = self.fleet.view();
        let holders = view.holders(&ModelKey::parse(model).unwrap()).unwrap();
        let holder = holders.iter().find(|holder| holder.node == id).unwrap();
        Arc::clone(&holder.traits)
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

fn cut(word: &str, mark: char) -> (&str, Option<&str>) {
    let parts = word.split_once(mark);
    parts.map_or((word, None), |(word, more)| (word, Some(more)))
}

/// A word for a model.
struct Model<'a> {
    name: &'a str,
    capabilities: Option<&'a str>,
    context: Option<&'a str>,
    in_flight: usize,
    is_warm: bool,
    is_remote: bool,
}

impl Model<'_> {
    fn parse(word: &str) -> Model<'_> {
        let (word, is_warm) = match word.strip_suffix('*') {
            Some(word) => (word, true),
            None => (word, false),
        };
        let (word, is_remote) = match word.strip_suffix('!') {
            Some(word) => (word, true),
            None => (word, false),
        };
        let (word, in_flight) = cut(word, '^');
        let (word, context) = cut(word, '#');
        let (name, capabilities) = cut(word, '=');
        Model {
            name,
            capabilities,
            context,
            in_flight: in_flight.map_or(0, |number| number.parse().unwrap()),
            is_warm,
            is_remote,
        }
    }

    fn entry(&self, is_ollama: bool) -> String {
        let name = self.name;
        let mut entry = match is_ollama {
            true => format!(r#"{{"name":"{name}","digest":"d-{name}""#),
            false => format!(r#"{{"id":"{name}""#),
        };
        if let Some(words) = self.capabilities {
            entry += &format!(r#","capabilities":["{}"]"#, words.replace('+', r#"",""#));
        }
        if self.is_remote {
            entry += r#","remote_host":"https://ollama.com:443""#;
        }
        if let Some(tokens) = self.context {
            entry += &format!(r#","context_length":{tokens}"#);
        }
        entry + "}"
    }
}

pub(crate) fn installed(is_ollama: bool, models: &[&str]) -> Vec<Installed> {
    let models = models.iter().map(|word| Model::parse(word));
    let entries: Vec<String> = models.map(|model| model.entry(is_ollama)).collect();
    let entries = entries.join(",");
    if is_ollama {
        listing::whole::tags(format!(r#"{{"models":[{entries}]}}"#).as_bytes()).unwrap()
    } else {
        listing::whole::v1_models(format!(r#"{{"data":[{entries}]}}"#).as_bytes()).unwrap()
    }
}

pub(crate) fn loaded(models: &[&str]) -> Vec<Loaded> {
    let models = models.iter().map(|word| Model::parse(word));
    let warm = models.filter(|model| model.is_warm);
    let entries: Vec<String> = warm.map(|model| model.entry(true)).collect();
    listing::ps(format!(r#"{{"models":[{}]}}"#, entries.join(",")).as_bytes()).unwrap()
}
