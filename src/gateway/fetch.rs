//! One GET at a node, whole, within limits: for probes, for listings, for finding out what a node is.

use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use pingora::http::RequestHeader;
use pingora::protocols::http::v1::client::HttpSession;
use pingora::{Error, ErrorType, Result};
use tokio::time::timeout;

use crate::fleet::{NodeId, Observation};

use super::credentials::{NodeAccess, Timeouts};
use super::failure::plain;
use super::retry_after::retry_after;
use super::upstream::UNRESOLVED;
use super::{Gateway, USER_AGENT};

/// Label of what did not answer in time.
const SILENT: &str = "silent";
/// Says what is wrong by its name; see `failure::plain`.
const TOO_LONG: ErrorType = ErrorType::Custom("its answer is longer than what is read");

/// A node's whole answer to a GET, whatever its status.
#[derive(Debug)]
pub(super) struct Fetched {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

/// Why a GET at a node was of no use.
#[derive(Debug)]
pub(super) enum Useless {
    /// 401 or 403: the node does not accept our key.
    Refused(String),
    /// 429, with the pause that the node asked for.
    RateLimited {
        why: String,
        retry_after: Option<Duration>,
    },
    /// No answer in time: it is gone, or busy.
    Silent(String),
    /// No answer, or another that is not 2xx.
    Failed(String),
}

/// Why there is no answer to a GET.
#[derive(Debug)]
pub(super) struct Unanswered {
    /// In a few words.
    pub(super) why: String,
    /// Label of `upstream_errors_total`.
    pub(super) reason: &'static str,
}

/// What is allowed for one GET.
#[derive(Debug, Clone, Copy)]
pub(super) struct FetchLimits {
    /// For everything, the connection included.
    pub(super) time: Duration,
    pub(super) body_bytes_max: usize,
    /// What becomes of a longer body: its beginning is enough, or it is an error.
    pub(super) cut: bool,
}

impl Gateway {
    /// One GET that must succeed.
    ///
    /// # Errors
    /// What went wrong, in a few words; another status than 2xx is wrong too.
    pub(super) async fn get(
        &self,
        node: NodeId,
        access: &NodeAccess,
        path: &str,
        limits: FetchLimits,
    ) -> std::result::Result<Bytes, String> {
        let useful = self.get_useful(node, access, path, limits).await;
        useful.map_err(Useless::into_why)
    }

    /// As [`Self::get`]; the error also tells what the answer means for the node as a whole.
    pub(super) async fn get_useful(
        &self,
        node: NodeId,
        access: &NodeAccess,
        path: &str,
        limits: FetchLimits,
    ) -> std::result::Result<Bytes, Useless> {
        let whole = access.path(path);
        let fetched = self.fetch_for(node, access, &whole, limits, None).await;
        let fetched = fetched.map_err(|unanswered| match unanswered.reason {
            SILENT => Useless::Silent(unanswered.why),
            _ => Useless::Failed(unanswered.why),
        })?;
        let answered = format!("GET {path} answered {}", fetched.status);
        match fetched.status {
            200..=299 => Ok(fetched.body),
            401 | 403 => Err(Useless::Refused(format!(
                "{answered}; correct the endpoint's `auth` in the configuration"
            ))),
            429 => Err(Useless::RateLimited {
                why: answered,
                retry_after: retry_after(&fetched.headers, SystemTime::now()),
            }),
            _ => Err(Useless::Failed(answered)),
        }
    }

    /// One GET, whatever its status.
    ///
    /// # Errors
    /// Why there is no answer, in a few words.
    pub(super) async fn fetch(
        &self,
        node: NodeId,
        access: &NodeAccess,
        path: &str,
        limits: FetchLimits,
    ) -> std::result::Result<Fetched, String> {
        let path = access.path(path);
        let fetched = self.fetch_for(node, access, &path, limits, None);
        fetched.await.map_err(|unanswered| unanswered.why)
    }

    /// As [`Self::fetch`], with the whole path as the node gets it. For a client its request's id tells the node that this is no probe.
    pub(super) async fn fetch_for(
        &self,
        node: NodeId,
        access: &NodeAccess,
        path: &str,
        limits: FetchLimits,
        request_id: Option<&str>,
    ) -> std::result::Result<Fetched, Unanswered> {
        let fetching = self.fetch_unlimited(node, access, path, limits, request_id);
        match timeout(limits.time, fetching).await {
            Ok(Ok(fetched)) => Ok(fetched),
            Ok(Err(error)) => Err(Unanswered {
                why: format!("GET {path}: {}", plain(&error)),
                reason: reason(&error),
            }),
            Err(_) => Err(Unanswered {
                why: format!(
                    "GET {path}: no answer within {} s",
                    limits.time.as_secs_f32()
                ),
                reason: SILENT,
            }),
        }
    }

    async fn fetch_unlimited(
        &self,
        node: NodeId,
        access: &NodeAccess,
        path: &str,
        limits: FetchLimits,
        request_id: Option<&str>,
    ) -> Result<Fetched> {
        let addr = self.fleet.view().node(node).and_then(|node| node.addr);
        let addr = addr.ok_or_else(|| Error::explain(ErrorType::ConnectNoRoute, UNRESOLVED))?;
        let timeouts = Timeouts {
            connect: limits.time.min(self.config().proxy.connection_timeout),
            read: limits.time,
        };
        let peer = access.build_peer(addr, timeouts);
        let mut request = RequestHeader::build("GET", path.as_bytes(), Some(4))?;
        request.insert_header("accept", "application/json")?;
        if let Some(id) = request_id {
            request.insert_header("x-request-id", id)?;
        }
        request.insert_header("user-agent", USER_AGENT)?;
        access
            .sign(&mut request)
            .map_err(|fault| Error::explain(ErrorType::InternalError, fault.message))?;
        // Every probe on a connection of its own: one from the pool could vouch for a node that takes no new ones.
        let mut session = self.probes.get_http_session(&peer).await?.0;
        session.write_request_header(Box::new(request)).await?;
        session.finish_body().await?;
        session.read_response().await?;
        let (status, headers) = session
            .resp_header()
            .map(|head| (head.status.as_u16(), head.headers.clone()))
            .unwrap_or_default();
        let body = read_body(&mut session, limits).await?;
        Ok(Fetched {
            status,
            headers,
            body,
        })
    }
}

impl Useless {
    pub(super) fn into_why(self) -> String {
        match self {
            Useless::Refused(why)
            | Useless::RateLimited { why, .. }
            | Useless::Silent(why)
            | Useless::Failed(why) => why,
        }
    }

    /// What it means for a node's health when a probe was answered like this.
    pub(super) fn observed(&self) -> Observation {
        match self {
            Useless::Refused(why) => Observation::Refused(why.clone()),
            Useless::RateLimited { why, retry_after } => Observation::RateLimited {
                why: why.clone(),
                retry_after: *retry_after,
            },
            Useless::Silent(why) | Useless::Failed(why) => Observation::Probe(Err(why.clone())),
        }
    }
}

impl Unanswered {
    /// Whether it says that the node is ill. A slow one may be busy with what others asked, and a long answer is an answer.
    pub(super) fn blames_node(&self) -> bool {
        matches!(self.reason, "connect" | "broke_off")
    }
}

fn reason(error: &Error) -> &'static str {
    use ErrorType as E;
    match error.etype() {
        E::ReadTimedout | E::WriteTimedout => SILENT,
        // Ours: a request that can't be built, or an answer that is too long.
        E::InternalError | E::Custom(_) => "internal",
        E::ConnectionClosed | E::ReadError | E::WriteError | E::InvalidHTTPHeader | E::H1Error => {
            "broke_off"
        }
        _ => "connect",
    }
}

async fn read_body(session: &mut HttpSession, limits: FetchLimits) -> Result<Bytes> {
    let mut body = BytesMut::new();
    while let Some(piece) = session.read_body_bytes().await? {
        let room = limits.body_bytes_max - body.len();
        if room < piece.len() && !limits.cut {
            return Err(Error::new(TOO_LONG));
        }
        body.extend_from_slice(&piece[..piece.len().min(room)]);
        if body.len() == limits.body_bytes_max && limits.cut {
            break;
        }
    }
    Ok(body.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_can_t_be_reached_or_breaks_off_is_ill() {
        let cases = [
            (ErrorType::ConnectRefused, "connect", true),
            (ErrorType::ConnectTimedout, "connect", true),
            (ErrorType::TLSHandshakeFailure, "connect", true),
            (ErrorType::ConnectionClosed, "broke_off", true),
            (ErrorType::ReadError, "broke_off", true),
            (ErrorType::InvalidHTTPHeader, "broke_off", true),
            (ErrorType::ReadTimedout, "silent", false),
            (ErrorType::WriteTimedout, "silent", false),
            (ErrorType::InternalError, "internal", false),
        ];
        for (kind, expected, blames_node) in cases {
            let unanswered = Unanswered {
                why: String::new(),
                reason: reason(&Error::new(kind.clone())),
            };
            assert_eq!(unanswered.reason, expected, "{kind:?}");
            assert_eq!(unanswered.blames_node(), blames_node, "{kind:?}");
        }
    }
}
