//! Virtual time: events in their order, the policy asked after each of them, and what became of every request.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use crate::fleet::NodeSpec;
use crate::node::{Effect, Job, Node, Started};
use crate::policy::{Decision, Policy, Request, Usage};
use crate::work::Conversation;

/// How often a node is asked for its loaded models.
const POLL: Duration = Duration::from_secs(2);

/// Long after the slowest policy has answered its last request.
const RUN_MAX: Duration = Duration::from_secs(360_000);

/// What became of a request.
#[derive(Clone, Copy)]
pub(crate) struct Outcome {
    pub(crate) tenant: usize,
    pub(crate) arrived: Duration,
    /// None: refused.
    pub(crate) first_token: Option<Duration>,
    pub(crate) ended: Duration,
    pub(crate) output_tokens: u32,
}

/// A run from the first arrival to the last answer.
pub(crate) struct Story {
    pub(crate) outcomes: Vec<Outcome>,
    /// When each load began.
    pub(crate) loads: Vec<Duration>,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Asked { conversation: usize, turn: usize },
    Loaded { node: usize },
    FirstToken { id: usize },
    Ended { id: usize },
    Polled { node: usize },
    Wake,
}

enum State {
    /// With the policy.
    Waiting,
    At(usize),
    Running(usize, Started),
    Over,
}

struct Entry {
    request: Request,
    output_tokens: u32,
    first_token: Option<Duration>,
    ended: Duration,
    state: State,
}

struct Engine<'a> {
    work: &'a [Conversation],
    slots: Vec<usize>,
    nodes: Vec<Node>,
    policy: &'a mut dyn Policy,
    /// The number breaks ties in the order in which events were put in.
    events: BinaryHeap<Reverse<(Duration, u64, Event)>>,
    events_total: u64,
    entries: Vec<Entry>,
    /// Turns that are yet to be asked or answered; polls end with them.
    turns_left: usize,
    loads: Vec<Duration>,
    /// Requests in a slot, per node.
    running: Vec<usize>,
    /// The next time at which the policy is asked for no other reason than that it wants to be.
    wake: Option<Duration>,
}

/// Plays the whole work through; panics where the policy loses a request, places one twice or invents one.
pub(crate) fn play(specs: &[NodeSpec], work: &[Conversation], policy: &mut dyn Policy) -> Story {
    let mut engine = Engine {
        work,
        slots: specs.iter().map(NodeSpec::slots_total).collect(),
        nodes: specs.iter().copied().map(Node::new).collect(),
        policy,
        events: BinaryHeap::new(),
        events_total: 0,
        entries: Vec::new(),
        turns_left: work.iter().map(|talk| talk.turns.len()).sum(),
        loads: Vec::new(),
        running: vec![0; specs.len()],
        wake: None,
    };
    for (conversation, talk) in work.iter().enumerate() {
        engine.put(
            talk.begins,
            Event::Asked {
                conversation,
                turn: 0,
            },
        );
    }
    for node in 0..specs.len() {
        // Not all at the same moment, as real probes are not.
        let first = POLL * node as u32 / specs.len() as u32;
        engine.put(first, Event::Polled { node });
    }
    while engine.turns_left > 0 {
        let next = engine.events.pop();
        let Some(Reverse((now, _, event))) = next else {
            break;
        };
        assert!(
            now < RUN_MAX,
            "{} turns are still unanswered: the policy holds requests back for good",
            engine.turns_left
        );
        engine.happen(event, now);
        engine.decide(now);
    }
    engine.story()
}

impl Engine<'_> {
    fn put(&mut self, at: Duration, event: Event) {
        self.events_total += 1;
        self.events.push(Reverse((at, self.events_total, event)));
    }

    fn happen(&mut self, event: Event, now: Duration) {
        let mut effects = Vec::new();
        match event {
            Event::Asked { conversation, turn } => self.ask(conversation, turn, now),
            Event::Polled { node } => {
                let loaded = self.nodes[node].poll(now);
                self.policy.polled(node, &loaded, now);
                self.put(now + POLL, Event::Polled { node });
            }
            Event::Loaded { node } => {
                self.nodes[node].loaded(now, &mut effects);
                self.follow(node, effects, now);
            }
            Event::FirstToken { id } => {
                self.entries[id].first_token = Some(now);
                self.policy.first_token(id, now);
            }
            Event::Ended { id } => self.end(id, now),
            Event::Wake => self.wake = None,
        }
    }

    fn ask(&mut self, conversation: usize, turn: usize, now: Duration) {
        let talk = &self.work[conversation];
        let said = &talk.turns[turn];
        let request = Request {
            id: self.entries.len(),
            arrived: now,
            tenant: talk.tenant,
            conversation,
            turn,
            model: talk.model,
            context: talk.context,
            prompt_tokens: said.prompt_tokens,
        };
        self.policy.arrived(&request, now);
        self.entries.push(Entry {
            request,
            output_tokens: said.output_tokens,
            first_token: None,
            ended: now,
            state: State::Waiting,
        });
    }

    fn end(&mut self, id: usize, now: Duration) {
        let state = std::mem::replace(&mut self.entries[id].state, State::Over);
        let State::Running(node, started) = state else {
            panic!("request {id} ended without having run");
        };
        self.running[node] -= 1;
        let mut effects = Vec::new();
        self.nodes[node].ended(&started.job, now, &mut effects);
        let usage = Usage {
            prompt_tokens: started.job.prompt_tokens,
            output_tokens: started.job.output_tokens,
            load: started.load,
            prefill: started.prefill,
            decode: started.decode,
        };
        self.policy.ended(id, &usage, now);
        self.over(id, now);
        self.follow(node, effects, now);
    }

    /// Whoever was refused asks the next question all the same: every policy has the same work.
    fn over(&mut self, id: usize, now: Duration) {
        self.entries[id].ended = now;
        self.turns_left -= 1;
        let Request {
            conversation, turn, ..
        } = self.entries[id].request;
        let turn = turn + 1;
        if let Some(next) = self.work[conversation].turns.get(turn) {
            self.put(now + next.think, Event::Asked { conversation, turn });
        }
    }

    fn follow(&mut self, node: usize, effects: Vec<Effect>, now: Duration) {
        for effect in effects {
            match effect {
                Effect::Loading { until } => {
                    self.loads.push(now);
                    self.put(until, Event::Loaded { node });
                }
                Effect::Started(started) => {
                    let id = started.job.id;
                    let first = now + started.prefill;
                    self.put(first, Event::FirstToken { id });
                    self.put(first + started.decode, Event::Ended { id });
                    debug_assert!(matches!(self.entries[id].state, State::At(at) if at == node));
                    self.entries[id].state = State::Running(node, started);
                    self.running[node] += 1;
                    debug_assert!(self.running[node] <= self.slots[node]);
                }
            }
        }
    }

    /// Asks until nothing more is decided: a request turned away may go elsewhere at once.
    fn decide(&mut self, now: Duration) {
        loop {
            let decisions = self.policy.decide(now);
            if decisions.is_empty() {
                break;
            }
            for decision in decisions {
                self.carry_out(&decision, now);
            }
        }
        if let Some(at) = self.policy.wake(now) {
            assert!(now < at, "a policy cannot be woken in the past");
            if self.wake.is_none_or(|wake| at < wake) {
                self.wake = Some(at);
                self.put(at, Event::Wake);
            }
        }
    }

    fn carry_out(&mut self, decision: &Decision, now: Duration) {
        let (Decision::Send { id, .. } | Decision::Refuse { id }) = *decision;
        let entry = &mut self.entries[id];
        assert!(
            matches!(entry.state, State::Waiting),
            "request {id} was decided on twice"
        );
        match *decision {
            Decision::Refuse { .. } => {
                entry.state = State::Over;
                self.over(id, now);
            }
            Decision::Send { node, context, .. } => {
                entry.state = State::At(node);
                let job = Job {
                    id,
                    conversation: entry.request.conversation,
                    model: entry.request.model,
                    context,
                    prompt_tokens: entry.request.prompt_tokens,
                    output_tokens: entry.output_tokens,
                    accepted: now,
                };
                let mut effects = Vec::new();
                if !self.nodes[node].accept(job, now, &mut effects) {
                    entry.state = State::Waiting;
                    self.policy.turned_away(id, now);
                }
                self.follow(node, effects, now);
            }
        }
    }

    fn story(self) -> Story {
        let lost = |entry: &Entry| !matches!(entry.state, State::Over);
        let lost = self.entries.iter().filter(|entry| lost(entry)).count();
        assert!(
            lost == 0 && self.turns_left == 0,
            "the policy lost {lost} requests"
        );
        let outcome = |entry: &Entry| Outcome {
            tenant: entry.request.tenant,
            arrived: entry.request.arrived,
            first_token: entry.first_token,
            ended: entry.ended,
            output_tokens: entry.output_tokens,
        };
        Story {
            outcomes: self.entries.iter().map(outcome).collect(),
            loads: self.loads,
        }
    }
}
