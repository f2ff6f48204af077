//! How often messages were delivered before a restart, as far as it is known.

use std::collections::BTreeMap;

use crate::model::Sequence;

/// Deliveries of messages that still wait in the log.
#[derive(Debug, Default)]
pub(in crate::queue) struct DeliveredBefore {
    /// Messages before this may have been delivered at least once.
    redelivered_below: Sequence,
    known: BTreeMap<Sequence, (u32, u64)>,
}

impl DeliveredBefore {
    pub(in crate::queue) fn new(
        redelivered_below: Sequence,
        known: BTreeMap<Sequence, (u32, u64)>,
    ) -> Self {
        Self {
            redelivered_below,
            known,
        }
    }

    /// How often the message was delivered that now leaves the log.
    #[inline]
    pub(in crate::queue) fn recall(&mut self, place: Sequence) -> u32 {
        let at_least = u32::from(place < self.redelivered_below);
        if self.known.is_empty() {
            return at_least;
        }
        let known = self.known.remove(&place);
        known.map_or(at_least, |(deliveries, _)| deliveries.max(at_least))
    }

    /// Until when the message has to wait, in milliseconds since 1970; 0 if it
    /// has not.
    pub(in crate::queue) fn due(&self, place: Sequence) -> u64 {
        self.known.get(&place).map_or(0, |(_, due)| *due)
    }

    /// Whether no message from that place on is known to have been delivered.
    #[inline]
    pub(in crate::queue) fn is_past(&self, place: Sequence) -> bool {
        self.known.is_empty() && place >= self.redelivered_below
    }

    /// Whether nothing is known of single messages.
    pub(in crate::queue) fn is_empty(&self) -> bool {
        self.known.is_empty()
    }
}
