//! One channel of a connection.

use crate::model::{PublishSeqNo, QueueName};

use super::content::Content;
use super::deliveries::Deliveries;
use super::transaction::Transaction;

/// What a channel remembers between frames.
#[derive(Debug)]
pub(super) struct Channel {
    pub(super) number: u16,
    pub(super) state: ChannelState,
    pub(super) mode: Mode,
    pub(super) content: Content,
    pub(super) deliveries: Deliveries,
    /// What an empty queue name stands for.
    pub(super) last_queue: Option<QueueName>,
}

#[derive(Debug)]
pub(super) enum ChannelState {
    Open,
    /// Its end is decided; the gateway is to release what it holds. With no
    /// failure the client asked for it.
    Releasing(Option<Failure>),
    /// `channel.close` is sent: everything but the answer to it is dropped.
    Closing,
}

/// What a close method says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Failure {
    pub(super) code: u16,
    pub(super) text: String,
    pub(super) method: (u16, u16),
}

/// What happens to a channel's publishes; chosen once.
#[derive(Debug)]
pub(super) enum Mode {
    Plain,
    Confirm(Confirms),
    Transaction(Transaction),
}

/// Publisher confirms of one channel: publishes are confirmed in the order of
/// their numbers, so two counters say it all.
#[derive(Debug, Default)]
pub(super) struct Confirms {
    handed_over: PublishSeqNo,
    confirmed: PublishSeqNo,
}

impl Channel {
    pub(super) fn new(number: u16) -> Self {
        Self {
            number,
            state: ChannelState::Open,
            mode: Mode::Plain,
            content: Content::Idle,
            deliveries: Deliveries::default(),
            last_queue: None,
        }
    }

    pub(super) fn is_open(&self) -> bool {
        matches!(self.state, ChannelState::Open)
    }
}

impl Confirms {
    /// Counts a publish; `true` if nothing else waited to be confirmed.
    pub(super) fn hand_over(&mut self) -> bool {
        let first = self.handed_over == self.confirmed;
        self.handed_over.0 += 1;
        first
    }

    /// Takes the last publish back: it was refused and is never confirmed.
    pub(super) fn refuse_last(&mut self) {
        self.handed_over.0 -= 1;
    }

    /// What is to be confirmed: up to which number, and whether it is several.
    pub(super) fn confirm(&mut self) -> Option<(PublishSeqNo, bool)> {
        let count = self.handed_over.0 - self.confirmed.0;
        self.confirmed = self.handed_over;
        (count > 0).then_some((self.confirmed, count > 1))
    }
}
