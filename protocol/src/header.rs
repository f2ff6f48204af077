//! Content headers (AMQP 0-9-1 §4.2.6.1): class, body size, properties.
//!
//! A broker passes a header on as it came, so [`ContentHeader`] keeps the
//! properties as bytes. [`PropertyScan`] checks them in one pass without
//! allocating and answers what the publish path asks; [`Properties`] is the
//! whole list, for clients, tools and the rare rule that rewrites one.

use nom::Parser;

use crate::table::{self, FieldTable, FieldValue};
use crate::wire::{
    Reader, Writer, be_u8, be_u16, be_u64, checked_short_string, long_string, short_octets,
    short_string,
};
use crate::{DecodeError, Limits};

/// Class id of `basic`, the only class with content.
pub const BASIC_CLASS_ID: u16 = 60;
/// Octets of a header payload in front of its property flags.
pub const PROPERTIES_OFFSET: usize = 12;

/// A header frame's payload.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ContentHeader<'a> {
    /// Class the content belongs to; [`BASIC_CLASS_ID`].
    pub class_id: u16,
    /// Octets of body that follow in body frames.
    pub body_bytes: u64,
    /// Property flags and property list, as on the wire.
    pub properties: &'a [u8],
}

impl<'a> ContentHeader<'a> {
    /// Reads a header frame's payload; the properties are not looked into.
    ///
    /// # Errors
    /// 502 if it is shorter than its fixed part.
    #[inline]
    pub fn decode(payload: &'a [u8]) -> Result<Self, DecodeError> {
        let (properties, (class_id, _weight, body_bytes)) = (be_u16, be_u16, be_u64)
            .parse(payload)
            .map_err(|_| DecodeError::Malformed("content header cut off"))?;
        Ok(Self {
            class_id,
            body_bytes,
            properties,
        })
    }

    /// Appends the payload of a header frame.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut writer = Writer::new(out);
        writer.short(self.class_id);
        writer.short(0);
        writer.longlong(self.body_bytes);
        out.extend_from_slice(self.properties);
    }
}

macro_rules! properties {
    ($($(#[$doc:meta])* $bit:literal $field:ident: $kind:ident => $type:ty;)*) => {
        /// The properties of class `basic`, decoded.
        #[derive(Clone, Debug, Default, PartialEq)]
        pub struct Properties { $($(#[$doc])* pub $field: Option<$type>,)* }

        impl Properties {
            /// Reads property flags and list.
            ///
            /// # Errors
            /// 502 if they are malformed or the headers exceed the limits.
            pub fn decode(properties: &[u8], limits: &Limits) -> Result<Self, DecodeError> {
                let mut reader = Reader::new(properties, limits);
                let flags = reader.short()?;
                check_flags(flags)?;
                let decoded = Self {
                    $($field: if flags & (1 << $bit) != 0 {
                        Some(reader.$kind()?.into())
                    } else {
                        None
                    },)*
                };
                reader.finish()?;
                Ok(decoded)
            }

            /// Appends property flags and list.
            pub fn encode(&self, out: &mut Vec<u8>) {
                let flags = 0u16 $(| u16::from(self.$field.is_some()) << $bit)*;
                let mut writer = Writer::new(out);
                writer.short(flags);
                $(if let Some(value) = &self.$field { properties!(@put writer $kind value); })*
            }
        }
    };
    (@put $writer:ident shortstr $value:ident) => { $writer.shortstr($value) };
    (@put $writer:ident table $value:ident) => { $writer.table($value) };
    (@put $writer:ident $kind:ident $value:ident) => { $writer.$kind(*$value) };
}

properties! {
    /// MIME type of the body.
    15 content_type: shortstr => String;
    /// MIME encoding of the body.
    14 content_encoding: shortstr => String;
    /// Application headers; also what a headers exchange matches.
    13 headers: table => FieldTable;
    /// 2 for a persistent message, else transient.
    12 delivery_mode: octet => u8;
    /// Message priority.
    11 priority: octet => u8;
    /// Pairs an answer with its request.
    10 correlation_id: shortstr => String;
    /// Where an answer goes.
    9 reply_to: shortstr => String;
    /// Message TTL in milliseconds, as text.
    8 expiration: shortstr => String;
    /// The application's id of the message.
    7 message_id: shortstr => String;
    /// Seconds since 1970.
    6 timestamp: longlong => u64;
    /// The application's message type.
    5 kind: shortstr => String;
    /// The publishing user; checked by the broker.
    4 user_id: shortstr => String;
    /// The publishing application.
    3 app_id: shortstr => String;
    /// Deprecated by the specification; passed on.
    2 cluster_id: shortstr => String;
}

/// What the publish path asks about a message, found in one pass that checks
/// every length and allocates nothing.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct PropertyScan<'a> {
    /// The headers table's entries, not yet decoded.
    pub headers: Option<&'a [u8]>,
    /// 2 for a persistent message.
    pub delivery_mode: Option<u8>,
    /// Message priority.
    pub priority: Option<u8>,
    /// Where an answer goes.
    pub reply_to: Option<&'a str>,
    /// Message TTL in milliseconds, as text.
    pub expiration: Option<&'a str>,
    /// The application's id of the message.
    pub message_id: Option<&'a str>,
    /// The publishing user as the client claims.
    pub user_id: Option<&'a str>,
}

impl<'a> PropertyScan<'a> {
    /// Checks property flags and list, without looking into the headers table.
    ///
    /// # Errors
    /// 502 if they are malformed.
    #[inline]
    pub fn new(properties: &'a [u8]) -> Result<Self, DecodeError> {
        // Most messages have a delivery mode and nothing else.
        if let &[0b0001_0000, 0, delivery_mode] = properties {
            return Ok(Self {
                delivery_mode: Some(delivery_mode),
                ..Self::default()
            });
        }
        Self::walk(properties)
    }

    /// Whether the message asks to survive a restart.
    #[must_use]
    pub fn persistent(&self) -> bool {
        self.delivery_mode == Some(2)
    }

    /// The first value of that name in the headers; see [`table::find`].
    ///
    /// # Errors
    /// 502 if the headers up to there are malformed or exceed the limits.
    pub fn header(&self, name: &str, limits: &Limits) -> Result<Option<FieldValue>, DecodeError> {
        match self.headers {
            Some(entries) => table::find(entries, name, limits),
            None => Ok(None),
        }
    }

    fn walk(properties: &'a [u8]) -> Result<Self, DecodeError> {
        let mut scan = Self::default();
        let mut rest = Rest(properties);
        let flags = rest.take(be_u16)?;
        check_flags(flags)?;
        let mut left = flags;
        while left != 0 {
            let bit = 15 - left.leading_zeros() as u16;
            left &= !(1 << bit);
            match bit {
                13 => scan.headers = Some(rest.take(long_string)?),
                12 => scan.delivery_mode = Some(rest.take(be_u8)?),
                11 => scan.priority = Some(rest.take(be_u8)?),
                9 => scan.reply_to = Some(rest.take(short_string)?),
                8 => scan.expiration = Some(rest.take(short_string)?),
                7 => scan.message_id = Some(rest.take(short_string)?),
                4 => scan.user_id = Some(rest.take(short_string)?),
                other => rest.skip(other)?,
            }
        }
        if rest.0.is_empty() {
            Ok(scan)
        } else {
            Err(DecodeError::Malformed(
                "octets left over after the last property",
            ))
        }
    }
}

/// Properties that tell a message apart from others, for whoever needs them:
/// the publish path usually does not, so [`PropertyScan`] passes over them.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct IdentifierScan<'a> {
    /// The application's id of the message.
    pub message_id: Option<&'a str>,
    /// Pairs an answer with its request.
    pub correlation_id: Option<&'a str>,
    /// Seconds since 1970.
    pub timestamp: Option<u64>,
}

impl<'a> IdentifierScan<'a> {
    /// Finds them in property flags and list.
    ///
    /// # Errors
    /// 502 if the properties up to there are malformed.
    pub fn new(properties: &'a [u8]) -> Result<Self, DecodeError> {
        let text = |bit| match Place::of(properties, bit)?.value {
            [] => Ok(None),
            value => Rest(value).take(short_string).map(Some),
        };
        let timestamp = match Place::of(properties, 6)?.value {
            [] => None,
            value => Some(Rest(value).take(be_u64)?),
        };
        Ok(Self {
            message_id: text(7)?,
            correlation_id: text(10)?,
            timestamp,
        })
    }
}

/// What a message can be known by: found in one pass that checks lengths only,
/// for properties that were checked when they came.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct NameScan<'a> {
    /// The headers table's entries, not yet decoded.
    pub headers: Option<&'a [u8]>,
    /// The application's id of the message.
    pub message_id: Option<&'a [u8]>,
}

impl<'a> NameScan<'a> {
    /// Finds them in property flags and list.
    ///
    /// # Errors
    /// 502 if the list is cut off before them.
    #[inline]
    pub fn new(properties: &'a [u8]) -> Result<Self, DecodeError> {
        let mut rest = Rest(properties);
        let flags = rest.take(be_u16)?;
        let has = |bit: u16| flags & (1 << bit) != 0;
        let texts = |rest: &mut Rest<'a>, bits: std::ops::Range<u16>| {
            let count = bits.filter(|bit| has(*bit)).count();
            (0..count).try_for_each(|_| rest.take(short_octets).map(drop))
        };
        let mut scan = Self::default();
        texts(&mut rest, 14..16)?;
        if has(13) {
            scan.headers = Some(rest.take(long_string)?);
        }
        if has(12) {
            rest.take(be_u8)?;
        }
        if has(11) {
            rest.take(be_u8)?;
        }
        texts(&mut rest, 8..11)?;
        if has(7) {
            scan.message_id = Some(rest.take(short_octets)?);
        }
        Ok(scan)
    }
}

/// The priority among properties that were checked when they came; 0 if there
/// is none.
#[inline]
#[must_use]
pub fn priority(properties: &[u8]) -> u8 {
    const BIT: u16 = 11;
    match *properties {
        [0b0001_1000, 0, _, priority] | [0b0000_1000, 0, priority] => priority,
        [flags, _, ..] if flags & 1 << (BIT - 8) == 0 => 0,
        _ => match Place::of(properties, BIT).map(|place| place.value) {
            Ok(&[priority]) => priority,
            _ => 0,
        },
    }
}

/// Decodes the entries of [`PropertyScan::headers`].
///
/// # Errors
/// 502 if they are malformed or exceed the limits.
pub fn decode_headers(entries: &[u8], limits: &Limits) -> Result<FieldTable, DecodeError> {
    table::decode(entries, limits)
}

/// Appends `properties` with `reply-to` set to `new`, whether there was one or
/// not, and the rest as it is.
///
/// # Errors
/// 502 if the properties up to there are malformed; `out` is then unchanged.
pub fn replace_reply_to(
    properties: &[u8],
    new: &str,
    out: &mut Vec<u8>,
) -> Result<(), DecodeError> {
    const BIT: u16 = 9;
    let place = Place::of(properties, BIT)?;
    out.reserve(properties.len() + 1 + new.len());
    out.extend_from_slice(&(place.flags | 1 << BIT).to_be_bytes());
    out.extend_from_slice(place.before);
    Writer::new(out).shortstr(new);
    out.extend_from_slice(place.after);
    Ok(())
}

/// Appends `properties` without the entries of that name in the headers table;
/// whether there was one. A table that becomes empty stays.
///
/// # Errors
/// 502 if the properties or headers are malformed; `out` is then unchanged.
/// What is nested in other headers is not looked at.
pub fn without_header(
    properties: &[u8],
    name: &str,
    out: &mut Vec<u8>,
) -> Result<bool, DecodeError> {
    const BIT: u16 = 13;
    let place = Place::of(properties, BIT)?;
    let Ok((_, mut entries)) = long_string(place.value) else {
        // `Place` has checked the length: there are no headers at all.
        out.extend_from_slice(properties);
        return Ok(false);
    };
    let start = out.len();
    out.reserve(properties.len());
    out.extend_from_slice(&place.flags.to_be_bytes());
    out.extend_from_slice(place.before);
    let mut found = false;
    let kept = table::with_length(out, |out| {
        let mut walk = table::entries(entries);
        while let Some(entry) = walk.next() {
            let (key, _) = entry?;
            let (whole, rest) = entries.split_at(entries.len() - walk.rest().len());
            entries = rest;
            if key == name {
                found = true;
            } else {
                out.extend_from_slice(whole);
            }
        }
        Ok(())
    });
    if let Err(error) = kept {
        out.truncate(start);
        return Err(error);
    }
    out.extend_from_slice(place.after);
    Ok(found)
}

/// A property list cut open at one property.
struct Place<'a> {
    flags: u16,
    /// The properties in front, without the flags.
    before: &'a [u8],
    /// The property on the wire; empty if it is not there.
    value: &'a [u8],
    after: &'a [u8],
}

impl<'a> Place<'a> {
    fn of(properties: &'a [u8], bit: u16) -> Result<Self, DecodeError> {
        let mut rest = Rest(properties);
        let flags = rest.take(be_u16)?;
        check_flags(flags)?;
        let list = rest.0;
        for before in (bit + 1..16).rev() {
            if flags & (1 << before) != 0 {
                rest.skip(before)?;
            }
        }
        let from = rest.0;
        if flags & (1 << bit) != 0 {
            rest.skip(bit)?;
        }
        let (before, _) = list.split_at(list.len() - from.len());
        let (value, after) = from.split_at(from.len() - rest.0.len());
        Ok(Self {
            flags,
            before,
            value,
            after,
        })
    }
}

struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    #[inline]
    fn take<T>(
        &mut self,
        mut parser: impl Parser<&'a [u8], Output = T, Error = ()>,
    ) -> Result<T, DecodeError> {
        let (rest, value) = parser.parse(self.0).map_err(|_| CUT_OFF)?;
        self.0 = rest;
        Ok(value)
    }

    /// Passes over the property of that flag.
    fn skip(&mut self, bit: u16) -> Result<(), DecodeError> {
        match bit {
            13 => self.take(long_string).map(drop),
            12 | 11 => self.take(be_u8).map(drop),
            6 => self.take(be_u64).map(drop),
            _ => self.take(checked_short_string).map(drop),
        }
    }
}

const CUT_OFF: DecodeError = DecodeError::Malformed("property cut off or not UTF-8");

/// Bit 1 is unused by class `basic`; bit 0 would announce a second flag word.
fn check_flags(flags: u16) -> Result<(), DecodeError> {
    if flags & 0b11 == 0 {
        Ok(())
    } else {
        Err(DecodeError::Malformed("unknown property flag"))
    }
}
