//! Reading a request's body, within its limits.

use bytes::{Bytes, BytesMut};
use pingora::{Error, ErrorType};
use tokio::time::timeout;

use super::Client;
use crate::config::Server;
use crate::dialect::{self, Call, Encoding};
use crate::error::Fault;

/// Bytes reserved for a body before any of it has come; the rest is reserved once this much is really there.
const BODY_BYTES_TRUSTED: usize = 1024 * 1024;

impl Client<'_> {
    /// The encoding of the body, from its header.
    ///
    /// # Errors
    /// 415 for an encoding we cannot decode.
    pub(in crate::gateway) fn encoding(&self, call: &Call) -> Result<Encoding, Fault> {
        let value = self.headers().get(http::header::CONTENT_ENCODING);
        let value = value.map(|value| value.to_str().unwrap_or("?"));
        dialect::encoding(value, call.node_path.contains("/v1/"))
    }

    pub(in crate::gateway) fn content_length(&self) -> Option<usize> {
        let value = self.headers().get(http::header::CONTENT_LENGTH)?;
        value.to_str().ok()?.parse().ok()
    }

    /// Tells a client that waits for `100 Continue` to send its body; no node gets to see its `Expect`.
    ///
    /// # Errors
    /// `ClientGone`.
    pub(in crate::gateway) async fn invite_body(&mut self) -> Result<(), Fault> {
        let waits = self.headers().contains_key(http::header::EXPECT)
            && self.version() != http::Version::HTTP_10
            && !self.session.as_mut().is_body_empty();
        if !waits {
            return Ok(());
        }
        let written = self.session.as_mut().write_continue_response().await;
        written.map_err(|_| Fault::client_gone())
    }

    /// Reads the whole body, up to the limit.
    ///
    /// # Errors
    /// 413 at once when the announced length is too large, or when the limit is crossed; 408 when nothing came for
    /// `body_timeout`; `ClientGone`.
    pub(in crate::gateway) async fn read_body(&mut self, limits: &Server) -> Result<Bytes, Fault> {
        let announced = self.content_length();
        if announced.is_some_and(|length| length > limits.body_bytes_max) {
            return Err(too_large(limits.body_bytes_max));
        }
        self.invite_body().await?;
        let Some(first) = self.read_piece(limits).await? else {
            return Ok(Bytes::new());
        };
        if announced == Some(first.len()) {
            return Ok(first); // the common case: one piece, no copy
        }
        let mut body = BytesMut::with_capacity(
            announced
                .unwrap_or(0)
                .min(BODY_BYTES_TRUSTED)
                .max(first.len()),
        );
        body.extend_from_slice(&first);
        while let Some(piece) = self.read_piece(limits).await? {
            if body.len() + piece.len() > limits.body_bytes_max {
                return Err(too_large(limits.body_bytes_max));
            }
            if let Some(length) = announced
                && body.len() + piece.len() > body.capacity()
            {
                body.reserve(length - body.len());
            }
            body.extend_from_slice(&piece);
        }
        Ok(body.freeze())
    }

    async fn read_piece(&mut self, limits: &Server) -> Result<Option<Bytes>, Fault> {
        match self.next_piece(limits).await? {
            Some(piece) if piece.len() > limits.body_bytes_max => {
                Err(too_large(limits.body_bytes_max))
            }
            piece => Ok(piece),
        }
    }

    /// The next bytes of a body that nobody holds as a whole, of whatever length; `None` at its end.
    ///
    /// # Errors
    /// 408 when nothing came for `body_timeout`; `ClientGone`; 400 for broken framing.
    pub(in crate::gateway) async fn next_piece(
        &mut self,
        limits: &Server,
    ) -> Result<Option<Bytes>, Fault> {
        match timeout(
            limits.body_timeout,
            self.session.as_mut().read_request_body(),
        )
        .await
        {
            Ok(Ok(piece)) => Ok(piece),
            Ok(Err(error)) => {
                // Where the next request would begin is anybody's guess now.
                self.session.as_mut().set_keepalive(None);
                Err(unreadable(&error, limits))
            }
            Err(_) => Err(body_too_slow(limits)),
        }
    }

    /// Gives up the rest of a body that is not wanted: the connection ends after the answer, but not before the client could
    /// read it.
    pub(in crate::gateway) fn abandon_body(&mut self) {
        if !self.session.as_mut().is_body_done() {
            self.session.as_mut().set_keepalive(None);
        }
    }

    /// Reads and throws away what is left of an abandoned body, for a moment.
    pub(in crate::gateway) async fn drain(&mut self) {
        if !self.session.as_mut().is_body_done() {
            let _ = self.session.as_mut().drain_request_body().await;
        }
    }

    /// Reads a body that the call has no use for, so that the connection can be used again.
    pub(in crate::gateway) async fn discard_body(&mut self, limits: &Server) -> Result<(), Fault> {
        if self.session.as_mut().is_body_empty() {
            return Ok(());
        }
        self.read_body(limits).await.map(drop)
    }
}

/// What an error of Pingora's on the client's connection means.
pub(in crate::gateway) fn unreadable(error: &Error, limits: &Server) -> Fault {
    use ErrorType::{ConnectionClosed, ReadError, ReadTimedout, WriteError, WriteTimedout};
    match error.etype() {
        ReadTimedout => body_too_slow(limits),
        ConnectionClosed | ReadError | WriteError | WriteTimedout => Fault::client_gone(),
        other => Fault::malformed(
            "bad_framing",
            format!("the request breaks HTTP's framing: {}", other.as_str()),
        ),
    }
}

pub(in crate::gateway) fn body_too_slow(limits: &Server) -> Fault {
    let message = format!(
        "no byte of the request's body came for {} s; send it without pauses or raise server.body_timeout",
        limits.body_timeout.as_secs_f32()
    );
    Fault::refused(408, "body_timeout", message)
}

pub(in crate::gateway) fn too_large(bytes_max: usize) -> Fault {
    let message = format!(
        "the request's body is larger than {bytes_max} bytes; shrink it (images are the usual cause) or raise \
         server.request_limits.max_body_size"
    );
    Fault::refused(413, "body_too_large", message)
}

/// The body as a node gets it: decoded, since nodes other than Ollama would not know the encoding.
pub(in crate::gateway) fn body_as_sent(
    body: Bytes,
    encoding: Encoding,
    bytes_max: usize,
) -> Result<Bytes, Fault> {
    match encoding {
        Encoding::Identity => Ok(body),
        Encoding::Zstd => dialect::decode_zstd(&body, bytes_max).map(Bytes::from),
    }
}
