//! What exchanges and queues were declared as.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use leveret_protocol::SmolStr;

use super::{
    ConnectionId, Deduplication, ExchangeName, FieldTable, QueueId, QueueName, QueueRules,
};

/// An exchange type's name, known to `routing::EXCHANGE_TYPES`.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum ExchangeKind {
    /// Binding key equals routing key.
    Direct,
    /// Every binding matches.
    Fanout,
    /// Binding keys are patterns of words with `*` and `#`.
    Topic,
    /// Binding arguments are compared with the message's headers.
    Headers,
    /// One binding takes the message, chosen by a hash and the bindings' weights.
    ConsistentHash,
    /// One binding takes the message, chosen at random.
    Random,
    /// One binding takes the message, chosen by a hash of its routing key.
    ModulusHash,
    /// Every binding matches, and new ones get the last messages.
    RecentHistory,
    /// Matches as the type does that its argument `x-delayed-type` names.
    Delayed,
    /// Every binding matches, but copies of earlier messages go nowhere.
    Deduplicating,
}

/// What a consistent-hash exchange hashes.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum HashOn {
    /// The routing key.
    #[default]
    RoutingKey,
    /// The header of that name.
    Header(SmolStr),
    /// The property `message-id`.
    MessageId,
    /// The property `correlation-id`.
    CorrelationId,
    /// The property `timestamp`.
    Timestamp,
}

impl ExchangeKind {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Direct,
        Self::Fanout,
        Self::Topic,
        Self::Headers,
        Self::ConsistentHash,
        Self::Random,
        Self::ModulusHash,
        Self::RecentHistory,
        Self::Delayed,
        Self::Deduplicating,
    ];

    /// The kind of that name; `None` for a type that is not known.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// The name on the wire.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Fanout => "fanout",
            Self::Topic => "topic",
            Self::Headers => "headers",
            Self::ConsistentHash => "x-consistent-hash",
            Self::Random => "x-random",
            Self::ModulusHash => "x-modulus-hash",
            Self::RecentHistory => "x-recent-history",
            Self::Delayed => "x-delayed-message",
            Self::Deduplicating => "x-message-deduplication",
        }
    }
}

impl fmt::Display for ExchangeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An exchange as declared.
#[derive(Clone, Debug, PartialEq)]
pub struct ExchangeSettings {
    /// How it matches.
    pub kind: ExchangeKind,
    /// Whether it survives a restart.
    pub durable: bool,
    /// Whether it goes with its last binding.
    pub auto_delete: bool,
    /// Whether only other exchanges may publish to it.
    pub internal: bool,
    /// Where a message goes that no binding matches.
    pub alternate: Option<ExchangeName>,
    /// What is hashed, if it is a consistent-hash exchange.
    pub hash_on: HashOn,
    /// How many messages it keeps, if it is a recent-history exchange; at least 1.
    pub history_length: usize,
    /// As which kind it matches, if it is a delayed exchange; another kind.
    pub delayed_kind: Option<ExchangeKind>,
    /// Which messages are taken for copies of earlier ones and go nowhere.
    pub deduplication: Option<Deduplication>,
    /// By what number the store knows the names for that; given when it is new.
    pub names_id: Option<QueueId>,
    /// The arguments as declared, for listings.
    pub arguments: Arc<FieldTable>,
}

impl ExchangeSettings {
    /// A durable exchange of that kind without further flags.
    #[must_use]
    pub fn new(kind: ExchangeKind) -> Self {
        Self {
            kind,
            durable: true,
            auto_delete: false,
            internal: false,
            alternate: None,
            hash_on: HashOn::default(),
            history_length: HISTORY_LENGTH,
            delayed_kind: None,
            deduplication: None,
            names_id: None,
            arguments: Arc::default(),
        }
    }

    /// The kind by whose rule it matches; never [`ExchangeKind::Delayed`].
    #[must_use]
    pub fn routes_as(&self) -> ExchangeKind {
        match (self.kind, self.delayed_kind) {
            (ExchangeKind::Delayed, Some(kind)) if kind != ExchangeKind::Delayed => kind,
            (ExchangeKind::Delayed, _) => ExchangeKind::Direct,
            (kind, _) => kind,
        }
    }
}

/// A queue as declared.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct QueueSettings {
    /// Whether it survives a restart.
    pub durable: bool,
    /// Whether it goes with its last consumer.
    pub auto_delete: bool,
    /// The one connection that may use it, and with which it goes.
    pub exclusive: Option<ConnectionId>,
    /// What the arguments ask for; policies may add to it.
    pub rules: QueueRules,
    /// The arguments as declared, for equivalence checks and listings.
    pub arguments: Arc<FieldTable>,
}

/// When what was written is made durable.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Fsync {
    /// Before each confirm, all that came in meanwhile at once.
    #[default]
    Always,
    /// Every so often: confirms do not wait for it, so what came in since may
    /// be lost by a power cut. A killed process loses nothing.
    Interval(Duration),
    /// Whenever the system likes, with the same caveat.
    Never,
}

/// What a binding leads to.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Destination {
    /// A queue of the same virtual host.
    Queue(QueueName),
    /// Another exchange of the same virtual host (RabbitMQ's `exchange.bind`).
    Exchange(ExchangeName),
}

/// What a recent-history exchange keeps unless it is told otherwise.
const HISTORY_LENGTH: usize = 20;
