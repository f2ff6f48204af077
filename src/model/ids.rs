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

/// A moment on the broker's monotonic clock: the time since it started. The
/// pure layers get it as an argument.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Now(pub Duration);
