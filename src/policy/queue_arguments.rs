//! The arguments of `queue.declare`: what each asks a queue to do.
//!
//! Those that RabbitMQ knows are checked as RabbitMQ 3.10 does, and in its
//! words; the others are Leveret's own, or plugins' and later versions'.

use std::sync::Arc;

use super::arguments::ArgumentSpec;
use super::values::{
    Invalid, TIME_MAX, expected, flag, integer, milliseconds, non_negative, number, part, positive,
    quoted, short_text, some_milliseconds, term, text, time, word,
};
use crate::model::{
    Deduplication, ExchangeName, FieldValue, Growth, Overflow, QueueSettings, Retry, RetryOf,
};

/// Of `queue.declare`.
pub static QUEUE_ARGUMENTS: &[ArgumentSpec<QueueSettings>] = &[
    ArgumentSpec {
        name: "x-expires",
        doc: "Milliseconds after which an unused queue goes.",
        compared: true,
        apply: |queue, value| {
            queue.rules.expires = Some(some_milliseconds(value)?);
            Ok(())
        },
    },
    ArgumentSpec {
        name: "x-message-ttl",
        doc: "Milliseconds after which a message dies.",
        compared: true,
        apply: |queue, value| {
            queue.rules.message_ttl = Some(milliseconds(value)?);
            Ok(())
        },
    },
    ArgumentSpec {
        name: "x-dead-letter-exchange",
        doc: "Where dead letters go.",
        compared: true,
        apply: |queue, value| {
            let FieldValue::LongStr(octets) = value else {
                return Err(Invalid::Type(value.type_name()));
            };
            // What is not UTF-8 names an exchange that is not there, as it does
            // in RabbitMQ.
            let name = String::from_utf8_lossy(octets);
            queue.rules.dead_letter_exchange = Some(ExchangeName::from(&*name));
            Ok(())
        },
    },
    ArgumentSpec {
        name: "x-dead-letter-routing-key",
        doc: "With what routing key dead letters go.",
        compared: true,
        apply: |queue, value| {
            let key = short_text(value)?;
            if queue.rules.dead_letter_exchange.is_none() {
                return Err(Invalid::Alone("routing_key_but_no_dlx_defined".to_owned()));
            }
            queue.rules.dead_letter_routing_key = Some(key.into());
            Ok(())
        },
    },
    ArgumentSpec {
        name: "x-max-length",
        doc: "Ready messages kept before the overflow rule acts.",
        compared: true,
        apply: |queue, value| {
            queue.rules.max_length = Some(non_negative(value)?);
            Ok(())
        },
    },
    ArgumentSpec {
        name: "x-max-length-bytes",
        doc: "Octets of ready messages kept before the overflow rule acts.",
        compared: true,
        apply: |queue, value| {
            queue.rules.max_length_bytes = Some(non_negative(value)?);
            Ok(())
        },
    },
    ArgumentSpec {
        name: "x-max-priority",
        doc: "The highest priority that messages are told apart by.",
        compared: true,
        apply: |queue, value| {
            let highest = non_negative(value)?;
            let fits = u8::try_from(highest);
            let highest = fits.map_err(|_| term("max_value_exceeded", highest))?;
            queue.rules.max_priority = Some(highest);
            Ok(())
        },
    },
    ArgumentSpec {
        name: "x-overflow",
        doc: "What becomes of a message when the queue is full.",
        compared: true,
        apply: |queue, value| {
            queue.rules.overflow = match text(value)? {
                "drop-head" => Overflow::DropHead,
                "reject-publish" => Overflow::RejectPublish,
                "reject-publish-dlx" => Overflow::RejectPublishDeadLetter,
                _ => return Err(word("invalid_overflow")),
            };
            Ok(())
        },
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
        apply: |queue, value| {
            queue.rules.single_active_consumer = flag(value)?;
            Ok(())
        },
    },
    ArgumentSpec {
        name: "x-queue-type",
        doc: "Classic or quorum; without it, classic.",
        compared: true,
        apply: |_, value| match text(value)? {
            "classic" | "quorum" => Ok(()),
            kind => Err(quoted(format!("unsupported queue type '{kind}'"))),
        },
    },
    ArgumentSpec {
        name: "x-delivery-limit",
        doc: "How often a message may come back; -1 is without limit.",
        compared: true,
        apply: |queue, value| {
            queue.rules.delivery_limit = match integer(value)? {
                -1 => None,
                _ => Some(u32::try_from(non_negative(value)?).unwrap_or(u32::MAX)),
            };
            Ok(())
        },
    },
    ArgumentSpec {
        name: "x-dead-letter-strategy",
        doc: "Whether dead letters may get lost; those of a durable queue never do.",
        compared: true,
        apply: |_, value| match text(value)? {
            "at-most-once" | "at-least-once" => Ok(()),
            _ => Err(word("invalid_dlx_strategy")),
        },
    },
    ArgumentSpec {
        name: "x-retry-delay",
        doc: "How long a message that came back waits the first time.",
        compared: true,
        apply: |queue, value| {
            let delay = time(value)?;
            queue.rules.retry = Some(Retry {
                delay,
                growth: Growth::Factor(RETRY_FACTOR),
                max_delay: TIME_MAX,
                jitter: 0.0,
                of: RetryOf::All,
            });
            Ok(())
        },
    },
    ArgumentSpec {
        name: "x-retry-max-delay",
        doc: "How long a message that came back waits at most.",
        compared: true,
        apply: |queue, value| {
            let max_delay = time(value)?;
            retry(queue)?.max_delay = max_delay;
            Ok(())
        },
    },
    ArgumentSpec {
        name: "x-retry-factor",
        doc: "How many times as long each further time; without it, twice.",
        compared: true,
        apply: |queue, value| {
            let factor = number(value)?;
            if !(factor.is_finite() && factor >= 1.0) {
                return Err(expected("1 or more", &factor.to_string()));
            }
            retry(queue)?.growth = Growth::Factor(factor);
            Ok(())
        },
    },
    ArgumentSpec {
        name: "x-retry-jitter",
        doc: "Which part of the delay is added or taken away at random.",
        compared: true,
        apply: |queue, value| {
            let jitter = part(value)?;
            retry(queue)?.jitter = jitter;
            Ok(())
        },
    },
    ArgumentSpec {
        name: "x-delayed-retry-type",
        doc: "Which messages wait that came back, in RabbitMQ 4.3.",
        compared: true,
        apply: |queue, value| {
            let of = match text(value)? {
                "all" => RetryOf::All,
                "failed" => RetryOf::Failed,
                "returned" => RetryOf::Returned,
                "disabled" => return Ok(()),
                _ => return Err(word("invalid_delayed_retry_type")),
            };
            if queue.rules.retry.is_some() {
                let text = "\"x-retry-delay and x-delayed-retry-type exclude each other\"";
                return Err(Invalid::Alone(text.to_owned()));
            }
            queue.rules.retry = Some(Retry {
                delay: 0,
                growth: Growth::Linear,
                max_delay: TIME_MAX,
                jitter: 0.0,
                of,
            });
            Ok(())
        },
    },
    ArgumentSpec {
        name: "x-delayed-retry-min",
        doc: "How many milliseconds they wait the first time.",
        compared: true,
        apply: |queue, value| {
            let delay = milliseconds(value)?;
            if let Some(retry) = linear_retry(queue) {
                retry.delay = delay;
            }
            Ok(())
        },
    },
    ArgumentSpec {
        name: "x-delayed-retry-max",
        doc: "How many milliseconds they wait at most.",
        compared: true,
        apply: |queue, value| {
            let max_delay = milliseconds(value)?;
            if let Some(retry) = linear_retry(queue) {
                retry.max_delay = max_delay;
            }
            Ok(())
        },
    },
    ArgumentSpec {
        name: "x-group-header",
        doc: "The header that names a message's group.",
        compared: true,
        apply: |queue, value| {
            queue.rules.group_header = Some(header_name(value)?);
            Ok(())
        },
    },
    ArgumentSpec {
        name: "x-message-deduplication",
        doc: "Whether copies of earlier messages are dropped.",
        compared: true,
        apply: |queue, value| {
            queue.rules.deduplication = flag(value)?.then(deduplication);
            Ok(())
        },
    },
    ArgumentSpec {
        name: "x-deduplication-header",
        doc: "The header that names a message for that.",
        compared: true,
        apply: |queue, value| {
            let header = header_name(value)?;
            if let Some(deduplication) = &mut queue.rules.deduplication {
                deduplication.header = header;
            }
            Ok(())
        },
    },
    ArgumentSpec {
        name: "x-cache-size",
        doc: "How many of these names are remembered.",
        compared: true,
        apply: |queue, value| {
            let count = positive(value)?;
            if let Some(deduplication) = &mut queue.rules.deduplication {
                deduplication.count = count;
            }
            Ok(())
        },
    },
    ArgumentSpec {
        name: "x-cache-ttl",
        doc: "For how many milliseconds they are remembered.",
        compared: true,
        apply: |queue, value| {
            let time = some_milliseconds(value)?;
            if let Some(deduplication) = &mut queue.rules.deduplication {
                deduplication.time = Some(time);
            }
            Ok(())
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
            _ => Err(word("invalid_queue_locator_arg")),
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
        apply: |queue, value| {
            queue.rules.consumer_timeout = Some(some_milliseconds(value)?);
            Ok(())
        },
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

/// What `x-retry-delay` began.
fn retry(queue: &mut QueueSettings) -> Result<&mut Retry, Invalid> {
    let retry = queue.rules.retry.as_mut();
    retry.ok_or_else(|| Invalid::Alone("\"has no effect without x-retry-delay\"".to_owned()))
}

/// What `x-delayed-retry-type` began.
fn linear_retry(queue: &mut QueueSettings) -> Option<&mut Retry> {
    let retry = queue.rules.retry.as_mut();
    retry.filter(|retry| retry.growth == Growth::Linear)
}

/// What knows copies of messages unless it is told otherwise.
pub(super) fn deduplication() -> Deduplication {
    Deduplication {
        header: DEDUPLICATION_HEADER.into(),
        count: CACHE_SIZE,
        time: None,
    }
}

pub(super) fn header_name(value: &FieldValue) -> Result<Arc<str>, Invalid> {
    match short_text(value)? {
        "" => Err(expected("the name of a header", "''")),
        name => Ok(name.into()),
    }
}

/// Each delay twice the last.
const RETRY_FACTOR: f32 = 2.0;

/// The header of RabbitMQ's plugin for deduplication.
const DEDUPLICATION_HEADER: &str = "x-deduplication-header";
const CACHE_SIZE: u64 = 100_000;
