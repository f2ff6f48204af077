//! Arguments as the plugin shows them: it knows no AMQP types and prints the
//! Erlang terms that they are kept as, such as `{<<"x-max-length">>,long,5}`.

use std::fmt::Write;

use crate::model::{FieldTable, FieldValue};

/// An array with a text for each argument.
pub(super) fn arguments(table: &FieldTable) -> FieldValue {
    let entries = table.iter().map(|(name, value)| {
        let mut text = String::new();
        entry(&mut text, name, value);
        FieldValue::from(text.as_str())
    });
    FieldValue::Array(entries.collect())
}

fn entry(out: &mut String, name: &str, value: &FieldValue) {
    out.push('{');
    binary(out, name.as_bytes());
    out.push(',');
    typed(out, value);
    out.push('}');
}

/// The type and the value, with a comma between them.
fn typed(out: &mut String, value: &FieldValue) {
    out.push_str(value.type_name());
    out.push(',');
    match value {
        FieldValue::LongStr(octets) | FieldValue::Bytes(octets) => binary(out, octets),
        FieldValue::Array(values) => list(out, values.iter(), |out, value| {
            out.push('{');
            typed(out, value);
            out.push('}');
        }),
        FieldValue::Table(table) => {
            list(out, table.iter(), |out, (name, value)| {
                entry(out, name, value);
            });
        }
        scalar => out.push_str(&number(scalar)),
    }
}

fn number(value: &FieldValue) -> String {
    match value {
        FieldValue::Bool(value) => value.to_string(),
        FieldValue::F32(value) => format!("{value:?}"),
        FieldValue::F64(value) => format!("{value:?}"),
        FieldValue::Decimal { scale, value } => format!("{{{scale},{value}}}"),
        FieldValue::Timestamp(seconds) => seconds.to_string(),
        other => match other.as_integer() {
            Some(number) => number.to_string(),
            None => "undefined".to_owned(),
        },
    }
}

fn list<T>(out: &mut String, items: impl Iterator<Item = T>, write: impl Fn(&mut String, T)) {
    out.push('[');
    for (position, item) in items.enumerate() {
        if position > 0 {
            out.push(',');
        }
        write(out, item);
    }
    out.push(']');
}

/// A binary: as text where all of it can be printed, else octet by octet.
fn binary(out: &mut String, octets: &[u8]) {
    out.push_str("<<");
    let is_text = octets.iter().all(|octet| matches!(octet, b' '..=b'~'));
    if is_text && !octets.is_empty() {
        out.push('"');
        for octet in octets {
            if matches!(octet, b'"' | b'\\') {
                out.push('\\');
            }
            out.push(char::from(*octet));
        }
        out.push('"');
    } else {
        for (position, octet) in octets.iter().enumerate() {
            let comma = if position > 0 { "," } else { "" };
            // Writing to a string cannot fail.
            let _ = write!(out, "{comma}{octet}");
        }
    }
    out.push_str(">>");
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What RabbitMQ 3.10 showed for them.
    #[test]
    fn arguments_are_printed_as_erlang_has_them() {
        let nested = FieldTable::from_iter([("n", FieldValue::Void)]);
        let array = vec![FieldValue::I32(1), "s".into(), nested.into()];
        let rows = [
            (
                "x-max-length",
                FieldValue::I32(5),
                "{<<\"x-max-length\">>,signedint,5}",
            ),
            (
                "x-dead-letter-exchange",
                "".into(),
                "{<<\"x-dead-letter-exchange\">>,longstr,<<>>}",
            ),
            (
                "alternate-exchange",
                "amq.fanout".into(),
                "{<<\"alternate-exchange\">>,longstr,<<\"amq.fanout\">>}",
            ),
            ("x-t", true.into(), "{<<\"x-t\">>,bool,true}"),
            (
                "z",
                FieldValue::Array(array),
                "{<<\"z\">>,array,[{signedint,1},{longstr,<<\"s\">>},{table,[{<<\"n\">>,void,undefined}]}]}",
            ),
            (
                "b",
                FieldValue::LongStr(vec![0, 255]),
                "{<<\"b\">>,longstr,<<0,255>>}",
            ),
            ("q", "a\"b".into(), "{<<\"q\">>,longstr,<<\"a\\\"b\">>}"),
        ];
        for (name, value, shown) in rows {
            let table = FieldTable::from_iter([(name, value)]);
            assert_eq!(arguments(&table), FieldValue::Array(vec![shown.into()]));
        }
        assert_eq!(arguments(&FieldTable::new()), FieldValue::Array(Vec::new()));
    }
}
