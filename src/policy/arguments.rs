//! The arguments that have a meaning: one row each.
//!
//! The rows of a table stand in the order in which RabbitMQ compares them when
//! something is declared again. Values are checked as RabbitMQ 3.10 does, with
//! its words, Erlang terms included.

use crate::model::{FieldValue, QueueSettings};

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

/// Why an argument is refused.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Invalid {
    /// The value is not allowed; the words that follow the argument's name.
    Value(String),
    /// Names an exchange or a queue, but is no string; the type that it has.
    Type(&'static str),
    /// Means something only on queues of a type other than classic.
    OtherQueueType,
    /// RabbitMQ has it, Leveret has not yet.
    NotBuilt,
    /// Refused in words that name neither the argument nor what it is of, as
    /// RabbitMQ's plugins do: the whole text.
    Plainly(String),
}

/// Of `queue.declare`.
pub static QUEUE_ARGUMENTS: &[ArgumentSpec<QueueSettings>] = &[
    ArgumentSpec {
        name: "x-expires",
        doc: "Milliseconds after which an unused queue goes.",
        compared: true,
        apply: |_, _| Err(Invalid::NotBuilt),
    },
    ArgumentSpec {
        name: "x-message-ttl",
        doc: "Milliseconds after which a message dies.",
        compared: true,
        apply: |_, _| Err(Invalid::NotBuilt),
    },
    ArgumentSpec {
        name: "x-dead-letter-exchange",
        doc: "Where dead letters go.",
        compared: true,
        apply: |_, _| Err(Invalid::NotBuilt),
    },
    ArgumentSpec {
        name: "x-dead-letter-routing-key",
        doc: "With what routing key dead letters go.",
        compared: true,
        apply: |_, _| Err(Invalid::NotBuilt),
    },
    ArgumentSpec {
        name: "x-max-length",
        doc: "Ready messages kept before the overflow rule acts.",
        compared: true,
        apply: |_, _| Err(Invalid::NotBuilt),
    },
    ArgumentSpec {
        name: "x-max-length-bytes",
        doc: "Octets of ready messages kept before the overflow rule acts.",
        compared: true,
        apply: |_, _| Err(Invalid::NotBuilt),
    },
    ArgumentSpec {
        name: "x-max-priority",
        doc: "The highest priority that messages are told apart by.",
        compared: true,
        apply: |_, _| Err(Invalid::NotBuilt),
    },
    ArgumentSpec {
        name: "x-overflow",
        doc: "What becomes of a message when the queue is full.",
        compared: true,
        apply: |_, _| Err(Invalid::NotBuilt),
    },
    ArgumentSpec {
        name: "x-queue-mode",
        doc: "Whether RabbitMQ keeps messages on disk; without effect.",
        compared: true,
        apply: |_, value| match text(value)? {
            "default" | "lazy" => Ok(()),
            mode => Err(quoted(format!("unsupported queue mode '{mode}'"))),
        },
    },
    ArgumentSpec {
        name: "x-queue-version",
        doc: "The version of RabbitMQ's storage; without effect.",
        compared: true,
        apply: |_, value| match integer(value)? {
            1 | 2 => Ok(()),
            version => Err(quoted(format!("unsupported queue version '{version}'"))),
        },
    },
    ArgumentSpec {
        name: "x-single-active-consumer",
        doc: "Whether one consumer takes all and the others stand by.",
        compared: true,
        apply: |_, _| Err(Invalid::NotBuilt),
    },
    ArgumentSpec {
        name: "x-queue-type",
        doc: "The type of queue; without it, classic.",
        // A queue that is there is classic, and so is whatever passes the check.
        compared: false,
        apply: |_, value| match text(value)? {
            "classic" => Ok(()),
            kind => Err(quoted(format!("unsupported queue type '{kind}'"))),
        },
    },
    ArgumentSpec {
        name: "x-queue-master-locator",
        doc: "Which node of a RabbitMQ cluster leads; without effect.",
        compared: true,
        apply: |_, _| Ok(()),
    },
    ArgumentSpec {
        name: "x-queue-leader-locator",
        doc: "Which node of a cluster leads; without effect on a single one.",
        compared: false,
        apply: |_, value| match text(value)? {
            "client-local" | "balanced" | "random" | "least-leaders" => Ok(()),
            _ => Err(Invalid::Value("invalid_queue_locator_arg".to_owned())),
        },
    },
    ArgumentSpec {
        name: "x-quorum-initial-group-size",
        doc: "On how many nodes a quorum queue begins; without effect.",
        compared: false,
        apply: |_, value| positive(value).map(drop),
    },
    ArgumentSpec {
        name: "x-initial-cluster-size",
        doc: "On how many nodes a stream begins; without effect.",
        compared: false,
        apply: |_, value| positive(value).map(drop),
    },
    ArgumentSpec {
        name: "x-max-in-memory-length",
        doc: "Messages that a quorum queue keeps in memory; without effect.",
        compared: false,
        apply: |_, value| non_negative(value).map(drop),
    },
    ArgumentSpec {
        name: "x-max-in-memory-bytes",
        doc: "Octets that a quorum queue keeps in memory; without effect.",
        compared: false,
        apply: |_, value| non_negative(value).map(drop),
    },
    ArgumentSpec {
        name: "x-consumer-timeout",
        doc: "Milliseconds that a consumer may hold a message.",
        compared: false,
        apply: |_, _| Err(Invalid::NotBuilt),
    },
    ArgumentSpec {
        name: "x-delivery-limit",
        doc: "How often a quorum queue delivers a message.",
        compared: false,
        apply: |_, _| Err(Invalid::OtherQueueType),
    },
    ArgumentSpec {
        name: "x-dead-letter-strategy",
        doc: "Whether a quorum queue may lose dead letters.",
        compared: false,
        apply: |_, _| Err(Invalid::OtherQueueType),
    },
    ArgumentSpec {
        name: "x-quorum-target-group-size",
        doc: "To how many nodes a quorum queue grows.",
        compared: false,
        apply: |_, _| Err(Invalid::OtherQueueType),
    },
    ArgumentSpec {
        name: "x-max-age",
        doc: "How long a stream keeps messages.",
        compared: false,
        apply: |_, _| Err(Invalid::OtherQueueType),
    },
    ArgumentSpec {
        name: "x-stream-max-segment-size-bytes",
        doc: "Octets of a stream's segment file.",
        compared: false,
        apply: |_, _| Err(Invalid::OtherQueueType),
    },
    ArgumentSpec {
        name: "x-stream-filter-size-bytes",
        doc: "Octets of a stream's bloom filter.",
        compared: false,
        apply: |_, _| Err(Invalid::OtherQueueType),
    },
];

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
        apply: |_, value| match value {
            FieldValue::Bool(_) => Ok(()),
            other => Err(unacceptable(other)),
        },
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

fn text(value: &FieldValue) -> Result<&str, Invalid> {
    value.as_str().ok_or_else(|| unacceptable(value))
}

fn integer(value: &FieldValue) -> Result<i64, Invalid> {
    let found = value.type_name();
    value
        .as_integer()
        .ok_or_else(|| quoted(format!("expected integer, got {found}")))
}

fn non_negative(value: &FieldValue) -> Result<i64, Invalid> {
    match integer(value)? {
        number @ ..0 => Err(Invalid::Value(format!("{{value_negative,{number}}}"))),
        number => Ok(number),
    }
}

fn positive(value: &FieldValue) -> Result<i64, Invalid> {
    match non_negative(value)? {
        0 => Err(Invalid::Value("{value_zero,0}".to_owned())),
        number => Ok(number),
    }
}

fn unacceptable(value: &FieldValue) -> Invalid {
    Invalid::Value(format!("{{unacceptable_type,{}}}", value.type_name()))
}

/// A text as RabbitMQ prints an Erlang string.
fn quoted(text: String) -> Invalid {
    Invalid::Value(format!("\"{text}\""))
}

#[cfg(test)]
pub(super) mod tests {
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
