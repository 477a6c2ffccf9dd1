//! Lists in sentences: a fleet of hundreds must not become one.

/// Most that a sentence names.
const NAMED_MAX: usize = 3;

/// The first few of many, and how many more there are.
pub(super) fn some(all: impl Iterator<Item = String>) -> String {
    let mut all: Vec<String> = all.collect();
    let more = all.len().saturating_sub(NAMED_MAX);
    all.truncate(NAMED_MAX);
    let named = all.join(", ");
    if more == 0 {
        named
    } else {
        format!("{named} and {more} more")
    }
}
