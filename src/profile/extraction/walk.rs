//! Follows many paths through one document in one pass; what no path leads to is skipped, not held.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::path::{Path, Step};
use super::value::Value;

/// The values that the paths lead to. A document that is no JSON has none; null, a list and an object are no values.
pub(super) fn values(document: &[u8], paths: &[Path]) -> Vec<Option<Value>> {
    let mut found = vec![None; paths.len()];
    let all = paths
        .iter()
        .enumerate()
        .fold(0, |all, (at, _)| all | bit(at));
    let walk = Walk {
        paths,
        open: all,
        depth: 0,
        found: &mut found,
    };
    let mut reader = serde_json::Deserializer::from_slice(document);
    match walk.deserialize(&mut reader).and_then(|()| reader.end()) {
        Ok(()) => found,
        Err(_) => vec![None; paths.len()],
    }
}

/// Paths are told apart by a bit each; there are at most 64.
pub(super) fn bit(at: usize) -> u64 {
    1 << at
}

/// One value of the document, and the paths that lead to it or through it.
struct Walk<'a> {
    paths: &'a [Path],
    /// A bit for each such path.
    open: u64,
    /// Steps taken.
    depth: usize,
    found: &'a mut [Option<Value>],
}

impl Walk<'_> {
    /// The walk to a member or an item; `None` when no path goes there.
    fn towards(&mut self, leads_there: impl Fn(&Step) -> bool) -> Option<Walk<'_>> {
        let open = self.each_open().filter(|at| {
            let step = self.paths[*at].steps().get(self.depth);
            step.is_some_and(&leads_there)
        });
        let open = open.fold(0, |open, at| open | bit(at));
        (open != 0).then_some(Walk {
            paths: self.paths,
            open,
            depth: self.depth + 1,
            found: self.found,
        })
    }

    /// Gives a value to the paths that end here.
    fn arrive(self, value: Option<Value>) {
        let ends: Vec<usize> = self
            .each_open()
            .filter(|at| self.paths[*at].steps().len() == self.depth)
            .collect();
        for at in ends {
            self.found[at].clone_from(&value);
        }
    }

    fn each_open(&self) -> impl Iterator<Item = usize> + use<> {
        let open = self.open;
        (0..self.paths.len()).filter(move |at| open & bit(*at) != 0)
    }
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            match self.towards(|step| matches!(step, Step::Member(name) if *name == key)) {
                Some(inner) => map.next_value_seed(inner)?,
                None => map.next_value::<IgnoredAny>().map(|_| ())?,
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<(), A::Error> {
        for item in 0_usize.. {
            let more = match self.towards(|step| matches!(step, Step::Item(at) if *at == item)) {
                Some(inner) => list.next_element_seed(inner)?,
                None => list.next_element::<IgnoredAny>()?.map(|_| ()),
            };
            if more.is_none() {
                break;
            }
        }
        Ok(())
    }

    fn visit_bool<E>(self, truth: bool) -> Result<(), E> {
        self.arrive(Some(Value::Bool(truth)));
        Ok(())
    }

    fn visit_u64<E>(self, number: u64) -> Result<(), E> {
        self.arrive(Value::number(number as f64));
        Ok(())
    }

    fn visit_i64<E>(self, number: i64) -> Result<(), E> {
        self.arrive(Value::number(number as f64));
        Ok(())
    }

    fn visit_f64<E>(self, number: f64) -> Result<(), E> {
        self.arrive(Value::number(number));
        Ok(())
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        self.arrive(Some(Value::text(text)));
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.arrive(None);
        Ok(())
    }
}
