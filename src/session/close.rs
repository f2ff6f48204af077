//! How channels and connections end (AMQP 0-9-1 §2.2.4, §4.7).

use leveret_protocol::method::{ChannelClose, ChannelCloseOk, ConnectionClose, ConnectionCloseOk};
use leveret_protocol::{ErrorScope, ReplyCode};

use crate::model::BrokerError;

use super::channel::{Channel, ChannelState, Failure, Mode};
use super::content::Content;
use super::{Held, Phase, Session};

/// What the client hears once everything is released.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Farewell {
    /// It asked: close-ok.
    CloseOk,
    /// It failed: `connection.close` with the failure.
    Close,
}

/// Why something fails: the code decides what it closes.
#[derive(Clone, Debug)]
pub(super) struct Cause {
    code: ReplyCode,
    text: String,
    method: (u16, u16),
}

impl Cause {
    pub(super) fn new(code: ReplyCode, text: impl Into<String>, method: (u16, u16)) -> Self {
        Self {
            code,
            text: text.into(),
            method,
        }
    }

    fn into_failure(self) -> Failure {
        Failure {
            code: self.code.code(),
            text: format!("{} - {}", self.code.name(), self.text),
            method: self.method,
        }
    }
}

impl Session {
    /// Refuses a request on a channel. A soft error closes the channel, a hard
    /// one the connection.
    pub fn refuse(&mut self, channel: u16, method: (u16, u16), error: &BrokerError) {
        self.fail_on(
            channel,
            Cause::new(error.reply_code(), error.to_string(), method),
        );
    }

    /// Refuses the publish just handed over, which is then never confirmed.
    pub fn refuse_publish(&mut self, channel: u16, error: &BrokerError) {
        if let Some(Channel {
            mode: Mode::Confirm(confirms),
            ..
        }) = self.open_channel(channel)
        {
            confirms.refuse_last();
        }
        self.refuse(channel, PUBLISH_IDS, error);
    }

    /// Ends the connection from the broker's side, as an operator or a
    /// shutdown does (320).
    pub fn force_close(&mut self, text: &str) {
        match self.phase {
            Phase::Closing | Phase::Closed | Phase::Releasing(_) => {}
            Phase::Header | Phase::Start => {
                self.end = Some(text.to_owned());
                self.phase = Phase::Closed;
            }
            _ => self.fail(Cause::new(ReplyCode::ConnectionForced, text, (0, 0))),
        }
    }

    /// Nothing more comes from the peer: its socket ended or failed.
    pub fn disconnected(&mut self, reason: &str) {
        if self.end.is_none() {
            self.end = Some(reason.to_owned());
        }
        self.phase = Phase::Closed;
    }

    /// The channels that exist, so that all can be released.
    #[must_use]
    pub fn channels(&self) -> Vec<u16> {
        let mut numbers: Vec<u16> = self
            .channels
            .iter()
            .map(|(_, channel)| channel.number)
            .collect();
        numbers.sort_unstable();
        numbers
    }

    /// Takes all that a channel's client has not settled, in the order of
    /// delivery; uncommitted settlements count as not made. Nothing is
    /// delivered on the channel from here on.
    pub fn take_held(&mut self, channel: u16) -> Vec<Held> {
        let Some(channel) = self
            .channel_key(channel)
            .and_then(|key| self.channels.get_mut(key))
        else {
            return Vec::new();
        };
        if channel.is_open() {
            channel.state = ChannelState::Releasing(None);
        }
        if let Mode::Transaction(transaction) = &mut channel.mode {
            transaction.rollback(&mut channel.deliveries);
        }
        channel.deliveries.take_all()
    }

    /// Takes what a channel's client has not settled; what it settled in an
    /// open transaction stays with that.
    pub fn take_unsettled(&mut self, channel: u16) -> Vec<Held> {
        self.open_channel(channel)
            .map(|channel| channel.deliveries.take_all())
            .unwrap_or_default()
    }

    /// A channel holds nothing any more: its end is told to the client.
    pub fn channel_released(&mut self, number: u16) {
        let Some(key) = self.channel_key(number) else {
            return;
        };
        self.consumers
            .retain(|_, consumer| consumer.channel_key != key);
        let Some(channel) = self.channels.get_mut(key) else {
            return;
        };
        channel.content = Content::Idle;
        channel.mode = Mode::Plain;
        match std::mem::replace(&mut channel.state, ChannelState::Closing) {
            ChannelState::Releasing(Some(failure)) => {
                let (class_id, method_id) = failure.method;
                let close = ChannelClose {
                    reply_code: failure.code,
                    reply_text: &failure.text,
                    class_id,
                    method_id,
                };
                self.output.method(number, &close);
            }
            ChannelState::Releasing(None) | ChannelState::Open => {
                self.remove_channel(number, key);
                self.output.method(number, &ChannelCloseOk {});
            }
            ChannelState::Closing => {}
        }
    }

    /// The connection holds nothing any more: its end is told to the client.
    pub fn connection_released(&mut self) {
        let Phase::Releasing(farewell) = self.phase else {
            return;
        };
        self.channels.clear();
        self.channel_keys.clear();
        self.last_channel = None;
        self.unconfirmed.clear();
        self.waiting.clear();
        self.consumers.clear();
        match (farewell, self.failure.take()) {
            (Farewell::Close, Some(failure)) => {
                let (class_id, method_id) = failure.method;
                let close = ConnectionClose {
                    reply_code: failure.code,
                    reply_text: &failure.text,
                    class_id,
                    method_id,
                };
                self.output.method(0, &close);
                self.phase = Phase::Closing;
            }
            _ => {
                self.output.method(0, &ConnectionCloseOk {});
                self.phase = Phase::Closed;
            }
        }
    }

    /// A failure at a place: the code says whether channel or connection ends.
    pub(super) fn fail_on(&mut self, number: u16, cause: Cause) {
        if cause.code.scope() != ErrorScope::Channel {
            self.fail(cause);
            return;
        }
        let failure = cause.into_failure();
        if let Some(channel) = self.open_channel(number) {
            channel.state = ChannelState::Releasing(Some(failure.clone()));
            channel.content = Content::Idle;
            self.releasing.push(number);
            self.channel_failures.push((number, failure.text));
        }
    }

    /// A failure that ends the connection, whatever its code.
    pub(super) fn fail(&mut self, cause: Cause) {
        if matches!(
            self.phase,
            Phase::Closing | Phase::Closed | Phase::Releasing(_)
        ) {
            return;
        }
        let failure = cause.into_failure();
        self.end = Some(failure.text.clone());
        self.failure = Some(failure);
        self.phase = Phase::Releasing(Farewell::Close);
    }

    /// The client asked to end the connection.
    pub(super) fn client_closes(&mut self, close: &ConnectionClose<'_>) {
        self.end = Some(format!(
            "closed by the client: {} {}",
            close.reply_code, close.reply_text
        ));
        self.phase = Phase::Releasing(Farewell::CloseOk);
    }

    /// The client asked to end a channel.
    pub(super) fn client_closes_channel(&mut self, number: u16) {
        let Some(channel) = self
            .channel_key(number)
            .and_then(|key| self.channels.get_mut(key))
        else {
            return;
        };
        match channel.state {
            ChannelState::Open => {
                channel.state = ChannelState::Releasing(None);
                channel.content = Content::Idle;
                self.releasing.push(number);
            }
            // Both sides close at once: each gets its close-ok.
            ChannelState::Closing | ChannelState::Releasing(_) => {
                self.output.method(number, &ChannelCloseOk {});
            }
        }
    }

    /// The client answered our `channel.close`: the number is free again.
    pub(super) fn channel_close_ok(&mut self, number: u16) {
        if let Some(key) = self.channel_key(number)
            && let Some(ChannelState::Closing) =
                self.channels.get(key).map(|channel| &channel.state)
        {
            self.remove_channel(number, key);
        }
    }

    fn remove_channel(&mut self, number: u16, key: usize) {
        self.channels.try_remove(key);
        self.channel_keys.remove(&number);
        self.last_channel = None;
        self.unconfirmed.retain(|unconfirmed| *unconfirmed != key);
        self.waiting.retain(|waiting| *waiting != key);
    }

    /// Channels that failed since the last call, with the reply texts, for the log.
    pub fn channel_failures(&mut self) -> Vec<(u16, String)> {
        std::mem::take(&mut self.channel_failures)
    }
}

/// Class and method of `basic.publish`.
pub(super) const PUBLISH_IDS: (u16, u16) = (60, 40);
