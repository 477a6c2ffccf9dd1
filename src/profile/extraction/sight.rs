//! Which paths a frame may have values for, told by a few byte searches, since every token of every stream is asked.

use memchr::memmem::Finder;

use super::path::Path;
use super::walk::bit;

/// For each path the quoted names of its members, the last one first: it is the rarest.
#[derive(Debug)]
pub(super) struct Sight {
    paths: Vec<Vec<Finder<'static>>>,
}

impl Sight {
    pub(super) fn new(paths: &[Path]) -> Sight {
        let finders = |path: &Path| {
            let quoted = path.members().map(|name| format!("\"{name}\""));
            quoted
                .map(|name| Finder::new(name.as_bytes()).into_owned())
                .collect()
        };
        Sight {
            paths: paths.iter().map(finders).collect(),
        }
    }

    /// A bit for each path whose members all stand in the frame, the last of them with a value that is not null. Such names may
    /// stand elsewhere than where the path leads; then reading the frame finds nothing.
    pub(super) fn of(&self, frame: &[u8]) -> u64 {
        let mut seen = 0;
        for (at, names) in self.paths.iter().enumerate() {
            if let Some((last, others)) = names.split_first()
                && has_value(frame, last)
                && others.iter().all(|name| name.find(frame).is_some())
            {
                seen |= bit(at);
            }
        }
        seen
    }
}

fn has_value(frame: &[u8], key: &Finder<'_>) -> bool {
    let mut rest = frame;
    while let Some(at) = key.find(rest) {
        rest = &rest[at + key.needle().len()..];
        let after = rest.trim_ascii_start().strip_prefix(b":");
        if after.is_some_and(|value| !value.trim_ascii_start().starts_with(b"n")) {
            return true;
        }
    }
    false
}
