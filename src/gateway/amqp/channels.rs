//! What a channel has in the broker: consumers, and the limits that they share.

use std::sync::Arc;

use foldhash::HashMap;

use crate::model::ConsumerTag;
use crate::queue::{ChannelCredit, ConsumerSlot};

/// The broker's side of one channel.
#[derive(Debug, Default)]
pub(super) struct ChannelSide {
    /// The limit of `basic.qos` with `global`; unlimited at first.
    pub(super) credit: Arc<ChannelCredit>,
    /// What later consumers of the channel may hold; `None` is unlimited.
    pub(super) prefetch: Option<u32>,
    /// Serials by tag.
    pub(super) consumers: HashMap<ConsumerTag, u32>,
    /// The consumer of direct replies: its tag, its serial and its key.
    pub(super) reply_to: Option<ReplyConsumer>,
}

#[derive(Clone, Debug)]
pub(super) struct ReplyConsumer {
    pub(super) tag: ConsumerTag,
    pub(super) serial: u32,
    pub(super) key: String,
}

/// A consumer of this connection in its queue.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attached {
    /// The queue's number among the attachments.
    pub(super) queue: u32,
    pub(super) slot: ConsumerSlot,
    pub(super) channel: u16,
}
