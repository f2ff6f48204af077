//! What a queue does with its messages beyond handing them out: what its
//! arguments ask for, and what policies add.

use std::sync::Arc;

use super::ExchangeName;

/// A queue's rules. The default one has none: a plain first-in-first-out queue.
///
/// Times are in milliseconds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct QueueRules {
    /// How long a message may wait (`x-message-ttl`).
    pub message_ttl: Option<u64>,
    /// How long the queue may be unused before it goes (`x-expires`).
    pub expires: Option<u64>,
    /// How many messages may be ready (`x-max-length`).
    pub max_length: Option<u64>,
    /// How many octets the bodies of ready messages may come to
    /// (`x-max-length-bytes`).
    pub max_length_bytes: Option<u64>,
    /// What happens above that (`x-overflow`).
    pub overflow: Overflow,
    /// Where dead letters go (`x-dead-letter-exchange`).
    pub dead_letter_exchange: Option<ExchangeName>,
    /// With what routing key instead of their own (`x-dead-letter-routing-key`).
    pub dead_letter_routing_key: Option<Arc<str>>,
    /// The highest priority that messages are told apart by (`x-max-priority`).
    pub max_priority: Option<u8>,
    /// Whether one consumer gets everything while it lasts
    /// (`x-single-active-consumer`).
    pub single_active_consumer: bool,
    /// How often a message may come back before it is a dead letter
    /// (`x-delivery-limit`).
    pub delivery_limit: Option<u32>,
    /// How long a consumer may hold a message (`x-consumer-timeout`).
    pub consumer_timeout: Option<u64>,
    /// How long a message that came back waits (`x-retry-delay` and others).
    pub retry: Option<Retry>,
    /// The header whose value names a message's group: of a group, one message
    /// is out at a time (`x-group-header`).
    pub group_header: Option<Arc<str>>,
    /// Which messages are taken for copies of earlier ones
    /// (`x-message-deduplication`).
    pub deduplication: Option<Deduplication>,
}

/// What a full queue does.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Overflow {
    /// Lets the oldest go, as dead letters.
    #[default]
    DropHead,
    /// Refuses what is published: `basic.nack` where the publisher asked for
    /// confirms.
    RejectPublish,
    /// The same, and what is refused is a dead letter.
    RejectPublishDeadLetter,
}

/// How long a message waits that came back.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Retry {
    /// The first time.
    pub delay: u64,
    /// How much longer each further time.
    pub growth: Growth,
    /// No longer than this.
    pub max_delay: u64,
    /// Up to which part of the delay is added or taken away, 0 to 1, so that
    /// what failed together does not come back together.
    pub jitter: f32,
    /// Which messages wait.
    pub of: RetryOf,
}

/// How a delay grows from one time to the next.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Growth {
    /// That many times as long as the last time, 1 or more.
    Factor(f32),
    /// The first delay longer than the last time: once, twice, three times, as
    /// RabbitMQ has it.
    Linear,
}

/// Which messages wait before they are delivered again.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum RetryOf {
    /// All that come back.
    #[default]
    All,
    /// Those that a consumer refused (`basic.nack`, `basic.reject`).
    Failed,
    /// Those that came back because their consumer was gone.
    Returned,
}

/// Which messages are taken for copies of earlier ones.
#[derive(Clone, Debug, PartialEq)]
pub struct Deduplication {
    /// The header that names a message; where it is missing, `message-id` does.
    pub header: Arc<str>,
    /// How many names are remembered.
    pub count: u64,
    /// For how long.
    pub time: Option<u64>,
}

/// Why a message is a dead letter.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum DeathReason {
    /// A consumer refused it and did not want it requeued.
    Rejected,
    /// Its TTL ran out.
    Expired,
    /// The queue was full.
    MaxLength,
    /// It came back too often.
    DeliveryLimit,
}

impl DeathReason {
    /// As the header `x-death` names it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Rejected => "rejected",
            Self::Expired => "expired",
            Self::MaxLength => "maxlen",
            Self::DeliveryLimit => "delivery_limit",
        }
    }
}

impl QueueRules {
    /// Whether consumers are told how often a message was delivered.
    #[must_use]
    pub fn counts_deliveries(&self) -> bool {
        self.delivery_limit.is_some() || self.retry.is_some()
    }

    /// Whether the queue may refuse what is published to it.
    #[must_use]
    pub fn may_refuse(&self) -> bool {
        let is_limited = self.max_length.is_some() || self.max_length_bytes.is_some();
        is_limited && self.overflow != Overflow::DropHead
    }

    /// Whether it is a plain queue: messages come and go in their order.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        *self == Self::default()
    }
}
