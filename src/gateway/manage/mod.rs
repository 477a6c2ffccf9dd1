//! Changing the models of several nodes at once: each call's way, from the switch that lets it through to its answer.

mod blob;

mod door;

mod download;

mod ending;

mod errand;

mod feed;

mod job;

mod lanes;

mod spool;

mod tell;

mod upload;

use std::sync::Arc;

use http::Method;

use crate::config::Config;
use crate::dialect::{Call, Operation};
use crate::error::Fault;
use crate::management::{Aim, Asked, Body, Plan, Reach, Targets, plan, targets};
use crate::telemetry::record::Phase;

use super::Gateway;
use super::client::Client;
use super::proxy::Context;

use self::job::Job;
pub(super) use self::job::Jobs;

/// Most nodes that are asked at the same moment.
const AT_ONCE_MAX: usize = 16;

/// What all steps of one call need.
#[derive(Clone)]
struct Desk {
    gateway: Arc<Gateway>,
    /// The one that was in force when the call came.
    config: Arc<Config>,
    operation: Operation,
    request_id: Arc<str>,
}

impl Gateway {
    /// Serves a call that changes nodes.
    ///
    /// # Errors
    /// 403 while management is off and for pages of other sites; else what was wrong with the request or what became of it on the nodes.
    pub(super) async fn manage(
        &self,
        client: &mut Client<'_>,
        call: &Call,
        ctx: &mut Context,
    ) -> Result<(), Fault> {
        door::admits(client, &ctx.config)?;
        let desk = Desk {
            gateway: ctx.gateway.clone(),
            config: ctx.config.clone(),
            operation: call.operation,
            request_id: ctx.record.request_id.as_str().into(),
        };
        ctx.record.phase = Phase::Body;
        let aim = Aim::of(call, client.query())?;
        match call.operation {
            Operation::Blob if *client.method() == Method::HEAD => {
                desk.look_for_blob(client, call, &aim, ctx).await
            }
            Operation::Blob => desk.take_blob(client, call, &aim, ctx).await,
            Operation::Download => desk.download(client, call, &aim, ctx).await,
            Operation::Upload => desk.upload(client, call, &aim, ctx).await,
            _ => desk.change(client, call, &aim, ctx).await,
        }
    }
}

impl Desk {
    /// The calls whose body is JSON: pull, push, create, copy, delete, unload.
    async fn change(
        self,
        client: &mut Client<'_>,
        call: &Call,
        aim: &Aim,
        ctx: &mut Context,
    ) -> Result<(), Fault> {
        let plan = {
            let raw = client.read_body(&self.config.server).await?;
            let body = Body::parse(&raw)?;
            let asked = Asked {
                call,
                body: &body,
                aim,
                default: &self.config.management.default_target,
            };
            ctx.record.model = body.text("model")?.or(body.text("name")?);
            plan(&asked, &self.gateway.fleet.view())?
        };
        ctx.record.model = Some(plan.model.clone());
        ctx.managed(plan.errands.iter().map(|it| it.target.name.as_str()));
        ctx.record.phase = Phase::Wait;
        let manner = plan.manner;
        let job = self.job(plan);
        self.tell(client, manner, &job, ctx).await
    }

    /// The job of a plan: one that is under way if it is the same, or a new one.
    fn job(&self, plan: Plan) -> Arc<Job> {
        match plan.once.clone() {
            Some(key) => self
                .gateway
                .jobs
                .same_or(key, || Job::new(self.clone(), plan)),
            None => Job::new(self.clone(), plan),
        }
    }

    /// The nodes that a file or a blob goes to.
    fn targets(&self, call: &Call, operation: Operation, aim: &Aim) -> Result<Targets, Fault> {
        let reach = Reach::Default(&self.config.management.default_target);
        targets(
            aim,
            operation,
            &call.mount,
            reach,
            &self.gateway.fleet.view(),
        )
    }
}

impl Context {
    /// Notes which nodes a call went to.
    fn managed<'a>(&mut self, names: impl Iterator<Item = &'a str>) {
        let names: Vec<&str> = names.collect();
        self.record.managed = (!names.is_empty()).then(|| tell::some_of(&names));
    }
}
