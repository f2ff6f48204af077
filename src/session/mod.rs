//! One AMQP connection as a state machine: bytes and answers in, requests and
//! bytes out (AMQP 0-9-1 §2.2, §4). No socket, no clock, no broker.
//!
//! The gateway reads octets and calls [`Session::next`] until it asks for more;
//! each [`Request`] is answered through one of the methods that its docs name.
//! What is to be written collects in [`Session::output`].
//!
//! ```text
//! Header ─▶ Start ─▶ LoggingIn ─▶ Tune ─▶ Open ─▶ OpeningVhost ─▶ Running
//!    any of them ─▶ Releasing ─▶ Closing ─▶ Closed
//! ```
//!
//! A channel or connection ends in two steps, whoever ends it: the session asks
//! for its consumers and unsettled messages to be released
//! ([`Request::CloseChannel`], [`Request::CloseConnection`]), and only then
//! says so on the wire. A client that reads close-ok finds the queues in order.

mod channel;
mod close;
mod confirms;
mod content;
mod deliveries;
mod delivery;
mod dispatch;
mod handshake;
mod misuse;
mod output;
mod request;
mod settings;
mod transaction;

use foldhash::HashMap;
use leveret_protocol::Limits;
use leveret_protocol::frame;
use leveret_protocol::method::{ConnectionBlocked, ConnectionUnblocked, EncodeMethod};
use slab::Slab;

use crate::model::ConsumerTag;

use channel::Channel;
pub use content::{BodyIn, Publish};
pub use deliveries::Held;
pub use delivery::{Delivered, Handed};
pub use handshake::{Client, Login};
pub use output::Output;
pub use request::{Request, Settlement, Settling};
pub use settings::SessionSettings;
pub use transaction::StagedPublish;

/// The state of one connection.
#[derive(Debug)]
pub struct Session {
    settings: SessionSettings,
    phase: Phase,
    client: Client,
    /// What the peer may send: small before login, as negotiated after.
    limits: Limits,
    frame_max: u32,
    channel_max: u16,
    heartbeat_seconds: u16,
    channels: Slab<Channel>,
    channel_keys: HashMap<u16, usize>,
    /// The channel of the last frame: nearly always the next one's, too.
    last_channel: Option<(u16, usize)>,
    consumers: HashMap<u32, Consumer>,
    next_consumer_serial: u32,
    /// Channels whose end was decided and whose release is to be asked for.
    releasing: Vec<u16>,
    /// Channels with publishes that were handed over since the last
    /// [`Session::confirm_published`].
    unconfirmed: Vec<usize>,
    /// Channels with publishes that wait for the store, each once.
    waiting: Vec<usize>,
    settlements: Vec<Settlement>,
    /// What `connection.close` will say.
    failure: Option<channel::Failure>,
    channel_failures: Vec<(u16, String)>,
    /// Channels that were opened since the last [`Session::take_opened`].
    opened: Vec<u16>,
    /// Why the connection ends, for the log.
    end: Option<String>,
    output: Output,
}

/// A consumer of this connection.
#[derive(Clone, Debug)]
struct Consumer {
    channel: u16,
    channel_key: usize,
    tag: ConsumerTag,
    queue: u32,
    no_ack: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Phase {
    /// Waiting for the eight octets that every client begins with.
    Header,
    /// Waiting for `connection.start-ok`.
    Start,
    /// Waiting for the gateway's answer to [`Request::Login`].
    LoggingIn,
    /// Waiting for `connection.tune-ok`.
    Tune,
    /// Waiting for `connection.open`.
    Open,
    /// Waiting for the gateway's answer to [`Request::OpenVhost`].
    OpeningVhost,
    Running,
    /// Its end is decided; the gateway is to release what it holds.
    Releasing(close::Farewell),
    /// `connection.close` is sent; only close or close-ok matter now.
    Closing,
    /// Nothing more is read; what is in the output is still to be written.
    Closed,
}

impl Session {
    /// A session that waits for a client's first octets.
    #[must_use]
    pub fn new(settings: SessionSettings) -> Self {
        let limits = Limits {
            frame_max: HANDSHAKE_FRAME_MAX,
            ..settings.limits
        };
        Self {
            phase: Phase::Header,
            client: Client::default(),
            limits,
            frame_max: settings.limits.frame_max,
            channel_max: settings.channel_max,
            heartbeat_seconds: 0,
            channels: Slab::new(),
            channel_keys: HashMap::default(),
            last_channel: None,
            consumers: HashMap::default(),
            next_consumer_serial: 0,
            releasing: Vec::new(),
            unconfirmed: Vec::new(),
            waiting: Vec::new(),
            settlements: Vec::new(),
            failure: None,
            channel_failures: Vec::new(),
            opened: Vec::new(),
            end: None,
            output: Output::default(),
            settings,
        }
    }

    /// What is to be written.
    pub fn output(&mut self) -> &mut Output {
        &mut self.output
    }

    /// Who the client says it is.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Channels that were opened since the last call, to be told of.
    pub fn take_opened(&mut self) -> Vec<u16> {
        std::mem::take(&mut self.opened)
    }

    /// The agreed size of a frame in octets; 0 is without limit.
    #[must_use]
    pub fn frame_max(&self) -> u32 {
        self.frame_max
    }

    /// The agreed number of channels.
    #[must_use]
    pub fn channel_max(&self) -> u16 {
        self.channel_max
    }

    /// The agreed heartbeat interval in seconds; 0 is none.
    #[must_use]
    pub fn heartbeat_seconds(&self) -> u16 {
        self.heartbeat_seconds
    }

    /// Whether the handshake is over and the connection serves requests.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.phase == Phase::Running
    }

    /// Whether [`Session::next`] has something to ask for without more octets:
    /// the end of a channel or of the connection was decided from this side.
    #[must_use]
    pub fn wants_release(&self) -> bool {
        matches!(self.phase, Phase::Releasing(_)) || !self.releasing.is_empty()
    }

    /// Whether nothing more is to be read.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.phase == Phase::Closed
    }

    /// Whether `connection.close` was sent and its answer is awaited.
    #[must_use]
    pub fn is_closing(&self) -> bool {
        self.phase == Phase::Closing
    }

    /// Why the connection ended or is ending, for the log.
    #[must_use]
    pub fn end_reason(&self) -> Option<&str> {
        self.end.as_deref()
    }

    /// What clients settled since the last call.
    pub fn settlements(&mut self) -> &mut Vec<Settlement> {
        &mut self.settlements
    }

    /// Appends a heartbeat.
    pub fn heartbeat(&mut self) {
        self.output.extend(&frame::HEARTBEAT);
    }

    /// The client is not listened to any more, and why, if it wants to know.
    pub fn blocked(&mut self, reason: &str) {
        if self.is_running() && self.client.connection_blocked {
            self.send(0, &ConnectionBlocked { reason });
        }
    }

    /// The client is listened to again, after [`Session::blocked`].
    pub fn unblocked(&mut self) {
        if self.is_running() && self.client.connection_blocked {
            self.send(0, &ConnectionUnblocked {});
        }
    }

    /// Appends a method on a channel; nothing if the channel is not open.
    pub fn reply(&mut self, channel: u16, method: &impl EncodeMethod) {
        if self.open_channel(channel).is_some() {
            self.output.method(channel, method);
        }
    }

    /// The channel of that number if it is open and not ending.
    fn open_channel(&mut self, number: u16) -> Option<&mut Channel> {
        let key = self.channel_key(number)?;
        self.channels
            .get_mut(key)
            .filter(|channel| channel.is_open())
    }

    fn channel_key(&mut self, number: u16) -> Option<usize> {
        match self.last_channel {
            Some((last, key)) if last == number => Some(key),
            _ => {
                let key = *self.channel_keys.get(&number)?;
                self.last_channel = Some((number, key));
                Some(key)
            }
        }
    }

    fn send(&mut self, channel: u16, method: &impl EncodeMethod) {
        self.output.method(channel, method);
    }
}

/// Largest frame before login, so that a stranger cannot make us buffer more.
const HANDSHAKE_FRAME_MAX: u32 = 8_192;

#[cfg(test)]
mod tests;
