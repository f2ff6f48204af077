//! Field tables and arrays (AMQP 0-9-1 §4.2.5.5, with RabbitMQ's type letters).
//!
//! Nesting and the number of values are bounded, so that neither the stack nor
//! the heap grows with what a peer claims: a value is at least one octet of
//! input, and [`Limits::table_entries_max`] bounds zero-width ones as well.

mod raw;

use nom::Parser;
use nom::combinator::map;
use smol_str::SmolStr;

use crate::wire::{
    Parsed, Writer, be_f32, be_f64, be_i8, be_i16, be_i32, be_i64, be_u8, be_u16, be_u32, be_u64,
};
use crate::{DecodeError, Limits};

use raw::Octets;
pub use raw::{Entries, Items, RawValue, entries, find, find_raw, validate};

/// One value of a field table. The comment gives the type letter on the wire.
#[derive(Clone, Debug, PartialEq)]
pub enum FieldValue {
    /// `t`
    Bool(bool),
    /// `b`
    I8(i8),
    /// `B`
    U8(u8),
    /// `s`
    I16(i16),
    /// `u`
    U16(u16),
    /// `I`
    I32(i32),
    /// `i`
    U32(u32),
    /// `l`, and `L` from some clients
    I64(i64),
    /// `f`
    F32(f32),
    /// `d`
    F64(f64),
    /// `D`: `value / 10^scale`
    Decimal {
        /// Digits behind the point.
        scale: u8,
        /// The digits as one number.
        value: u32,
    },
    /// `S`: text or any octets
    LongStr(Vec<u8>),
    /// `x`
    Bytes(Vec<u8>),
    /// `A`
    Array(Vec<FieldValue>),
    /// `T`: seconds since 1970 in UTC
    Timestamp(u64),
    /// `F`
    Table(FieldTable),
    /// `V`
    Void,
}

impl FieldValue {
    /// The text of an `S` value that is UTF-8.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::LongStr(octets) => std::str::from_utf8(octets).ok(),
            _ => None,
        }
    }

    /// The value of any integer type: RabbitMQ treats all widths alike.
    #[must_use]
    pub fn as_integer(&self) -> Option<i64> {
        match *self {
            Self::I8(value) => Some(value.into()),
            Self::U8(value) => Some(value.into()),
            Self::I16(value) => Some(value.into()),
            Self::U16(value) => Some(value.into()),
            Self::I32(value) => Some(value.into()),
            Self::U32(value) => Some(value.into()),
            Self::I64(value) => Some(value),
            _ => None,
        }
    }

    /// RabbitMQ's word for the type, as its error texts have it.
    #[must_use]
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Bool(_) => "bool",
            Self::I8(_) => "byte",
            Self::U8(_) => "unsignedbyte",
            Self::I16(_) => "short",
            Self::U16(_) => "unsignedshort",
            Self::I32(_) => "signedint",
            Self::U32(_) => "unsignedint",
            Self::I64(_) => "long",
            Self::F32(_) => "float",
            Self::F64(_) => "double",
            Self::Decimal { .. } => "decimal",
            Self::LongStr(_) => "longstr",
            Self::Bytes(_) => "binary",
            Self::Array(_) => "array",
            Self::Timestamp(_) => "timestamp",
            Self::Table(_) => "table",
            Self::Void => "void",
        }
    }
}

impl From<&str> for FieldValue {
    fn from(text: &str) -> Self {
        Self::LongStr(text.as_bytes().to_vec())
    }
}

impl From<bool> for FieldValue {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<i64> for FieldValue {
    fn from(value: i64) -> Self {
        Self::I64(value)
    }
}

impl From<FieldTable> for FieldValue {
    fn from(table: FieldTable) -> Self {
        Self::Table(table)
    }
}

/// Named values in the order in which they came.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FieldTable(Vec<(SmolStr, FieldValue)>);

impl FieldTable {
    /// A table without entries.
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// The first value of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&FieldValue> {
        self.0
            .iter()
            .find_map(|(key, value)| (key == name).then_some(value))
    }

    /// Appends a value, or replaces the one of that name.
    pub fn insert(&mut self, name: impl Into<SmolStr>, value: impl Into<FieldValue>) {
        let (name, value) = (name.into(), value.into());
        match self.0.iter_mut().find(|(key, _)| *key == name) {
            Some(entry) => entry.1 = value,
            None => self.0.push((name, value)),
        }
    }

    /// Takes out all values of that name; the first of them, if there was one.
    pub fn remove(&mut self, name: &str) -> Option<FieldValue> {
        let position = self.0.iter().position(|(key, _)| key == name)?;
        let (_, value) = self.0.remove(position);
        self.0.retain(|(key, _)| key != name);
        Some(value)
    }

    /// Names and values in order.
    pub fn iter(&self) -> impl Iterator<Item = (&SmolStr, &FieldValue)> {
        self.0.iter().map(|(key, value)| (key, value))
    }

    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<K: Into<SmolStr>, V: Into<FieldValue>> FromIterator<(K, V)> for FieldTable {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        Self(
            entries
                .into_iter()
                .map(|(key, value)| (key.into(), value.into()))
                .collect(),
        )
    }
}

/// Reads a table's entries; `input` is what follows its length. What it takes
/// in memory is a small multiple of `input`: see [`Limits`].
///
/// # Errors
/// 502 if it is malformed, too deep or too long.
pub fn decode(input: &[u8], limits: &Limits) -> Result<FieldTable, DecodeError> {
    let mut entries_left = limits.table_entries_max;
    decode_entries(input, limits.table_depth_max, &mut entries_left)
}

/// Appends a table with its length in front.
pub fn encode(out: &mut Vec<u8>, table: &FieldTable) {
    with_length(out, |out| {
        for (name, value) in table.iter() {
            Writer::new(out).shortstr(name);
            encode_value(out, value);
        }
    });
}

fn decode_entries(
    input: &[u8],
    depth_left: u8,
    entries_left: &mut u32,
) -> Result<FieldTable, DecodeError> {
    let depth_left = deeper(depth_left)?;
    let mut table = Vec::with_capacity(count(Octets(input), entries_left)?);
    for entry in entries(input) {
        let (name, value) = entry?;
        table.push((SmolStr::new(name), FieldValue::Void));
        if let Some((_, slot)) = table.last_mut() {
            decode_value(value, depth_left, entries_left, slot)?;
        }
    }
    Ok(FieldTable(table))
}

fn decode_array(
    input: &[u8],
    depth_left: u8,
    entries_left: &mut u32,
) -> Result<Vec<FieldValue>, DecodeError> {
    let depth_left = deeper(depth_left)?;
    let mut values = Vec::with_capacity(count(Items::new(input), entries_left)?);
    for value in Items::new(input) {
        values.push(FieldValue::Void);
        if let Some(slot) = values.last_mut() {
            decode_value(value?, depth_left, entries_left, slot)?;
        }
    }
    Ok(values)
}

/// Counts before anything is kept: the memory taken is what the values need,
/// and nothing for a table that turns out malformed or too long.
fn count<T>(
    mut values: impl Iterator<Item = Result<T, DecodeError>>,
    entries_left: &mut u32,
) -> Result<usize, DecodeError> {
    let count = values.try_fold(0, |count, value| value.map(|_| count + 1))?;
    spend(entries_left, count)?;
    Ok(count)
}

fn deeper(depth_left: u8) -> Result<u8, DecodeError> {
    depth_left
        .checked_sub(1)
        .ok_or(DecodeError::TableLimit("nested tables"))
}

fn spend(entries_left: &mut u32, count: usize) -> Result<(), DecodeError> {
    *entries_left = u32::try_from(count)
        .ok()
        .and_then(|count| entries_left.checked_sub(count))
        .ok_or(DecodeError::TableLimit("entries"))?;
    Ok(())
}

/// Reads a value into its place: passed back by value, it would be copied
/// about the stack at several times the cost of reading it.
fn decode_value(
    value: RawValue<'_>,
    depth_left: u8,
    entries_left: &mut u32,
    slot: &mut FieldValue,
) -> Result<(), DecodeError> {
    let octets = value.octets();
    let scalar = match value.letter() {
        b'V' => FieldValue::Void,
        b'S' => FieldValue::LongStr(octets.to_vec()),
        b'x' => FieldValue::Bytes(octets.to_vec()),
        b'A' => FieldValue::Array(decode_array(octets, depth_left, entries_left)?),
        b'F' => FieldValue::Table(decode_entries(octets, depth_left, entries_left)?),
        letter => decode_number(letter, octets)?,
    };
    *slot = scalar;
    Ok(())
}

#[inline]
fn decode_number(letter: u8, octets: &[u8]) -> Result<FieldValue, DecodeError> {
    let number: Parsed<'_, _> = match letter {
        b't' => map(be_u8, |octet| FieldValue::Bool(octet != 0)).parse(octets),
        b'b' => map(be_i8, FieldValue::I8).parse(octets),
        b'B' => map(be_u8, FieldValue::U8).parse(octets),
        b's' => map(be_i16, FieldValue::I16).parse(octets),
        b'u' => map(be_u16, FieldValue::U16).parse(octets),
        b'I' => map(be_i32, FieldValue::I32).parse(octets),
        b'i' => map(be_u32, FieldValue::U32).parse(octets),
        b'l' | b'L' => map(be_i64, FieldValue::I64).parse(octets),
        b'f' => map(be_f32, FieldValue::F32).parse(octets),
        b'd' => map(be_f64, FieldValue::F64).parse(octets),
        b'D' => map((be_u8, be_u32), |(scale, value)| FieldValue::Decimal {
            scale,
            value,
        })
        .parse(octets),
        b'T' => map(be_u64, FieldValue::Timestamp).parse(octets),
        _ => return Err(DecodeError::Malformed("unknown field type")),
    };
    let (_, number) = number.map_err(|_| DecodeError::Malformed("field value cut off"))?;
    Ok(number)
}

fn encode_value(out: &mut Vec<u8>, value: &FieldValue) {
    let mut put = |letter: u8, octets: &[u8]| {
        out.push(letter);
        out.extend_from_slice(octets);
    };
    match value {
        FieldValue::Bool(value) => put(b't', &[u8::from(*value)]),
        FieldValue::I8(value) => put(b'b', &value.to_be_bytes()),
        FieldValue::U8(value) => put(b'B', &[*value]),
        FieldValue::I16(value) => put(b's', &value.to_be_bytes()),
        FieldValue::U16(value) => put(b'u', &value.to_be_bytes()),
        FieldValue::I32(value) => put(b'I', &value.to_be_bytes()),
        FieldValue::U32(value) => put(b'i', &value.to_be_bytes()),
        FieldValue::I64(value) => put(b'l', &value.to_be_bytes()),
        FieldValue::F32(value) => put(b'f', &value.to_be_bytes()),
        FieldValue::F64(value) => put(b'd', &value.to_be_bytes()),
        FieldValue::Decimal { scale, value } => {
            put(b'D', &[*scale]);
            out.extend_from_slice(&value.to_be_bytes());
        }
        FieldValue::LongStr(octets) => {
            put(b'S', &[]);
            Writer::new(out).longstr(octets);
        }
        FieldValue::Bytes(octets) => {
            put(b'x', &[]);
            Writer::new(out).longstr(octets);
        }
        FieldValue::Timestamp(seconds) => put(b'T', &seconds.to_be_bytes()),
        FieldValue::Void => put(b'V', &[]),
        FieldValue::Array(values) => {
            put(b'A', &[]);
            with_length(out, |out| {
                values.iter().for_each(|value| encode_value(out, value))
            });
        }
        FieldValue::Table(table) => {
            put(b'F', &[]);
            encode(out, table);
        }
    }
}

/// Puts the length of what `write` appends in front of it.
pub(crate) fn with_length<T>(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    let result = write(out);
    let length = (out.len() - start - 4) as u32;
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
    result
}
