//! The queue state machine: what happens to messages between publish and settle.
//!
//! A queue is deterministic: it reads no clock and draws no random number, and
//! what it decides comes out as values. Its host ([`crate::broker`]) gives it
//! commands, which are the methods of [`Queue`], then calls [`Queue::deliver`]
//! until that has nothing more to hand out, and carries out what they answer.
//!
//! ```text
//! publish ──▶ ready ──deliver, get──▶ unsettled ──ack, discard──▶ gone
//!               ▲                         │
//!               └────────requeue──────────┘     to its original position
//! ```
//!
//! One file per queue type (so far [`Queue`], the classic one), built of parts
//! that own their fields: the ready log, the unsettled messages, the consumers
//! with their rotation and credit.
//!
//! A backlog need not be in memory: the queue names runs of messages to be
//! written and pages to be read ([`PageOut`], [`PageIn`]), and notes in its
//! [`Journal`] what a store has to know.

mod backlog;
mod classic;
mod consumers;
mod credit;
mod deadlines;
mod deduplicate;
mod effects;
mod groups;
mod journal;
mod lag;
mod pages;
mod paging;
mod publishing;
mod ready;
mod restoring;
mod returns;
mod rotation;
mod runs;
mod schedule;
mod timing;
mod unsettled;

#[cfg(test)]
mod model_test;
#[cfg(test)]
mod paging_tests;
#[cfg(test)]
mod rules_tests;
#[cfg(test)]
mod tests;

pub use classic::Queue;
pub use consumers::{ConsumerSlot, ConsumerSpec};
pub use credit::ChannelCredit;
pub use deduplicate::{Known, Memory};
pub use effects::{
    Cancelled, ConsumeRefused, Counts, DeadLetter, Delivery, Get, Got, Outcome, Published, Unplaced,
};
pub use journal::Journal;
pub use lag::{Histogram, LagReport, StalledConsumer};
pub use paging::{Loaded, PageIn, PageOut, Restored, RestoredContent, RestoredRun};
pub use unsettled::UnsettledSlot;
