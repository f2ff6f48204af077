//! The arguments of exchanges, those of RabbitMQ's plugins among them.
//!
//! Most mean something to exchanges of one type only and are free on others.
//! They are not compared when an exchange is declared again: RabbitMQ compares
//! none but the alternate. Those of deduplication are, so that nobody relies on
//! what is not there.

use leveret_protocol::SmolStr;

use super::arguments::ArgumentSpec;
use super::queue_arguments::{deduplication, header_name};
use super::values::{Invalid, flag, positive, some_milliseconds};
use crate::model::{ExchangeKind, ExchangeName, ExchangeSettings, FieldValue, HashOn, erlang_term};

/// Of `exchange.declare`. The type of a delayed exchange stands before what
/// means something to that type.
pub static EXCHANGE_ARGUMENTS: &[ArgumentSpec<ExchangeSettings>] = &[
    ArgumentSpec {
        name: "alternate-exchange",
        doc: "Where a message goes that no binding matches.",
        compared: true,
        apply: |settings, value| {
            settings.alternate = Some(ExchangeName::from(name(value)?));
            Ok(())
        },
    },
    ArgumentSpec {
        name: "x-message-deduplication",
        doc: "Whether copies of earlier messages go nowhere.",
        compared: true,
        apply: |settings, value| {
            if flag(value)? {
                settings.deduplication.get_or_insert_with(deduplication);
            }
            Ok(())
        },
    },
    ArgumentSpec {
        name: "x-deduplication-header",
        doc: "The header that names a message for that.",
        compared: true,
        apply: |settings, value| {
            let header = header_name(value)?;
            if let Some(deduplication) = &mut settings.deduplication {
                deduplication.header = header;
            }
            Ok(())
        },
    },
    ArgumentSpec {
        name: "x-cache-size",
        doc: "How many of these names are remembered.",
        compared: true,
        apply: |settings, value| {
            let count = positive(value)?;
            if let Some(deduplication) = &mut settings.deduplication {
                deduplication.count = count;
            }
            Ok(())
        },
    },
    ArgumentSpec {
        name: "x-cache-ttl",
        doc: "For how many milliseconds they are remembered.",
        compared: true,
        apply: |settings, value| {
            let time = some_milliseconds(value)?;
            if let Some(deduplication) = &mut settings.deduplication {
                deduplication.time = Some(time);
            }
            Ok(())
        },
    },
    ArgumentSpec {
        name: "x-delayed-type",
        doc: "The type as which a delayed exchange matches.",
        compared: false,
        apply: |settings, value| {
            if settings.kind == ExchangeKind::Delayed {
                settings.delayed_kind = delayed_kind(value)?;
            }
            Ok(())
        },
    },
    ArgumentSpec {
        name: "hash-header",
        doc: "The header that a consistent-hash exchange hashes.",
        compared: false,
        apply: |settings, value| {
            if settings.routes_as() == ExchangeKind::ConsistentHash {
                settings.hash_on = HashOn::Header(SmolStr::new(name(value)?));
            }
            Ok(())
        },
    },
    ArgumentSpec {
        name: "hash-property",
        doc: "The property that a consistent-hash exchange hashes.",
        compared: false,
        apply: |settings, value| {
            if settings.routes_as() == ExchangeKind::ConsistentHash {
                settings.hash_on = hashed_property(settings, value)?;
            }
            Ok(())
        },
    },
    ArgumentSpec {
        name: "x-recent-history-length",
        doc: "How many messages a recent-history exchange keeps.",
        compared: false,
        apply: |settings, value| {
            if settings.routes_as() == ExchangeKind::RecentHistory {
                settings.history_length = history_length(value)?;
            }
            Ok(())
        },
    },
];

/// Refuses a delayed exchange that does not say as what it matches.
pub(super) fn check_delayed(settings: &ExchangeSettings) -> Result<(), String> {
    match (settings.kind, settings.delayed_kind) {
        (ExchangeKind::Delayed, None) => Err(NO_DELAYED_TYPE.to_owned()),
        _ => Ok(()),
    }
}

fn name(value: &FieldValue) -> Result<&str, Invalid> {
    value.as_str().ok_or(Invalid::Type(value.type_name()))
}

fn plainly(text: impl Into<String>) -> Invalid {
    Invalid::Plainly(text.into())
}

fn delayed_kind(value: &FieldValue) -> Result<Option<ExchangeKind>, Invalid> {
    let name = value.as_str().ok_or_else(|| plainly(NO_DELAYED_TYPE))?;
    match ExchangeKind::from_name(name) {
        Some(ExchangeKind::Delayed) => Err(plainly(
            "Invalid argument, 'x-delayed-message' can't be used for 'x-delayed-type'",
        )),
        None => Err(plainly(format!("unknown exchange type '{name}'"))),
        kind => Ok(kind),
    }
}

fn hashed_property(settings: &ExchangeSettings, value: &FieldValue) -> Result<HashOn, Invalid> {
    if settings.hash_on != HashOn::RoutingKey {
        return Err(plainly(
            "hash-header and hash-property are mutually exclusive",
        ));
    }
    match name(value)? {
        "message_id" => Ok(HashOn::MessageId),
        "correlation_id" => Ok(HashOn::CorrelationId),
        "timestamp" => Ok(HashOn::Timestamp),
        other => Err(plainly(format!("Unsupported property: {other}"))),
    }
}

fn history_length(value: &FieldValue) -> Result<usize, Invalid> {
    match value.as_integer() {
        Some(length @ 1..) => Ok(usize::try_from(length).unwrap_or(usize::MAX)),
        _ => Err(plainly(format!(
            "Invalid argument {}, 'x-recent-history-length' must be a positive integer",
            erlang_term(value)
        ))),
    }
}

const NO_DELAYED_TYPE: &str =
    "Invalid argument, 'x-delayed-type' must be an existing exchange type";

#[cfg(test)]
mod tests {
    use super::super::arguments::tests::check_table;
    use super::super::exchange_settings;
    use super::*;
    use crate::model::FieldTable;

    fn declare<const N: usize>(
        kind: &str,
        arguments: [(&str, FieldValue); N],
    ) -> Result<ExchangeSettings, String> {
        let arguments = FieldTable::from_iter(arguments);
        exchange_settings(
            &"x".into(),
            &"/".into(),
            kind,
            true,
            false,
            false,
            arguments,
        )
        .map_err(|error| error.reply_text().to_string())
    }

    fn refused<T>(text: &str) -> Result<T, String> {
        Err(format!("PRECONDITION_FAILED - {text}"))
    }

    #[test]
    fn every_argument_has_one_row_and_a_sentence() {
        check_table(EXCHANGE_ARGUMENTS);
    }

    /// The texts are RabbitMQ 3.10's, read off the wire; it has none for names
    /// that are no strings but closes the connection with 541.
    #[test]
    fn a_consistent_hash_exchange_hashes_one_thing() {
        let hash_on = |arguments: &[(&'static str, FieldValue)]| {
            let arguments = arguments.iter().cloned().collect();
            let (name, vhost) = ("x".into(), "/".into());
            exchange_settings(
                &name,
                &vhost,
                "x-consistent-hash",
                true,
                false,
                false,
                arguments,
            )
            .map(|settings| settings.hash_on)
            .map_err(|error| error.reply_text().to_string())
        };
        assert_eq!(hash_on(&[]), Ok(HashOn::RoutingKey));
        let header = HashOn::Header("h".into());
        assert_eq!(hash_on(&[("hash-header", "h".into())]), Ok(header));
        for (name, expected) in [
            ("message_id", Ok(HashOn::MessageId)),
            ("correlation_id", Ok(HashOn::CorrelationId)),
            ("timestamp", Ok(HashOn::Timestamp)),
            ("app_id", refused("Unsupported property: app_id")),
        ] {
            assert_eq!(hash_on(&[("hash-property", name.into())]), expected);
        }
        assert_eq!(
            hash_on(&[
                ("hash-property", "app_id".into()),
                ("hash-header", "h".into())
            ]),
            refused("hash-header and hash-property are mutually exclusive")
        );
        for argument in ["hash-header", "hash-property"] {
            assert_eq!(
                hash_on(&[(argument, FieldValue::I32(5))]),
                refused(&format!(
                    "invalid type 'signedint' for arg '{argument}' in exchange 'x' in vhost '/'"
                ))
            );
        }
        let others = declare("x-random", [("hash-property", "app_id".into())]);
        assert!(others.is_ok(), "it means nothing to a random exchange");
    }

    /// The texts are RabbitMQ 3.10's, read off the wire.
    #[test]
    fn a_history_has_a_positive_length() {
        let length = |arguments| declare("x-recent-history", arguments);
        let default = declare("x-recent-history", []);
        assert_eq!(default.map(|settings| settings.history_length), Ok(20));
        let declared = length([("x-recent-history-length", FieldValue::I64(1 << 40))]);
        let declared = declared.map(|settings| settings.history_length as u64);
        assert_eq!(declared, Ok(1 << 40));
        for (value, shown) in [
            (FieldValue::I32(0), "0"),
            (FieldValue::I32(-1), "-1"),
            ("5".into(), "<<\"5\">>"),
            (true.into(), "true"),
            (FieldValue::Void, "undefined"),
        ] {
            let answer = length([("x-recent-history-length", value)]);
            let text = format!(
                "Invalid argument {shown}, 'x-recent-history-length' must be a positive integer"
            );
            assert_eq!(answer, refused(&text));
        }
    }

    /// The texts are those of the plugin's source; the unknown type's is the
    /// broker's own.
    #[test]
    fn a_delayed_exchange_matches_as_another_type() {
        let delayed = |kind: FieldValue| declare("x-delayed-message", [("x-delayed-type", kind)]);
        for kind in ExchangeKind::ALL {
            if kind != ExchangeKind::Delayed {
                let routes_as = delayed(kind.name().into()).map(|settings| settings.routes_as());
                assert_eq!(routes_as, Ok(kind));
            }
        }
        let missing = "Invalid argument, 'x-delayed-type' must be an existing exchange type";
        assert_eq!(declare("x-delayed-message", []), refused(missing));
        assert_eq!(delayed(FieldValue::I32(1)), refused(missing));
        assert_eq!(
            delayed("x-unheard-of".into()),
            refused("unknown exchange type 'x-unheard-of'")
        );
        assert_eq!(
            delayed("x-delayed-message".into()),
            refused("Invalid argument, 'x-delayed-message' can't be used for 'x-delayed-type'")
        );
        let hashing = [
            ("hash-property", "app_id".into()),
            ("x-delayed-type", "x-consistent-hash".into()),
        ];
        assert_eq!(
            declare("x-delayed-message", hashing),
            refused("Unsupported property: app_id")
        );
    }
}
