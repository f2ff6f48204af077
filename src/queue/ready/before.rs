//! How often messages were delivered before a restart, as far as it is known.

use std::collections::BTreeMap;

use crate::model::Sequence;

/// Deliveries of messages that still wait in the log.
#[derive(Debug, Default)]
pub(super) struct DeliveredBefore {
    /// Messages before this may have been delivered at least once.
    redelivered_below: Sequence,
    known: BTreeMap<Sequence, (u32, u64)>,
}

impl DeliveredBefore {
    pub(super) fn new(redelivered_below: Sequence, known: BTreeMap<Sequence, (u32, u64)>) -> Self {
        Self {
            redelivered_below,
            known,
        }
    }

    /// How often the message was delivered that now leaves the log.
    #[inline]
    pub(super) fn recall(&mut self, place: Sequence) -> u32 {
        let at_least = u32::from(place < self.redelivered_below);
        if self.known.is_empty() {
            return at_least;
        }
        self.recall_known(place).max(at_least)
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    #[cold]
    fn recall_known(&mut self, place: Sequence) -> u32 {
        while let Some(entry) = self.known.first_entry() {
            if *entry.key() > place {
                break;
            }
            // Those before it belong to messages that were lost.
            let (key, (deliveries, _)) = entry.remove_entry();
            if key == place {
                return deliveries;
            }
        }
        0
    }
}
