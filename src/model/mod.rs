//! Values that every layer shares: names, ids, messages, settings, errors.
//!
//! Nothing here does anything; it knows no layer above the codec's values.

mod error;
mod ids;
mod message;
mod names;
mod settings;

pub use error::{BrokerError, Entity, ReplyText};
pub use ids::{ConnectionId, ConsumerKey, DeliveryTag, Now, PublishSeqNo};
pub use leveret_protocol::{FieldTable, FieldValue};
pub use message::{Block, BlockBuilder, Body, Message};
pub use names::{ConsumerTag, ExchangeName, QueueName, UserName, VhostName};
pub use settings::{Destination, ExchangeKind, ExchangeSettings, QueueSettings};
