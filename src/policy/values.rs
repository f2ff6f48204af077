//! What an argument's value may be, in the words that RabbitMQ 3.10 has for
//! those that may not, Erlang terms included.

use crate::model::{FieldValue, parse_duration};

/// Why an argument is refused.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Invalid {
    /// The value is not allowed; the words that follow the argument's name.
    Value(String),
    /// The value is fine, but not with the other arguments, or not without one;
    /// words that follow the argument's name.
    Alone(String),
    /// Names an exchange or a queue, but is no string; the type that it has.
    Type(&'static str),
    /// Means something only on queues of a type other than classic.
    OtherQueueType,
    /// RabbitMQ has it, Leveret has not yet.
    NotBuilt,
    /// Refused in words that name neither the argument nor what it is of, as
    /// RabbitMQ's plugins do: the whole text.
    Plainly(String),
}

pub(super) fn text(value: &FieldValue) -> Result<&str, Invalid> {
    value.as_str().ok_or_else(|| unacceptable(value))
}

/// A text that is to travel as a short string.
pub(super) fn short_text(value: &FieldValue) -> Result<&str, Invalid> {
    match value {
        FieldValue::LongStr(octets) if octets.len() <= SHORT_BYTES_MAX => {
            value.as_str().ok_or_else(|| expected("UTF-8", "octets"))
        }
        FieldValue::LongStr(octets) => {
            let found = format!("{} octets", octets.len());
            Err(expected("at most 255 octets", &found))
        }
        other => Err(unacceptable(other)),
    }
}

pub(super) fn flag(value: &FieldValue) -> Result<bool, Invalid> {
    match value {
        FieldValue::Bool(flag) => Ok(*flag),
        other => Err(unacceptable(other)),
    }
}

pub(super) fn integer(value: &FieldValue) -> Result<i64, Invalid> {
    let integer = value.as_integer();
    integer.ok_or_else(|| expected("integer", value.type_name()))
}

pub(super) fn non_negative(value: &FieldValue) -> Result<u64, Invalid> {
    let number = integer(value)?;
    u64::try_from(number).map_err(|_| term("value_negative", number))
}

pub(super) fn positive(value: &FieldValue) -> Result<u64, Invalid> {
    match non_negative(value)? {
        0 => Err(term("value_zero", 0)),
        number => Ok(number),
    }
}

/// Milliseconds, no more of them than a timer takes.
pub(super) fn milliseconds(value: &FieldValue) -> Result<u64, Invalid> {
    match non_negative(value)? {
        number if number > TIME_MAX => Err(term("value_too_large", number)),
        number => Ok(number),
    }
}

/// The same and more than none.
pub(super) fn some_milliseconds(value: &FieldValue) -> Result<u64, Invalid> {
    positive(value)?;
    milliseconds(value)
}

/// A time in an argument that RabbitMQ does not have: milliseconds, or a text
/// with a unit.
pub(super) fn time(value: &FieldValue) -> Result<u64, Invalid> {
    let Some(text) = value.as_str() else {
        return milliseconds(value);
    };
    let time = parse_duration(text).and_then(|time| u64::try_from(time.as_millis()).ok());
    match time {
        Some(time) if time > TIME_MAX => Err(term("value_too_large", time)),
        Some(time) => Ok(time),
        None => Err(expected(
            "milliseconds or a duration such as 10s",
            &format!("'{text}'"),
        )),
    }
}

/// A number of any kind.
pub(super) fn number(value: &FieldValue) -> Result<f32, Invalid> {
    match *value {
        FieldValue::F32(number) => Ok(number),
        FieldValue::F64(number) => Ok(number as f32),
        FieldValue::Decimal { scale, value } => Ok(value as f32 / 10_f32.powi(i32::from(scale))),
        ref other => match other.as_integer() {
            Some(number) => Ok(number as f32),
            None => Err(expected("number", other.type_name())),
        },
    }
}

/// A part of a whole: a number from 0 to 1, or per cent as in `"20%"`.
pub(super) fn part(value: &FieldValue) -> Result<f32, Invalid> {
    let part = match value.as_str().map(|text| (text, text.strip_suffix('%'))) {
        Some((text, None)) => return Err(expected("per cent such as 20%", &format!("'{text}'"))),
        Some((text, Some(digits))) => {
            let percent: Option<u8> = digits.parse().ok();
            let wrong = || expected("per cent such as 20%", &format!("'{text}'"));
            f32::from(percent.ok_or_else(wrong)?) / 100.0
        }
        None => number(value)?,
    };
    if (0.0..=1.0).contains(&part) {
        Ok(part)
    } else {
        Err(expected("a part from 0 to 1", &part.to_string()))
    }
}

pub(super) fn unacceptable(value: &FieldValue) -> Invalid {
    Invalid::Value(format!("{{unacceptable_type,{}}}", value.type_name()))
}

/// A tuple of Erlang: what is wrong, and the number that is.
pub(super) fn term(what: &str, number: impl std::fmt::Display) -> Invalid {
    Invalid::Value(format!("{{{what},{number}}}"))
}

/// A word of Erlang.
pub(super) fn word(word: &str) -> Invalid {
    Invalid::Value(word.to_owned())
}

/// A text as RabbitMQ prints an Erlang string.
pub(super) fn quoted(text: String) -> Invalid {
    Invalid::Value(format!("\"{text}\""))
}

pub(super) fn expected(what: &str, found: &str) -> Invalid {
    quoted(format!("expected {what}, got {found}"))
}

/// Octets of a short string (AMQP 0-9-1 §4.2.5.3).
const SHORT_BYTES_MAX: usize = 255;

/// Ten years, RabbitMQ's bound, in milliseconds.
pub(super) const TIME_MAX: u64 = 10 * 365 * 24 * 60 * 60 * 1_000;
