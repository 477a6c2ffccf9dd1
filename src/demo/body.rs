//! A request's body as it comes off the wire, piece by piece: nothing of it is kept here.

use std::io;

use bytes::{Buf, BytesMut};

use super::http::{Head, invalid};

/// A chunk's size line and a trailer are no longer than this.
const LINE_BYTES_MAX: usize = 16 << 10;

/// Where in a body the wire stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// So many bytes of a body with a length are to come.
    Length(u64),
    ChunkSize,
    Chunk(u64),
    ChunkEnd,
    Trailers,
    Done,
}

/// Takes the framing off a body.
#[derive(Debug)]
pub(super) struct Decoder {
    at: At,
    /// Bytes that the body may still have.
    room: u64,
}

impl Decoder {
    /// # Errors
    /// The length is no number, or it is larger than `bytes_max`.
    pub(super) fn new(head: &Head, bytes_max: u64) -> io::Result<Decoder> {
        let at = match head.header("content-length") {
            _ if head.is_chunked() => At::ChunkSize,
            Some(text) => At::Length(text.trim().parse().map_err(|_| invalid("Content-Length"))?),
            None => At::Length(0),
        };
        match at {
            At::Length(bytes) if bytes_max < bytes => Err(invalid("body size")),
            _ => Ok(Decoder {
                at,
                room: bytes_max,
            }),
        }
    }

    /// Hands what is there to `sink` and drops it from `buf`; true when the body is whole.
    ///
    /// # Errors
    /// The framing is broken, or the body is larger than allowed.
    pub(super) fn take(
        &mut self,
        buf: &mut BytesMut,
        sink: &mut impl FnMut(&[u8]),
    ) -> io::Result<bool> {
        loop {
            self.at = match self.at {
                At::Done | At::Length(0) => return Ok(true),
                At::Length(left) => match give(buf, left, sink) {
                    0 => return Ok(false),
                    given => At::Length(left - given),
                },
                At::ChunkSize => match self.chunk_size(buf)? {
                    None => return Ok(false),
                    Some(0) => At::Trailers,
                    Some(size) => At::Chunk(size),
                },
                At::Chunk(0) => At::ChunkEnd,
                At::Chunk(left) => match give(buf, left, sink) {
                    0 => return Ok(false),
                    given => At::Chunk(left - given),
                },
                At::ChunkEnd if buf.len() < 2 => return Ok(false),
                At::ChunkEnd => {
                    buf.advance(2);
                    At::ChunkSize
                }
                At::Trailers => match line(buf)? {
                    None => return Ok(false),
                    Some(is_empty) if is_empty => At::Done,
                    Some(_) => At::Trailers,
                },
            }
        }
    }

    fn chunk_size(&mut self, buf: &mut BytesMut) -> io::Result<Option<u64>> {
        let parsed = httparse::parse_chunk_size(buf).map_err(|_| invalid("chunk size"))?;
        let httparse::Status::Complete((line, size)) = parsed else {
            return match buf.len() {
                0..=LINE_BYTES_MAX => Ok(None),
                _ => Err(invalid("chunk size")),
            };
        };
        self.room = self
            .room
            .checked_sub(size)
            .ok_or_else(|| invalid("body size"))?;
        buf.advance(line);
        Ok(Some(size))
    }
}

/// Hands over up to `left` bytes, and says how many.
fn give(buf: &mut BytesMut, left: u64, sink: &mut impl FnMut(&[u8])) -> u64 {
    let given = usize::try_from(left).unwrap_or(usize::MAX).min(buf.len());
    sink(&buf[..given]);
    buf.advance(given);
    given as u64
}

/// Drops a line, and says whether it was empty; `None` when it is not whole yet.
fn line(buf: &mut BytesMut) -> io::Result<Option<bool>> {
    let Some(end) = buf.iter().position(|b| *b == b'\n') else {
        return match buf.len() {
            0..=LINE_BYTES_MAX => Ok(None),
            _ => Err(invalid("trailer")),
        };
    };
    let is_empty = matches!(&buf[..end], b"" | b"\r");
    buf.advance(end + 1);
    Ok(Some(is_empty))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoder(header: (&str, &str), bytes_max: u64) -> io::Result<Decoder> {
        let head = Head {
            method: "POST".to_owned(),
            target: "/".to_owned(),
            is_http10: false,
            headers: vec![(header.0.to_owned(), header.1.to_owned())],
        };
        Decoder::new(&head, bytes_max)
    }

    #[test]
    fn bodies_are_taken_at_every_border() {
        let chunked = b"4\r\nherd\r\n6;x=1\r\n of ll\r\n3\r\nama\r\n0\r\nTrailer: 1\r\n\r\nNEXT";
        let whole = b"herd of llamaNEXT";
        for (header, wire) in [
            (("Transfer-Encoding", "chunked"), &chunked[..]),
            (("Content-Length", "13"), &whole[..]),
        ] {
            for cut in 0..wire.len() {
                let mut decoder = decoder(header, 13).unwrap();
                let mut body = Vec::new();
                let mut sink = |bytes: &[u8]| body.extend_from_slice(bytes);
                let mut buf = BytesMut::from(&wire[..cut]);
                let early = decoder.take(&mut buf, &mut sink).unwrap();
                assert_eq!(early, wire.len() - 4 <= cut, "cut at {cut}");
                buf.extend_from_slice(&wire[cut..]);
                assert!(early || decoder.take(&mut buf, &mut sink).unwrap());
                assert_eq!(body, b"herd of llama");
                assert_eq!(&buf[..], b"NEXT");
            }
        }
    }

    #[test]
    fn what_is_too_large_or_no_number_is_refused() {
        assert!(decoder(("Content-Length", "14"), 13).is_err());
        assert!(decoder(("Content-Length", "many"), 13).is_err());
        for wire in ["e\r\n", "9\r\n123456789\r\n9\r\n", "xyz\r\n"] {
            let mut decoder = decoder(("Transfer-Encoding", "chunked"), 13).unwrap();
            let mut buf = BytesMut::from(wire.as_bytes());
            assert!(decoder.take(&mut buf, &mut |_| {}).is_err(), "{wire}");
        }
    }
}
