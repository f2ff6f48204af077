//! One channel of a connection.

use crate::model::QueueName;

use super::confirms::Confirms;
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
