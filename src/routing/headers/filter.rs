//! A binding's arguments as conditions on a message's headers.
//!
//! `all` and `any` leave out arguments whose names start with `x-`;
//! `all-with-x` and `any-with-x` leave out only `x-match`. A void argument is
//! met by any header of that name. Otherwise values are compared, not their
//! types: integers of any width, timestamps and whole floats as numbers, text
//! and binary as octets; never a number with a text. Arrays, tables and
//! decimals are compared with their types, as RabbitMQ does. Where a name
//! comes repeatedly, its first value counts.

use std::ptr;

use leveret_protocol::SmolStr;

use super::x_match::Mode;
use crate::model::{FieldTable, FieldValue, erlang_term};

/// What a binding asks of the headers.
#[derive(Debug)]
pub struct Filter {
    pub mode: Mode,
    /// Each name once, in order.
    pub conditions: Vec<Condition>,
}

/// One argument.
#[derive(Debug)]
pub struct Condition {
    pub name: SmolStr,
    /// Void is met by any value.
    pub wanted: FieldValue,
}

/// A value reduced to what is compared; equal labels are equal values.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Label<'a> {
    Bool(bool),
    Integer(i128),
    /// The bits of a number that is not whole.
    Fraction(u64),
    Octets(&'a [u8]),
}

/// A message's headers, found by name.
#[derive(Debug)]
pub struct HeaderView<'a> {
    table: &'a FieldTable,
    /// Each name once, in order, if they are too many to look through.
    sorted: Vec<(&'a SmolStr, &'a FieldValue)>,
}

impl Filter {
    pub fn of(arguments: &FieldTable) -> Self {
        // Arguments were checked when the binding was made.
        let mode = Mode::of(arguments).unwrap_or(Mode::All);
        let mut named: Vec<_> = arguments
            .iter()
            .filter(|(name, _)| mode.considers(name))
            .collect();
        sort_by_name(&mut named);
        let conditions = named.into_iter().map(|(name, wanted)| Condition {
            name: name.clone(),
            wanted: wanted.clone(),
        });
        Self {
            mode,
            conditions: conditions.collect(),
        }
    }

    /// Whether the headers meet this filter, given that the condition at
    /// `under` has the name of a header with this value.
    pub fn is_met(&self, under: usize, value: &FieldValue, headers: &HeaderView<'_>) -> bool {
        let others_met = || {
            let mut others = self.conditions.iter();
            others.all(|condition| condition.is_met(headers))
        };
        let under_met = self.conditions.get(under).is_some_and(|it| it.takes(value));
        under_met && (self.mode.is_any() || others_met())
    }

    /// Names the conditions that are met.
    pub fn reason(&self, headers: &HeaderView<'_>) -> String {
        let met = self.conditions.iter().filter(|it| it.is_met(headers));
        let met: Vec<_> = met.map(Condition::sentence).collect();
        match (self.mode.is_any(), met.is_empty()) {
            (false, true) => format!("x-match {} of no arguments is always met", self.mode),
            (false, false) => format!("x-match {}: {}", self.mode, met.join(" and ")),
            (true, _) => format!(
                "x-match {}, {} of {} met: {}",
                self.mode,
                met.len(),
                self.conditions.len(),
                met.join(", ")
            ),
        }
    }
}

impl Condition {
    fn is_met(&self, headers: &HeaderView<'_>) -> bool {
        headers
            .get(&self.name)
            .is_some_and(|value| self.takes(value))
    }

    fn takes(&self, value: &FieldValue) -> bool {
        match Label::of(&self.wanted) {
            Some(label) => Some(label) == Label::of(value),
            None => self.wanted == FieldValue::Void || self.wanted == *value,
        }
    }

    fn sentence(&self) -> String {
        match &self.wanted {
            FieldValue::Void => format!("`{}` is there", self.name),
            FieldValue::LongStr(text) => {
                format!("`{}` is '{}'", self.name, String::from_utf8_lossy(text))
            }
            other => format!("`{}` is {}", self.name, erlang_term(other)),
        }
    }
}

impl<'a> Label<'a> {
    /// None for values that are compared with their types, and for void.
    pub fn of(value: &'a FieldValue) -> Option<Self> {
        match value {
            FieldValue::Bool(value) => Some(Self::Bool(*value)),
            FieldValue::LongStr(octets) | FieldValue::Bytes(octets) => Some(Self::Octets(octets)),
            FieldValue::Timestamp(seconds) => Some(Self::Integer((*seconds).into())),
            FieldValue::F32(number) => Some(Self::of_float((*number).into())),
            FieldValue::F64(number) => Some(Self::of_float(*number)),
            FieldValue::Array(_)
            | FieldValue::Table(_)
            | FieldValue::Decimal { .. }
            | FieldValue::Void => None,
            integer => integer
                .as_integer()
                .map(|value| Self::Integer(value.into())),
        }
    }

    fn of_float(number: f64) -> Self {
        // Whole numbers beyond the integers of a field table equal none of them.
        if number.fract() == 0.0 && number.abs() < 2f64.powi(65) {
            Self::Integer(number as i128)
        } else {
            Self::Fraction(number.to_bits())
        }
    }
}

impl<'a> HeaderView<'a> {
    pub fn of(table: &'a FieldTable) -> Self {
        let mut sorted = Vec::new();
        if table.len() > LOOK_THROUGH_MAX {
            sorted.extend(table.iter());
            sort_by_name(&mut sorted);
        }
        Self { table, sorted }
    }

    fn get(&self, name: &str) -> Option<&'a FieldValue> {
        if self.sorted.is_empty() {
            return self.table.get(name);
        }
        let by_name = |(other, _): &(&SmolStr, _)| other.as_str().cmp(name);
        let at = self.sorted.binary_search_by(by_name).ok()?;
        self.sorted.get(at).map(|(_, value)| *value)
    }

    /// Visits each name with its first value.
    pub fn for_each(&self, mut visit: impl FnMut(&'a SmolStr, &'a FieldValue)) {
        if !self.sorted.is_empty() {
            return self
                .sorted
                .iter()
                .for_each(|(name, value)| visit(name, value));
        }
        for (name, value) in self.table.iter() {
            if self
                .table
                .get(name)
                .is_some_and(|first| ptr::eq(first, value))
            {
                visit(name, value);
            }
        }
    }
}

/// Leaves the first of each name.
fn sort_by_name(named: &mut Vec<(&SmolStr, &FieldValue)>) {
    named.sort_by_key(|(name, _)| *name);
    named.dedup_by_key(|(name, _)| *name);
}

/// Above that many headers they are sorted once instead of looked through for
/// each condition, which a hostile message could make quadratic.
const LOOK_THROUGH_MAX: usize = 16;
