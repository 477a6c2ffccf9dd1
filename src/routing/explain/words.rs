//! A decision and its reasons in words: for an answer's head, and for whoever asks why.

use std::borrow::Cow;
use std::sync::Arc;

use crate::config::Balancer;
use crate::fleet::{Node, NumCtx, Snapshot, State};
use crate::routing::{Effort, Explanation, Lack, NoRoute, Presence, Reason, Route, Verdict};

use super::name_of;

/// Longest name of a model in a header, characters.
const NAME_CHARS_MAX: usize = 64;

impl Route {
    /// The value of `X-Arriero-Route`: the reason's word, and where there is more to say `; ` and a clause, in plain ASCII. `num_ctx` is
    /// the context that the request asked for, tokens; `evicted` is as [`Route::evicted`]. Where the word says it all this costs nothing.
    pub fn told(
        &self,
        num_ctx: Option<i64>,
        evicted: impl FnOnce() -> Option<Arc<str>>,
    ) -> Cow<'static, str> {
        let word = self.reason.as_str();
        match self.clause(num_ctx, evicted) {
            Some(clause) => Cow::Owned(format!("{word}; {clause}")),
            None => Cow::Borrowed(word),
        }
    }

    /// The name of the model that is likely to leave the node's memory for it.
    pub fn evicted(&self, view: &Snapshot) -> Option<Arc<str>> {
        name_of(view.node(self.node)?, self.evicts.as_ref()?)
    }

    fn clause(
        &self,
        num_ctx: Option<i64>,
        evicted: impl FnOnce() -> Option<Arc<str>>,
    ) -> Option<String> {
        let load_s = self.cost.map_or(0.0, |cost| cost.load_s);
        let because = match self.reason {
            Reason::Fallback(Lack::Unknown) => Some("no node is known to have the model"),
            Reason::Fallback(Lack::Unavailable) => Some("no node that has the model is in service"),
            Reason::Sticky => Some("served this conversation before"),
            _ => None,
        };
        let load = match (self.joins, 0.0 < load_s) {
            (true, _) => Some(format!("joins a load, about {} left", whole_s(load_s))),
            (false, true) => {
                let leaving = evicted()
                    .map_or_else(String::new, |name| format!(", {} makes room", plain(&name)));
                Some(format!("loads in about {}{leaving}", whole_s(load_s)))
            }
            (false, false) => None,
        };
        let context = self.num_ctx.map(|it| context(it, num_ctx));
        let why = because.map(str::to_owned);
        let clauses = why.into_iter().chain(load).chain(context);
        clauses.reduce(|all, clause| format!("{all}, {clause}"))
    }
}

fn context(num_ctx: NumCtx, asked: Option<i64>) -> String {
    let instead = asked.map_or_else(String::new, |asked| format!(" instead of {asked}"));
    match num_ctx {
        NumCtx::Set(tokens) => format!("num_ctx {tokens} of the loaded model{instead}"),
        NumCtx::Unset => format!("num_ctx of the loaded model{instead}"),
    }
}

/// A node may have written the name; a header takes no more than visible ASCII.
fn plain(name: &str) -> String {
    let shown = |c: char| if c.is_ascii_graphic() { c } else { '?' };
    name.chars().take(NAME_CHARS_MAX).map(shown).collect()
}

/// `12 s`, and never nothing.
fn whole_s(seconds: f32) -> String {
    format!("{:.0} s", seconds.max(1.0))
}

impl Explanation {
    /// The decision as a sentence.
    pub fn text(&self, view: &Snapshot) -> String {
        match &self.decision {
            Ok(route) => {
                let node = view.node(route.node);
                let name = node.map_or("a node", |node| &node.config.name);
                format!("{name} gets it: {}.", because(route.reason))
            }
            Err(NoRoute::Refused(fault)) => {
                format!("It is refused with {}: {}.", fault.status(), fault.message)
            }
            Err(NoRoute::Full(_)) => self.waits().to_owned(),
        }
    }

    fn waits(&self) -> &'static str {
        let any = |is: fn(&Verdict) -> bool| self.judged.iter().any(|it| is(&it.verdict));
        if any(|it| matches!(it, Verdict::Weighed { .. })) {
            "It waits: a slot of a node that has the model in memory is sooner free than a load would be worth."
        } else if any(|it| matches!(it, Verdict::InUse(_))) {
            "It waits: a node with room would have to take a model out of memory that is in use."
        } else if any(|it| matches!(it, Verdict::LoadsAnother)) {
            "It waits: the nodes with room load other models first."
        } else {
            "It waits: no node that could serve it has a free slot."
        }
    }
}

fn because(reason: Reason) -> &'static str {
    match reason {
        Reason::Warm => "it has the model in memory, and nobody costs less",
        Reason::Cold => "it has to load the model, and nobody costs less all the same",
        Reason::Joins => "it is loading the model for others already, and nobody costs less",
        Reason::Only => "there is no other candidate",
        Reason::Priority => "it is of the highest priority, and chance chose among those",
        Reason::RoundRobin => "it is its turn",
        Reason::LeastConnections => "it has the fewest requests for its weight",
        Reason::Random => "chance chose it",
        Reason::Sticky => "it served this conversation before",
        Reason::Fallback(Lack::Unknown) => "no node is known to have the model, and it may have it",
        Reason::Fallback(Lack::Unavailable) => {
            "no node that has the model is in service, and it may have it"
        }
    }
}

impl Verdict {
    /// One word for it.
    pub fn word(&self) -> &'static str {
        match self {
            Verdict::NotMeant => "not_meant",
            Verdict::NoModel => "no_model",
            Verdict::Untold => "untold",
            Verdict::Remote => "remote",
            Verdict::CannotServe(_) => "cannot_serve",
            Verdict::Unable(_) => "unable",
            Verdict::Tried => "tried",
            Verdict::NotInService(state) => state.as_str(),
            Verdict::Failing => "failing",
            Verdict::Full { .. } => "full",
            Verdict::LessSuitable => "less_suitable",
            Verdict::LowerTier => "lower_tier",
            Verdict::LoadsAnother => "loads_another",
            Verdict::InUse(_) => "in_use",
            Verdict::Weighed { .. } => "weighed",
            Verdict::Fit => "fit",
            Verdict::MayHave => "may_have",
        }
    }

    /// The same as a sentence about the node, under this balancer and for a request that asked for this context, tokens.
    pub fn text(&self, node: &Node, balancer: Balancer, num_ctx: Option<i64>) -> String {
        let name = &node.config.name;
        let rest = match self {
            Verdict::CannotServe(short) => return format!("{short}."),
            Verdict::NotMeant => "is not meant by the address of the call",
            Verdict::NoModel => "does not have the model",
            Verdict::Untold => "has not told its models yet",
            Verdict::Remote => "would ask another company's server for the model",
            Verdict::Unable(lacks) => &format!("has the model, which {lacks} there"),
            Verdict::Tried => "was tried and failed",
            Verdict::NotInService(state) => out_of_service(*state),
            Verdict::Failing => "fails its requests, and other nodes do not",
            Verdict::Full {
                in_flight,
                slots,
                of_model,
            } => {
                let whose = if *of_model { " for the model" } else { "" };
                &format!("is full: {in_flight} of {slots} requests{whose} are under way")
            }
            Verdict::LessSuitable => "has what suits the request less than what another node has",
            Verdict::LowerTier => "has a lower priority than a node with room, or too little room",
            Verdict::LoadsAnother => "would have to load the model, and is loading another",
            Verdict::InUse(other) => &format!(
                "would have to load the model, and {other}, which would have to leave for it, is in use"
            ),
            Verdict::Weighed { effort, evicts } => &weighed(effort, evicts.as_deref(), num_ctx),
            Verdict::Fit => &format!(
                "could serve it; the balancer {} weighs no costs",
                balancer.word()
            ),
            Verdict::MayHave => "is not known to have the model, and may be asked all the same",
        };
        format!("{name} {rest}.")
    }
}

fn out_of_service(state: State) -> &'static str {
    match state {
        State::Unknown => "has not been proven yet",
        State::Offline => "is down: its probes fail",
        State::Ejected => "is out of service for a while: its requests failed",
        State::ConfigError => "refuses the gateway's key",
        State::RateLimited => "asked to be left alone for a while",
        State::Draining => "is draining",
        State::Healthy | State::Trial => "came back a moment ago",
    }
}

fn weighed(effort: &Effort, evicts: Option<&str>, num_ctx: Option<i64>) -> String {
    let cost = &effort.cost;
    let load = whole_s(cost.load_s);
    let does = match (effort.presence, evicts) {
        (Presence::Loaded, _) => "has the model in memory".to_owned(),
        (Presence::Loading, _) => format!("is loading the model, about {load} left"),
        (Presence::Absent, None) => format!("would load the model in about {load}"),
        (Presence::Absent, Some(other)) => {
            format!("would load the model in about {load}, and {other} would make room")
        }
    };
    let context = effort.num_ctx.map(|it| context(it, num_ctx));
    let context = context.map_or_else(String::new, |it| format!(" and gives it {it}"));
    format!("{does}{context}; it costs {:.2} s", cost.total_s())
}
