//! A table that cannot outgrow its limit: the entry not used for longest gives way, and what it held goes to the rest.

use std::collections::HashMap;

/// What a table holds.
pub(super) trait Kept: Default {
    /// When it was used last, Unix milliseconds.
    fn last_ms(&self) -> u64;

    /// Takes over what another one holds.
    fn absorb(&mut self, other: Self);
}

/// Entries by name, and one for all that has no place.
#[derive(Debug)]
pub(super) struct Table<T> {
    entries: HashMap<Box<str>, T>,
    rest: T,
    length_max: usize,
}

impl<T: Kept> Table<T> {
    pub(super) fn new(length_max: usize) -> Table<T> {
        Table {
            entries: HashMap::new(),
            rest: T::default(),
            length_max,
        }
    }

    /// The entry of that name, made when there is none.
    pub(super) fn entry(&mut self, name: &str) -> &mut T {
        if !self.entries.contains_key(name) {
            if self.length_max <= self.entries.len() {
                self.drop_oldest();
            }
            self.entries.insert(name.into(), T::default());
        }
        // It is there: either it was or it has just been made; the rest keeps the sums right in any case.
        self.entries.get_mut(name).unwrap_or(&mut self.rest)
    }

    /// As `entry`; without a name the entry of all that has no place.
    pub(super) fn entry_of(&mut self, name: Option<&str>) -> &mut T {
        match name {
            Some(name) => self.entry(name),
            None => &mut self.rest,
        }
    }

    fn drop_oldest(&mut self) {
        let oldest = self
            .entries
            .iter()
            .min_by_key(|(name, entry)| (entry.last_ms(), *name))
            .map(|(name, _)| name.clone());
        if let Some(entry) = oldest.and_then(|name| self.entries.remove(&name)) {
            self.rest.absorb(entry);
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &T)> {
        self.entries.iter().map(|(name, entry)| (&**name, entry))
    }

    pub(super) fn rest(&self) -> &T {
        &self.rest
    }
}
