//! One node's part of a change: ask, follow what it tells, and give up when it falls silent.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use pingora::http::RequestHeader;
use tokio::time::{Instant, timeout_at};

use crate::dialect::Operation;
use crate::dialect::frame::Lines;
use crate::dialect::recognize::path_of;
use crate::error::Fault;
use crate::gateway::USER_AGENT;
use crate::gateway::client::broken;
use crate::gateway::credentials::NodeAccess;
use crate::gateway::failure::{Broken, plain};
use crate::gateway::upstream::Connection;
use crate::management::{Errand, Failure, Target};

use super::Desk;
use super::feed::Feed;

/// How many times `proxy.read_timeout` a node may work without telling anything new: checking or converting a file of hundreds of
/// gigabytes takes minutes in which Ollama says nothing.
const PATIENCE: u32 = 5;
/// Longest error of a node that is read, bytes.
const ERROR_BYTES_MAX: usize = 16 * 1024;

/// How a request to a node begins.
pub(super) struct Head<'a> {
    pub(super) method: &'a str,
    /// Which call it is, since nodes may keep a call elsewhere than Ollama does.
    pub(super) operation: Operation,
    /// Where Ollama keeps it.
    pub(super) path: &'a str,
    pub(super) content_type: &'static str,
    /// `None`: the body comes in chunks.
    pub(super) length: Option<u64>,
}

impl Desk {
    /// How long a node may work without telling anything new.
    pub(super) fn patience(&self) -> Duration {
        self.config.proxy.read_timeout * PATIENCE
    }

    /// Follows a node's progress to its end.
    ///
    /// # Errors
    /// What it said, or how it broke off.
    pub(super) async fn follow(
        &self,
        errand: &Errand,
        feed: &Feed,
        at: usize,
    ) -> Result<(), Failure> {
        let name = &errand.target.name;
        let mut node = self.answer_to(errand).await?;
        let mut lines = Lines::default();
        let mut deadline = Instant::now() + self.patience();
        loop {
            let piece = self.read(&mut node, name, deadline).await?;
            let (mut moved, mut end) = (false, None);
            let mut hear = |line: &[u8]| {
                if end.is_none() {
                    let news = feed.heard(at, line);
                    moved |= news.moved;
                    end = news.end;
                }
            };
            match &piece {
                Some(piece) => lines.push(piece, &mut hear),
                None => lines.finish(&mut hear),
            }
            match (end, piece) {
                (Some(end), _) => return end.map_err(|why| told(name, why)),
                (None, None) => {
                    return Err(Failure::new(name, "it broke off before it was done"));
                }
                (None, Some(_)) if moved => deadline = Instant::now() + self.patience(),
                (None, Some(_)) => (),
            }
        }
    }

    /// Asks a node for something that it answers when it is done.
    ///
    /// # Errors
    /// What it said, or how it broke off.
    pub(super) async fn ask(&self, errand: &Errand) -> Result<(), Failure> {
        self.answer_to(errand).await.map(drop)
    }

    /// The begin of a node's answer that says that it does what it is asked for.
    async fn answer_to(&self, errand: &Errand) -> Result<Connection, Failure> {
        let head = Head {
            method: errand.method.as_str(),
            operation: errand.operation,
            path: path_of(errand.operation),
            content_type: "application/json",
            length: Some(errand.body.len() as u64),
        };
        let deadline = Instant::now() + self.patience();
        let asking = async {
            let mut node = self.begin(&errand.target, &head).await?;
            let written = node.write(&errand.body).await;
            self.answer(&errand.target.name, node, written).await
        };
        let asked = timeout_at(deadline, asking).await;
        let node = asked.unwrap_or_else(|_| Err(self.silent(&errand.target.name)))?;
        self.judge(&errand.target.name, node).await
    }

    /// Connects and sends the head of a request.
    pub(super) async fn begin(
        &self,
        target: &Target,
        head: &Head<'_>,
    ) -> Result<Connection, Failure> {
        let name = &target.name;
        let gone = || Failure::new(name, "it has left the configuration");
        let access = self.gateway.access(target.node).ok_or_else(gone)?;
        let head = self
            .request(&access, head)
            .map_err(|fault| Failure::new(name, fault.message))?;
        let proxy = &self.config.proxy;
        let begun = self.gateway.begin(target.node, &access, head, proxy).await;
        begun.map_err(|failed| Failure::new(name, failed.fault.message))
    }

    fn request(&self, access: &NodeAccess, head: &Head<'_>) -> Result<RequestHeader, Fault> {
        let path = access.path_at(head.operation, head.path, None);
        let request = RequestHeader::build(head.method, path.as_bytes(), Some(8));
        let mut request = request.map_err(broken)?;
        let mut put =
            |name: &'static str, value: &str| request.insert_header(name, value).map_err(broken);
        put("content-type", head.content_type)?;
        put("accept", "application/x-ndjson, application/json")?;
        put("user-agent", USER_AGENT)?;
        put("x-request-id", &self.request_id)?;
        match head.length {
            Some(length) => put("content-length", &length.to_string())?,
            None => put("transfer-encoding", "chunked")?,
        }
        access.sign(&mut request)?;
        Ok(request)
    }

    /// Ends a request, with what became of its body, and waits for the head of the answer.
    pub(super) async fn answer(
        &self,
        name: &str,
        mut node: Connection,
        written: pingora::Result<()>,
    ) -> Result<Connection, Failure> {
        match node.answered(written).await {
            Ok(()) => Ok(node),
            Err(error) => Err(Failure::new(name, plain(&error))),
        }
    }

    /// Lets an answer through that promises success, and reads the error of any other.
    pub(super) async fn judge(
        &self,
        name: &str,
        mut node: Connection,
    ) -> Result<Connection, Failure> {
        let status = node.head().status.as_u16();
        if (200..300).contains(&status) {
            return Ok(node);
        }
        let deadline = Instant::now() + self.config.proxy.read_timeout;
        let mut body = BytesMut::new();
        while body.len() < ERROR_BYTES_MAX {
            match self.read(&mut node, name, deadline).await {
                Ok(Some(piece)) => body.extend_from_slice(&piece),
                _ => break, // the status tells enough
            }
        }
        body.truncate(ERROR_BYTES_MAX);
        Err(Failure::answered(name, status, &body))
    }

    async fn read(
        &self,
        node: &mut Connection,
        name: &str,
        deadline: Instant,
    ) -> Result<Option<Bytes>, Failure> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(self.silent(name)); // a timer alone would never get its turn while bytes keep coming
        }
        match node.read(left).await {
            Ok(piece) => Ok(piece),
            Err(Broken::Silent) => Err(self.silent(name)),
            Err(Broken::Cut(how)) => Err(Failure::new(name, format!("it broke off: {how}"))),
        }
    }

    pub(super) fn silent(&self, name: &str) -> Failure {
        let limit = self.patience().as_secs_f32();
        let why =
            format!("it told nothing new for {limit} s ({PATIENCE} times proxy.read_timeout)");
        Failure::new(name, why)
    }
}

/// An error told in a stream has no status of its own; Ollama's is 500 where nothing was streamed.
fn told(name: &str, why: String) -> Failure {
    Failure {
        status: Some(500),
        ..Failure::new(name, why)
    }
}
