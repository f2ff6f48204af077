//! What a queue is told and what it answers.

use super::{ConsumerSlot, PageIn, UnsettledSlot};
use crate::model::{ConsumerKey, DeathReason, Message, NameHash, Sequence};

/// One message handed out.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// To whom.
    pub consumer: ConsumerSlot,
    /// What to settle it by; `None` if the consumer does not ack.
    pub unsettled: Option<UnsettledSlot>,
    /// What.
    pub message: Message,
    /// How often a client may have seen it before; above 0 it is flagged
    /// `redelivered`.
    pub deliveries: u32,
}

/// What became of published messages.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Published {
    /// The place of the first one; the others follow, each with a place of its
    /// own, whether it was taken or not.
    pub first: Sequence,
    /// Those that were not taken, ascending: their positions in what was
    /// published.
    pub unplaced: Vec<(u32, Unplaced)>,
    /// Names of messages that are to survive, each with the time from which on
    /// it is remembered: they are to be written down with their messages, in
    /// the same record.
    pub named: Vec<(u64, NameHash)>,
    /// Names of those that were taken for copies of messages that survive:
    /// confirmed only once the log has them.
    pub repeated: Vec<NameHash>,
}

/// Why a queue does not take a message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Unplaced {
    /// It is full: the publisher is told (`basic.nack`).
    Refused,
    /// It has had the message before: that is no failure.
    Duplicate,
    /// It was told to do something, and did.
    Command,
}

/// A message that is to go to the dead letter exchange. It stays unsettled
/// until its host settles it, together with its copies or not at all.
#[derive(Clone, Debug)]
pub struct DeadLetter {
    /// What to settle it by.
    pub slot: UnsettledSlot,
    /// What.
    pub message: Message,
    /// Why.
    pub reason: DeathReason,
}

/// The answer to a `basic.get`.
#[derive(Clone, Debug)]
pub enum Get {
    /// The oldest message.
    Message(Got),
    /// There is none, or no slot is left to hold it.
    Empty,
    /// There are messages, but this run has to be read first.
    Missing(PageIn),
}

impl Get {
    /// The message, if there was one at hand.
    #[must_use]
    pub fn message(self) -> Option<Got> {
        match self {
            Self::Message(got) => Some(got),
            Self::Empty | Self::Missing(_) => None,
        }
    }
}

/// What a `basic.get` found.
#[derive(Clone, Debug)]
pub struct Got {
    /// What.
    pub message: Message,
    /// What to settle it by; `None` if it was asked for without ack.
    pub unsettled: Option<UnsettledSlot>,
    /// How often a client may have seen it before; above 0 it is flagged
    /// `redelivered`.
    pub deliveries: u32,
    /// Ready messages that are left.
    pub ready_left: u64,
}

/// What becomes of an unsettled message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// The consumer is done with it.
    Ack,
    /// The consumer does not want it and nobody shall have it: `basic.reject`
    /// or `basic.nack` without `requeue`.
    Discard,
    /// Back to its original position.
    Requeue {
        /// Whether a client may have seen it. Otherwise, as when it waited in
        /// an outbox that was closed, it keeps the flag that it had.
        redelivered: bool,
        /// Whether the client said so, with `basic.nack` or `basic.reject`.
        refused: bool,
    },
}

/// Why a consumer is refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ConsumeRefused {
    /// It wants the queue for itself and there are others, or another one has
    /// it for itself.
    ExclusiveUse,
}

/// A consumer that has ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Cancelled {
    /// Who it was.
    pub key: ConsumerKey,
    /// Whether the queue goes with it: it was the last consumer of an
    /// `auto_delete` queue.
    pub delete_queue: bool,
}

/// How much there is of everything.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counts {
    /// Messages waiting, in memory or not.
    pub ready: u64,
    /// Octets of those, as stored.
    pub ready_bytes: u64,
    /// Messages that wait for their time.
    pub scheduled: u64,
    /// Messages handed out and not settled.
    pub unsettled: u64,
    /// Consumers, parked ones included.
    pub consumers: u32,
    /// Messages ever taken in.
    pub enqueued: u64,
    /// Messages that left by an ack, a discard or a delivery that needs none.
    pub settled: u64,
    /// Messages that were not taken, because the queue had them before.
    pub duplicates: u64,
    /// Messages that left by a purge.
    pub purged: u64,
    /// Messages that could not be read back from their page.
    pub lost: u64,
}
