//! What would become of a request, without anything being done about it: no slot is taken, nothing is counted, no node is asked.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use http::Method;

use crate::admin::Page;
use crate::admin::explain::{Answer, Question, explained, question};
use crate::admission::{Claim, Told};
use crate::config::Config;
use crate::dialect::{self, RunnerOptions, Serve};
use crate::error::Fault;
use crate::routing::{self, Ask, Circumstances, Route};

use super::admin::{Visit, question_bytes_max};
use super::client::body_as_sent;
use super::exchange::{key_of, refuse_cloud};
use super::outgoing::Asked;
use super::{Gateway, now};

impl Gateway {
    /// The page that says it.
    ///
    /// # Errors
    /// The page that says why there is nothing to explain: what is asked is refused whatever the nodes are.
    pub(super) fn explain(&self, visit: &Visit<'_>) -> Result<Page, Page> {
        let question = question(visit.method.as_str(), visit.uri.query(), visit.body)?;
        let config = self.config();
        let prompt_tokens = question.prompt_tokens;
        let asked = self
            .asked_about(question, visit, &config)
            .map_err(|fault| Page::refused(fault.status(), &fault.message))?;
        let mut ask = asked.ask(&[], &config, config.registry.admitted());
        if let Some(tokens) = prompt_tokens {
            ask.needs.prompt_tokens = tokens;
        }
        Ok(self.explained(&ask, &asked.facts.runner, &config))
    }

    fn explained(&self, ask: &Ask<'_>, options: &RunnerOptions, config: &Config) -> Page {
        let (waiting, in_line) = self.waiting_for(ask, options);
        let ask = Ask {
            circumstances: Circumstances {
                uptime: self.uptime(),
                waited: Duration::ZERO,
                line: in_line.saturating_add(1),
                may_swap: true,
            },
            ..*ask
        };
        let view = self.fleet.view();
        let balancer = config.proxy.balancer;
        let seed = self.coming_turn(&ask);
        explained(&Answer {
            explanation: &routing::explain(&ask, &view, balancer, seed, now()),
            view: &view,
            balancer,
            num_ctx: ask.runner.num_ctx,
            waiting,
            in_line,
        })
    }

    /// The request as it would be understood if a client sent it.
    fn asked_about(
        &self,
        question: Question<'_>,
        visit: &Visit<'_>,
        config: &Config,
    ) -> Result<Asked, Fault> {
        let call = dialect::recognize(&Method::POST, &question.path, &config.profiles)?;
        if call.serve != Serve::ByModel {
            let message = format!(
                "`{}` is not served by a node that is chosen by its model; ask about a call that is, such as /api/chat",
                question.path
            );
            return Err(Fault::malformed("nothing_to_explain", message));
        }
        let encoding = visit.headers.get(http::header::CONTENT_ENCODING);
        let encoding = encoding.map(|value| value.to_str().unwrap_or("?"));
        let encoding = dialect::encoding(encoding, call.node_path.contains("/v1/"))?;
        let body = Bytes::from(question.body.into_owned());
        let body = body_as_sent(body, encoding, question_bytes_max(&config.server))?;
        let rules = &config.proxy.sticky;
        let facts = dialect::facts(&call, &body, rules.hashed_bytes_max)?;
        let key = key_of(&call, &facts)?;
        let recalled = self.recall_quietly(visit, &call, &facts, &key, rules);
        let asked = Asked {
            call,
            facts,
            key,
            body,
            // Whose it is decides when its turn comes, and not where it goes.
            claim: Claim::new(&Told::default(), &[]),
            recalled,
        };
        refuse_cloud(&asked)?;
        Ok(asked)
    }

    /// Why a request went where it went, for `X-Arriero-Route`.
    pub(super) fn told_route(&self, route: &Route, asked: &Asked) -> Cow<'static, str> {
        let num_ctx = asked.facts.runner.num_ctx;
        route.told(num_ctx, || route.evicted(&self.fleet.view()))
    }
}
