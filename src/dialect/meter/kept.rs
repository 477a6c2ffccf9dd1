//! The frames of an answer that a profile's extraction will read: for each of its paths the last one that may have a value.

use std::mem;
use std::sync::Arc;

use crate::profile::extraction::Extraction;

/// What is held of one answer, all frames together, in bytes. Embeddings of many texts are longer; they go without.
pub(super) const KEPT_BYTES_MAX: usize = 256 << 10;

#[derive(Debug)]
pub(super) struct Kept {
    pub(super) extraction: Arc<Extraction>,
    /// The oldest first.
    frames: Vec<Frame>,
    /// Frames with values that were too long to be kept.
    pub(super) missed: u64,
}

#[derive(Debug, Default)]
struct Frame {
    /// A bit for each path that no later frame has a value for.
    paths: u64,
    bytes: Vec<u8>,
}

impl Kept {
    pub(super) fn new(extraction: Arc<Extraction>) -> Kept {
        Kept {
            extraction,
            frames: Vec::new(),
            missed: 0,
        }
    }

    /// Keeps a frame that may have values, instead of those whose values it replaces.
    pub(super) fn look(&mut self, frame: &[u8]) {
        let paths = self.extraction.sight(frame);
        if paths == 0 {
            return;
        }
        if KEPT_BYTES_MAX < frame.len() {
            self.missed += 1;
            return;
        }
        let mut spare = Vec::new();
        self.frames.retain_mut(|old| {
            old.paths &= !paths;
            if old.paths == 0 {
                // Its memory holds the new frame: most answers name their model in every frame, and no frame shall cost a new piece.
                spare = mem::take(&mut old.bytes);
            }
            old.paths != 0
        });
        while KEPT_BYTES_MAX < self.bytes() + frame.len() {
            self.frames.remove(0);
            self.missed += 1;
        }
        spare.clear();
        spare.extend_from_slice(frame);
        self.frames.push(Frame {
            paths,
            bytes: spare,
        });
    }

    /// Keeps the next bytes of the one document that the whole answer is.
    pub(super) fn grow(&mut self, chunk: &[u8]) {
        if 0 < self.missed {
            return;
        }
        if KEPT_BYTES_MAX < self.bytes() + chunk.len() {
            self.frames = Vec::new();
            self.missed = 1;
            return;
        }
        if self.frames.is_empty() {
            self.frames.push(Frame::default());
        }
        self.frames[0].bytes.extend_from_slice(chunk);
    }

    /// Gives them out.
    pub(super) fn take_frames(&mut self) -> Vec<Vec<u8>> {
        let frames = mem::take(&mut self.frames).into_iter();
        frames.map(|frame| frame.bytes).collect()
    }

    pub(super) fn bytes(&self) -> usize {
        self.frames.iter().map(|frame| frame.bytes.len()).sum()
    }
}
