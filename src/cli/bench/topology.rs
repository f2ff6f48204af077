//! Declares what a scenario needs on the broker, and deletes it afterwards.

use leveret_protocol::method::{
    ExchangeDeclare, ExchangeDelete, QueueBind, QueueDeclare, QueueDelete,
};
use leveret_protocol::{FieldTable, Method, frame};

use super::args::ExchangeKind;
use super::client::{ClientError, Connection};
use super::scenario::{Direction, HEADER_NAME, Scenario};

/// Gets queues, exchange and bindings ready: new and empty, or when draining as they were
/// left. Returns how many messages each queue holds.
///
/// # Errors
/// If the broker refuses.
pub fn set_up(connection: &mut Connection, scenario: &Scenario) -> Result<Vec<u64>, ClientError> {
    if scenario.direction == Direction::ConsumeOnly {
        return ready_counts(connection, scenario);
    }
    // What an interrupted run left behind, perhaps with other properties.
    tear_down(connection, scenario)?;
    for queue in 0..scenario.queues {
        let declare = QueueDeclare {
            queue: &scenario.queue_name(queue),
            durable: scenario.durable,
            arguments: scenario.queue_arguments.clone(),
            ..QueueDeclare::default()
        };
        connection.call(1, &declare, |method| {
            matches!(method, Method::QueueDeclareOk(_)).then_some(())
        })?;
    }
    if scenario.exchange != ExchangeKind::Default {
        let declare = ExchangeDeclare {
            exchange: scenario.exchange_name(),
            kind: scenario.exchange.name(),
            durable: scenario.durable,
            ..ExchangeDeclare::default()
        };
        connection.call(1, &declare, |method| {
            matches!(method, Method::ExchangeDeclareOk(_)).then_some(())
        })?;
        bind(connection, scenario)?;
    }
    // Comes after the bindings on the same channel: when it is answered, they are there.
    ready_counts(connection, scenario)
}

/// How many messages each queue has ready.
///
/// # Errors
/// If there is no such queue.
pub fn ready_counts(
    connection: &mut Connection,
    scenario: &Scenario,
) -> Result<Vec<u64>, ClientError> {
    (0..scenario.queues)
        .map(|queue| {
            let declare = QueueDeclare {
                queue: &scenario.queue_name(queue),
                passive: true,
                ..QueueDeclare::default()
            };
            connection.call(1, &declare, |method| match method {
                Method::QueueDeclareOk(ok) => Some(u64::from(ok.message_count)),
                _ => None,
            })
        })
        .collect()
}

/// Deletes queues and exchange, whether they are there or not.
///
/// # Errors
/// If the broker refuses.
pub fn tear_down(connection: &mut Connection, scenario: &Scenario) -> Result<(), ClientError> {
    if scenario.exchange != ExchangeKind::Default {
        let delete = ExchangeDelete {
            exchange: scenario.exchange_name(),
            ..ExchangeDelete::default()
        };
        connection.call(1, &delete, |method| {
            matches!(method, Method::ExchangeDeleteOk(_)).then_some(())
        })?;
    }
    for queue in 0..scenario.queues {
        let delete = QueueDelete {
            queue: &scenario.queue_name(queue),
            ..QueueDelete::default()
        };
        connection.call(1, &delete, |method| {
            matches!(method, Method::QueueDeleteOk(_)).then_some(())
        })?;
    }
    Ok(())
}

fn bind(connection: &mut Connection, scenario: &Scenario) -> Result<(), ClientError> {
    let mut frames = Vec::new();
    for binding in scenario.bindings() {
        let mut arguments = FieldTable::new();
        if let Some(header) = &binding.header {
            arguments.insert("x-match", "all");
            arguments.insert(HEADER_NAME, header.as_str());
        }
        let bind = QueueBind {
            queue: &scenario.queue_name(binding.queue),
            exchange: scenario.exchange_name(),
            routing_key: &binding.key,
            nowait: true,
            arguments,
            ..QueueBind::default()
        };
        frame::encode_method(&mut frames, 1, &bind);
        if frames.len() >= BIND_BYTES {
            connection.send_encoded(&frames)?;
            frames.clear();
        }
    }
    connection.send_encoded(&frames)
}

/// Bindings are written in pieces of about this size.
const BIND_BYTES: usize = 64 * 1_024;
