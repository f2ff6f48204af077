//! Every refusal, named by cause, and the one table that maps causes to reply
//! codes and RabbitMQ's texts, which clients parse.

use std::fmt;

use leveret_protocol::ReplyCode;

use super::{ExchangeName, QueueName, UserName, VhostName};

/// Something with a name in a virtual host, as texts write it: `queue 'q' in vhost '/'`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Entity {
    /// A queue.
    Queue(QueueName, VhostName),
    /// An exchange.
    Exchange(ExchangeName, VhostName),
}

/// Why the broker refuses a request.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum BrokerError {
    /// 404
    #[error("no {0}")]
    NotFound(Entity),
    /// 404, an empty name with nothing declared on the channel
    #[error("no previously declared queue")]
    NoPreviousQueue,
    /// 405
    #[error(
        "cannot obtain exclusive access to locked {0}. It could be originally declared on another \
         connection or the exclusive property value does not match that of the original declaration."
    )]
    QueueLocked(Entity),
    /// 403, an exclusive consumer keeps others out
    #[error("{0} in exclusive use")]
    ExclusiveUse(Entity),
    /// 406, redeclared differently
    #[error(
        "inequivalent arg '{argument}' for {entity}: received {received} but current is {current}"
    )]
    Inequivalent {
        /// Which argument or flag.
        argument: String,
        /// Of what.
        entity: Box<Entity>,
        /// What was asked for, with quotes where RabbitMQ has them.
        received: String,
        /// What it is.
        current: String,
    },
    /// 406, an argument that has a bad value or is not supported
    #[error("{0}")]
    ArgumentInvalid(String),
    /// 406, any other precondition
    #[error("{0}")]
    Precondition(String),
    /// 403, a name that is the broker's own
    #[error("{0}")]
    Forbidden(String),
    /// 403, no permission
    #[error("{permission} access to {entity} refused for user '{user}'")]
    AccessRefused {
        /// `configure`, `write` or `read`.
        permission: &'static str,
        /// To what.
        entity: Entity,
        /// For whom.
        user: UserName,
    },
    /// 502, what was sent cannot be read
    #[error("{0}")]
    Syntax(String),
    /// 530
    #[error("{0}")]
    NotAllowed(String),
    /// 540
    #[error("{0}")]
    NotImplemented(String),
    /// 541
    #[error("{0}")]
    Internal(String),
}

impl BrokerError {
    /// 404 for a queue.
    #[must_use]
    pub fn no_queue(queue: &QueueName, vhost: &VhostName) -> Self {
        Self::NotFound(Entity::Queue(queue.clone(), vhost.clone()))
    }

    /// 404 for an exchange.
    #[must_use]
    pub fn no_exchange(exchange: &ExchangeName, vhost: &VhostName) -> Self {
        Self::NotFound(Entity::Exchange(exchange.clone(), vhost.clone()))
    }

    /// The code on the wire, which also says what it closes.
    #[must_use]
    pub fn reply_code(&self) -> ReplyCode {
        match self {
            Self::NotFound(_) | Self::NoPreviousQueue => ReplyCode::NotFound,
            Self::QueueLocked(_) => ReplyCode::ResourceLocked,
            Self::ExclusiveUse(_) | Self::Forbidden(_) | Self::AccessRefused { .. } => {
                ReplyCode::AccessRefused
            }
            Self::Inequivalent { .. } | Self::ArgumentInvalid(_) | Self::Precondition(_) => {
                ReplyCode::PreconditionFailed
            }
            Self::Syntax(_) => ReplyCode::SyntaxError,
            Self::NotAllowed(_) => ReplyCode::NotAllowed,
            Self::NotImplemented(_) => ReplyCode::NotImplemented,
            Self::Internal(_) => ReplyCode::InternalError,
        }
    }

    /// The whole reply text: the code's name, then the cause.
    #[must_use]
    pub fn reply_text(&self) -> ReplyText<'_> {
        ReplyText {
            code: self.reply_code(),
            cause: self,
        }
    }
}

/// Shows as `NOT_FOUND - no queue 'q' in vhost '/'`.
#[derive(Clone, Copy, Debug)]
pub struct ReplyText<'a> {
    code: ReplyCode,
    cause: &'a BrokerError,
}

impl fmt::Display for ReplyText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} - {}", self.code.name(), self.cause)
    }
}

impl fmt::Display for Entity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Queue(name, vhost) => write!(f, "queue '{name}' in vhost '{vhost}'"),
            Self::Exchange(name, vhost) => write!(f, "exchange '{name}' in vhost '{vhost}'"),
        }
    }
}
