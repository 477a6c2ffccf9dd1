//! Arriero itself: the fleet, the routing and the queue that serve real requests, told of the modelled fleet what a gateway would see.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

use arriero::admission::{Chance, Claim, Class, Limits, Queue, Tenant, Tried, Wish};
use arriero::affinity::Session;
use arriero::config::{Balancer, Config, Sources, load};
use arriero::dialect::{Operation, RunnerOptions};
use arriero::fleet::{Fleet, Lease, Loading, NodeId, Observation, RunnerKey, Shown, listing};
use arriero::model::ModelKey;
use arriero::profile::Needs;
use arriero::routing::{Ask, Circumstances, NoRoute, Route, Wanted, route};

use crate::fleet::{MODELS, NodeSpec};
use crate::node::Loaded;
use crate::policy::{Decision, Policy, Request, Usage};

/// As in the gateway.
const ANSWER_TOKENS: u64 = 256;
/// As in the gateway.
const LOAD_TOKENS_PER_S: f32 = 50.0;

/// A request that was sent.
struct Sent {
    request: Request,
    lease: Lease,
    loading: Option<Loading>,
    since: Duration,
    /// When its runner was there.
    ready: Option<Duration>,
    first_token: Option<Duration>,
    cached: u64,
    paid: u64,
}

pub(crate) struct Arriero {
    fleet: Fleet,
    epoch: Instant,
    keys: Vec<ModelKey>,
    queue: Queue<(usize, u32), Request>,
    tickets: HashMap<usize, (arriero::admission::Ticket, Duration)>,
    sent: HashMap<usize, Sent>,
    /// By conversation: who served it last, when, and how long its prompt was.
    sessions: HashMap<usize, (NodeId, Duration, u64)>,
    refused: Vec<usize>,
    seed: u64,
}

impl Arriero {
    pub(crate) fn new(nodes: &[NodeSpec], seed: u64) -> Arriero {
        let config = config(nodes);
        let limits = config.proxy.queue.clone();
        let queue = Queue::new(Limits {
            length_max: limits.length_max,
            swap_age_max: limits.swap_patience,
            background_age_max: limits.background_patience,
            wait_max: limits.wait_max,
        });
        let fleet = Fleet::new(config.nodes, config.health);
        let epoch = Instant::now();
        for at in 0..nodes.len() {
            let id = NodeId(at);
            fleet.observe(id, Observation::Probe(Ok(())), epoch);
            let entries = MODELS.iter().map(|model| {
                let digest = digest(model.name);
                format!(
                    r#"{{"model":"{}","digest":"{digest}","size":{},"details":{{}}}}"#,
                    model.name, model.bytes
                )
            });
            let body = format!(
                r#"{{"models":[{}]}}"#,
                entries.collect::<Vec<_>>().join(",")
            );
            let told = listing::installed(arriero::profile::Listing::Ollama, body.as_bytes());
            let seen = Observation::Installed {
                models: told.map(|told| told.models).unwrap_or_default(),
                version: None,
            };
            fleet.observe(id, seen, epoch);
        }
        let keys = MODELS
            .iter()
            .filter_map(|model| ModelKey::parse(model.name).ok());
        Arriero {
            fleet,
            epoch,
            keys: keys.collect(),
            queue,
            tickets: HashMap::new(),
            sent: HashMap::new(),
            sessions: HashMap::new(),
            refused: Vec::new(),
            seed,
        }
    }

    fn give_up_late(&mut self, now: Duration) {
        for (request, _) in self.queue.expire(now) {
            self.tickets.remove(&request.id);
            self.refused.push(request.id);
        }
    }
}

/// What one look needs of the policy besides the queue that is looked through.
struct Look<'a> {
    fleet: &'a Fleet,
    epoch: Instant,
    keys: &'a [ModelKey],
    sessions: &'a HashMap<usize, (NodeId, Duration, u64)>,
    sent: &'a mut HashMap<usize, Sent>,
    decisions: &'a mut Vec<Decision>,
    seed: u64,
    now: Duration,
}

impl Look<'_> {
    fn look(&mut self, request: &Request, chance: Chance) -> Tried {
        let name = MODELS[request.model].name;
        let key = &self.keys[request.model];
        let session = self
            .sessions
            .get(&request.conversation)
            .map(|known| Session {
                node: known.0,
                tokens: known.2,
                pinned: false,
                idle: self.now.saturating_sub(known.1),
            });
        let options = RunnerOptions {
            num_ctx: Some(i64::from(request.context)),
            ..RunnerOptions::default()
        };
        let runner = RunnerKey::of(&options);
        let ask = Ask {
            needs: Needs {
                prompt_tokens: u64::from(request.prompt_tokens),
                ..Needs::default()
            },
            runner,
            affinity: Some(request.conversation as u64),
            session,
            circumstances: Circumstances {
                uptime: self.now,
                waited: chance.waited,
                line: chance.line,
                may_swap: chance.may_swap,
            },
            ..Ask::plain(Wanted::new(name, key, &[]), Operation::Chat)
        };
        let view = self.fleet.view();
        self.seed += 1;
        let now = self.epoch + self.now;
        let route = match route(&ask, &view, Balancer::Adaptive, self.seed, now) {
            Ok(route) => route,
            Err(NoRoute::Full(wait)) => {
                if let Some(in_use) = wait.in_use.filter(|_| chance.is_due) {
                    in_use.ledger().retire(self.now);
                }
                return Tried::Later;
            }
            Err(NoRoute::Refused(_)) => return Tried::Later,
        };
        if !chance.may_take {
            return Tried::Could;
        }
        let Some(lease) = self.fleet.try_lease(route.node, route.traits.as_deref()) else {
            return Tried::Later;
        };
        self.send(request, &route, lease, runner, session)
    }

    fn send(
        &mut self,
        request: &Request,
        route: &Route,
        lease: Lease,
        runner: RunnerKey,
        session: Option<Session>,
    ) -> Tried {
        let runner = route.runner(runner);
        lease.asks(runner, self.now);
        if let Some(leaving) = &route.evicts {
            leaving.ledger().retire(self.now);
        }
        let begins = !route.warm && !route.joins;
        let for_load = match (begins, route.cost) {
            (true, Some(cost)) => (cost.load_s * LOAD_TOKENS_PER_S) as u64,
            _ => 0,
        };
        let context = runner.num_ctx.and_then(|tokens| u32::try_from(tokens).ok());
        self.decisions.push(Decision::Send {
            id: request.id,
            node: route.node.0,
            context: context.unwrap_or(request.context),
        });
        let here = session.filter(|it| it.node == route.node);
        let sent = Sent {
            request: *request,
            loading: begins.then(|| lease.loading(self.now)),
            lease,
            since: self.now,
            ready: route.warm.then_some(self.now),
            first_token: None,
            cached: here.map_or(0, |it| it.tokens),
            paid: u64::from(request.prompt_tokens) + ANSWER_TOKENS + for_load,
        };
        self.sent.insert(request.id, sent);
        Tried::Placed(for_load)
    }
}

impl Policy for Arriero {
    fn polled(&mut self, node: usize, loaded: &[Loaded], now: Duration) {
        let entries = loaded.iter().map(|it| {
            let name = MODELS[it.model].name;
            let (digest, bytes, context) = (digest(name), it.bytes, it.context);
            format!(
                r#"{{"model":"{name}","digest":"{digest}","size":{bytes},"size_vram":{bytes},"context_length":{context}}}"#
            )
        });
        let body = format!(
            r#"{{"models":[{}]}}"#,
            entries.collect::<Vec<_>>().join(",")
        );
        let loaded = listing::ps(body.as_bytes()).unwrap_or_default();
        let seen = Observation::Loaded(loaded);
        self.fleet.observe(NodeId(node), seen, self.epoch + now);
    }

    fn arrived(&mut self, request: &Request, now: Duration) {
        let wish = Wish {
            claim: claim(request),
            line: (request.model, request.context),
            tokens: u64::from(request.prompt_tokens) + ANSWER_TOKENS,
        };
        let ticket = self.queue.enter(wish, *request, now);
        self.tickets.insert(request.id, (ticket, now));
    }

    fn first_token(&mut self, id: usize, now: Duration) {
        let Some(sent) = self.sent.get_mut(&id) else {
            return;
        };
        sent.first_token = Some(now);
        let tokens = u64::from(sent.request.prompt_tokens);
        let known = (sent.lease.node(), now, tokens);
        self.sessions.insert(sent.request.conversation, known);
        if sent.loading.take().is_some()
            && let Some(ledger) = sent.lease.ledger()
        {
            ledger.loaded(now - sent.since, now);
        }
    }

    fn ended(&mut self, id: usize, usage: &Usage, now: Duration) {
        let Some(sent) = self.sent.remove(&id) else {
            return;
        };
        if let Some(ready) = sent.ready {
            sent.lease.served(Shown {
                first_token: sent.first_token.map(|at| at - ready),
                whole: now - ready,
                tokens_in: u64::from(usage.prompt_tokens),
                tokens_cached: sent.cached,
                tokens_out: Some(u64::from(usage.output_tokens)),
                at_once: 0,
                uptime: now,
            });
        }
        let used = u64::from(usage.prompt_tokens) + u64::from(usage.output_tokens);
        self.queue.settle(claim(&sent.request), sent.paid, used);
    }

    fn turned_away(&mut self, id: usize, now: Duration) {
        if let Some(sent) = self.sent.remove(&id) {
            sent.lease.failed(true);
            self.arrived(&sent.request, now);
        }
    }

    fn decide(&mut self, now: Duration) -> Vec<Decision> {
        self.give_up_late(now);
        let mut decisions = Vec::new();
        let mut look = Look {
            fleet: &self.fleet,
            epoch: self.epoch,
            keys: &self.keys,
            sessions: &self.sessions,
            sent: &mut self.sent,
            decisions: &mut decisions,
            seed: self.seed,
            now,
        };
        self.queue
            .dispatch(now, |request, chance| look.look(request, chance));
        self.seed = look.seed;
        for decision in &decisions {
            if let Decision::Send { id, .. } = decision {
                self.tickets.remove(id);
            }
        }
        let youngest = self.tickets.iter().max_by_key(|(id, _)| **id);
        if let Some((_, (ticket, _))) = youngest
            && let Some(displaced) = self.queue.make_room(*ticket)
        {
            self.tickets.remove(&displaced.id);
            self.refused.push(displaced.id);
        }
        let refused = self.refused.drain(..).map(|id| Decision::Refuse { id });
        decisions.extend(refused);
        decisions
    }

    fn wake(&mut self, now: Duration) -> Option<Duration> {
        (!self.queue.is_empty()).then(|| now + Duration::from_secs(1))
    }
}

fn claim(request: &Request) -> Claim {
    Claim {
        tenant: Tenant(request.tenant as u64),
        class: Class::Interactive,
    }
}

/// Any 64 hex digits that only this name has.
fn digest(name: &str) -> String {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    format!("{:016x}", hasher.finish()).repeat(4)
}

/// The configuration that an operator would write for these nodes.
fn config(nodes: &[NodeSpec]) -> Config {
    let endpoint = |at: usize| {
        format!(
            "    - {{ url: http://127.0.0.1:{}, name: gpu-{at} }}\n",
            1 + at
        )
    };
    let endpoints: String = (0..nodes.len()).map(endpoint).collect();
    let text = format!("discovery:\n  static:\n    endpoints:\n{endpoints}");
    let none = || "there are no files here".to_owned();
    let sources = Sources {
        file: Some(("scenario", &text)),
        env: &|_| None,
        env_names: Vec::new(),
        read_file: &|_| Err(none()),
        list_dir: &|_| Err(none()),
        cores: 1,
        terminal: false,
    };
    match load(&sources) {
        Ok(config) => config,
        Err(error) => panic!("{error}"),
    }
}
