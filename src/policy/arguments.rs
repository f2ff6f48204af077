//! The arguments that have a meaning: one row each. Those of queues are in
//! `queue_arguments.rs`.
//!
//! The rows of a table stand in the order in which RabbitMQ compares them when
//! something is declared again.

use super::values::{Invalid, flag, integer};
use crate::model::FieldValue;

/// One argument: what it does to the settings `T`.
#[derive(Debug)]
pub struct ArgumentSpec<T> {
    /// Its name.
    pub name: &'static str,
    /// What it is for.
    pub doc: &'static str,
    /// Whether a second declaration must have the same value.
    pub compared: bool,
    /// Checks the value and enters it.
    pub apply: fn(&mut T, &FieldValue) -> Result<(), Invalid>,
}

/// Of `basic.consume`; the setting is the consumer's priority.
pub static CONSUMER_ARGUMENTS: &[ArgumentSpec<i32>] = &[
    ArgumentSpec {
        name: "x-priority",
        doc: "Consumers with a higher one are served first.",
        compared: false,
        apply: |priority, value| {
            let wanted = integer(value)?;
            // RabbitMQ has no bounds; what lies beyond ours is as high or low as it gets.
            *priority = wanted.clamp(i32::MIN.into(), i32::MAX.into()) as i32;
            Ok(())
        },
    },
    ArgumentSpec {
        name: "x-cancel-on-ha-failover",
        doc: "Whether to cancel when a mirror takes over; without effect.",
        compared: false,
        apply: |_, value| flag(value).map(drop),
    },
    ArgumentSpec {
        name: "x-credit",
        doc: "Credit as AMQP 1.0 gives it.",
        compared: false,
        apply: |_, _| Err(Invalid::NotBuilt),
    },
    ArgumentSpec {
        name: "x-stream-offset",
        doc: "Where in a stream to begin.",
        compared: false,
        apply: |_, _| Err(Invalid::OtherQueueType),
    },
    ArgumentSpec {
        name: "x-stream-filter",
        doc: "Which messages of a stream to send.",
        compared: false,
        apply: |_, _| Err(Invalid::OtherQueueType),
    },
    ArgumentSpec {
        name: "x-stream-match-unfiltered",
        doc: "Whether to send a stream's messages without a filter value.",
        compared: false,
        apply: |_, _| Err(Invalid::OtherQueueType),
    },
];

#[cfg(test)]
pub(super) mod tests {
    use super::super::QUEUE_ARGUMENTS;
    use super::*;

    pub fn check_table<T>(table: &[ArgumentSpec<T>]) {
        for (index, row) in table.iter().enumerate() {
            let doubled = table[..index].iter().any(|other| other.name == row.name);
            assert!(!doubled, "{} has two rows", row.name);
            assert!(!row.name.is_empty());
            assert!(row.doc.ends_with('.'), "{} wants a sentence", row.name);
        }
    }

    #[test]
    fn every_argument_has_one_row_and_a_sentence() {
        check_table(QUEUE_ARGUMENTS);
        check_table(CONSUMER_ARGUMENTS);
    }
}
