//! The argument `x-match`, and RabbitMQ's words for a wrong one.

use std::fmt;

use crate::model::{FieldTable, FieldValue, erlang_term};

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
