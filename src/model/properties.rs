//! What rules ask of a message's properties. They are read where they stand,
//! each time: most messages are never asked.

use leveret_protocol::header::{self, PROPERTIES_OFFSET, PropertyScan};
use leveret_protocol::{FieldValue, Limits};

use super::Message;

/// The header that says how long a message is to wait, in milliseconds.
pub const DELAY_HEADER: &str = "x-delay";
/// The header that says when a message is to be delivered: milliseconds since
/// 1970, or a timestamp.
pub const DELIVER_AT_HEADER: &str = "x-deliver-at";
/// The header of a message that takes back scheduled ones: their `message-id`.
pub const CANCEL_HEADER: &str = "x-cancel-scheduled";
/// The longest TTL and delay, in milliseconds: ten years, as RabbitMQ has it.
pub const TIMER_MAX: u64 = 315_360_000_000;

impl Message {
    /// Its properties; none of a header that is malformed, as no message's is
    /// that came through a gateway.
    #[must_use]
    pub fn properties(&self) -> PropertyScan<'_> {
        properties(self.header())
    }

    /// Its priority; 0 unless it has one.
    #[must_use]
    pub fn priority(&self) -> u8 {
        header::priority(self.header().get(PROPERTIES_OFFSET..).unwrap_or_default())
    }

    /// Its own TTL in milliseconds.
    #[must_use]
    pub fn expiration(&self) -> Option<u64> {
        if !self.traits().expires() {
            return None;
        }
        let text = self.properties().expiration?;
        // `+1` and `-0` are numbers to RabbitMQ.
        let ttl: i64 = text.parse().ok()?;
        u64::try_from(ttl).ok()
    }

    /// When it is to be delivered, in milliseconds since 1970, if that is
    /// later than its arrival.
    #[must_use]
    pub fn deliver_at(&self) -> Option<u64> {
        if !self.traits().scheduled() {
            return None;
        }
        deliver_at(&self.properties(), self.arrived())
    }

    /// The value of that header.
    #[must_use]
    pub fn header_value(&self, name: &str) -> Option<FieldValue> {
        let found = self.properties().header(name, &Limits::default());
        found.ok().flatten()
    }
}

/// When a message with these properties is to be delivered that arrived at that
/// time; `None` if it is to be at once, or if what it asks for is no number.
#[must_use]
pub fn deliver_at(properties: &PropertyScan<'_>, arrived: u64) -> Option<u64> {
    let header = |name| properties.header(name, &Limits::default()).ok().flatten();
    let at = match header(DELAY_HEADER).and_then(|delay| delay.as_integer()) {
        // Of its arrival the millisecond is known: it is not to be early.
        Some(delay @ 1..) => arrived.saturating_add(delay.unsigned_abs().min(TIMER_MAX) + 1),
        Some(_) => return None,
        None => match header(DELIVER_AT_HEADER)? {
            FieldValue::Timestamp(seconds) => seconds.saturating_mul(1_000),
            other => u64::try_from(other.as_integer()?).ok()?,
        },
    };
    (at > arrived).then_some(at)
}

fn properties(header: &[u8]) -> PropertyScan<'_> {
    let properties = header.get(PROPERTIES_OFFSET..).unwrap_or_default();
    PropertyScan::new(properties).unwrap_or_default()
}
