//! The progress of several nodes as one: lines that Ollama's own clients render, with bars that never run backwards.

use std::collections::HashSet;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::outcome::{error_text, shortened};

/// Longest line that is read, bytes; real ones have a few hundred.
const LINE_BYTES_MAX: usize = 64 * 1024;
/// Lines that mean nothing before a node is given up.
const JUNK_MAX: u32 = 20;
/// Most layers with a bar of their own; real models have about ten.
const LAYERS_MAX: usize = 500;
/// Most status lines that are passed on.
const STATUSES_MAX: usize = 1000;
/// Longest digest, characters; a real one has 71.
const DIGEST_CHARS_MAX: usize = 100;

/// The merged progress of one change on several nodes.
#[derive(Debug)]
pub struct Progress {
    parts: Vec<Part>,
    layers: Vec<Layer>,
    statuses: HashSet<String>,
    /// What has been told, in its order: what a client that joins late must see.
    told: Vec<Told>,
}

/// What a line of a node changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct News {
    /// For the client, each with its line feed.
    pub lines: Vec<Bytes>,
    /// Whether the node came forward; a node that only repeats itself does not.
    pub moved: bool,
    /// How the node ended, if it did; the error is in its own words.
    pub end: Option<Result<(), String>>,
}

/// One node's part.
#[derive(Debug)]
struct Part {
    name: String,
    state: State,
    said: HashSet<String>,
    junk: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Working,
    Done,
    Left,
}

/// One file on its way, on all nodes.
#[derive(Debug)]
struct Layer {
    digest: String,
    status: String,
    /// Who moved it last.
    node: usize,
    /// Per node, what it told last: completed and total bytes.
    parts: Vec<Option<(u64, u64)>>,
    /// Completed and total bytes as the client saw them last.
    shown: Option<(u64, u64)>,
}

#[derive(Debug)]
enum Told {
    Status(Bytes),
    Layer(usize),
}

/// A line of a node.
#[derive(Deserialize)]
struct Heard {
    status: Option<String>,
    digest: Option<String>,
    total: Option<u64>,
    completed: Option<u64>,
    #[serde(default)]
    error: Option<serde::de::IgnoredAny>,
}

/// A line for a client. Zeros are left out, as Ollama leaves them out.
#[derive(Serialize)]
struct Line<'a> {
    status: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<&'a str>,
    #[serde(skip_serializing_if = "is_zero")]
    total: u64,
    #[serde(skip_serializing_if = "is_zero")]
    completed: u64,
    node: &'a str,
}

impl Progress {
    /// Nothing has been told yet. `names` are those of the nodes, by which the rest counts.
    pub fn new(names: impl IntoIterator<Item = String>) -> Progress {
        let part = |name| Part {
            name,
            state: State::Working,
            said: HashSet::new(),
            junk: 0,
        };
        Progress {
            parts: names.into_iter().map(part).collect(),
            layers: Vec::new(),
            statuses: HashSet::new(),
            told: Vec::new(),
        }
    }

    /// A line that a node said, without its line feed.
    pub fn push(&mut self, node: usize, line: &[u8]) -> News {
        let heard = match line.len() {
            ..=LINE_BYTES_MAX => serde_json::from_slice::<Heard>(line).ok(),
            _ => None,
        };
        match heard {
            Some(Heard { error: Some(_), .. }) => {
                let why = error_text(line).unwrap_or_default();
                self.ended(node, Err(shortened(&why)))
            }
            Some(Heard {
                status: Some(status),
                digest,
                total,
                completed,
                ..
            }) => {
                let layer = digest.filter(|digest| {
                    !digest.is_empty() && digest.chars().count() <= DIGEST_CHARS_MAX
                });
                match layer {
                    _ if status == "success" => self.ended(node, Ok(())),
                    Some(digest) => {
                        let bytes = (completed.unwrap_or(0), total.unwrap_or(0));
                        self.layer(node, &shortened(&status), &digest, bytes)
                    }
                    None => self.status(node, shortened(&status)),
                }
            }
            _ => self.junk(node),
        }
    }

    /// Takes a node out that failed in a way its lines do not tell. Returns the bars that changed by that.
    pub fn leave(&mut self, node: usize) -> Vec<Bytes> {
        self.parts[node].state = State::Left;
        self.changed_bars()
    }

    /// A line of our own, such as one about a node that was skipped.
    pub fn note(&mut self, node: &str, text: &str) -> Bytes {
        let line = line(&Line {
            status: text,
            digest: None,
            total: 0,
            completed: 0,
            node,
        });
        self.told.push(Told::Status(line.clone()));
        line
    }

    /// How much has been told; grows with every status and every new bar.
    pub fn place(&self) -> usize {
        self.told.len()
    }

    /// What a client must be told first that has had everything up to a [`place`](Self::place): each status since, and each bar as it
    /// stands.
    pub fn since(&self, place: usize) -> Vec<Bytes> {
        let told = self.told.iter().enumerate();
        let told = told.filter_map(|(at, told)| match told {
            Told::Status(line) => (place <= at).then(|| line.clone()),
            Told::Layer(at) => Some(self.bar(&self.layers[*at])),
        });
        told.collect()
    }

    fn ended(&mut self, node: usize, how: Result<(), String>) -> News {
        self.parts[node].state = match how {
            Ok(()) => State::Done,
            Err(_) => State::Left,
        };
        News {
            lines: self.changed_bars(),
            moved: true,
            end: Some(how),
        }
    }

    fn junk(&mut self, node: usize) -> News {
        let part = &mut self.parts[node];
        part.junk += 1;
        match part.junk {
            ..=JUNK_MAX => News::default(),
            _ => self.ended(node, Err("what it answers is no progress".to_owned())),
        }
    }

    fn status(&mut self, node: usize, status: String) -> News {
        let part = &mut self.parts[node];
        let moved = part.said.len() < STATUSES_MAX && part.said.insert(status.clone());
        let mut news = News {
            moved,
            ..News::default()
        };
        if moved && self.statuses.len() < STATUSES_MAX && self.statuses.insert(status.clone()) {
            let name = self.parts[node].name.clone();
            news.lines.push(self.note(&name, &status));
        }
        news
    }

    fn layer(&mut self, node: usize, status: &str, digest: &str, told: (u64, u64)) -> News {
        let found = self.layers.iter().position(|it| it.digest == digest);
        let at = match found {
            Some(at) => at,
            None if self.layers.len() == LAYERS_MAX => return News::default(),
            None => {
                self.layers.push(Layer {
                    digest: digest.to_owned(),
                    status: String::new(),
                    node,
                    parts: vec![None; self.parts.len()],
                    shown: None,
                });
                self.told.push(Told::Layer(self.layers.len() - 1));
                self.layers.len() - 1
            }
        };
        let layer = &mut self.layers[at];
        let known = layer.parts[node];
        // A file has one size; a node that changes its mind about it is not believed. It may tell that size late.
        let size = known.map_or(0, |(_, total)| total);
        let total = if size == 0 { told.1 } else { size };
        let completed = if total == 0 {
            told.0
        } else {
            told.0.min(total)
        };
        let completed = completed.max(known.map_or(0, |(done, _)| done));
        let moved = known.is_none_or(|(done, _)| done < completed || size < total);
        layer.parts[node] = Some((completed, total));
        layer.node = node;
        status.clone_into(&mut layer.status);
        News {
            lines: self.show(at).into_iter().collect(),
            moved,
            end: None,
        }
    }

    fn changed_bars(&mut self) -> Vec<Bytes> {
        (0..self.layers.len())
            .filter_map(|at| self.show(at))
            .collect()
    }

    /// The bar's line, if it is not what the client has seen already.
    fn show(&mut self, at: usize) -> Option<Bytes> {
        let layer = &self.layers[at];
        let (done, total) = self.sum(layer);
        // What was shown as done stays done, even if a node takes its word back.
        let done = done.max(layer.shown.map_or(0, |(shown, _)| shown));
        let now = (done, total.max(done));
        if layer.shown == Some(now) {
            return None;
        }
        self.layers[at].shown = Some(now);
        Some(self.bar(&self.layers[at]))
    }

    /// Completed and total bytes over the nodes. Whoever has not told yet will have the same file to fetch,
    /// or has it already when it is done.
    fn sum(&self, layer: &Layer) -> (u64, u64) {
        let size = layer.parts.iter().flatten().map(|(_, total)| *total).max();
        let size = size.unwrap_or(0);
        let mut sum = (0u64, 0u64);
        for (part, told) in self.parts.iter().zip(&layer.parts) {
            let (done, total) = told.unwrap_or((0, 0));
            let total = if total == 0 { size.max(done) } else { total };
            let (done, total) = match part.state {
                State::Working => (done, total),
                State::Done => (total, total),
                // What it did stays counted, or the bar would run backwards; more won't come.
                State::Left => match told {
                    Some((done, _)) => (*done, *done),
                    None => continue,
                },
            };
            sum = (sum.0.saturating_add(done), sum.1.saturating_add(total));
        }
        sum
    }

    fn bar(&self, layer: &Layer) -> Bytes {
        let (completed, total) = layer.shown.unwrap_or_default();
        line(&Line {
            status: &layer.status,
            digest: Some(&layer.digest),
            total,
            completed,
            node: &self.parts[layer.node].name,
        })
    }
}

fn line(line: &Line<'_>) -> Bytes {
    // Strings and numbers always become JSON.
    let mut text = serde_json::to_vec(line).unwrap_or_default();
    text.push(b'\n');
    text.into()
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes it so")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[cfg(test)]
mod tests;
