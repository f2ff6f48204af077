//! Field tables read in place: entries and values as slices of the input.
//!
//! This is the one reader of the grammar: [`super::decode`] builds its owned
//! values on it, [`validate`] checks without building, [`find`] builds only
//! what was asked for. A value is skipped by its length; what is inside a
//! nested one is looked at when it is decoded or validated.

use super::{FieldValue, deeper, spend};
use crate::wire::{be_u8, checked_short_string, long_string, short_string, take};
use crate::{DecodeError, Limits};

/// A table's entries in order; `input` is what follows the table's length.
/// After an error the iterator ends.
#[inline]
#[must_use]
pub fn entries(input: &[u8]) -> Entries<'_> {
    Entries(input)
}

/// The first value of that name in a table's entries. Entries in front of it
/// are skipped without allocating, entries behind it are not looked at.
///
/// # Errors
/// 502 if the entries up to there are malformed or the value exceeds the limits.
pub fn find(input: &[u8], name: &str, limits: &Limits) -> Result<Option<FieldValue>, DecodeError> {
    match find_raw(input, name)? {
        Some(value) => value.decode(limits).map(Some),
        None => Ok(None),
    }
}

/// As [`find`], without interpreting the value: nothing is allocated.
///
/// # Errors
/// 502 if the entries up to there are malformed.
pub fn find_raw<'a>(input: &'a [u8], name: &str) -> Result<Option<RawValue<'a>>, DecodeError> {
    for entry in Octets(input) {
        let (key, value) = entry?;
        if key == name.as_bytes() {
            return Ok(Some(value));
        }
    }
    Ok(None)
}

/// Checks a whole table's entries as [`super::decode`] would, allocating
/// nothing.
///
/// # Errors
/// 502 if they are malformed, too deep or too many.
pub fn validate(input: &[u8], limits: &Limits) -> Result<(), DecodeError> {
    let mut entries_left = limits.table_entries_max;
    validate_entries(input, limits.table_depth_max, &mut entries_left)
}

/// Iterates over names and values; see [`entries`].
#[derive(Clone, Debug)]
pub struct Entries<'a>(&'a [u8]);

impl<'a> Entries<'a> {
    /// The entries not yet read, as on the wire.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.0
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = Result<(&'a str, RawValue<'a>), DecodeError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let input = std::mem::take(&mut self.0);
        let Ok((input, name)) = short_string(input) else {
            return Some(Err(NAME_MALFORMED));
        };
        Some(RawValue::read(input).map(|(rest, value)| {
            self.0 = rest;
            (name, value)
        }))
    }
}

/// As [`Entries`], for those that need no `str` of the names: they are checked
/// all the same, but that is cheaper.
pub(super) struct Octets<'a>(pub(super) &'a [u8]);

impl<'a> Iterator for Octets<'a> {
    type Item = Result<(&'a [u8], RawValue<'a>), DecodeError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let input = std::mem::take(&mut self.0);
        let Ok((input, name)) = checked_short_string(input) else {
            return Some(Err(NAME_MALFORMED));
        };
        Some(RawValue::read(input).map(|(rest, value)| {
            self.0 = rest;
            (name, value)
        }))
    }
}

/// Iterates over the values of an array; see [`RawValue::items`].
#[derive(Clone, Debug)]
pub struct Items<'a>(&'a [u8]);

impl<'a> Items<'a> {
    pub(super) fn new(input: &'a [u8]) -> Self {
        Self(input)
    }
}

impl<'a> Iterator for Items<'a> {
    type Item = Result<RawValue<'a>, DecodeError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let input = std::mem::take(&mut self.0);
        Some(RawValue::read(input).map(|(rest, value)| {
            self.0 = rest;
            value
        }))
    }
}

/// A value of a known type and whole length, not yet interpreted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RawValue<'a> {
    letter: u8,
    octets: &'a [u8],
}

impl<'a> RawValue<'a> {
    /// The type letter on the wire.
    #[inline]
    #[must_use]
    pub fn letter(&self) -> u8 {
        self.letter
    }

    /// The value on the wire, without type letter and length.
    #[inline]
    #[must_use]
    pub fn octets(&self) -> &'a [u8] {
        self.octets
    }

    /// The text of an `S` value that is UTF-8.
    #[inline]
    #[must_use]
    pub fn as_str(&self) -> Option<&'a str> {
        match self.letter {
            b'S' => std::str::from_utf8(self.octets).ok(),
            _ => None,
        }
    }

    /// The values of an array; `None` for any other type.
    #[must_use]
    pub fn items(&self) -> Option<Items<'a>> {
        (self.letter == b'A').then_some(Items(self.octets))
    }

    /// The entries of a nested table; `None` for any other type.
    #[must_use]
    pub fn entries(&self) -> Option<Entries<'a>> {
        (self.letter == b'F').then_some(Entries(self.octets))
    }

    /// The owned value, as an entry of a table at level 1.
    ///
    /// # Errors
    /// 502 if what is nested in it is malformed or exceeds the limits.
    pub fn decode(&self, limits: &Limits) -> Result<FieldValue, DecodeError> {
        let depth_left = deeper(limits.table_depth_max)?;
        let mut entries_left = limits.table_entries_max;
        spend(&mut entries_left, 1)?;
        let mut value = FieldValue::Void;
        super::decode_value(*self, depth_left, &mut entries_left, &mut value)?;
        Ok(value)
    }

    /// Takes one value, type letter first.
    #[inline]
    fn read(input: &'a [u8]) -> Result<(&'a [u8], Self), DecodeError> {
        let cut_off = |_: nom::Err<()>| DecodeError::Malformed("field value cut off");
        let (input, letter) = be_u8(input).map_err(cut_off)?;
        let (rest, octets) = match WIDTHS[usize::from(letter)] {
            UNKNOWN => return Err(DecodeError::Malformed("unknown field type")),
            COUNTED => long_string(input),
            width => take(width.into())(input),
        }
        .map_err(cut_off)?;
        Ok((rest, Self { letter, octets }))
    }
}

fn validate_entries(
    input: &[u8],
    depth_left: u8,
    entries_left: &mut u32,
) -> Result<(), DecodeError> {
    let depth_left = deeper(depth_left)?;
    for entry in Octets(input) {
        validate_value(entry?.1, depth_left, entries_left)?;
    }
    Ok(())
}

fn validate_value(
    value: RawValue<'_>,
    depth_left: u8,
    entries_left: &mut u32,
) -> Result<(), DecodeError> {
    spend(entries_left, 1)?;
    match value.letter {
        b'F' => validate_entries(value.octets, depth_left, entries_left),
        b'A' => {
            let depth_left = deeper(depth_left)?;
            for item in Items(value.octets) {
                validate_value(item?, depth_left, entries_left)?;
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

const NAME_MALFORMED: DecodeError = DecodeError::Malformed("field name cut off or not UTF-8");

/// Octets of a value by its type letter. A table, because a jump for each type
/// is mispredicted about as often as types change.
const WIDTHS: [u8; 256] = {
    let mut widths = [UNKNOWN; 256];
    let mut index = 0;
    while index < TYPES.len() {
        let (letter, width) = TYPES[index];
        widths[letter as usize] = width;
        index += 1;
    }
    widths
};

const TYPES: [(u8, u8); 18] = [
    (b'V', 0),
    (b't', 1),
    (b'b', 1),
    (b'B', 1),
    (b's', 2),
    (b'u', 2),
    (b'I', 4),
    (b'i', 4),
    (b'f', 4),
    (b'D', 5),
    (b'l', 8),
    (b'L', 8),
    (b'd', 8),
    (b'T', 8),
    (b'S', COUNTED),
    (b'x', COUNTED),
    (b'A', COUNTED),
    (b'F', COUNTED),
];

/// Four octets of length are in front.
const COUNTED: u8 = 0xFE;
const UNKNOWN: u8 = 0xFF;
