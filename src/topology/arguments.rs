//! TOML values as field values.
//!
//! Integers take 32 bits where they fit, as most clients send them, so that
//! the broker's texts name the type that a client would have caused; for
//! equivalence all widths are alike.

use std::collections::BTreeSet;

use toml::Spanned;
use toml::de::{DeTable, DeValue};
use toml::value::{Datetime, Offset};

use crate::config::{NAME_BYTES_MAX, TableReader, integer};
use crate::model::{FieldTable, FieldValue};

/// Reads the table at `key`; what cannot be a field table is noted.
pub(super) fn read_table(reader: &mut TableReader<'_>, key: &'static str) -> FieldTable {
    let Some(value) = reader.raw(key) else {
        return FieldTable::new();
    };
    let Some(table) = value.get_ref().as_table() else {
        let text = format!(
            "{}: expected a table such as {{ name = \"value\" }}",
            reader.key_in_table(key)
        );
        reader
            .document()
            .error(reader.position_of(value.span()), text);
        return FieldTable::new();
    };
    field_table(reader, table)
}

/// A value that stands alone, as on the command line; `None` if AMQP has no
/// such value.
pub(crate) fn field_value(value: &DeValue<'_>) -> Option<FieldValue> {
    let field = match value {
        DeValue::String(text) => FieldValue::from(text.as_ref()),
        DeValue::Integer(number) => {
            let number = integer(number)?;
            i32::try_from(number).map_or(FieldValue::I64(number), FieldValue::I32)
        }
        DeValue::Float(number) => FieldValue::F64(number.as_str().replace('_', "").parse().ok()?),
        DeValue::Boolean(flag) => FieldValue::Bool(*flag),
        DeValue::Datetime(datetime) => FieldValue::Timestamp(seconds_since_1970(datetime)?),
        DeValue::Array(values) => {
            let values = values.iter().map(|value| field_value(value.get_ref()));
            FieldValue::Array(values.collect::<Option<_>>()?)
        }
        DeValue::Table(table) => {
            let mut fields = FieldTable::new();
            for (key, value) in TableReader::in_file_order(table) {
                (key.get_ref().len() <= NAME_BYTES_MAX).then_some(())?;
                fields.insert(key.get_ref().as_ref(), field_value(value.get_ref())?);
            }
            FieldValue::Table(fields)
        }
    };
    Some(field)
}

fn field_table<'d>(reader: &TableReader<'d>, table: &'d DeTable<'d>) -> FieldTable {
    let mut fields = FieldTable::new();
    for (key, value) in TableReader::in_file_order(table) {
        let name = key.get_ref().as_ref();
        if name.len() > NAME_BYTES_MAX {
            let text = format!(
                "a name may have {NAME_BYTES_MAX} octets, this has {}",
                name.len()
            );
            reader
                .document()
                .error(reader.position_of(key.span()), text);
            continue;
        }
        match field_value(value.get_ref()) {
            Some(value) => fields.insert(name, value),
            None => refuse(reader, name, value),
        }
    }
    fields
}

fn refuse(reader: &TableReader<'_>, name: &str, value: &Spanned<DeValue<'_>>) {
    let text = format!(
        "'{name}': AMQP has no such value; there are texts, integers of 64 bits, floats, booleans, \
         points in time since 1970 with their offset, lists and tables"
    );
    reader
        .document()
        .error(reader.position_of(value.span()), text);
}

/// The names that two tables have in common.
pub(super) fn common_names(left: &FieldTable, right: &FieldTable) -> BTreeSet<String> {
    left.iter()
        .filter(|(name, _)| right.get(name).is_some())
        .map(|(name, _)| name.to_string())
        .collect()
}

fn seconds_since_1970(datetime: &Datetime) -> Option<u64> {
    let (date, time) = (datetime.date?, datetime.time?);
    let offset_minutes = match datetime.offset? {
        Offset::Z => 0,
        Offset::Custom { minutes } => i64::from(minutes),
    };
    let minutes = (days_since_1970(date.year.into(), date.month.into(), date.day.into()) * 24
        + i64::from(time.hour))
        * 60
        + i64::from(time.minute)
        - offset_minutes;
    u64::try_from(minutes * 60 + i64::from(time.second.unwrap_or(0))).ok()
}

/// Days of the Gregorian calendar, counted in years that begin in March, so
/// that the leap day comes last.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let days_before_month = (153 * ((month + 9) % 12) + 2) / 5;
    let days_before_year =
        365 * year + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    days_before_year + days_before_month + day - 1 - DAYS_BEFORE_1970
}

/// From the first of March of the year 0.
const DAYS_BEFORE_1970: i64 = 719_468;

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Option<FieldValue> {
        let value = DeValue::parse(text).expect("the rows are TOML");
        field_value(value.get_ref())
    }

    #[test]
    fn toml_values_have_their_amqp_types() {
        for (text, expected) in [
            ("\"eu\"", Some(FieldValue::from("eu"))),
            ("true", Some(FieldValue::Bool(true))),
            ("10", Some(FieldValue::I32(10))),
            ("-2_147_483_648", Some(FieldValue::I32(i32::MIN))),
            ("2147483648", Some(FieldValue::I64(2_147_483_648))),
            ("0xff", Some(FieldValue::I32(255))),
            ("9223372036854775808", None),
            ("1_0.5", Some(FieldValue::F64(10.5))),
            ("-inf", Some(FieldValue::F64(f64::NEG_INFINITY))),
            ("1970-01-01T00:00:00Z", Some(FieldValue::Timestamp(0))),
            (
                "2000-02-29T12:00:00+02:00",
                Some(FieldValue::Timestamp(951_818_400)),
            ),
            (
                "2026-11-24T02:46:49.5Z",
                Some(FieldValue::Timestamp(1_795_488_409)),
            ),
            ("1969-12-31T23:59:59Z", None),
            ("2000-02-29", None),
            ("2000-02-29T12:00:00", None),
            (
                "[1, [\"a\"]]",
                Some(FieldValue::Array(vec![
                    FieldValue::I32(1),
                    FieldValue::Array(vec![FieldValue::from("a")]),
                ])),
            ),
            ("[1, 2000-02-29]", None),
        ] {
            assert_eq!(parse(text), expected, "{text}");
        }
    }

    #[test]
    fn tables_keep_the_order_of_the_file() {
        let Some(FieldValue::Table(table)) = parse("{ b = 1, a = { c = true } }") else {
            panic!("a table");
        };
        let names: Vec<&str> = table.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["b", "a"]);
    }
}
