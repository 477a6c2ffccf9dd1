//! `/api/blobs/{digest}`: looking for a blob on all nodes, and streaming one to all of them.

use std::pin::pin;

use bytes::Bytes;

use crate::dialect::{Call, Operation};
use crate::error::{Fault, Kind};
use crate::gateway::client::Client;
use crate::gateway::proxy::Context;
use crate::management::{Aim, Outcome, Targets, Words};
use crate::telemetry::record::Phase;

use super::Desk;
use super::ending::Ending;
use super::tell::{Told, answer};

impl Desk {
    /// 200 only when every node has it, so that a client that gets it need not upload.
    pub(super) async fn look_for_blob(
        self,
        client: &mut Client<'_>,
        call: &Call,
        aim: &Aim,
        ctx: &mut Context,
    ) -> Result<(), Fault> {
        client.discard_body(&self.config.server).await?;
        let targets = self.targets(call, Operation::Blob, aim)?;
        let nodes = noted(&targets, ctx);
        ctx.record.phase = Phase::Wait;
        let (all, outcome) = {
            let looking = pin!(self.all_have(&call.node_path, targets));
            client.unless_gone(looking).await?
        };
        if !all {
            let message = format!("blob {} is not on every node", shown(call));
            return Err(Fault::refused(404, "blob_not_found", message));
        }
        if let Some(fault) = outcome.fault(&words("the search for", call)) {
            return Err(fault);
        }
        answer(client, told(200, &nodes, &outcome), ctx).await
    }

    /// The client's body to all nodes that lack it.
    pub(super) async fn take_blob(
        self,
        client: &mut Client<'_>,
        call: &Call,
        aim: &Aim,
        ctx: &mut Context,
    ) -> Result<(), Fault> {
        let targets = self.targets(call, Operation::Blob, aim)?;
        let nodes = noted(&targets, ctx);
        let words = words("upload of", call);
        let ids = targets.nodes.iter().map(|it| it.node).collect();
        let mut ending = Ending::of(&self, &words.what, ids);
        let streamed = self.stream_blob(client, call, targets).await;
        let (outcome, created) = streamed.inspect_err(|fault| ending.failed(fault))?;
        ctx.record.phase = Phase::Wait;
        ending.tell(&outcome, &words);
        if let Some(fault) = outcome.fault(&words) {
            return Err(fault);
        }
        client.abandon_body();
        let status = if created { 201 } else { 200 };
        answer(client, told(status, &nodes, &outcome), ctx).await?;
        client.drain().await;
        Ok(())
    }

    /// What the nodes made of the client's body, and whether any of them got it only now.
    async fn stream_blob(
        &self,
        client: &mut Client<'_>,
        call: &Call,
        targets: Targets,
    ) -> Result<(Outcome, bool), Fault> {
        let length = client.content_length().map(|bytes| bytes as u64);
        let limit = self.patience();
        // The client's connection can't be watched while its body stands in it, so this is bounded by time alone.
        let opening = self.open_lanes(&call.node_path, length, targets);
        let opened = tokio::time::timeout(limit, opening).await;
        let mut lanes = opened.map_err(|_| silent())?;
        if lanes.is_open() {
            client.invite_body().await?;
        }
        while lanes.is_open() {
            match client.next_piece(&self.config.server).await? {
                Some(piece) => lanes.send(&piece).await,
                None => break,
            }
        }
        Ok(lanes.finish().await)
    }
}

fn noted(targets: &Targets, ctx: &mut Context) -> Vec<String> {
    let names: Vec<String> = targets.nodes.iter().map(|it| it.name.clone()).collect();
    ctx.managed(names.iter().map(String::as_str));
    names
}

fn told<'a>(status: u16, nodes: &'a [String], outcome: &'a Outcome) -> Told<'a> {
    Told {
        status,
        content_type: "application/json; charset=utf-8",
        body: Bytes::new(),
        nodes,
        outcome: Some(outcome),
    }
}

fn words(what: &str, call: &Call) -> Words {
    Words {
        what: format!("{what} {}", shown(call)),
        done: "it is on",
    }
}

fn shown(call: &Call) -> &str {
    call.argument.as_deref().unwrap_or_default()
}

fn silent() -> Fault {
    let message = "the nodes did not take the upload in time; try again, or name the nodes that shall get it (?node=a,b)";
    Fault::new(Kind::NodeSilent, message)
}
