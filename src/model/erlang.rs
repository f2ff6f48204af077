//! Values as Erlang prints them, for RabbitMQ's texts, which clients parse.

use leveret_protocol::SmolStr;

use super::FieldValue;

/// A value as RabbitMQ's texts show it.
#[must_use]
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
            let entry = |(name, value): (&SmolStr, &FieldValue)| {
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

/// Octets as RabbitMQ's texts show them: as a text where they are one.
#[must_use]
pub fn erlang_binary(octets: &[u8]) -> String {
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
