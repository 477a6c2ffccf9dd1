//! Doing what `placement` plans: models are loaded ahead of requests, and pinned ones kept in memory.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pingora::server::ShutdownWatch;
use pingora::services::background::BackgroundService;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::sleep;

use crate::placement::{Action, Deed, Now, Planner};

use super::Gateway;
use super::load::{Awaited, GONE, KeepAlive};

/// How often it is looked what there is to do.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// More often than this would be busy work, however short the configuration's times are.
const LOOK_PAUSE_MIN: Duration = Duration::from_millis(50);

/// The background service that has models in memory before they are asked for.
pub struct Helper(pub Arc<Gateway>);

#[async_trait]
impl BackgroundService for Helper {
    async fn start(&self, shutdown: ShutdownWatch) {
        self.run(shutdown).await;
    }
}

impl Helper {
    /// Runs until shutdown. What is pinned then stays so.
    pub async fn run(&self, mut shutdown: ShutdownWatch) {
        let mut work = Work {
            gateway: &self.0,
            planner: Planner::default(),
            running: JoinSet::new(),
            actions: HashMap::new(),
        };
        loop {
            let pause = work.look();
            tokio::select! {
                _ = shutdown.wait_for(|stopping| *stopping) => return,
                Some(ended) = work.running.join_next_with_id() => work.end(ended),
                () = sleep(pause) => (),
            }
        }
    }
}

type Done = Result<(), String>;

/// What is planned, and what is being done; dropping it ends that.
struct Work<'a> {
    gateway: &'a Arc<Gateway>,
    planner: Planner,
    running: JoinSet<Done>,
    actions: HashMap<Id, Action>,
}

impl Work<'_> {
    /// Begins what is to be done now. How long it takes until it is worth looking again.
    fn look(&mut self) -> Duration {
        let config = self.gateway.config();
        let rules = &config.placement;
        if rules.is_off() && self.planner.is_idle() {
            return LOOK_EVERY;
        }
        let demands = match rules.preload {
            true => self.gateway.demands(),
            false => Vec::new(),
        };
        let planned = self.planner.plan(&Now {
            view: &self.gateway.fleet.view(),
            demands: &demands,
            rules,
            aliases: &config.aliases,
            uptime: self.gateway.uptime(),
        });
        for action in planned {
            self.begin(action);
        }
        let shortest = rules.sustained.min(rules.hold);
        LOOK_EVERY.min(shortest).max(LOOK_PAUSE_MIN)
    }

    fn begin(&mut self, action: Action) {
        self.tell(&action);
        let is_cold = matches!(
            action.deed,
            Deed::Load { .. } | Deed::Pin { is_loaded: false }
        );
        // From here on requests know of the load, and may join it.
        let load = is_cold.then(|| self.gateway.load_ahead(&action).ok_or(GONE));
        let doing = do_it(Arc::clone(self.gateway), action.clone(), load);
        let task = self.running.spawn(doing);
        self.actions.insert(task.id(), action);
    }

    fn tell(&self, action: &Action) {
        let (node, model) = (self.name_of(action), &action.target.spelled);
        match action.deed {
            Deed::Load { waiting, waited } => log::info!(
                "loads {model} on node `{node}`: {waiting} requests have waited for it for {:.1} s",
                waited.as_secs_f32()
            ),
            Deed::Pin { is_loaded: false } => log::info!(
                "loads {model} on node `{node}` and keeps it there: it is pinned and not in memory"
            ),
            Deed::Pin { is_loaded: true } => {
                log::info!("keeps {model} in the memory of node `{node}`: it is pinned")
            }
            Deed::Unpin => {
                log::info!("lets node `{node}` unload {model} again: it is pinned there no longer")
            }
        }
    }

    fn end(&mut self, ended: Result<(Id, Done), JoinError>) {
        let (id, done) = match ended {
            Ok((id, done)) => (id, done),
            Err(error) => (error.id(), Err(format!("this is a bug: {error}"))),
        };
        let Some(action) = self.actions.remove(&id) else {
            return;
        };
        let outcome = match &done {
            Ok(()) => "done",
            Err(_) => "failed",
        };
        let word = action.deed.word();
        let placements = &self.gateway.metrics.nodes.placements;
        placements.with_label_values(&[word, outcome]).inc();
        self.planner.ended(&action, done.is_ok());
        if let Err(why) = done {
            action.target.traits.ledger().forget_runner();
            let (node, model) = (self.name_of(&action), &action.target.spelled);
            log::warn!("{word} of {model} on node `{node}` failed: {why}");
        }
    }

    fn name_of(&self, action: &Action) -> String {
        let access = self.gateway.access(action.target.node);
        access.map_or_else(String::new, |access| access.name().to_owned())
    }
}

/// `load`: the one that has been begun for it.
async fn do_it(
    gateway: Arc<Gateway>,
    action: Action,
    load: Option<Result<Awaited, &'static str>>,
) -> Done {
    if let Some(load) = load {
        load?.end_ahead().await?;
    }
    match action.deed {
        Deed::Load { .. } => Ok(()),
        // Said apart from the load, which may be one that a request began.
        Deed::Pin { .. } => gateway.keep(&action, KeepAlive::Forever).await,
        Deed::Unpin => gateway.keep(&action, KeepAlive::Default).await,
    }
}
