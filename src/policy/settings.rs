//! What was asked for, checked once: settings or a refusal.

use std::sync::Arc;

use super::arguments::{ArgumentSpec, CONSUMER_ARGUMENTS};
use super::exchange_arguments::{EXCHANGE_ARGUMENTS, check_delayed};
use super::queue_arguments::{QUEUE_ARGUMENTS, deduplication};
use super::values::Invalid;
use crate::model::{
    BrokerError, ConnectionId, Entity, ExchangeKind, ExchangeName, ExchangeSettings, FieldTable,
    FieldValue, QueueName, QueueRules, QueueSettings, VhostName,
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
        rules: QueueRules::default(),
        arguments: Arc::new(arguments),
    };
    settings.rules = queue_rules(name, vhost, &settings)?;
    Ok(settings)
}

/// The rules that a queue's arguments ask for.
///
/// # Errors
/// 406 for an argument with a bad value, or a type of queue that cannot be what
/// is asked for otherwise.
pub fn queue_rules(
    name: &QueueName,
    vhost: &VhostName,
    asked: &QueueSettings,
) -> Result<QueueRules, BrokerError> {
    let queue = || Entity::Queue(name.clone(), vhost.clone());
    let mut scratch = QueueSettings::default();
    // RabbitMQ looks at these two before the others.
    let first = |row: &&ArgumentSpec<_>| CHECKED_FIRST.contains(&row.name);
    for row in QUEUE_ARGUMENTS.iter().filter(first) {
        apply(
            std::slice::from_ref(row),
            &mut scratch,
            &asked.arguments,
            queue,
        )?;
    }
    apply(QUEUE_ARGUMENTS, &mut scratch, &asked.arguments, queue)?;
    if is_quorum(asked) {
        let refused = [
            (asked.auto_delete, "auto-delete"),
            (asked.exclusive.is_some(), "exclusive-owner"),
            (!asked.durable, "non-durable"),
        ];
        if let Some((_, property)) = refused.iter().find(|(refused, _)| *refused) {
            let text = format!("invalid property '{property}' for {}", queue());
            return Err(BrokerError::Precondition(text));
        }
    }
    Ok(finished(scratch.rules))
}

/// The rules that these arguments make, each of which was checked by itself;
/// those that do not go together with the others have no effect.
pub(super) fn rules_of(arguments: &FieldTable) -> QueueRules {
    let mut scratch = QueueSettings::default();
    for row in QUEUE_ARGUMENTS {
        if let Some(value) = arguments.get(row.name) {
            // Refused is what stands against another one, and that one counts.
            let _ = (row.apply)(&mut scratch, value);
        }
    }
    finished(scratch.rules)
}

/// Takes out what has no effect, so that a queue need not look at it.
fn finished(mut rules: QueueRules) -> QueueRules {
    rules.retry = rules.retry.filter(|retry| retry.delay > 0);
    rules
}

/// Whether a queue was declared as a quorum queue: one that promises to keep
/// what it confirms, which every durable queue does.
#[must_use]
pub fn is_quorum(settings: &QueueSettings) -> bool {
    let kind = settings.arguments.get("x-queue-type");
    kind.and_then(FieldValue::as_str) == Some("quorum")
}

const CHECKED_FIRST: &[&str] = &["x-dead-letter-exchange", "x-queue-type"];

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
    if settings.kind == ExchangeKind::Deduplicating {
        settings.deduplication = Some(deduplication());
    }
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
        Invalid::Value(why) | Invalid::Alone(why) => {
            format!("invalid arg '{name}' for {of}: {why}")
        }
        Invalid::Type(found) => format!("invalid type '{found}' for arg '{name}' in {of}"),
        Invalid::OtherQueueType => {
            format!("invalid arg '{name}' for {of} of queue type rabbit_classic_queue")
        }
        Invalid::NotBuilt => format!("invalid arg '{name}' for {of}: not supported yet"),
        Invalid::Plainly(text) => text,
    })
}
