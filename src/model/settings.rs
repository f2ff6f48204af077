//! What exchanges and queues were declared as.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::{ConnectionId, ExchangeName, FieldTable, QueueName, QueueRules};

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
}

impl ExchangeKind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Direct, Self::Fanout, Self::Topic, Self::Headers];

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
            arguments: Arc::default(),
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
