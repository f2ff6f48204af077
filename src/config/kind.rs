//! What a key's value may be: one type per kind of value, each of which knows
//! how to read it and how to say what it expected.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use toml::de::{DeInteger, DeValue};

use super::secret::Secret;
use crate::model::{format_duration, format_size, parse_duration, parse_size};

/// A kind of value.
pub trait Kind {
    /// What it reads.
    type Value;

    /// Completes "expected …".
    fn expected(&self) -> String;

    /// The value, or `None` if it is not what was expected.
    fn read(&self, value: &DeValue<'_>) -> Option<Self::Value>;

    /// Whether messages must not quote what was found.
    fn is_secret(&self) -> bool {
        false
    }
}

/// `true` or `false`.
#[derive(Clone, Copy, Debug)]
pub struct Flag;

/// Any text.
#[derive(Clone, Copy, Debug)]
pub struct Text;

/// A name as short as the wire needs it, in one line.
#[derive(Clone, Copy, Debug)]
pub struct Name;

/// Text that no message quotes.
#[derive(Clone, Copy, Debug)]
pub struct SecretText;

/// A whole number within bounds.
#[derive(Clone, Debug)]
pub struct Integer<T>(pub RangeInclusive<T>);

/// A whole number from 1, or `"unlimited"`.
#[derive(Clone, Copy, Debug)]
pub struct LimitOrUnlimited;

/// Octets within bounds, with a unit.
#[derive(Clone, Debug)]
pub struct Size<T>(pub RangeInclusive<T>);

/// A time within bounds, with a unit.
#[derive(Clone, Debug)]
pub struct Time(pub RangeInclusive<Duration>);

/// Like [`Time`], in whole seconds, because the wire has no finer ones.
#[derive(Clone, Debug)]
pub struct WholeSeconds(pub RangeInclusive<u16>);

/// One of these words.
#[derive(Clone, Copy, Debug)]
pub struct OneOf<T: 'static>(pub &'static [(&'static str, T)]);

/// A text that `read` takes, described by `expected`.
#[derive(Clone, Copy, Debug)]
pub struct Parsed<F> {
    /// Completes "expected …".
    pub expected: &'static str,
    /// Reads it.
    pub read: F,
}

/// An address and a port.
#[derive(Clone, Copy, Debug)]
pub struct Address;

/// An array of that kind.
#[derive(Clone, Copy, Debug)]
pub struct List<K>(pub K);

/// An array of that kind with at least one entry, or one value without brackets.
#[derive(Clone, Copy, Debug)]
pub struct OneOrMore<K>(pub K);

impl Kind for Flag {
    type Value = bool;

    fn expected(&self) -> String {
        "true or false".to_owned()
    }

    fn read(&self, value: &DeValue<'_>) -> Option<bool> {
        value.as_bool()
    }
}

impl Kind for Text {
    type Value = String;

    fn expected(&self) -> String {
        "a text in quotes".to_owned()
    }

    fn read(&self, value: &DeValue<'_>) -> Option<String> {
        value.as_str().map(str::to_owned)
    }
}

impl Kind for Name {
    type Value = String;

    fn expected(&self) -> String {
        format!("a name in quotes, one line of 1 to {NAME_BYTES_MAX} octets")
    }

    fn read(&self, value: &DeValue<'_>) -> Option<String> {
        let name = value.as_str()?;
        let fits = (1..=NAME_BYTES_MAX).contains(&name.len());
        (fits && !name.contains(['\r', '\n'])).then(|| name.to_owned())
    }
}

impl Kind for SecretText {
    type Value = Secret;

    fn expected(&self) -> String {
        Text.expected()
    }

    fn read(&self, value: &DeValue<'_>) -> Option<Secret> {
        Text.read(value).map(Secret::from)
    }

    fn is_secret(&self) -> bool {
        true
    }
}

impl<T: Copy + PartialOrd + TryFrom<i64> + std::fmt::Display> Kind for Integer<T> {
    type Value = T;

    fn expected(&self) -> String {
        format!("a whole number from {} to {}", self.0.start(), self.0.end())
    }

    fn read(&self, value: &DeValue<'_>) -> Option<T> {
        let number = T::try_from(integer(value.as_integer()?)?).ok()?;
        self.0.contains(&number).then_some(number)
    }
}

impl Kind for LimitOrUnlimited {
    type Value = Option<u32>;

    fn expected(&self) -> String {
        "a whole number from 1, or \"unlimited\"".to_owned()
    }

    fn read(&self, value: &DeValue<'_>) -> Option<Option<u32>> {
        if value.as_str() == Some("unlimited") {
            return Some(None);
        }
        Integer(1..=u32::MAX).read(value).map(Some)
    }
}

impl<T: Copy + PartialOrd + TryFrom<u64> + Into<u64>> Kind for Size<T> {
    type Value = T;

    fn expected(&self) -> String {
        format!(
            "a size from \"{}\" to \"{}\"",
            format_size((*self.0.start()).into()),
            format_size((*self.0.end()).into())
        )
    }

    fn read(&self, value: &DeValue<'_>) -> Option<T> {
        let size = T::try_from(parse_size(value.as_str()?)?).ok()?;
        self.0.contains(&size).then_some(size)
    }
}

impl Kind for Time {
    type Value = Duration;

    fn expected(&self) -> String {
        format!(
            "a duration such as \"10s\", from \"{}\" to \"{}\"",
            format_duration(*self.0.start()),
            format_duration(*self.0.end())
        )
    }

    fn read(&self, value: &DeValue<'_>) -> Option<Duration> {
        let duration = parse_duration(value.as_str()?)?;
        self.0.contains(&duration).then_some(duration)
    }
}

impl Kind for WholeSeconds {
    type Value = u16;

    fn expected(&self) -> String {
        format!(
            "a duration such as \"10s\" in whole seconds, from \"{}s\" to \"{}s\"",
            self.0.start(),
            self.0.end()
        )
    }

    fn read(&self, value: &DeValue<'_>) -> Option<u16> {
        let duration = parse_duration(value.as_str()?)?;
        let seconds = u16::try_from(duration.as_secs()).ok()?;
        (duration.subsec_nanos() == 0 && self.0.contains(&seconds)).then_some(seconds)
    }
}

impl<T: Clone> Kind for OneOf<T> {
    type Value = T;

    fn expected(&self) -> String {
        alternatives(self.0.iter().map(|(word, _)| *word))
    }

    fn read(&self, value: &DeValue<'_>) -> Option<T> {
        let text = value.as_str()?;
        let (_, value) = self.0.iter().find(|(word, _)| *word == text)?;
        Some(value.clone())
    }
}

impl<T, F: Fn(&str) -> Option<T>> Kind for Parsed<F> {
    type Value = T;

    fn expected(&self) -> String {
        self.expected.to_owned()
    }

    fn read(&self, value: &DeValue<'_>) -> Option<T> {
        (self.read)(value.as_str()?)
    }
}

impl Kind for Address {
    type Value = SocketAddr;

    fn expected(&self) -> String {
        "an IP address and port such as \"127.0.0.1:5672\" or \"[::1]:5672\"".to_owned()
    }

    fn read(&self, value: &DeValue<'_>) -> Option<SocketAddr> {
        value.as_str()?.parse().ok()
    }
}

impl<K: Kind> Kind for List<K> {
    type Value = Vec<K::Value>;

    fn expected(&self) -> String {
        format!("a list in brackets, each entry {}", self.0.expected())
    }

    fn read(&self, value: &DeValue<'_>) -> Option<Vec<K::Value>> {
        let values = value.as_array()?.iter();
        values.map(|value| self.0.read(value.get_ref())).collect()
    }
}

impl<K: Kind> Kind for OneOrMore<K> {
    type Value = Vec<K::Value>;

    fn expected(&self) -> String {
        format!("{}, or a list of such", self.0.expected())
    }

    fn read(&self, value: &DeValue<'_>) -> Option<Vec<K::Value>> {
        match value {
            DeValue::Array(values) => {
                let values = values.iter().map(|value| self.0.read(value.get_ref()));
                values
                    .collect::<Option<Vec<_>>>()
                    .filter(|values| !values.is_empty())
            }
            value => Some(vec![self.0.read(value)?]),
        }
    }
}

/// Octets of a short string (AMQP 0-9-1 §4.2.5.3).
pub const NAME_BYTES_MAX: usize = 255;

/// `"a", "b" or "c"`.
pub(crate) fn alternatives<'a>(words: impl Iterator<Item = &'a str>) -> String {
    let quoted: Vec<String> = words.map(|word| format!("\"{word}\"")).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        Some((last, _)) => last.clone(),
        None => "nothing".to_owned(),
    }
}

/// The number of any TOML notation, if 64 bits hold it.
pub(crate) fn integer(number: &DeInteger<'_>) -> Option<i64> {
    i64::from_str_radix(number.as_str(), number.radix()).ok()
}
