//! One GET at a node, whole, within limits.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use pingora::http::RequestHeader;
use pingora::protocols::http::client::HttpSession;
use pingora::{Error, ErrorType, Result};
use tokio::time::timeout;

use super::Eye;
use crate::gateway::credentials::Timeouts;
use crate::gateway::failure::plain;

impl Eye {
    /// One GET, whole, within the limits.
    ///
    /// # Errors
    /// What went wrong, in a few words.
    pub(super) async fn get(
        &self,
        path: &str,
        limit: Duration,
        bytes_max: usize,
    ) -> std::result::Result<Bytes, String> {
        match timeout(limit, self.get_unlimited(path, limit, bytes_max)).await {
            Ok(Ok((200..=299, body))) => Ok(body),
            Ok(Ok((status, _))) => Err(format!("GET {path} answered {status}")),
            Ok(Err(error)) => Err(format!("GET {path}: {}", plain(&error))),
            Err(_) => Err(format!(
                "GET {path}: no answer within {} s",
                limit.as_secs_f32()
            )),
        }
    }

    async fn get_unlimited(
        &self,
        path: &str,
        limit: Duration,
        bytes_max: usize,
    ) -> Result<(u16, Bytes)> {
        let addr = self
            .addr()
            .ok_or_else(|| Error::explain(ErrorType::ConnectNoRoute, "not resolved yet"))?;
        let access = &self.gateway.access[self.node.0];
        let peer = access.build_peer(
            addr,
            Timeouts {
                connect: limit,
                read: limit,
            },
        );
        let mut request = RequestHeader::build("GET", access.path(path, None).as_bytes(), Some(4))?;
        request.insert_header("accept", "application/json")?;
        request.insert_header("user-agent", concat!("arriero/", env!("CARGO_PKG_VERSION")))?;
        access
            .sign(&mut request)
            .map_err(|fault| Error::explain(ErrorType::InternalError, fault.message))?;
        // Every probe on a connection of its own: one from the pool could vouch for a node that takes no new ones.
        let mut session = self.gateway.probes.get_http_session(&peer).await?.0;
        session.write_request_header(Box::new(request)).await?;
        session.finish_request_body().await?;
        session.read_response_header().await?;
        let status = session
            .response_header()
            .map_or(0, |head| head.status.as_u16());
        let body = read_body(&mut session, bytes_max).await?;
        Ok((status, body))
    }
}

async fn read_body(session: &mut HttpSession, bytes_max: usize) -> Result<Bytes> {
    let mut body = BytesMut::new();
    while let Some(piece) = session.read_response_body().await? {
        if body.len() + piece.len() > bytes_max {
            return Error::e_explain(ErrorType::InternalError, "the answer is too long");
        }
        body.extend_from_slice(&piece);
    }
    Ok(body.freeze())
}
