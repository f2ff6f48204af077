//! Values that every layer shares: names, ids, messages, settings, errors.
//!
//! Nothing here does anything; it knows no layer above the codec's values.

mod erlang;
mod error;
mod ids;
mod message;
mod name_hash;
mod names;
mod progress;
mod properties;
mod rules;
mod settings;
mod traits;
mod units;

pub use erlang::{erlang_binary, erlang_term};
pub use error::{BrokerError, Entity, ReplyText};
pub use ids::{
    ConnectionId, ConsumerKey, DeliveryTag, Now, Page, PageTag, PublishSeqNo, QueueId, Sequence,
    SequenceRange, Ticket,
};
pub use leveret_protocol::{FieldTable, FieldValue};
pub use message::{
    ALONE_OVERHEAD_BYTES, BLOCK_BYTES, Block, BlockBuilder, Body, LARGE_BODY_BYTES,
    MEMORY_OVERHEAD_BYTES, Message, envelope_parts,
};
pub use name_hash::NameHash;
pub use names::{ConsumerTag, ExchangeName, QueueName, UserName, VhostName};
pub use progress::{Progress, TicketRange, Verdict};
pub use properties::{CANCEL_HEADER, DELAY_HEADER, DELIVER_AT_HEADER, TIMER_MAX, deliver_at};
pub use rules::{DeathReason, Deduplication, Growth, Overflow, QueueRules, Retry, RetryOf};
pub use settings::{Destination, ExchangeKind, ExchangeSettings, Fsync, HashOn, QueueSettings};
pub use traits::Traits;
pub use units::{format_duration, format_size, parse_duration, parse_size};
