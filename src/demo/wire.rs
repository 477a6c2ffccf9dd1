//! A stream on its way out, gathered so that nothing leaves before the first token.

use std::io;

use super::conn::Conn;
use super::http::{self, Framing};

/// A stream on its way out.
pub(super) struct Wire {
    pub out: Vec<u8>,
    /// To be encoded, one HTTP chunk each.
    pub chunks: Vec<String>,
    pub framing: Framing,
}

impl Wire {
    fn encode(&mut self) {
        for chunk in self.chunks.drain(..) {
            match self.framing {
                Framing::Chunked => http::chunk(&mut self.out, chunk.as_bytes()),
                _ => self.out.extend_from_slice(chunk.as_bytes()),
            }
        }
    }

    pub(super) async fn flush(&mut self, conn: &Conn) -> io::Result<()> {
        self.encode();
        conn.write(&self.out).await?;
        self.out.clear();
        Ok(())
    }

    pub(super) async fn end(mut self, conn: &Conn) -> io::Result<()> {
        self.encode();
        if self.framing == Framing::Chunked {
            self.out.extend_from_slice(b"0\r\n\r\n");
        }
        conn.write(&self.out).await
    }
}
