//! Whether a second declaration asks for what is there (WIRE: equivalence).
//!
//! The first difference is reported, in RabbitMQ's order and words, because
//! clients parse them.

use super::arguments::ArgumentSpec;
use super::exchange_arguments::EXCHANGE_ARGUMENTS;
use super::queue_arguments::QUEUE_ARGUMENTS;
use crate::model::{
    BrokerError, Entity, ExchangeName, ExchangeSettings, FieldTable, FieldValue, QueueName,
    QueueSettings, VhostName,
};

/// Compares a queue with a second declaration of it.
///
/// # Errors
/// 405 if it is one connection's and the declaration is not that connection's,
/// or the other way round; 406 for any other difference.
pub fn queue_equivalent(
    name: &QueueName,
    vhost: &VhostName,
    current: &QueueSettings,
    wanted: &QueueSettings,
) -> Result<(), BrokerError> {
    let queue = || Entity::Queue(name.clone(), vhost.clone());
    if current.exclusive != wanted.exclusive {
        return Err(BrokerError::QueueLocked(queue()));
    }
    compare("durable", current.durable, wanted.durable, queue)?;
    compare(
        "auto_delete",
        current.auto_delete,
        wanted.auto_delete,
        queue,
    )?;
    compare_arguments(
        QUEUE_ARGUMENTS,
        &current.arguments,
        &wanted.arguments,
        queue,
    )
}

/// Compares an exchange with a second declaration of it.
///
/// # Errors
/// 406 for a difference.
pub fn exchange_equivalent(
    name: &ExchangeName,
    vhost: &VhostName,
    current: &ExchangeSettings,
    wanted: &ExchangeSettings,
) -> Result<(), BrokerError> {
    let exchange = || Entity::Exchange(name.clone(), vhost.clone());
    compare("type", current.kind, wanted.kind, exchange)?;
    compare("durable", current.durable, wanted.durable, exchange)?;
    compare(
        "auto_delete",
        current.auto_delete,
        wanted.auto_delete,
        exchange,
    )?;
    compare("internal", current.internal, wanted.internal, exchange)?;
    let (current, wanted) = (&current.arguments, &wanted.arguments);
    compare_arguments(EXCHANGE_ARGUMENTS, current, wanted, exchange)
}

fn compare<T: PartialEq + std::fmt::Display>(
    field: &str,
    current: T,
    wanted: T,
    of: impl FnOnce() -> Entity,
) -> Result<(), BrokerError> {
    if current == wanted {
        return Ok(());
    }
    Err(BrokerError::Inequivalent {
        argument: field.to_owned(),
        entity: Box::new(of()),
        received: format!("'{wanted}'"),
        current: format!("'{current}'"),
    })
}

fn compare_arguments<T>(
    table: &[ArgumentSpec<T>],
    current: &FieldTable,
    wanted: &FieldTable,
    of: impl FnOnce() -> Entity,
) -> Result<(), BrokerError> {
    for row in table.iter().filter(|row| row.compared) {
        let (received, current) = match (wanted.get(row.name), current.get(row.name)) {
            (None, None) => continue,
            (Some(wanted), Some(current)) if same(wanted, current) => continue,
            (Some(one), None) | (None, Some(one)) if is_default(row.name, one) => continue,
            (Some(wanted), Some(current)) => (
                format!("'{}'", shown(wanted)),
                format!("'{}'", shown(current)),
            ),
            (wanted, current) => (present(wanted), present(current)),
        };
        return Err(BrokerError::Inequivalent {
            argument: row.name.to_owned(),
            entity: Box::new(of()),
            received,
            current,
        });
    }
    Ok(())
}

/// A queue without a type is classic; no other argument has a default that is
/// the same as its absence.
fn is_default(name: &str, value: &FieldValue) -> bool {
    name == "x-queue-type" && value.as_str() == Some("classic")
}

/// All integer types are one class, so that 10 equals 10 whatever its width.
fn same(one: &FieldValue, other: &FieldValue) -> bool {
    match (one.as_integer(), other.as_integer()) {
        (Some(one), Some(other)) => one == other,
        _ => one == other,
    }
}

/// A value that only one side has.
fn present(value: Option<&FieldValue>) -> String {
    match value {
        None => "none".to_owned(),
        Some(value) => format!(
            "the value '{}' of type '{}'",
            shown(value),
            value.type_name()
        ),
    }
}

fn shown(value: &FieldValue) -> String {
    match value {
        FieldValue::LongStr(octets) => String::from_utf8_lossy(octets).into_owned(),
        FieldValue::Bool(value) => value.to_string(),
        FieldValue::F32(value) => value.to_string(),
        FieldValue::F64(value) => value.to_string(),
        FieldValue::Timestamp(seconds) => seconds.to_string(),
        other => match other.as_integer() {
            Some(number) => number.to_string(),
            // What is left has no short form; the type tells enough.
            None => other.type_name().to_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::{ConnectionId, ExchangeKind};

    fn with<V: Into<FieldValue>>(name: &str, value: V) -> QueueSettings {
        let arguments = Arc::new(FieldTable::from_iter([(name, value)]));
        QueueSettings {
            arguments,
            ..QueueSettings::default()
        }
    }

    fn answer(current: &QueueSettings, wanted: &QueueSettings) -> Result<(), String> {
        queue_equivalent(&"q".into(), &"/".into(), current, wanted)
            .map_err(|error| error.reply_text().to_string())
    }

    /// Expects the text after the queue's name; each way round where both are given.
    fn differs(argument: &str, current: &QueueSettings, wanted: &QueueSettings, text: &str) {
        assert_eq!(
            answer(current, wanted),
            Err(format!(
                "PRECONDITION_FAILED - inequivalent arg '{argument}' for queue 'q' in vhost '/': {text}"
            ))
        );
    }

    #[test]
    fn flags_are_compared_before_arguments() {
        let plain = QueueSettings::default();
        let durable = QueueSettings {
            durable: true,
            auto_delete: true,
            ..with("x-queue-mode", "lazy")
        };
        let text = "received 'false' but current is 'true'";
        differs("durable", &durable, &plain, text);
        let transient = QueueSettings {
            durable: false,
            ..durable
        };
        differs("auto_delete", &transient, &plain, text);
        assert_eq!(answer(&plain, &plain), Ok(()));
    }

    #[test]
    fn the_exclusive_owner_is_compared_first() {
        let of = |connection: Option<u64>, durable| QueueSettings {
            durable,
            exclusive: connection.map(ConnectionId),
            ..QueueSettings::default()
        };
        let text = "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue 'q' in vhost \
                    '/'. It could be originally declared on another connection or the exclusive \
                    property value does not match that of the original declaration.";
        for (shows, current, wanted) in [
            ("shared now", Some(1), None),
            ("exclusive now", None, Some(1)),
            ("another's", Some(1), Some(2)),
        ] {
            let answer = answer(&of(current, true), &of(wanted, false));
            assert_eq!(answer, Err(text.to_owned()), "{shows}");
        }
        assert_eq!(answer(&of(Some(1), true), &of(Some(1), true)), Ok(()));
    }

    /// The texts are RabbitMQ 3.10's, read off the wire.
    #[test]
    fn known_arguments_are_compared() {
        let plain = QueueSettings::default();
        let lazy = with("x-queue-mode", "lazy");
        differs(
            "x-queue-mode",
            &lazy,
            &plain,
            "received none but current is the value 'lazy' of type 'longstr'",
        );
        differs(
            "x-queue-mode",
            &plain,
            &lazy,
            "received the value 'lazy' of type 'longstr' but current is none",
        );
        differs(
            "x-queue-mode",
            &lazy,
            &with("x-queue-mode", "default"),
            "received 'default' but current is 'lazy'",
        );
        let version = with("x-queue-version", FieldValue::I32(1));
        differs(
            "x-queue-version",
            &version,
            &plain,
            "received none but current is the value '1' of type 'signedint'",
        );
        differs(
            "x-queue-version",
            &version,
            &with("x-queue-version", FieldValue::I64(2)),
            "received '2' but current is '1'",
        );
    }

    #[test]
    fn integers_are_one_class_and_strings_another() {
        let version = |value: FieldValue| with("x-queue-version", value);
        let one = version(FieldValue::I32(1));
        assert_eq!(answer(&one, &version(FieldValue::I64(1))), Ok(()));
        assert_eq!(answer(&one, &version(FieldValue::U8(1))), Ok(()));
        differs(
            "x-queue-version",
            &one,
            &version("1".into()),
            "received '1' but current is '1'",
        );
    }

    #[test]
    fn a_missing_queue_type_is_classic_and_other_names_are_not_compared() {
        let plain = QueueSettings::default();
        for (name, value) in [
            ("x-queue-type", "classic"),
            ("x-foo", "bar"),
            ("x-queue-leader-locator", "balanced"),
        ] {
            assert_eq!(answer(&plain, &with(name, value)), Ok(()), "{name} added");
            assert_eq!(answer(&with(name, value), &plain), Ok(()), "{name} gone");
        }
    }

    /// The texts are RabbitMQ 3.10's, read off the wire.
    #[test]
    fn a_queue_does_not_change_its_type() {
        let plain = QueueSettings::default();
        let quorum = with("x-queue-type", "quorum");
        let classic = with("x-queue-type", "classic");
        let added = "received the value 'quorum' of type 'longstr' but current is none";
        differs("x-queue-type", &plain, &quorum, added);
        let other = "received 'quorum' but current is 'classic'";
        differs("x-queue-type", &classic, &quorum, other);
        let gone = "received none but current is the value 'quorum' of type 'longstr'";
        differs("x-queue-type", &quorum, &plain, gone);
    }

    #[test]
    fn arguments_that_a_queue_acts_by_are_compared() {
        let plain = QueueSettings::default();
        for name in [
            "x-expires",
            "x-message-ttl",
            "x-dead-letter-exchange",
            "x-dead-letter-routing-key",
            "x-max-length",
            "x-max-length-bytes",
            "x-max-priority",
            "x-overflow",
            "x-single-active-consumer",
            "x-delivery-limit",
            "x-dead-letter-strategy",
            "x-retry-delay",
            "x-retry-max-delay",
            "x-retry-factor",
            "x-retry-jitter",
            "x-delayed-retry-type",
            "x-delayed-retry-min",
            "x-delayed-retry-max",
            "x-group-header",
            "x-message-deduplication",
            "x-deduplication-header",
            "x-cache-size",
            "x-cache-ttl",
        ] {
            let text = "received the value '1' of type 'long' but current is none";
            differs(name, &plain, &with(name, 1), text);
        }
    }

    #[test]
    fn exchanges_are_compared_in_rabbitmqs_order() {
        let wanted = ExchangeSettings::new(ExchangeKind::Direct);
        let mut current = ExchangeSettings {
            durable: false,
            auto_delete: true,
            internal: true,
            arguments: Arc::new(FieldTable::from_iter([("alternate-exchange", "a")])),
            ..ExchangeSettings::new(ExchangeKind::Topic)
        };
        let mut expect = |argument: &str, text: &str, repair: fn(&mut ExchangeSettings)| {
            let error = exchange_equivalent(&"x".into(), &"/".into(), &current, &wanted);
            assert_eq!(
                error.map_err(|error| error.reply_text().to_string()),
                Err(format!(
                    "PRECONDITION_FAILED - inequivalent arg '{argument}' for exchange 'x' in vhost '/': {text}"
                ))
            );
            repair(&mut current);
        };
        expect("type", "received 'direct' but current is 'topic'", |it| {
            it.kind = ExchangeKind::Direct;
        });
        expect("durable", "received 'true' but current is 'false'", |it| {
            it.durable = true;
        });
        expect(
            "auto_delete",
            "received 'false' but current is 'true'",
            |it| {
                it.auto_delete = false;
            },
        );
        expect("internal", "received 'false' but current is 'true'", |it| {
            it.internal = false;
        });
        let text = "received none but current is the value 'a' of type 'longstr'";
        expect("alternate-exchange", text, |it| {
            it.arguments = Arc::default()
        });
        let answer = exchange_equivalent(&"x".into(), &"/".into(), &current, &wanted);
        assert_eq!(answer, Ok(()));
    }
}
