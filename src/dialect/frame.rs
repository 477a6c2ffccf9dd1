//! Cuts a relayed body into frames (NDJSON lines, server-sent events) wherever its chunks happen to be cut.
//!
//! The cutters only look on: the bytes are relayed by others. A frame that lies whole in one chunk is handed out in place, without
//! a copy; a frame longer than [`FRAME_BYTES_MAX`] is counted and skipped, never held.

use std::borrow::Cow;

/// Longest frame that is looked at, in bytes.
pub const FRAME_BYTES_MAX: usize = 1 << 20;

/// Memory that is kept for the next frame after a long one, in bytes.
const KEPT_BYTES_MAX: usize = 16 << 10;

/// Cuts lines at `\n`. Empty lines are no frames.
#[derive(Debug, Default)]
pub struct Lines {
    held: Held,
}

impl Lines {
    /// Hands out each line that ends in this chunk, without its line ending.
    pub fn push(&mut self, chunk: &[u8], mut each: impl FnMut(&[u8])) {
        let mut start = 0;
        for end in memchr::memchr_iter(b'\n', chunk) {
            self.held
                .give(&chunk[start..end], |line| give_line(line, &mut each));
            start = end + 1;
        }
        self.held.hold(&chunk[start..]);
    }

    /// Hands out what stands after the last line ending: readers of lines take it for a line when the body ends.
    pub fn finish(&mut self, mut each: impl FnMut(&[u8])) {
        self.held.give(&[], |line| give_line(line, &mut each));
    }

    /// Whether the body so far ends where a frame ends.
    pub fn at_border(&self) -> bool {
        self.held.is_empty()
    }

    /// Frames that were too long to look at.
    pub fn skipped(&self) -> u64 {
        self.held.skipped
    }
}

fn give_line(line: &[u8], each: &mut impl FnMut(&[u8])) {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if !line.is_empty() {
        each(line);
    }
}

/// Cuts server-sent events at blank lines. Lines end in LF, CRLF or CR, as the standard has it.
#[derive(Debug, Default)]
pub struct Events {
    held: Held,
    mid_line: bool,
    /// The last byte was a CR: an LF that follows belongs to it.
    after_cr: bool,
}

impl Events {
    /// Hands out each event whose blank line is in this chunk, as its lines; [`Event::parse`] reads them.
    pub fn push(&mut self, chunk: &[u8], mut each: impl FnMut(&[u8])) {
        let mut start = 0;
        let mut at = 0;
        while let Some(found) = memchr::memchr2(b'\n', b'\r', &chunk[at..]) {
            let end = at + found;
            at = end + 1;
            if 0 < found {
                self.mid_line = true;
                self.after_cr = false;
            }
            if self.after_cr && chunk[end] == b'\n' {
                self.after_cr = false;
                if start == end && self.held.is_empty() {
                    start = at;
                }
                continue;
            }
            self.after_cr = chunk[end] == b'\r';
            if !self.mid_line {
                self.held.give(&chunk[start..end], &mut each);
                start = at;
            }
            self.mid_line = false;
        }
        if at < chunk.len() {
            self.mid_line = true;
            self.after_cr = false;
        }
        self.held.hold(&chunk[start..]);
    }

    /// Hands out an event that the body's end left without its blank line: clients of the OpenAI family still read it.
    pub fn finish(&mut self, each: impl FnMut(&[u8])) {
        self.held.give(&[], each);
    }

    /// Whether the body so far ends where a frame ends.
    pub fn at_border(&self) -> bool {
        self.held.is_empty()
    }

    /// Frames that were too long to look at.
    pub fn skipped(&self) -> u64 {
        self.held.skipped
    }
}

/// One server-sent event; fields other than `event` and `data` are of no interest here.
#[derive(Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// Empty when the event has no name.
    pub name: &'a [u8],
    /// All `data` lines, joined by LF. Borrowed when there is only one.
    pub data: Cow<'a, [u8]>,
}

impl<'a> Event<'a> {
    /// Reads the lines of an event.
    pub fn parse(frame: &'a [u8]) -> Event<'a> {
        let mut name: &[u8] = b"";
        let mut data: Option<Cow<'a, [u8]>> = None;
        let mut rest = frame;
        while !rest.is_empty() {
            let end = memchr::memchr2(b'\n', b'\r', rest).unwrap_or(rest.len());
            let line = &rest[..end];
            rest = rest.get(end + 1..).unwrap_or_default();
            if let Some(value) = field(line, b"data") {
                match &mut data {
                    None => data = Some(Cow::Borrowed(value)),
                    Some(lines) => {
                        let lines = lines.to_mut();
                        lines.push(b'\n');
                        lines.extend_from_slice(value);
                    }
                }
            } else if let Some(value) = field(line, b"event") {
                name = value;
            }
        }
        Event {
            name,
            data: data.unwrap_or_default(),
        }
    }
}

/// The value of a line `name: value`; one blank after the colon is not part of it.
fn field<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let rest = line.strip_prefix(name)?;
    if rest.is_empty() {
        return Some(rest);
    }
    let value = rest.strip_prefix(b":")?;
    Some(value.strip_prefix(b" ").unwrap_or(value))
}

/// The begin of a frame whose end has not come yet.
#[derive(Debug, Default)]
struct Held {
    bytes: Vec<u8>,
    skipping: bool,
    skipped: u64,
}

impl Held {
    fn is_empty(&self) -> bool {
        self.bytes.is_empty() && !self.skipping
    }

    fn hold(&mut self, piece: &[u8]) {
        if self.skipping {
            return;
        }
        if self.is_too_long_with(piece) {
            self.bytes = Vec::new();
            self.skipping = true;
            self.skipped += 1;
            return;
        }
        self.bytes.extend_from_slice(piece);
    }

    fn give(&mut self, last: &[u8], mut each: impl FnMut(&[u8])) {
        if self.bytes.is_empty() && !self.skipping && last.len() <= FRAME_BYTES_MAX {
            if !last.is_empty() {
                each(last);
            }
            return;
        }
        self.hold(last);
        if !self.skipping {
            each(&self.bytes);
        }
        self.skipping = false;
        self.bytes.clear();
        if KEPT_BYTES_MAX < self.bytes.capacity() {
            self.bytes = Vec::new();
        }
    }

    fn is_too_long_with(&self, piece: &[u8]) -> bool {
        FRAME_BYTES_MAX < self.bytes.len() + piece.len()
    }
}

#[cfg(test)]
mod tests;
