//! Numbers as types.

use std::time::Duration;

/// One client connection for as long as the broker runs; never reused.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ConnectionId(pub u64);

/// One consumer: its connection and a serial that the connection never reuses.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ConsumerKey {
    /// Whose outbox the deliveries go to.
    pub connection: ConnectionId,
    /// Which of the connection's consumers.
    pub serial: u32,
}

/// Position of a delivery on one channel, counted from 1 (AMQP 0-9-1, domain
/// `delivery-tag`). 0 stands for all that is outstanding.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct DeliveryTag(pub u64);

/// Position of a publish on one channel in confirm mode, counted from 1.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct PublishSeqNo(pub u64);

/// A moment: the time since 1970 as the machine's clock had it when the broker
/// started, and from there on a clock that never goes back. The pure layers get
/// it as an argument.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Now(pub Duration);

impl Now {
    /// Milliseconds since 1970.
    #[must_use]
    pub fn millis(self) -> u64 {
        self.0.as_secs() * 1_000 + u64::from(self.0.subsec_millis())
    }
}

/// One queue for as long as its data directory lives; never reused, so that
/// nothing of a deleted queue is ever taken for its namesake's.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct QueueId(pub u64);

/// A message's place in its queue, counted from 0; kept over requeues and
/// restarts, never reused.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Sequence(pub u64);

impl Sequence {
    /// The place behind this one.
    #[must_use]
    pub fn behind(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// What a queue wants to know of a page without reading it; the store keeps it
/// with the page, over restarts too.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct PageTag {
    /// Which of the queue's lists its messages are of.
    pub class: u8,
    /// The first moment at which something is due with one of them, in
    /// milliseconds since 1970; 0 if nothing ever is. 56 bits are kept.
    pub due: u64,
}

/// Consecutive places of a queue: `first` up to, not including, `end`.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct SequenceRange {
    /// The first of them.
    pub first: Sequence,
    /// The one behind the last.
    pub end: Sequence,
}

impl SequenceRange {
    /// `count` places from `first` on.
    #[must_use]
    pub fn new(first: Sequence, count: u64) -> Self {
        let end = Sequence(first.0.saturating_add(count));
        Self { first, end }
    }

    /// How many there are.
    #[must_use]
    pub fn count(self) -> u64 {
        self.end.0.saturating_sub(self.first.0)
    }
}

/// Where the store keeps a run of a queue's messages; only the store reads it.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Page {
    /// Which file.
    pub file: u64,
    /// Where in it, in octets.
    pub offset: u64,
    /// Octets of the page.
    pub bytes: u32,
}

/// Position in the store's log: what was appended under it is durable once the
/// store's progress has come so far. 0 is nothing to wait for.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Ticket(pub u64);
