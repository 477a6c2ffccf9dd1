//! One request, from socket to socket, as one linear function.

use std::pin::pin;

use bytes::Bytes;
use futures::FutureExt as _;
use pingora::http::ResponseHeader;
use tokio::time::Instant;

use crate::admin;
use crate::admission::Class;
use crate::config::{self, Config};
use crate::dialect::{self, Call, Dialect, Facts, MODEL_GONE, Serve};
use crate::error::{Fault, Kind};
use crate::fleet::{NodeId, Observation, Snapshot};
use crate::model::{self, ModelKey};
use crate::routing::Route;
use crate::telemetry::record::{EndBy, Phase};

use super::admin::{Visit, question_bytes_max};
use super::client::{Client, body_as_sent};
use super::failure::Failed;
use super::hedge::{Sent, may_hedge};
use super::listings;
use super::outgoing::{Asked, Outgoing};
use super::place::Placed;
use super::proxy::Context;
use super::relay::{Expected, Served};
use super::{Gateway, moment};

impl Gateway {
    /// Serves a request.
    ///
    /// # Errors
    /// What went wrong, before or after the first byte; the caller tells the client if it still can be told.
    pub(super) async fn serve(
        &self,
        client: &mut Client<'_>,
        ctx: &mut Context,
    ) -> Result<(), Fault> {
        let config = ctx.config.clone();
        ctx.dialect = dialect::dialect_of(client.path(), &config.profiles);
        client.check_head(&config.server)?;
        if config.server.host.is_loopback() && admin::is_admin_path(client.path()) {
            return self.answer_admin(client, ctx).await;
        }
        let call = dialect::recognize(client.method(), client.path(), &config.profiles)?;
        ctx.called(&call);
        self.lifecycle.admits()?;
        // What is rare and large is boxed: a chat's future shall not have room for it.
        match call.serve {
            Serve::Catalogue => return self.answer_from_catalogue(client, &call, ctx).await,
            Serve::ByIndex => return self.answer_from_node(client, &call, ctx).boxed().await,
            Serve::Manage => return self.manage(client, &call, ctx).boxed().await,
            Serve::ByModel => (),
        }

        let asked = self.understand(client, call, ctx).await?;
        self.budget.earn(config.proxy.retry.budget_percent);
        self.ask_nodes(client, asked, ctx).await
    }

    /// Reads the body and takes from it what routing must know.
    async fn understand(
        &self,
        client: &mut Client<'_>,
        call: Call,
        ctx: &mut Context,
    ) -> Result<Asked, Fault> {
        ctx.record.phase = Phase::Body;
        let config = ctx.config.clone();
        let limits = &config.server;
        let encoding = client.encoding(&call)?;
        let body = client.read_body(limits).await?;
        let body = body_as_sent(body, encoding, limits.body_bytes_max)?;
        let facts = dialect::facts(&call, &body, config.proxy.sticky.hashed_bytes_max)?;
        let key = key_of(&call, &facts)?;
        let recalled = self.recall(client, &call, &facts, &key, ctx);
        let asked = Asked {
            call,
            facts,
            key,
            body,
            claim: client.claim(&config.proxy.queue.tenant_sources),
            recalled,
        };
        ctx.asked(&asked, &self.fleet.view());
        refuse_cloud(&asked)?;
        Ok(asked)
    }

    /// Asks one node after the other until one answers, and relays its answer.
    async fn ask_nodes(
        &self,
        client: &mut Client<'_>,
        asked: Asked,
        ctx: &mut Context,
    ) -> Result<(), Fault> {
        let mut tried: Vec<NodeId> = Vec::new();
        let mut last: Option<Failed> = None;
        loop {
            ctx.record.phase = Phase::Queue;
            let placed = match self.find(client, &asked, &tried, ctx).await {
                Ok(placed) => placed,
                // Nobody is left to try: what the last node said is truer than what we could say.
                Err(fault) => {
                    if last.is_some() {
                        ctx.record.phase = Phase::Wait;
                    }
                    return self.give_up(client, last, fault, ctx).await;
                }
            };
            ctx.record.phase = Phase::Wait;
            ctx.routed(
                placed.access.name(),
                &placed.route,
                &asked,
                &self.fleet.view(),
            );
            let may_hedge = placed.route.warm && may_hedge(&asked, &ctx.config);
            let (mut placed, sent) = match may_hedge {
                true => {
                    let hedged = self.send_hedged(client, &asked, placed, &mut tried, ctx);
                    hedged.boxed().await?
                }
                false => self.send_once(client, &asked, placed, ctx).await?,
            };
            match sent {
                Ok(answer) => {
                    ctx.record.phase = Phase::Stream;
                    self.has_loaded(&mut placed, &asked, answer.node.head());
                    // The body can't be sent again once an answer is on its way, and it may be many megabytes.
                    drop(last);
                    let served = self.served(asked, placed, answer.node.head(), ctx);
                    return self.relay(client, answer, served, ctx).await;
                }
                Err(failed) => {
                    placed.lease.failed(failed.is_busy());
                    self.blame(&failed, placed.route.node, tried.is_empty());
                    tried.push(placed.route.node);
                    drop(placed);
                    if !self.may_retry(&failed, tried.len(), &ctx.config) {
                        let fault = failed.fault.clone();
                        return self.give_up(client, Some(failed), fault, ctx).await;
                    }
                    last = Some(failed);
                }
            }
        }
    }

    /// What the relay must know of a request that is answered; its body is let go.
    fn served(&self, asked: Asked, placed: Placed, head: &ResponseHeader, ctx: &Context) -> Served {
        let node = placed.route.node;
        Served {
            told: self.told_route(&placed.route, &asked),
            sticky: self.remember(&asked, node, head, ctx),
            is_alias: asked.wanted(&ctx.config).is_alias(),
            expected: Expected {
                prompt_tokens: asked.facts.prompt_tokens(),
                cached_tokens: asked.recalled.tokens_at(node),
                claim: asked.claim,
            },
            call: asked.call,
            placed,
        }
    }

    /// The first byte is there, and so is the model that the node loaded for the request itself.
    fn has_loaded(&self, placed: &mut Placed, asked: &Asked, head: &ResponseHeader) {
        let (loading, ledger) = (placed.loading.take(), placed.lease.ledger());
        let Some(ledger) = ledger else {
            return;
        };
        if asked.facts.unloads {
            ledger.unloaded();
            self.wakes.ring(placed.route.node);
        } else if loading.is_some() && head.status.is_success() {
            ledger.loaded(placed.since.elapsed(), self.uptime());
        }
    }

    /// Asks one node, up to the first byte of its answer; it may have to load the model first.
    ///
    /// # Errors
    /// `ClientGone`.
    async fn send_once(
        &self,
        client: &mut Client<'_>,
        asked: &Asked,
        mut placed: Placed,
        ctx: &Context,
    ) -> Result<Sent, Fault> {
        if let Some(load) = self.load_for(asked, &mut placed, ctx) {
            // Rare, and large.
            let mut loaded = Box::pin(load.end(asked.call.dialect));
            match client.unless_gone(loaded.as_mut()).await? {
                Ok(is_warm) => placed.route.warm = is_warm,
                Err(failed) => return Ok((placed, Err(failed))),
            }
            placed.since = Instant::now();
        }
        let outgoing = Outgoing::new(client, asked, &placed, &ctx.record.request_id)?;
        let sent = {
            let attempt = pin!(self.send(&placed, &outgoing, &ctx.config));
            client.unless_gone(attempt).await?
        };
        Ok((placed, sent))
    }

    /// Tells the node's health of a failure that speaks against it, or of the pause it asks for. A prompt that kills one runner kills
    /// every runner: only the first node is blamed for that, or one client could take the fleet down.
    pub(super) fn blame(&self, failed: &Failed, node: NodeId, is_first: bool) {
        if failed.retry_after.is_some() {
            let seen = Observation::RateLimited {
                why: "it answered a request with 429".to_owned(),
                retry_after: failed.retry_after,
            };
            self.observe(node, seen);
        }
        if failed.reason == MODEL_GONE {
            self.wakes.ring(node);
        }
        if failed.blames_node && (is_first || failed.reason != "runner_failed") {
            let symptom = failed.symptom.clone();
            self.observe(node, Observation::Traffic(Err(symptom)));
        }
    }

    /// Whether another node may be tried: within the attempts, and for costly failures within the budget.
    fn may_retry(&self, failed: &Failed, attempts: usize, config: &Config) -> bool {
        let nodes = self.fleet.view().nodes.len();
        let most = config.proxy.retry.attempts_max.min(nodes);
        let within = attempts < most && failed.fault.is_safe_to_retry();
        let granted = within && (!failed.may_have_run || self.budget.spend(self.uptime()));
        let reason = if granted {
            failed.reason
        } else if within {
            "budget_exhausted"
        } else {
            return false;
        };
        self.metrics.retries.with_label_values(&[reason]).inc();
        granted
    }

    /// No node could serve: the client gets the last node's own answer if there was one (a 503 with its reason is better
    /// than ours), else the fault.
    async fn give_up(
        &self,
        client: &mut Client<'_>,
        last: Option<Failed>,
        fault: Fault,
        ctx: &mut Context,
    ) -> Result<(), Fault> {
        match last {
            _ if fault.kind == Kind::ClientGone => Err(fault),
            Some(Failed {
                declined: Some(declined),
                ..
            }) => {
                ctx.record.end_by = EndBy::Node;
                ctx.record.status = declined.status;
                ctx.record.fault = Some(format!("the node declined: {}", declined.gist()));
                client
                    .answer_declined(*declined, ctx.dialect, &ctx.record)
                    .await
            }
            Some(failed) => Err(failed.fault),
            None => Err(fault),
        }
    }

    /// The admin pages on the main listener, for Olla's users, as long as only this machine can reach it.
    async fn answer_admin(&self, client: &mut Client<'_>, ctx: &mut Context) -> Result<(), Fault> {
        let page = match admin::action(client.path()) {
            // A proxy on this machine may stand in front of this listener, and then everybody reaches it.
            Some(_) => admin::Page::refused(403, "this is done on the admin listener"),
            None => self.admin_page_for(client, ctx).await?,
        };
        ctx.record.end_by = EndBy::Done;
        ctx.record.phase = Phase::Stream;
        client.answer_admin(page).await
    }

    async fn admin_page_for(
        &self,
        client: &mut Client<'_>,
        ctx: &Context,
    ) -> Result<admin::Page, Fault> {
        let limits = &ctx.config.server;
        let body = match admin::explain::has_question(client.method().as_str(), client.path()) {
            true => {
                let limits = config::Server {
                    body_bytes_max: question_bytes_max(limits),
                    ..limits.clone()
                };
                client.read_body(&limits).await?
            }
            false => Bytes::new(),
        };
        Ok(self.admin_page(&Visit {
            method: client.method(),
            uri: client.uri(),
            headers: client.headers(),
            body: &body,
            ip: ctx.record.client.map(|client| client.ip()),
        }))
    }

    /// Answers from what we know of the nodes; asks none of them.
    async fn answer_from_catalogue(
        &self,
        client: &mut Client<'_>,
        call: &Call,
        ctx: &mut Context,
    ) -> Result<(), Fault> {
        client.discard_body(&ctx.config.server).await?;
        let page = listings::page(call, client.query(), &self.fleet.view(), moment())?;
        ctx.record.end_by = EndBy::Done;
        ctx.record.phase = Phase::Stream;
        client.answer(page, call, &ctx.record.request_id).await
    }
}

/// 404, in Ollama's words, with names that come close.
pub(super) fn unknown_model(asked: &str, view: &Snapshot) -> Fault {
    let close = model::closest(asked, view.model_names());
    let hint = match close.is_empty() {
        true => "no node has it; `ollama pull` it on one".to_owned(),
        false => format!(
            "did you mean {}?",
            close
                .iter()
                .map(|name| format!("`{name}`"))
                .collect::<Vec<_>>()
                .join(" or ")
        ),
    };
    Fault::new(
        Kind::UnknownModel,
        format!("model \"{asked}\" not found: {hint}"),
    )
}

/// The comparable form of the asked name.
pub(super) fn key_of(call: &Call, facts: &Facts) -> Result<ModelKey, Fault> {
    match call.dialect {
        Dialect::Ollama => ModelKey::parse(&facts.model),
        // Servers of other dialects call a model by where its file is.
        Dialect::OpenAi | Dialect::Anthropic => ModelKey::parse_any(&facts.model),
    }
}

/// Cloud models leave the building; that is the operator's decision, not a client's.
pub(super) fn refuse_cloud(asked: &Asked) -> Result<(), Fault> {
    match model::is_cloud(asked.key.as_str()) {
        true => Err(model::cloud_refused(&asked.facts.model)),
        false => Ok(()),
    }
}

impl Context {
    fn called(&mut self, call: &Call) {
        self.dialect = call.dialect;
        self.record.operation = Some(call.operation);
    }

    fn asked(&mut self, asked: &Asked, view: &Snapshot) {
        let facts = &asked.facts;
        let models = asked.wanted(&self.config).models();
        self.record.model_label = models.iter().find_map(|model| view.listed_name(model));
        self.record.model = Some(facts.model.clone());
        self.record.stream = facts.stream;
        self.record.affinity = facts.affinity;
        self.record.is_background = asked.claim.class == Class::Background;
    }

    fn routed(&mut self, node: &str, route: &Route, asked: &Asked, view: &Snapshot) {
        self.names_model(route, asked, view);
        self.record.asks(node, route.reason.as_str());
    }

    /// Notes which of an alias's models a route leads to.
    pub(super) fn names_model(&mut self, route: &Route, asked: &Asked, view: &Snapshot) {
        let wanted = asked.wanted(&self.config);
        if let Some(place) = route.place.filter(|_| wanted.is_alias()) {
            let model = wanted.models().get(place);
            self.record.model_label = model.and_then(|model| view.listed_name(model));
        }
    }
}
