//! Uploaded blobs: hashed as they come and thrown away, so that a node takes gigabytes without keeping them.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use sha2::{Digest, Sha256};

use super::answer::Act;
use super::body::Decoder;
use super::conn::Conn;
use super::http::{Answer, Framing, Head, lock};
use super::json::quote;
use super::routes::refuse_stranger;
use super::seen::Ticket;
use super::{Kind, Shared, ollama};

/// Go reads this much of a body that nobody wanted before it gives the connection up.
const UNWANTED_BYTES_MAX: u64 = 256 << 10;
/// What `Node::seen` keeps of a blob.
const FIRST_BYTES_MAX: usize = 64 << 10;

/// The digits of `sha256:` or `sha256-` and 64 of them, in lower case.
pub(super) fn hex(digest: &str) -> Option<String> {
    let rest = digest
        .strip_prefix("sha256:")
        .or_else(|| digest.strip_prefix("sha256-"))?;
    let is_hex = rest.len() == 64 && rest.bytes().all(|b| b.is_ascii_hexdigit());
    is_hex.then(|| rest.to_ascii_lowercase())
}

/// The digest that a path names, whatever it looks like; the router takes one segment only.
fn named(path: &str) -> Option<&str> {
    let rest = path.strip_prefix("/api/blobs/")?;
    (!rest.is_empty() && !rest.contains('/')).then_some(rest)
}

/// `HEAD`: is it there?
pub(super) fn head(shared: &Shared, path: &str) -> Answer {
    let digest = named(path).unwrap_or_default();
    let Some(hex) = hex(digest) else {
        return ollama::error(400, "invalid digest format");
    };
    if lock(&shared.blobs).contains_key(&hex) {
        return Answer::empty(200).framed(Framing::Nothing);
    }
    ollama::error(404, &format!("blob {} not found", quote(digest)))
}

pub(super) fn is_upload(shared: &Shared, head: &Head) -> bool {
    shared.settings.kind == Kind::Ollama && head.method == "POST" && named(head.path()).is_some()
}

/// An upload, and what comes of it.
pub(super) struct Upload<'a> {
    pub shared: &'a Arc<Shared>,
    pub conn: &'a Conn,
    pub head: &'a Head,
    pub pace: Option<(usize, Duration)>,
    pub ticket: &'a Ticket,
}

/// What is looked at of a body that is not kept.
#[derive(Default)]
struct Look {
    bytes: u64,
    first: BytesMut,
}

impl Look {
    fn at(&mut self, piece: &[u8]) {
        self.bytes += piece.len() as u64;
        let room = FIRST_BYTES_MAX - self.first.len();
        self.first
            .extend_from_slice(&piece[..room.min(piece.len())]);
    }

    fn tell(self, ticket: &Ticket) -> u64 {
        ticket.part_of_body(&self.first.freeze(), self.bytes);
        self.bytes
    }
}

impl Upload<'_> {
    /// # Errors
    /// The client left before the body was whole.
    pub(super) async fn take(&self) -> io::Result<Act> {
        if let Some(refused) = refuse_stranger(self.head) {
            return self.unwanted(refused).await;
        }
        let digest = named(self.head.path()).unwrap_or_default();
        match hex(digest) {
            None => {
                self.unwanted(ollama::error(400, "invalid digest format"))
                    .await
            }
            Some(hex) if lock(&self.shared.blobs).contains_key(&hex) => {
                self.unwanted(Answer::empty(200)).await
            }
            Some(_) => self.store(digest).await.map(Act::Say),
        }
    }

    /// Nobody reads this body: a small one is skipped, before a large one the answer goes out and the connection ends.
    async fn unwanted(&self, answer: Answer) -> io::Result<Act> {
        let Ok(mut decoder) = Decoder::new(self.head, UNWANTED_BYTES_MAX) else {
            return Ok(Act::SayEarly(answer));
        };
        if self.head.header("expect").is_some() {
            return Ok(Act::SayEarly(answer));
        }
        let mut look = Look::default();
        let mut skip = |piece: &[u8]| look.at(piece);
        let skipped = self
            .conn
            .receive(self.head, &mut decoder, self.pace, &mut skip);
        match skipped.await {
            Ok(()) => {
                look.tell(self.ticket);
                Ok(Act::Say(answer))
            }
            Err(e) if e.kind() == io::ErrorKind::InvalidData => Ok(Act::SayEarly(answer)),
            Err(e) => Err(e),
        }
    }

    async fn store(&self, digest: &str) -> io::Result<Answer> {
        let mut decoder = Decoder::new(self.head, u64::MAX)?;
        let (mut hash, mut look) = (Sha256::new(), Look::default());
        self.conn
            .receive(self.head, &mut decoder, self.pace, &mut |piece| {
                hash.update(piece);
                look.at(piece);
            })
            .await?;
        let bytes = look.tell(self.ticket);
        let found: String = hash.finalize().iter().map(|b| format!("{b:02x}")).collect();
        let true_name = format!("sha256:{found}");
        // What came is kept even when it was called something else (recordings 703 and 704).
        lock(&self.shared.blobs).insert(found, bytes);
        self.shared.changed.notify_waiters();
        if digest == true_name {
            return Ok(Answer::empty(201));
        }
        let expected = quote(digest);
        Ok(ollama::error(
            400,
            &format!("digest mismatch, expected {expected}, got \"{true_name}\""),
        ))
    }
}
