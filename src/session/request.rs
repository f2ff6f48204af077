//! What a session asks of the broker.

use leveret_protocol::Method;

use crate::model::VhostName;

use super::{Login, Publish, StagedPublish};

/// Something that the session cannot answer by itself. A refusal of any of
/// them goes through [`super::Session::refuse`].
#[derive(Debug)]
pub enum Request<'a> {
    /// Check a login; answered by [`super::Session::logged_in`] or
    /// [`super::Session::login_failed`]. No further request comes before.
    Login(Login),
    /// Open a virtual host; answered by [`super::Session::vhost_opened`] or a
    /// refusal. No further request comes before.
    OpenVhost(VhostName),
    /// Route a message. On a channel in confirm mode it is counted, and
    /// confirmed by the next [`super::Session::confirm_published`], or once what
    /// that waits for is stored ([`super::Session::settle_confirms`]). If a
    /// queue refuses it, [`super::Session::nack_published`] comes first.
    Publish(Publish<'a>),
    /// Check that a message could be published, then
    /// [`super::Session::stage`] it: the channel is transactional.
    Stage(Publish<'a>),
    /// Route these, then answer with `tx.commit-ok`. Their channel's
    /// settlements are in [`super::Session::settlements`].
    Commit {
        /// The transactional channel.
        channel: u16,
        /// Its messages, in order.
        publishes: Vec<StagedPublish>,
    },
    /// Do what the method says and answer it on its channel.
    Call {
        /// An open channel.
        channel: u16,
        /// A method of exchange, queue or basic.
        method: Method<'a>,
    },
    /// Cancel the channel's consumers and take back its unsettled messages
    /// ([`super::Session::take_held`]), then [`super::Session::channel_released`].
    CloseChannel(u16),
    /// Release all channels and exclusive queues, then
    /// [`super::Session::connection_released`].
    CloseConnection,
}

/// What becomes of a delivered message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Settling {
    /// Done.
    Ack,
    /// Refused, not to come back.
    Discard,
    /// Refused, to be delivered again.
    Requeue,
}

/// One message settled by the client. `queue` and `slot` are what the
/// delivery carried; the session does not interpret them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Settlement {
    /// Which queue.
    pub queue: u32,
    /// Which of its unsettled messages.
    pub slot: u32,
    /// What becomes of it.
    pub settling: Settling,
}
