//! The argument `x-match`, and RabbitMQ's words for a wrong one.

use std::fmt;

use crate::model::{FieldTable, FieldValue};

/// How many of the conditions must be met, and which arguments are conditions.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mode {
    All,
    Any,
    AllWithX,
    AnyWithX,
}

impl Mode {
    /// What `x-match` says; `all` if it is not there.
    pub fn of(arguments: &FieldTable) -> Result<Self, String> {
        let Some(value) = arguments.get("x-match") else {
            return Ok(Self::All);
        };
        let FieldValue::LongStr(text) = value else {
            return Err(format!(
                "Invalid x-match field type {} (value {}); expected longstr",
                value.type_name(),
                erlang_term(value)
            ));
        };
        match text.as_slice() {
            b"all" => Ok(Self::All),
            b"any" => Ok(Self::Any),
            b"all-with-x" => Ok(Self::AllWithX),
            b"any-with-x" => Ok(Self::AnyWithX),
            _ => Err(format!(
                "Invalid x-match field value {}; expected all, any, all-with-x, or any-with-x",
                erlang_term(value)
            )),
        }
    }

    pub fn is_any(self) -> bool {
        matches!(self, Self::Any | Self::AnyWithX)
    }

    /// Whether an argument of that name is a condition.
    pub fn considers(self, name: &str) -> bool {
        match self {
            Self::All | Self::Any => !name.starts_with("x-"),
            Self::AllWithX | Self::AnyWithX => name != "x-match",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::All => "all",
            Self::Any => "any",
            Self::AllWithX => "all-with-x",
            Self::AnyWithX => "any-with-x",
        })
    }
}

/// A value as RabbitMQ's texts show it, which are Erlang's.
pub fn erlang_term(value: &FieldValue) -> String {
    match value {
        FieldValue::LongStr(octets) | FieldValue::Bytes(octets) => erlang_binary(octets),
        FieldValue::Bool(value) => value.to_string(),
        FieldValue::F32(value) => format!("{value:?}"),
        FieldValue::F64(value) => format!("{value:?}"),
        FieldValue::Timestamp(seconds) => seconds.to_string(),
        FieldValue::Decimal { scale, value } => format!("{{{scale},{value}}}"),
        FieldValue::Void => "undefined".to_owned(),
        FieldValue::Array(values) => {
            let item =
                |value: &FieldValue| format!("{{{},{}}}", value.type_name(), erlang_term(value));
            format!(
                "[{}]",
                values.iter().map(item).collect::<Vec<_>>().join(",")
            )
        }
        FieldValue::Table(table) => {
            let entry = |(name, value): (&leveret_protocol::SmolStr, &FieldValue)| {
                let name = erlang_binary(name.as_bytes());
                format!("{{{name},{},{}}}", value.type_name(), erlang_term(value))
            };
            format!(
                "[{}]",
                table.iter().map(entry).collect::<Vec<_>>().join(",")
            )
        }
        integer => integer.as_integer().unwrap_or_default().to_string(),
    }
}

fn erlang_binary(octets: &[u8]) -> String {
    if octets.is_empty() {
        return "<<>>".to_owned();
    }
    let text = std::str::from_utf8(octets).ok();
    match text.filter(|text| !text.contains(char::is_control)) {
        Some(text) => format!(
            "<<\"{}\">>",
            text.replace('\\', "\\\\").replace('"', "\\\"")
        ),
        None => {
            let octets: Vec<_> = octets.iter().map(u8::to_string).collect();
            format!("<<{}>>", octets.join(","))
        }
    }
}
