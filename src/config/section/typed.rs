//! Keys of one type: durations, sizes, numbers, flags, words.

use std::time::Duration;

use super::super::schema::Form;
use super::super::text::{self, Wrong, number, word};
use super::Section;

impl Section<'_, '_> {
    pub(in crate::config) fn learn_duration(
        &self,
        key: &'static str,
        default: Option<Duration>,
        zero: bool,
    ) {
        self.learn(key, Form::Duration { default, zero });
    }

    /// A duration above zero.
    pub(in crate::config) fn duration(&mut self, key: &'static str, default: Duration) -> Duration {
        self.learn_duration(key, Some(default), false);
        self.parse(key, default, |text| match text::duration(text)? {
            Duration::ZERO => Err(Wrong::new(
                "0 would end everything at once, and no limit at all is not offered",
                format!(
                    "write a duration, or remove the key for the default of {}",
                    text::spell_duration(default)
                ),
            )),
            duration => Ok(duration),
        })
    }

    /// A duration that may be none at all.
    pub(in crate::config) fn duration_or_none(
        &mut self,
        key: &'static str,
        default: Duration,
    ) -> Duration {
        self.learn_duration(key, Some(default), true);
        self.parse(key, default, text::duration)
    }

    /// A duration for which 0 means the default, since Olla's files write `0s` there.
    pub(in crate::config) fn duration_or_zero(
        &mut self,
        key: &'static str,
        default: Duration,
    ) -> Duration {
        self.learn_duration(key, Some(default), true);
        self.parse(key, default, |text| match text::duration(text)? {
            Duration::ZERO => Ok(default),
            duration => Ok(duration),
        })
    }

    pub(in crate::config) fn size(
        &mut self,
        key: &'static str,
        default: usize,
        range: std::ops::RangeInclusive<usize>,
    ) -> usize {
        self.learn(key, Form::Size(default, range.clone()));
        self.parse(key, default, |text| {
            let bytes = text::size(text)?;
            if range.contains(&bytes) {
                return Ok(bytes);
            }
            let (least, most) = (
                text::spell_size(*range.start()),
                text::spell_size(*range.end()),
            );
            Err(Wrong::new(
                format!("`{text}` is out of range"),
                format!("write a size from {least} to {most}"),
            ))
        })
    }

    pub(in crate::config) fn number(
        &mut self,
        key: &'static str,
        default: u32,
        range: std::ops::RangeInclusive<u32>,
    ) -> u32 {
        self.learn(key, Form::Number(Some(default), range.clone(), None));
        self.parse(key, default, |text| number(text, &range))
    }

    pub(in crate::config) fn count(
        &mut self,
        key: &'static str,
        default: u32,
        range: std::ops::RangeInclusive<u32>,
    ) -> usize {
        usize::try_from(self.number(key, default, range)).unwrap_or(usize::MAX)
    }

    pub(in crate::config) fn port(&mut self, key: &'static str, default: u16) -> u16 {
        self.learn(key, Form::Number(Some(default.into()), 0..=65_535, None));
        self.parse(key, default, |text| {
            text.parse().map_err(|_| {
                Wrong::new(
                    format!("`{text}` is not a port"),
                    "write a whole number from 0 to 65535; 0 takes a free one",
                )
            })
        })
    }

    pub(in crate::config) fn flag(&mut self, key: &'static str, default: bool) -> bool {
        self.learn(key, Form::Flag(Some(default)));
        self.parse(key, default, text::flag)
    }

    /// A flag without a default.
    pub(in crate::config) fn flag_if_said(&mut self, key: &'static str) -> Option<bool> {
        self.learn(key, Form::Flag(None));
        self.parse(key, None, |written| text::flag(written).map(Some))
    }

    /// One word of a table.
    pub(in crate::config) fn word<T: Copy + PartialEq>(
        &mut self,
        key: &'static str,
        default: T,
        words: &[(&str, T)],
    ) -> T {
        let standard = words.iter().find(|(_, value)| *value == default);
        let standard = standard.map_or("", |(word, _)| word);
        self.learn(
            key,
            Form::word(standard, words.iter().map(|(word, _)| *word)),
        );
        self.parse(key, default, |text| word(text, words))
    }
}
