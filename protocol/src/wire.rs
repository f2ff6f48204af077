//! Reading and writing the primitive types (AMQP 0-9-1 §4.2.5).

use nom::{IResult, Parser};

use crate::table::{self, FieldTable};
use crate::{DecodeError, Limits};

/// The longest short string in octets.
pub const SHORT_STRING_MAX: usize = 255;

pub(crate) type Parsed<'a, T> = IResult<&'a [u8], T, ()>;

const CUT_OFF: nom::Err<()> = nom::Err::Error(());

/// The next `N` octets. nom's own number parsers go octet by octet; this one
/// is a single load, and all primitive types are built on it.
#[inline]
pub(crate) fn octets<const N: usize>(input: &[u8]) -> Parsed<'_, [u8; N]> {
    let (octets, rest) = input.split_first_chunk().ok_or(CUT_OFF)?;
    Ok((rest, *octets))
}

macro_rules! numbers {
    ($($name:ident => $type:ty;)*) => {$(
        #[inline]
        pub(crate) fn $name(input: &[u8]) -> Parsed<'_, $type> {
            let (rest, octets) = octets(input)?;
            Ok((rest, <$type>::from_be_bytes(octets)))
        }
    )*};
}

numbers! {
    be_u8 => u8; be_u16 => u16; be_u32 => u32; be_u64 => u64;
    be_i8 => i8; be_i16 => i16; be_i32 => i32; be_i64 => i64;
    be_f32 => f32; be_f64 => f64;
}

/// `count` octets; the length is believed only if they are there.
#[inline]
pub(crate) fn take(count: usize) -> impl Fn(&[u8]) -> Parsed<'_, &[u8]> {
    move |input| {
        let (taken, rest) = input.split_at_checked(count).ok_or(CUT_OFF)?;
        Ok((rest, taken))
    }
}

/// `shortstr`: an octet of length, then UTF-8.
#[inline]
pub(crate) fn short_string(input: &[u8]) -> Parsed<'_, &str> {
    let (input, length) = be_u8(input)?;
    let (rest, octets) = take(length.into())(input)?;
    let text = std::str::from_utf8(octets).map_err(|_| CUT_OFF)?;
    Ok((rest, text))
}

/// A `shortstr` that is checked and stays octets: most are ASCII, and finding
/// that out is cheaper than making a `str`.
#[inline]
pub(crate) fn checked_short_string(input: &[u8]) -> Parsed<'_, &[u8]> {
    let (input, length) = be_u8(input)?;
    let (rest, octets) = take(length.into())(input)?;
    if octets.is_ascii() || std::str::from_utf8(octets).is_ok() {
        Ok((rest, octets))
    } else {
        Err(CUT_OFF)
    }
}

/// A `shortstr` that was checked before, as octets.
#[inline]
pub(crate) fn short_octets(input: &[u8]) -> Parsed<'_, &[u8]> {
    let (input, length) = be_u8(input)?;
    take(length.into())(input)
}

/// `longstr`: four octets of length, then any octets.
#[inline]
pub(crate) fn long_string(input: &[u8]) -> Parsed<'_, &[u8]> {
    let (input, length) = be_u32(input)?;
    take(length as usize)(input)
}

/// Reads a method's fields one after another; consecutive bits share an octet.
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
    limits: Limits,
    bits: u8,
    /// Bits of `bits` not yet read; 0 when the next bit starts a new octet.
    bits_left: u8,
}

impl<'a> Reader<'a> {
    #[inline]
    pub(crate) fn new(input: &'a [u8], limits: &Limits) -> Self {
        Self {
            rest: input,
            limits: *limits,
            bits: 0,
            bits_left: 0,
        }
    }

    #[inline]
    pub(crate) fn finish(self) -> Result<(), DecodeError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(DecodeError::Malformed(
                "octets left over after the last field",
            ))
        }
    }

    #[inline]
    fn read<T>(
        &mut self,
        mut parser: impl Parser<&'a [u8], Output = T, Error = ()>,
        what: &'static str,
    ) -> Result<T, DecodeError> {
        self.bits_left = 0;
        let (rest, value) = parser
            .parse(self.rest)
            .map_err(|_| DecodeError::Malformed(what))?;
        self.rest = rest;
        Ok(value)
    }

    #[inline]
    pub(crate) fn octet(&mut self) -> Result<u8, DecodeError> {
        self.read(be_u8, "octet missing")
    }

    #[inline]
    pub(crate) fn short(&mut self) -> Result<u16, DecodeError> {
        self.read(be_u16, "short integer missing")
    }

    #[inline]
    pub(crate) fn long(&mut self) -> Result<u32, DecodeError> {
        self.read(be_u32, "long integer missing")
    }

    #[inline]
    pub(crate) fn longlong(&mut self) -> Result<u64, DecodeError> {
        self.read(be_u64, "long long integer missing")
    }

    #[inline]
    pub(crate) fn shortstr(&mut self) -> Result<&'a str, DecodeError> {
        self.read(short_string, "short string cut off or not UTF-8")
    }

    #[inline]
    pub(crate) fn longstr(&mut self) -> Result<&'a [u8], DecodeError> {
        self.read(long_string, "long string cut off")
    }

    pub(crate) fn table(&mut self) -> Result<FieldTable, DecodeError> {
        let payload = self.read(long_string, "field table cut off")?;
        table::decode(payload, &self.limits)
    }

    #[inline]
    pub(crate) fn bit(&mut self) -> Result<bool, DecodeError> {
        if self.bits_left == 0 {
            self.bits = self.octet()?;
            self.bits_left = 8;
        }
        let bit = self.bits & 1 == 1;
        self.bits >>= 1;
        self.bits_left -= 1;
        Ok(bit)
    }
}

/// Appends primitive types to a caller's buffer; consecutive bits share an octet.
pub struct Writer<'a> {
    out: &'a mut Vec<u8>,
    /// Bits already used of the last octet; 0 when the next bit needs a new one.
    bits_used: u8,
}

impl<'a> Writer<'a> {
    /// Writes behind what `out` already holds.
    #[inline]
    pub fn new(out: &'a mut Vec<u8>) -> Self {
        Self { out, bits_used: 0 }
    }

    #[inline]
    fn put(&mut self, octets: &[u8]) {
        self.bits_used = 0;
        self.out.extend_from_slice(octets);
    }

    /// One octet.
    #[inline]
    pub fn octet(&mut self, value: u8) {
        self.put(&[value]);
    }

    /// Two octets, big-endian.
    #[inline]
    pub fn short(&mut self, value: u16) {
        self.put(&value.to_be_bytes());
    }

    /// Four octets, big-endian.
    #[inline]
    pub fn long(&mut self, value: u32) {
        self.put(&value.to_be_bytes());
    }

    /// Eight octets, big-endian.
    #[inline]
    pub fn longlong(&mut self, value: u64) {
        self.put(&value.to_be_bytes());
    }

    /// A short string. One longer than 255 octets is cut at the last whole
    /// character that fits, so that a long reply text can never break a frame.
    #[inline]
    pub fn shortstr(&mut self, value: &str) {
        let cut = value.floor_char_boundary(SHORT_STRING_MAX);
        let octets = &value.as_bytes()[..cut];
        self.octet(octets.len() as u8);
        self.put(octets);
    }

    /// A long string of up to 4 GiB.
    #[inline]
    pub fn longstr(&mut self, value: &[u8]) {
        debug_assert!(
            u32::try_from(value.len()).is_ok(),
            "a long string is below 4 GiB"
        );
        self.long(value.len() as u32);
        self.put(value);
    }

    /// A field table with its length in front.
    pub fn table(&mut self, value: &FieldTable) {
        self.bits_used = 0;
        table::encode(self.out, value);
    }

    /// One bit, packed from the lowest upwards with the bits beside it.
    #[inline]
    pub fn bit(&mut self, value: bool) {
        if self.bits_used == 0 || self.bits_used == 8 {
            self.out.push(0);
            self.bits_used = 0;
        }
        if let Some(last) = self.out.last_mut() {
            *last |= u8::from(value) << self.bits_used;
        }
        self.bits_used += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_eight_bits_take_another_octet() {
        let bits: Vec<bool> = (0..20).map(|index| index % 3 == 0).collect();
        let mut out = Vec::new();
        let mut writer = Writer::new(&mut out);
        bits.iter().for_each(|bit| writer.bit(*bit));
        // Another type ends a run of bits; the next run starts a new octet.
        writer.octet(7);
        writer.bit(true);
        assert_eq!(out, [0b0100_1001, 0b1001_0010, 0b0000_0100, 7, 1]);

        let mut reader = Reader::new(&out, &Limits::default());
        let read: Result<Vec<bool>, _> = (0..20).map(|_| reader.bit()).collect();
        assert_eq!(read, Ok(bits));
        assert_eq!((reader.octet(), reader.bit()), (Ok(7), Ok(true)));
        assert_eq!(reader.finish(), Ok(()));
    }
}
