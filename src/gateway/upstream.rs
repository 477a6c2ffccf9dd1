//! The node's half of an exchange: connect, send, wait for the first byte, and judge whether another node may be tried.

use std::pin::pin;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::FutureExt as _;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v1::client::HttpSession;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType};
use tokio::time::timeout;

use crate::config::{Config, Proxy};
use crate::dialect::{self, Verdict};
use crate::fleet::{NodeId, NumCtx};
use crate::profile::Profile;
use crate::routing::Route;

use super::Gateway;
use super::credentials::{FRESH, NodeAccess, Timeouts};
use super::failure::{Broken, Declined, Failed, plain};
use super::outgoing::{Outgoing, client_head};
use super::place::Placed;

/// Longest error body of a node that is read before deciding what it means.
const DECLINED_BYTES_MAX: usize = 64 * 1024;
/// How long the rest of an error body is waited for.
const DECLINED_PATIENCE: Duration = Duration::from_secs(5);
/// Longest time a node's connection waits in the pool.
const POOL_IDLE: Duration = Duration::from_secs(60);
/// Why a node without an address cannot be asked.
pub(super) const UNRESOLVED: &str = "its host name could not be resolved yet";

/// A node's answer, its first bytes in hand: only now is it safe to begin with the client.
pub(super) struct Answer {
    /// `None` when the body is empty.
    pub(super) first: Option<Bytes>,
    pub(super) node: Connection,
}

/// A connection in use. Dropping it closes it, which is how a node learns to stop; only a complete answer sends it back to
/// the pool.
pub(super) struct Connection {
    session: HttpSession,
    peer: Arc<HttpPeer>,
}

/// A connection as traffic uses it.
fn timeouts(proxy: &Proxy) -> Timeouts {
    Timeouts {
        connect: proxy.connection_timeout,
        read: proxy.read_timeout,
    }
}

/// How long a cold model may take to its first byte, and what decides that.
pub(super) fn cold_limit(
    profile: &Profile,
    configured: Duration,
    route: &Route,
) -> (Duration, &'static str) {
    let demand = match &route.traits {
        Some(traits) => traits.demand,
        None => profile.needs_of(route.spelled.as_deref().unwrap_or_default(), None, None),
    };
    match profile.cold_timeout(configured, &demand) {
        limit if limit == configured => (limit, "proxy.response_header_timeout"),
        limit => (limit, "the timeout of its type, for a model of that size"),
    }
}

impl Gateway {
    /// One attempt at one node, up to the first byte of its answer's body.
    ///
    /// # Errors
    /// What failed, whether another node may be tried, and whether it speaks against this one.
    pub(super) async fn send(
        &self,
        placed: &Placed,
        outgoing: &Outgoing,
        config: &Config,
    ) -> Result<Answer, Failed> {
        let Placed { route, access, .. } = placed;
        let (name, proxy) = (access.name(), &config.proxy);
        if let Some(num_ctx) = route.num_ctx {
            self.count_normalized(name, num_ctx);
        }
        // Without a stream the first byte comes with the last: then even a warm node may take as long as an answer does.
        let is_quick = route.warm && outgoing.stream;
        let cold = cold_limit(&access.config.profile, proxy.response_header_timeout, route);
        let (mut limit, mut key) = match is_quick {
            true => (proxy.warm_header_timeout, "proxy.warm_header_timeout"),
            false => cold,
        };
        let mut attempt = pin!(self.attempt(placed, outgoing, proxy));
        let mut answered = timeout(limit, attempt.as_mut()).await;
        if answered.is_err() && is_quick && limit < cold.0 && self.may_be_loading(route) {
            let rest = cold.0 - limit;
            (limit, key) = cold;
            answered = timeout(rest, attempt).await;
        }
        let result = match answered {
            Ok(Ok(answer)) => judge(answer, name, route, &proxy.retry.on_status).await,
            Ok(failed) => failed,
            Err(_) => Err(Failed::silent(name, limit, key)),
        };
        match &result {
            Ok(answer) => self.count_answer(name, answer.node.head().status.as_str()),
            Err(failed) => self.count_failure(name, failed.reason),
        }
        result
    }

    /// Whether a node that was taken to be warm may be silent because it loads: this very model, which left its memory meanwhile, or
    /// another one, which has all others wait.
    fn may_be_loading(&self, route: &Route) -> bool {
        let view = self.fleet.view();
        let Some((node, model)) = view.node(route.node).zip(route.traits.as_ref()) else {
            return false;
        };
        node.is_loading() || !node.holds(model)
    }

    fn count_normalized(&self, node: &str, num_ctx: NumCtx) {
        let normalized = &self.metrics.nodes.normalized;
        normalized.with_label_values(&["num_ctx"]).inc();
        match num_ctx {
            NumCtx::Set(tokens) => {
                log::debug!("node `{node}` is asked for num_ctx {tokens}, which it has loaded")
            }
            NumCtx::Unset => log::debug!(
                "node `{node}` is asked for no num_ctx, since it has chosen a longer one"
            ),
        }
    }

    /// Whether it was a success shows only when the answer has come to its end, so the node's health learns nothing yet.
    fn count_answer(&self, name: &str, code: &str) {
        let answers = &self.metrics.nodes.answers;
        answers.with_label_values(&[name, code]).inc();
    }

    pub(super) fn count_failure(&self, name: &str, reason: &str) {
        let errors = &self.metrics.nodes.errors;
        errors.with_label_values(&[name, reason]).inc();
    }

    /// Connect, send, read the head and the first piece. A connection from the pool that turns out to be dead before it gave a
    /// single byte is replaced once by a fresh one: nearly always the node had closed it, and nothing ran there. A node that died
    /// over this very request looks the same, and its fresh connection fails or it has just been restarted.
    async fn attempt(
        &self,
        placed: &Placed,
        outgoing: &Outgoing,
        proxy: &Proxy,
    ) -> Result<Answer, Failed> {
        let name = placed.access.name();
        // From the lease: the node may have left the configuration since it was chosen, and is asked all the same.
        let addr = placed.lease.addr();
        let addr = addr.ok_or_else(|| Failed::before_sending(name, UNRESOLVED))?;
        let peer = placed.access.peer(addr, timeouts(proxy));
        let (session, reused) = self.connect(&peer, name).await?;
        let mut node = Connection { session, peer };
        let exchanged = match node.exchange(outgoing).await {
            Err(error) if reused && is_stale(&error) => {
                let mut fresh = HttpPeer::clone(&node.peer);
                fresh.group_key = FRESH;
                node.session = self.connect(&fresh, name).await?.0;
                node.exchange(outgoing).await
            }
            exchanged => exchanged,
        };
        exchanged.map_err(|error| Failed::after_sending(name, &error))?;
        let first = node.first_piece().await;
        let first = first.map_err(|error| Failed::after_sending(name, &error))?;
        Ok(Answer { first, node })
    }

    async fn connect(&self, peer: &HttpPeer, name: &str) -> Result<(HttpSession, bool), Failed> {
        let (mut session, reused) = match self.connector.reused_http_session(peer).await {
            Some(session) => (session, true),
            None => {
                // Rare, and large.
                let connected = Box::pin(self.connector.get_http_session(peer)).await;
                connected.map_err(|error| Failed::before_sending(name, &plain(&error)))?
            }
        };
        // Silence is ours to judge: it may be a model that loads, a stream that stalls, or an answer that never comes.
        session.read_timeout = None;
        Ok((session, reused))
    }

    /// A connection of its own for work that may take hours, its request's head sent: it neither comes from the pool nor goes back
    /// to it, so that dropping it is what stops the work.
    ///
    /// # Errors
    /// Nothing reached the node, or it broke off.
    pub(super) async fn begin(
        &self,
        node: NodeId,
        access: &NodeAccess,
        head: RequestHeader,
        proxy: &Proxy,
    ) -> Result<Connection, Failed> {
        let name = access.name();
        let addr = self.fleet.view().node(node).and_then(|node| node.addr);
        let addr = addr.ok_or_else(|| Failed::before_sending(name, UNRESOLVED))?;
        let peer = access.peer(addr, timeouts(proxy));
        let mut fresh = HttpPeer::clone(&peer);
        fresh.group_key = FRESH;
        let session = self.connect(&fresh, name).await?.0;
        let mut node = Connection { session, peer };
        let written = node.session.write_request_header(Box::new(head)).await;
        written.map_err(|error| Failed::after_sending(name, &error))?;
        Ok(node)
    }

    /// Asks something of our own over a connection of its own, as [`Self::begin`], and gives it back with the answer's begin.
    ///
    /// # Errors
    /// As [`Self::begin`].
    pub(super) async fn ask_apart(
        &self,
        node: NodeId,
        access: &NodeAccess,
        outgoing: Outgoing,
        proxy: &Proxy,
    ) -> Result<Answer, Failed> {
        let broke_off = |error: Box<Error>| Failed::after_sending(access.name(), &error);
        let Outgoing { head, body, .. } = outgoing;
        let mut node = self.begin(node, access, head, proxy).await?;
        let written = node.write_body(&body).await;
        node.answered(written).await.map_err(broke_off)?;
        let first = node.first_piece().await.map_err(broke_off)?;
        Ok(Answer { first, node })
    }

    /// Sends a connection whose answer is complete back to the pool.
    pub(super) async fn reuse(&self, node: Connection) {
        let pool = &self.connector;
        pool.release_http_session(node.session, &*node.peer, Some(POOL_IDLE))
            .await;
    }
}

impl Connection {
    async fn exchange(&mut self, outgoing: &Outgoing) -> pingora::Result<()> {
        let head = Box::new(outgoing.head.clone());
        self.session.write_request_header(head).await?;
        // A node that refuses early may close before it has read the body; its answer is then still there to be read.
        let written = self.write_body(&outgoing.body).await;
        self.answered(written).await
    }

    /// Ends the request and reads the head of the answer, which may be there even when the node stopped reading before the end:
    /// `written` is what became of the body.
    pub(super) async fn answered(&mut self, written: pingora::Result<()>) -> pingora::Result<()> {
        let written = match written {
            Ok(()) => self.session.finish_body().await.map(drop),
            failed => failed,
        };
        let read = match self.has_head() {
            true => Ok(()), // it was there before the request was whole
            false => self.session.read_response().await.map(drop),
        };
        if let Err(error) = read {
            return Err(written.err().unwrap_or(error));
        }
        match self.session.resp_header() {
            Some(_) => Ok(()),
            None => Error::e_explain(ErrorType::InvalidHTTPHeader, "no response head"),
        }
    }

    fn has_head(&self) -> bool {
        let head = self.session.resp_header();
        head.is_some_and(|head| !head.status.is_informational())
    }

    /// Whether the node has answered, or broken off, before the request is whole. It is looked without waiting, and what is there of a
    /// head stays to be read.
    pub(super) fn has_ended_early(&mut self) -> bool {
        match self.session.read_response().now_or_never() {
            None => false,
            Some(Ok(_)) => self.has_head(),
            Some(Err(_)) => true,
        }
    }

    /// The head of the answer.
    pub(super) fn head(&self) -> &ResponseHeader {
        // `exchange` has made sure that there is one before it gave the connection out.
        static NONE: LazyLock<ResponseHeader> =
            LazyLock::new(|| ServerSession::generate_error(502));
        self.session.resp_header().unwrap_or(&NONE)
    }

    async fn write_body(&mut self, pieces: &[Bytes]) -> pingora::Result<()> {
        for piece in pieces {
            self.write(piece).await?;
        }
        Ok(())
    }

    /// Sends some of the request's body.
    pub(super) async fn write(&mut self, piece: &[u8]) -> pingora::Result<()> {
        self.session.write_body(piece).await.map(drop)
    }

    /// The first bytes of the body, `None` when it is empty. Pieces can be empty at a chunk's border; only bytes count.
    async fn first_piece(&mut self) -> pingora::Result<Option<Bytes>> {
        loop {
            match self.session.read_body_bytes().await? {
                Some(piece) if piece.is_empty() => (),
                piece => return Ok(piece),
            }
        }
    }

    /// The next bytes of the answer; `None` at its clean end.
    pub(super) async fn read(&mut self, silence_max: Duration) -> Result<Option<Bytes>, Broken> {
        match timeout(silence_max, self.session.read_body_bytes()).await {
            Ok(Ok(piece)) => Ok(piece),
            Ok(Err(error)) => Err(Broken::Cut(plain(&error))),
            Err(_) => Err(Broken::Silent),
        }
    }
}

impl Answer {
    /// Reads the body of an error answer so far as it fits and comes in time, so that its text can be judged; the rest stays to
    /// be relayed. Also tells whether it is whole.
    async fn read_whole(&mut self) -> (Bytes, bool) {
        let Some(first) = self.first.take() else {
            return (Bytes::new(), true);
        };
        let mut body = BytesMut::from(&first[..]);
        let reading = async {
            while body.len() < DECLINED_BYTES_MAX {
                match self.node.read(DECLINED_PATIENCE).await {
                    Ok(Some(piece)) => body.extend_from_slice(&piece),
                    end => return matches!(end, Ok(None)),
                }
            }
            false
        };
        let whole = timeout(DECLINED_PATIENCE, reading).await.unwrap_or(false);
        let body = body.freeze();
        self.first = Some(body.clone());
        (body, whole)
    }
}

/// Decides by status and, for errors, by the text whether the answer is for the client.
pub(super) async fn judge(
    mut answer: Answer,
    name: &str,
    route: &Route,
    retry_on: &[u16],
) -> Result<Answer, Failed> {
    let status = answer.node.head().status.as_u16();
    if (200..400).contains(&status) {
        return Ok(answer);
    }
    let (body, whole) = answer.read_whole().await;
    match dialect::verdict(status, &body, retry_on, route.place.is_some()) {
        Verdict::Relay => Ok(answer),
        Verdict::Retry(reason) => {
            let blames_node = dialect::counts_against_node(status, &body);
            let head = client_head(status, &answer.node.head().headers)?;
            let declined = Declined {
                status,
                head,
                body,
                whole,
            };
            Err(Failed::declined(name, reason, blames_node, declined))
        }
    }
}

/// Whether the failure is what a connection looks like that the node closed while it lay in the pool.
fn is_stale(error: &Error) -> bool {
    use ErrorType::{ConnectionClosed, ReadError, WriteError};
    matches!(error.etype(), ConnectionClosed | ReadError | WriteError)
}
