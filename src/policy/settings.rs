//! What was asked for, checked once: settings or a refusal.

use std::sync::Arc;

use super::arguments::{ArgumentSpec, CONSUMER_ARGUMENTS, Invalid, QUEUE_ARGUMENTS};
use super::exchange_arguments::{EXCHANGE_ARGUMENTS, check_delayed};
use crate::model::{
    BrokerError, ConnectionId, Entity, ExchangeKind, ExchangeName, ExchangeSettings, FieldTable,
    QueueName, QueueSettings, VhostName,
};

/// The settings of a queue that a client declares; `exclusive` names the
/// connection that wants it for itself.
///
/// # Errors
/// 406 for an argument with a bad value, or one that is not built.
pub fn queue_settings(
    name: &QueueName,
    vhost: &VhostName,
    durable: bool,
    auto_delete: bool,
    exclusive: Option<ConnectionId>,
    arguments: FieldTable,
) -> Result<QueueSettings, BrokerError> {
    let mut settings = QueueSettings {
        durable,
        auto_delete,
        exclusive,
        arguments: Arc::default(),
    };
    let queue = || Entity::Queue(name.clone(), vhost.clone());
    apply(QUEUE_ARGUMENTS, &mut settings, &arguments, queue)?;
    settings.arguments = Arc::new(arguments);
    Ok(settings)
}

/// The settings of an exchange that a client declares.
///
/// # Errors
/// 406 for a type that is not known, or an argument with a bad value.
pub fn exchange_settings(
    name: &ExchangeName,
    vhost: &VhostName,
    kind: &str,
    durable: bool,
    auto_delete: bool,
    internal: bool,
    arguments: FieldTable,
) -> Result<ExchangeSettings, BrokerError> {
    // RabbitMQ 3.10 closes the connection with 503 here; later ones are as mild
    // as this.
    let unknown = || BrokerError::Precondition(format!("unknown exchange type '{kind}'"));
    let mut settings = ExchangeSettings {
        durable,
        auto_delete,
        internal,
        ..ExchangeSettings::new(ExchangeKind::from_name(kind).ok_or_else(unknown)?)
    };
    let exchange = || Entity::Exchange(name.clone(), vhost.clone());
    apply(EXCHANGE_ARGUMENTS, &mut settings, &arguments, exchange)?;
    check_delayed(&settings).map_err(BrokerError::ArgumentInvalid)?;
    settings.arguments = Arc::new(arguments);
    Ok(settings)
}

/// The priority of a consumer of that queue; 0 unless it asks for another.
///
/// # Errors
/// 406 for an argument with a bad value, or one that is not built.
pub fn consumer_arguments(
    queue: &QueueName,
    vhost: &VhostName,
    arguments: &FieldTable,
) -> Result<i32, BrokerError> {
    let mut priority = 0;
    let queue = || Entity::Queue(queue.clone(), vhost.clone());
    apply(CONSUMER_ARGUMENTS, &mut priority, arguments, queue)?;
    Ok(priority)
}

fn apply<T>(
    table: &[ArgumentSpec<T>],
    settings: &mut T,
    arguments: &FieldTable,
    of: impl FnOnce() -> Entity,
) -> Result<(), BrokerError> {
    if arguments.is_empty() {
        return Ok(());
    }
    for row in table {
        let Some(value) = arguments.get(row.name) else {
            continue;
        };
        if let Err(invalid) = (row.apply)(settings, value) {
            return Err(refusal(row.name, invalid, &of()));
        }
    }
    Ok(())
}

fn refusal(name: &str, invalid: Invalid, of: &Entity) -> BrokerError {
    BrokerError::ArgumentInvalid(match invalid {
        Invalid::Value(why) => format!("invalid arg '{name}' for {of}: {why}"),
        Invalid::Type(found) => format!("invalid type '{found}' for arg '{name}' in {of}"),
        Invalid::OtherQueueType => {
            format!("invalid arg '{name}' for {of} of queue type rabbit_classic_queue")
        }
        Invalid::NotBuilt => format!("invalid arg '{name}' for {of}: not supported yet"),
        Invalid::Plainly(text) => text,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::FieldValue;

    fn declare_queue(arguments: FieldTable) -> Result<QueueSettings, String> {
        queue_settings(&"q".into(), &"/".into(), true, false, None, arguments)
            .map_err(|error| error.reply_text().to_string())
    }

    fn declare_exchange(kind: &str, arguments: FieldTable) -> Result<ExchangeSettings, String> {
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

    fn consume(arguments: FieldTable) -> Result<i32, String> {
        consumer_arguments(&"q".into(), &"/".into(), &arguments)
            .map_err(|error| error.reply_text().to_string())
    }

    fn one(name: &str, value: impl Into<FieldValue>) -> FieldTable {
        FieldTable::from_iter([(name, value)])
    }

    /// The texts are RabbitMQ 3.10's, read off the wire.
    #[test]
    fn queue_arguments_are_checked() {
        let good: Result<(), &str> = Ok(());
        let int = FieldValue::I32;
        for (name, value, expected) in [
            ("x-queue-type", "classic".into(), good),
            (
                "x-queue-type",
                "quorum".into(),
                Err("\"unsupported queue type 'quorum'\""),
            ),
            (
                "x-queue-type",
                "foo".into(),
                Err("\"unsupported queue type 'foo'\""),
            ),
            ("x-queue-type", int(5), Err("{unacceptable_type,signedint}")),
            ("x-queue-type", true.into(), Err("{unacceptable_type,bool}")),
            ("x-queue-mode", "lazy".into(), good),
            ("x-queue-mode", "default".into(), good),
            (
                "x-queue-mode",
                "foo".into(),
                Err("\"unsupported queue mode 'foo'\""),
            ),
            ("x-queue-mode", int(5), Err("{unacceptable_type,signedint}")),
            ("x-queue-version", int(1), good),
            ("x-queue-version", FieldValue::U8(2), good),
            (
                "x-queue-version",
                int(3),
                Err("\"unsupported queue version '3'\""),
            ),
            (
                "x-queue-version",
                "1".into(),
                Err("\"expected integer, got longstr\""),
            ),
            ("x-queue-master-locator", "min-masters".into(), good),
            ("x-queue-master-locator", int(5), good),
            ("x-queue-leader-locator", "client-local".into(), good),
            ("x-queue-leader-locator", "balanced".into(), good),
            (
                "x-queue-leader-locator",
                "foo".into(),
                Err("invalid_queue_locator_arg"),
            ),
            (
                "x-queue-leader-locator",
                int(5),
                Err("{unacceptable_type,signedint}"),
            ),
            ("x-quorum-initial-group-size", int(3), good),
            ("x-quorum-initial-group-size", int(0), Err("{value_zero,0}")),
            (
                "x-quorum-initial-group-size",
                int(-1),
                Err("{value_negative,-1}"),
            ),
            ("x-initial-cluster-size", int(3), good),
            (
                "x-initial-cluster-size",
                "a".into(),
                Err("\"expected integer, got longstr\""),
            ),
            ("x-max-in-memory-length", int(0), good),
            (
                "x-max-in-memory-length",
                int(-1),
                Err("{value_negative,-1}"),
            ),
            ("x-max-in-memory-bytes", FieldValue::I64(1 << 40), good),
            (
                "x-max-in-memory-bytes",
                FieldValue::Void,
                Err("\"expected integer, got void\""),
            ),
            ("x-foo", int(-1), good),
        ] {
            let shows = format!("{name} = {value:?}");
            let answer = declare_queue(one(name, value)).map(|_| ());
            let expected = expected.map_err(|why| {
                format!(
                    "PRECONDITION_FAILED - invalid arg '{name}' for queue 'q' in vhost '/': {why}"
                )
            });
            assert_eq!(answer, expected, "{shows}");
        }
    }

    #[test]
    fn what_is_not_built_is_refused_and_never_ignored() {
        for (name, ending) in [
            ("x-message-ttl", ": not supported yet"),
            ("x-expires", ": not supported yet"),
            ("x-max-length", ": not supported yet"),
            ("x-max-length-bytes", ": not supported yet"),
            ("x-overflow", ": not supported yet"),
            ("x-dead-letter-exchange", ": not supported yet"),
            ("x-dead-letter-routing-key", ": not supported yet"),
            ("x-max-priority", ": not supported yet"),
            ("x-single-active-consumer", ": not supported yet"),
            ("x-consumer-timeout", ": not supported yet"),
            // These are RabbitMQ's own words for a classic queue.
            (
                "x-dead-letter-strategy",
                " of queue type rabbit_classic_queue",
            ),
            ("x-delivery-limit", " of queue type rabbit_classic_queue"),
            (
                "x-quorum-target-group-size",
                " of queue type rabbit_classic_queue",
            ),
            ("x-max-age", " of queue type rabbit_classic_queue"),
            (
                "x-stream-max-segment-size-bytes",
                " of queue type rabbit_classic_queue",
            ),
            (
                "x-stream-filter-size-bytes",
                " of queue type rabbit_classic_queue",
            ),
        ] {
            assert_eq!(
                declare_queue(one(name, 1)),
                Err(format!(
                    "PRECONDITION_FAILED - invalid arg '{name}' for queue 'q' in vhost '/'{ending}"
                ))
            );
        }
    }

    #[test]
    fn arguments_are_kept_as_declared() {
        let arguments: FieldTable = [("x-foo", "kept"), ("x-queue-type", "classic")]
            .into_iter()
            .collect();
        let settings = declare_queue(arguments.clone()).expect("all of them are fine");
        assert_eq!(*settings.arguments, arguments);
        assert!(settings.durable && !settings.auto_delete);
    }

    #[test]
    fn exchange_types_are_known_or_refused() {
        for kind in ExchangeKind::ALL {
            let settings = declare_exchange(kind.name(), one("x-delayed-type", "topic"));
            assert_eq!(settings.map(|settings| settings.kind), Ok(kind));
        }
        for kind in ["", "Direct", "x-jms-topic", "x-local-random"] {
            assert_eq!(
                declare_exchange(kind, FieldTable::new()),
                Err(format!(
                    "PRECONDITION_FAILED - unknown exchange type '{kind}'"
                ))
            );
        }
    }

    #[test]
    fn an_alternate_exchange_is_a_name() {
        let settings = declare_exchange("direct", one("alternate-exchange", "other"));
        let alternate = settings.map(|settings| settings.alternate);
        assert_eq!(alternate, Ok(Some("other".into())));
        for (value, found) in [
            (FieldValue::I32(5), "signedint"),
            (true.into(), "bool"),
            (FieldValue::Void, "void"),
        ] {
            assert_eq!(
                declare_exchange("direct", one("alternate-exchange", value)),
                Err(format!(
                    "PRECONDITION_FAILED - invalid type '{found}' for arg 'alternate-exchange' \
                     in exchange 'x' in vhost '/'"
                ))
            );
        }
        let others = declare_exchange("direct", one("x-delayed-type", "direct"));
        assert!(others.is_ok(), "it means nothing to a direct exchange");
    }

    #[test]
    fn consumer_arguments_are_checked() {
        let refused = |name: &str, ending: &str| {
            Err(format!(
                "PRECONDITION_FAILED - invalid arg '{name}' for queue 'q' in vhost '/'{ending}"
            ))
        };
        assert_eq!(consume(FieldTable::new()), Ok(0));
        for (name, value, expected) in [
            ("x-priority", FieldValue::I8(-5), Ok(-5)),
            ("x-priority", FieldValue::I64(1 << 40), Ok(i32::MAX)),
            ("x-priority", FieldValue::I64(-1 << 40), Ok(i32::MIN)),
            (
                "x-priority",
                "5".into(),
                refused("x-priority", ": \"expected integer, got longstr\""),
            ),
            (
                "x-priority",
                true.into(),
                refused("x-priority", ": \"expected integer, got bool\""),
            ),
            ("x-cancel-on-ha-failover", true.into(), Ok(0)),
            (
                "x-cancel-on-ha-failover",
                "a".into(),
                refused("x-cancel-on-ha-failover", ": {unacceptable_type,longstr}"),
            ),
            (
                "x-credit",
                FieldTable::new().into(),
                refused("x-credit", ": not supported yet"),
            ),
            (
                "x-stream-offset",
                "first".into(),
                refused("x-stream-offset", " of queue type rabbit_classic_queue"),
            ),
            ("x-foo", 1.into(), Ok(0)),
        ] {
            let shows = format!("{name} = {value:?}");
            assert_eq!(consume(one(name, value)), expected, "{shows}");
        }
    }
}
