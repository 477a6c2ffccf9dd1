//! What a body says: whether there are images in it, and a key that the later turns of the same conversation share.

use std::hash::{DefaultHasher, Hash, Hasher};

use crate::dialect::json::{Broken, Piece, Scanner, Text, Token};

use super::has_items;
use super::key::Folded;

#[derive(Default)]
pub(super) struct Conversation {
    /// How much of the system prompt, of the first user message and of the tools goes into the key, in bytes each.
    ///
    /// The whole would cost more than the rest of the scan, and conversations that are alike this far share that much of a
    /// node's prompt cache anyway.
    hashed_bytes_max: usize,
    system: Option<u64>,
    user: Option<u64>,
    messages: bool,
    images: bool,
    prompt_bytes: usize,
}

enum Role {
    Unknown,
    System,
    User,
    Other,
}

impl Conversation {
    pub(super) fn hashing(hashed_bytes_max: usize) -> Conversation {
        Conversation {
            hashed_bytes_max,
            ..Conversation::default()
        }
    }

    pub(super) fn has_images(&self) -> bool {
        self.images
    }

    /// Whether there is neither a message nor a prompt in it.
    pub(super) fn is_empty(&self) -> bool {
        !self.messages && self.user.is_none()
    }

    /// Text that has to fit the context at once, bytes as written.
    pub(super) fn prompt_bytes(&self) -> usize {
        self.prompt_bytes
    }

    /// The same for every dialect, and for every replica of one build: the hasher's key is fixed.
    pub(super) fn affinity(&self, model: &str, tools: Option<&[u8]>) -> Option<u64> {
        if !self.messages && self.user.is_none() {
            return None;
        }
        let tools = tools.map(|bytes| &bytes[..bytes.len().min(self.hashed_bytes_max)]);
        let mut hasher = DefaultHasher::new();
        (model, self.system, self.user, tools).hash(&mut hasher);
        Some(hasher.finish())
    }

    /// `images` of Ollama's own calls.
    pub(super) fn images<'a>(
        &mut self,
        scanner: &mut Scanner<'a>,
        value: Token<'a>,
    ) -> Result<(), Broken> {
        self.images |= has_items(scanner, value)?;
        Ok(())
    }

    /// A system prompt that stands beside the messages.
    pub(super) fn system<'a>(
        &mut self,
        scanner: &mut Scanner<'a>,
        value: Token<'a>,
    ) -> Result<(), Broken> {
        let mut said = Said::listening(self.hashed_bytes_max);
        content(scanner, value, &mut said)?;
        self.prompt_bytes += said.text_bytes;
        self.add_system(&said);
        Ok(())
    }

    /// A prompt without messages: one text or several.
    pub(super) fn prompt<'a>(
        &mut self,
        scanner: &mut Scanner<'a>,
        value: Token<'a>,
    ) -> Result<(), Broken> {
        let mut said = Said::listening(self.hashed_bytes_max);
        content(scanner, value, &mut said)?;
        // Several prompts are worked on one by one.
        self.prompt_bytes += said.longest_bytes;
        if said.heard {
            self.user = Some(said.hasher.finish());
        }
        Ok(())
    }

    pub(super) fn messages<'a>(
        &mut self,
        scanner: &mut Scanner<'a>,
        value: Token<'a>,
    ) -> Result<(), Broken> {
        if value != Token::ArrayStart {
            return scanner.skip(value);
        }
        loop {
            match scanner.token()? {
                Token::ArrayEnd => return Ok(()),
                Token::ObjectStart => self.message(scanner)?,
                other => scanner.skip(other)?,
            }
        }
    }

    fn message(&mut self, scanner: &mut Scanner<'_>) -> Result<(), Broken> {
        // The role may stand behind the content, so whoever may still be the first user is listened to.
        let mut role = Role::Unknown;
        let mut said = match self.user {
            None => Said::listening(self.hashed_bytes_max),
            Some(_) => Said::default(),
        };
        while let Token::Key(key) = scanner.token()? {
            let value = scanner.token()?;
            match Folded::of(&key).name() {
                b"role" => {
                    role = Role::of(value);
                    if let Role::Other = role {
                        said.room = 0;
                    }
                    scanner.skip(value)?;
                }
                b"content" => content(scanner, value, &mut said)?,
                // What a tool gave back, in the items of OpenAI's Responses.
                b"output" => {
                    let mut output = Said::default();
                    content(scanner, value, &mut output)?;
                    said.images |= output.images;
                    said.text_bytes += output.text_bytes;
                }
                b"images" => self.images(scanner, value)?,
                _ => scanner.skip(value)?,
            }
        }
        self.messages = true;
        self.images |= said.images;
        self.prompt_bytes += said.text_bytes;
        match role {
            Role::System if self.user.is_none() => self.add_system(&said),
            Role::User if self.user.is_none() => self.user = Some(said.hasher.finish()),
            _ => {}
        }
        Ok(())
    }

    fn add_system(&mut self, said: &Said) {
        let hash = said.hasher.finish();
        self.system = match self.system {
            _ if !said.heard => self.system,
            None => Some(hash),
            Some(before) => Some(before.rotate_left(1) ^ hash),
        };
    }
}

impl Role {
    fn of(value: Token<'_>) -> Role {
        let Token::String(role) = value else {
            return Role::Other;
        };
        match Folded::of(&role).name() {
            b"system" | b"developer" => Role::System,
            b"user" => Role::User,
            _ => Role::Other,
        }
    }
}

/// The text of a prompt or a message, as a hash that does not depend on how the text is cut into parts and escapes.
#[derive(Default)]
struct Said {
    hasher: DefaultHasher,
    /// How much more text goes into the hash, bytes.
    room: usize,
    /// Whether any did.
    heard: bool,
    images: bool,
    /// Of all its text, and of its longest piece.
    text_bytes: usize,
    longest_bytes: usize,
}

impl Said {
    fn listening(room: usize) -> Said {
        Said {
            room,
            ..Said::default()
        }
    }

    fn text(&mut self, text: &Text<'_>) {
        let bytes = text.span().len();
        self.text_bytes += bytes;
        self.longest_bytes = self.longest_bytes.max(bytes);
        if self.room == 0 {
            return;
        }
        for piece in text.pieces() {
            match piece {
                Piece::Plain(bytes) => self.bytes(bytes),
                Piece::Char(c) => self.bytes(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
            if self.room == 0 {
                return;
            }
        }
    }

    fn bytes(&mut self, bytes: &[u8]) {
        let len = bytes.len().min(self.room);
        self.hasher.write(&bytes[..len]);
        self.room -= len;
        self.heard |= 0 < len;
    }
}

/// A text, or an array of texts and parts.
fn content<'a>(scanner: &mut Scanner<'a>, value: Token<'a>, said: &mut Said) -> Result<(), Broken> {
    match value {
        Token::String(text) => said.text(&text),
        Token::ArrayStart => loop {
            match scanner.token()? {
                Token::ArrayEnd => break,
                Token::String(text) => said.text(&text),
                Token::ObjectStart => part(scanner, said)?,
                other => scanner.skip(other)?,
            }
        },
        _ => scanner.skip(value)?,
    }
    Ok(())
}

/// A part: text, an image, or Anthropic's `tool_result`, whose own content may hold images.
fn part(scanner: &mut Scanner<'_>, said: &mut Said) -> Result<(), Broken> {
    while let Token::Key(key) = scanner.token()? {
        let value = scanner.token()?;
        match (Folded::of(&key).name(), value) {
            (b"type", Token::String(kind)) => said.images |= is_image(&kind),
            (b"text", Token::String(text)) => said.text(&text),
            (b"content", Token::ArrayStart) => tool_result(scanner, said)?,
            (b"content", Token::String(text)) => said.text_bytes += text.span().len(),
            _ => scanner.skip(value)?,
        }
    }
    Ok(())
}

/// What a tool gave back counts, but is no part of what later turns are known by.
fn tool_result(scanner: &mut Scanner<'_>, said: &mut Said) -> Result<(), Broken> {
    loop {
        match scanner.token()? {
            Token::ArrayEnd => return Ok(()),
            Token::ObjectStart => {
                while let Token::Key(key) = scanner.token()? {
                    let value = scanner.token()?;
                    match (Folded::of(&key).name(), value) {
                        (b"type", Token::String(kind)) => said.images |= is_image(&kind),
                        (b"text", Token::String(text)) => said.text_bytes += text.span().len(),
                        _ => scanner.skip(value)?,
                    }
                }
            }
            other => scanner.skip(other)?,
        }
    }
}

fn is_image(kind: &Text<'_>) -> bool {
    matches!(&*kind.unescape(), "image_url" | "input_image" | "image")
}
