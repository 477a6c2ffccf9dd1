//! The node's half of an exchange: connect, send, wait for the first byte, and judge whether another node may be tried.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::Method;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::http::client::HttpSession;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType};
use tokio::time::timeout;

use crate::dialect::{self, Call, Facts, Verdict, splice};
use crate::error::{Fault, Kind};
use crate::fleet::Observation;
use crate::routing::Route;

use super::Gateway;
use super::client::{Client, broken};
use super::credentials::{NodeAccess, Timeouts, tls_failure};
use super::exchange::Pieces;
use super::head;
use super::proxy::Context;

/// Longest error body of a node that is read before deciding what it means.
const DECLINED_BYTES_MAX: usize = 64 * 1024;
/// Longest time a node's connection waits in the pool.
const POOL_IDLE: Duration = Duration::from_secs(60);
/// Marks a connection that must not come from the pool; it goes back to it under the ordinary key.
const FRESH: u64 = 1;

/// A request as it goes to a node.
pub(super) struct Outgoing {
    head: RequestHeader,
    body: Pieces,
}

/// A node's answer, its first bytes in hand: only now is it safe to begin with the client.
pub(super) struct Answer {
    pub(super) head: ResponseHeader,
    /// `None` when the body is empty.
    pub(super) first: Option<Bytes>,
    pub(super) node: Connection,
}

/// A connection in use. Dropping it closes it, which is how a node learns to stop; only a complete answer sends it back to
/// the pool.
pub(super) struct Connection {
    session: HttpSession,
    peer: HttpPeer,
}

/// Why an attempt failed before the client saw anything.
pub(super) struct Failed {
    pub(super) fault: Fault,
    /// Label of `retries_total`.
    pub(super) reason: &'static str,
    /// The node may have begun to generate, so a retry may double the work: it costs budget.
    pub(super) may_have_run: bool,
    /// What the node said, if it answered.
    pub(super) declined: Option<Declined>,
}

/// An answer that asks to go elsewhere (503, 429, a failed runner), whole.
pub(super) struct Declined {
    pub(super) status: u16,
    pub(super) head: ResponseHeader,
    pub(super) body: Bytes,
}

impl Declined {
    /// The start of what the node said, for the log.
    pub(super) fn gist(&self) -> String {
        format!(
            "{} {}",
            self.status,
            String::from_utf8_lossy(&self.body[..self.body.len().min(200)]).trim()
        )
    }
}

impl Outgoing {
    /// Builds the request from scratch: only listed headers cross, the framing is ours, and the body is the client's bytes
    /// but for the model's name where the node spells it differently.
    pub(super) fn new(
        client: &Client<'_>,
        call: &Call,
        facts: &Facts,
        body: &Bytes,
        route: &Route,
        access: &NodeAccess,
        ctx: &Context,
    ) -> Result<Outgoing, Fault> {
        let path = access.path(&call.node_path, client.query());
        let mut request =
            RequestHeader::build(Method::POST, path.as_bytes(), Some(16)).map_err(broken)?;
        let nominated = head::nominated(client.headers());
        for (name, value) in client.headers() {
            let ours = matches!(name.as_str(), "content-type" | "content-encoding");
            if !ours && head::reaches_node(name) && !nominated.iter().any(|n| n == name.as_str()) {
                request
                    .append_header(name.clone(), value.clone())
                    .map_err(broken)?;
            }
        }
        // Bodies are JSON whatever the client said: `curl -d` says it is a form.
        request
            .insert_header("content-type", "application/json")
            .map_err(broken)?;
        request
            .insert_header("x-request-id", ctx.record.request_id.as_str())
            .map_err(broken)?;
        access.sign(&mut request)?;
        let body = pieces(facts, body, route, access.spells_loosely());
        let length: usize = body.iter().map(Bytes::len).sum();
        request
            .insert_header("content-length", length)
            .map_err(broken)?;
        Ok(Outgoing {
            head: request,
            body,
        })
    }
}

/// The body with the node's own spelling of the model. Ollama compares names loosely and echoes the asked one, so there the
/// client's bytes stay as they are.
fn pieces(facts: &Facts, body: &Bytes, route: &Route, spells_loosely: bool) -> Pieces {
    if spells_loosely || *route.spelled == *facts.model {
        return vec![body.clone()];
    }
    splice::splice(
        body,
        &[(
            facts.model_span.clone(),
            splice::json_string(&route.spelled),
        )],
    )
}

impl Gateway {
    /// One attempt at one node, up to the first byte of its answer's body.
    ///
    /// # Errors
    /// What failed and whether another node may be tried; the node's health has learned of it.
    pub(super) async fn send(&self, route: &Route, outgoing: &Outgoing) -> Result<Answer, Failed> {
        let name = &self.config.nodes[route.node.0].name;
        let limit = match route.warm {
            true => self.config.proxy.warm_header_timeout,
            false => self.config.proxy.response_header_timeout,
        };
        let silent = || Failed {
            fault: Fault::new(
                Kind::NodeSilent,
                format!(
                    "node `{name}` sent no byte within {} s (proxy.{}header_timeout)",
                    limit.as_secs_f32(),
                    if route.warm { "warm_" } else { "response_" }
                ),
            ),
            reason: "silent",
            may_have_run: true,
            declined: None,
        };
        let result = timeout(limit, self.attempt(route, outgoing))
            .await
            .unwrap_or_else(|_| Err(silent()));
        let result = match result {
            Ok(answer) => self.judge(answer, name).await,
            failed => failed,
        };
        self.learn(route, &result);
        result
    }

    /// Tells the node's health and the metrics how the attempt went.
    fn learn(&self, route: &Route, result: &Result<Answer, Failed>) {
        let name = self.config.nodes[route.node.0].name.as_str();
        match result {
            Ok(answer) => {
                let code = answer.head.status.as_str().to_owned();
                // Whether it was a success shows only when the answer has come to its end.
                self.metrics
                    .node_requests
                    .with_label_values(&[name, &code])
                    .inc();
            }
            Err(failed) => {
                self.metrics
                    .node_errors
                    .with_label_values(&[name, failed.reason])
                    .inc();
                if failed.speaks_against_node() {
                    self.observe(
                        route.node,
                        Observation::Traffic(Err(failed.fault.message.clone())),
                    );
                }
            }
        }
    }

    /// Connect, send, read the head and the first piece. A connection from the pool that turns out to be dead is replaced
    /// once by a fresh one: nothing ran there.
    async fn attempt(&self, route: &Route, outgoing: &Outgoing) -> Result<Answer, Failed> {
        let view = self.fleet.view();
        let name = &self.config.nodes[route.node.0].name;
        let Some(addr) = view.nodes[route.node.0].addr else {
            return Err(Failed::before_sending(
                name,
                "its host name could not be resolved yet",
            ));
        };
        let proxy = &self.config.proxy;
        let timeouts = Timeouts {
            connect: proxy.connection_timeout,
            read: proxy.read_timeout,
        };
        let peer = self.access[route.node.0].peer(addr, timeouts);
        let mut wanted = peer.clone();
        loop {
            let (session, reused) = match self.connector.get_http_session(&wanted).await {
                Ok(connected) => connected,
                Err(error) => return Err(Failed::before_sending(name, &plain(&error))),
            };
            let mut node = Connection {
                session,
                peer: peer.clone(),
            };
            match node.exchange(outgoing).await {
                Ok((head, first)) => return Ok(Answer { head, first, node }),
                Err(error) if reused && is_stale(&error) => wanted.group_key = FRESH,
                Err(error) => return Err(Failed::after_sending(name, &error)),
            }
        }
    }

    /// Decides by status and, for server errors, by the text whether the answer is for the client.
    async fn judge(&self, mut answer: Answer, name: &str) -> Result<Answer, Failed> {
        let status = answer.head.status.as_u16();
        let on_status = &self.config.proxy.retry.on_status;
        if status < 400 && (200..=599).contains(&status) {
            return Ok(answer);
        }
        let body = answer
            .read_whole(DECLINED_BYTES_MAX, self.config.proxy.read_timeout)
            .await;
        match dialect::verdict(status, &body, on_status) {
            Verdict::Relay => Ok(answer),
            Verdict::Retry(reason) => {
                let declined = Declined {
                    status,
                    head: client_head(&answer.head)?,
                    body,
                };
                let message = format!("node `{name}` answered {}", declined.gist());
                let counts = dialect::counts_against_node(status, &declined.body);
                let reason = if counts { reason } else { "declined" };
                // A status that HTTP does not know is not the node's answer to anybody.
                let declined = (200..=599).contains(&status).then_some(declined);
                Err(Failed {
                    fault: Fault::new(Kind::NodeFailed, message),
                    reason,
                    may_have_run: false,
                    declined,
                })
            }
        }
    }

    /// Sends a connection whose answer is complete back to the pool.
    pub(super) async fn reuse(&self, mut node: Connection) {
        if let HttpSession::H1(h1) = &mut node.session {
            h1.respect_keepalive();
        }
        self.connector
            .release_http_session(node.session, &node.peer, Some(POOL_IDLE))
            .await;
    }
}

impl Connection {
    async fn exchange(
        &mut self,
        outgoing: &Outgoing,
    ) -> pingora::Result<(ResponseHeader, Option<Bytes>)> {
        self.session
            .write_request_header(Box::new(outgoing.head.clone()))
            .await?;
        // A node that refuses early may close before it has read the body; its answer is then still there to be read.
        let written = self.write_body(&outgoing.body).await;
        if let Err(error) = self.session.read_response_header().await {
            return Err(written.err().unwrap_or(error));
        }
        let head = self.session.response_header().cloned();
        let head =
            head.ok_or_else(|| Error::explain(ErrorType::InvalidHTTPHeader, "no response head"))?;
        // Pieces can be empty at a chunk's border; only bytes or the end count.
        let first = loop {
            match self.session.read_response_body().await? {
                Some(piece) if piece.is_empty() => (),
                piece => break piece,
            }
        };
        Ok((head, first))
    }

    async fn write_body(&mut self, pieces: &[Bytes]) -> pingora::Result<()> {
        for piece in pieces {
            self.session
                .write_request_body(piece.clone(), false)
                .await?;
        }
        self.session.finish_request_body().await
    }

    /// The next bytes of the answer; `None` at its clean end.
    pub(super) async fn read(&mut self, silence_max: Duration) -> Result<Option<Bytes>, Broken> {
        match timeout(silence_max, self.session.read_response_body()).await {
            Ok(Ok(piece)) => Ok(piece),
            Ok(Err(error)) if error.etype() == &ErrorType::ReadTimedout => Err(Broken::Silent),
            Ok(Err(error)) => Err(Broken::Cut(plain(&error))),
            Err(_) => Err(Broken::Silent),
        }
    }
}

/// How a stream broke.
#[derive(Debug)]
pub(super) enum Broken {
    Silent,
    Cut(String),
}

impl Answer {
    /// Reads the body of an error answer so far as it fits, so that its text can be judged; what does not fit stays to be
    /// relayed.
    async fn read_whole(&mut self, bytes_max: usize, silence_max: Duration) -> Bytes {
        let Some(first) = self.first.take() else {
            return Bytes::new();
        };
        let mut body = BytesMut::from(&first[..]);
        while body.len() < bytes_max {
            match self
                .node
                .read(silence_max.min(Duration::from_secs(5)))
                .await
            {
                Ok(Some(piece)) => body.extend_from_slice(&piece),
                Ok(None) | Err(_) => break,
            }
        }
        let body = body.freeze();
        self.first = Some(body.clone());
        body
    }
}

impl Failed {
    /// Nothing reached the node.
    fn before_sending(name: &str, why: &str) -> Failed {
        let message = format!("node `{name}` can't be reached: {why}");
        Failed {
            fault: Fault::new(Kind::NodeFailed, message),
            reason: "connect",
            may_have_run: false,
            declined: None,
        }
    }

    fn after_sending(name: &str, error: &Error) -> Failed {
        let message = format!(
            "node `{name}` broke off before its answer: {}",
            plain(error)
        );
        let silent = matches!(
            error.etype(),
            ErrorType::ReadTimedout | ErrorType::WriteTimedout
        );
        let (kind, reason) = if silent {
            (Kind::NodeSilent, "silent")
        } else {
            (Kind::NodeFailed, "broke_off")
        };
        Failed {
            fault: Fault::new(kind, message),
            reason,
            may_have_run: true,
            declined: None,
        }
    }

    /// A busy node (503, 429) is not a sick one.
    fn speaks_against_node(&self) -> bool {
        self.reason != "declined"
    }
}

impl From<Fault> for Failed {
    fn from(fault: Fault) -> Failed {
        Failed {
            fault,
            reason: "internal",
            may_have_run: false,
            declined: None,
        }
    }
}

/// The head of a node's answer as a client may see it, without its framing.
pub(super) fn client_head(from: &ResponseHeader) -> Result<ResponseHeader, Fault> {
    let mut head = ResponseHeader::build(from.status, Some(16)).map_err(broken)?;
    let nominated = head::nominated(&from.headers);
    for (name, value) in &from.headers {
        if head::reaches_client(name) && !nominated.iter().any(|n| n == name.as_str()) {
            head.append_header(name.clone(), value.clone())
                .map_err(broken)?;
        }
    }
    Ok(head)
}

/// Whether the failure is what a connection looks like that the node closed while it lay in the pool.
fn is_stale(error: &Error) -> bool {
    use ErrorType::{ConnectionClosed, ReadError, WriteError};
    matches!(error.etype(), ConnectionClosed | ReadError | WriteError)
}

/// An error of Pingora's in a few words, without addresses and source positions.
pub(super) fn plain(error: &Error) -> String {
    use ErrorType as E;
    match error.etype() {
        E::ConnectRefused => "connection refused".into(),
        E::ConnectTimedout => "no connection within proxy.connection_timeout".into(),
        E::ConnectNoRoute => "no route to it".into(),
        E::ConnectionClosed => "it closed the connection".into(),
        E::ReadError => "the connection was reset".into(),
        E::WriteError => "the connection was closed while the request was sent".into(),
        E::ReadTimedout => "it was silent too long".into(),
        E::WriteTimedout => "it stopped reading the request".into(),
        E::InvalidHTTPHeader | E::H1Error => "its answer is not HTTP".into(),
        E::InvalidCert => "its certificate is not trusted".into(),
        E::TLSHandshakeFailure => tls_failure(&error.to_string()),
        other => other.as_str().to_owned(),
    }
}
