//! The queue state machine: what happens to messages between publish and settle.
//!
//! A queue is deterministic: it reads no clock and draws no random number, and
//! what it decides comes out as values. Its host ([`crate::broker`]) calls a
//! command, then [`Queue::deliver`] until that has nothing more to hand out,
//! and carries out the effects.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::model::{ConsumerKey, FieldTable, Message, Now, QueueSettings};

/// Which of a queue's consumers; valid until it is cancelled.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct ConsumerSlot(pub u32);

/// Which of a queue's unsettled messages; valid until it is settled, which
/// whoever holds it does exactly once.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct UnsettledSlot(pub u32);

/// What a consumer asked for.
#[derive(Clone, Debug)]
pub struct ConsumerSpec {
    /// Who it is.
    pub key: ConsumerKey,
    /// Whether deliveries count as settled at once.
    pub no_ack: bool,
    /// Whether it wants the queue for itself.
    pub exclusive: bool,
    /// `x-priority`: higher ones are served first.
    pub priority: i32,
    /// Deliveries that it may hold unsettled; `None` is unlimited.
    pub prefetch: Option<u32>,
    /// The limit that it shares with the other consumers of its channel.
    pub channel_credit: Option<Arc<ChannelCredit>>,
    /// The arguments as given, for listings.
    pub arguments: Arc<FieldTable>,
}

/// A limit shared by all consumers of one channel (`basic.qos` with `global`),
/// whatever queues they read. Created with each channel, so that the limit can
/// be set, changed and lifted while consumers run.
#[derive(Debug, Default)]
pub struct ChannelCredit {
    /// 0 is unlimited.
    limit: AtomicU32,
    held: AtomicU32,
}

/// One message handed out.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// To whom.
    pub consumer: ConsumerSlot,
    /// What to settle it by; `None` if the consumer does not ack.
    pub unsettled: Option<UnsettledSlot>,
    /// What.
    pub message: Message,
    /// Whether a client may have seen it before.
    pub redelivered: bool,
}
