//! What a request asks for: a model, or an alias that several models may serve.

use std::fmt;
use std::slice;

use crate::config::Alias;
use crate::model::ModelKey;

use super::some::some;

/// The asked model, or those that the asked alias stands for. Borrowed whole, so that asking costs nothing.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// As the client wrote it, for messages.
    pub name: &'a str,
    models: &'a [ModelKey],
    alias: Option<&'a Alias>,
}

impl<'a> Wanted<'a> {
    /// What `name`, whose comparable form is `key`, asks for under these aliases, which are those of
    /// [`Config::aliases`](crate::config::Config::aliases).
    pub fn new(name: &'a str, key: &'a ModelKey, aliases: &'a [Alias]) -> Wanted<'a> {
        let alias = Alias::find(aliases, key);
        Wanted {
            name,
            models: alias.map_or(slice::from_ref(key), |alias| &alias.models),
            alias,
        }
    }

    /// The models that may serve it, best first; never empty.
    pub fn models(&self) -> &'a [ModelKey] {
        self.models
    }

    /// Whether the name is an alias.
    pub fn is_alias(&self) -> bool {
        self.alias.is_some()
    }

    /// Whether a node that has the model at this place of [`Self::models`] knows it under another name than the asked one.
    pub(super) fn is_renamed(&self, place: usize) -> bool {
        self.alias
            .is_some_and(|alias| self.models.get(place) != Some(&alias.key))
    }

    /// What a node is asked for when nobody knows whether it has anything of this: an alias is ours and means nothing to it.
    /// `None` leaves the client's word.
    pub(super) fn best_guess(&self) -> Option<&'a str> {
        self.alias?.targets.first().map(String::as_str)
    }
}

/// As the subject of a message: `model "x"`, or `model "x" (an alias for y, z)`.
impl fmt::Display for Wanted<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "model \"{}\"", self.name)?;
        match self.alias {
            Some(alias) => {
                let targets = some(alias.targets.iter().cloned());
                write!(out, " (an alias for {targets})")
            }
            None => Ok(()),
        }
    }
}
