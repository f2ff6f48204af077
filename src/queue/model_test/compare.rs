//! What stays true after every operation.

use super::consumers::key;
use super::{Channel, Run, State};
use crate::queue::{ConsumerSlot, Counts};

impl Run {
    pub(super) fn compare(&mut self) {
        assert!(
            self.letters.is_empty(),
            "dead without a reason: {:?}",
            self.letters
        );
        self.compare_store();
        self.check_next_due();
        self.compare_aside();
        self.compare_counts();
        self.compare_consumers();
    }

    /// What stands with its group; a message that dies on its own needs this.
    fn compare_aside(&self) {
        for (index, entry) in self.messages.iter().enumerate() {
            let said = self.is_set_aside(index);
            assert_eq!(said, entry.aside, "whether {} is set aside", entry.number);
        }
    }

    fn compare_counts(&self) {
        let ready = self.messages.iter().filter(|entry| entry.is_ready());
        let ready_bytes = ready.map(|entry| entry.message.stored_bytes());
        assert_eq!(
            self.queue.counts(),
            Counts {
                ready: self.count(|state| state == State::Ready),
                ready_bytes: ready_bytes.sum::<usize>() as u64,
                scheduled: self.count(|state| matches!(state, State::Scheduled { .. })),
                unsettled: self.count(|state| matches!(state, State::Unsettled { .. })),
                consumers: self.consumers.len() as u32,
                enqueued: self.enqueued,
                settled: self.settled,
                duplicates: self.duplicates,
                purged: self.purged,
                lost: self.lost,
            }
        );
        for (channel, Channel { credit, .. }) in self.channels.iter().enumerate() {
            assert_eq!(
                credit.held(),
                self.held_by_channel(channel),
                "credit of channel {channel}"
            );
        }
    }

    fn compare_consumers(&mut self) {
        let listed: Vec<_> = self
            .queue
            .consumers()
            .map(|(slot, spec)| (slot.0, spec.key))
            .collect();
        let expected: Vec<_> = self
            .consumers
            .iter()
            .map(|(slot, consumer)| (*slot, key(consumer.serial)))
            .collect();
        assert_eq!(listed, expected);
        assert_eq!(
            self.queue.single_active(),
            self.active.map(ConsumerSlot),
            "the single active consumer"
        );
        let unable: Vec<u32> = self
            .consumers
            .keys()
            .copied()
            .filter(|slot| !self.can_take(*slot))
            .collect();
        for slot in unable {
            self.consumers.get_mut(&slot).unwrap().passed_over.clear();
        }
    }
}
