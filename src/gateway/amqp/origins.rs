//! Where a batch's messages come from: a queue that refuses one names it by its
//! number in the batch, the client is told by channel and publish.

use crate::model::PublishSeqNo;

/// The messages of one batch, as runs of consecutive publishes of a channel:
/// mostly there is one run.
#[derive(Debug, Default)]
pub(super) struct Origins(Vec<Origin>);

/// Messages from `number` on, up to the next run.
#[derive(Clone, Copy, Debug)]
struct Origin {
    number: u32,
    channel: u16,
    /// The first one's number on its channel; 0 if it awaits no confirm, and
    /// neither do those that follow.
    confirm: PublishSeqNo,
}

impl Origins {
    /// A message has joined the batch; `confirm` is 0 if it awaits none.
    pub(super) fn add(&mut self, number: u32, channel: u16, confirm: PublishSeqNo) {
        if let Some(last) = self.0.last() {
            let goes_on = last.channel == channel
                && last.confirm.0.wrapping_add(u64::from(number - last.number)) == confirm.0;
            let is_silent = last.confirm.0 == 0 && confirm.0 == 0;
            if is_silent || (goes_on && last.confirm.0 != 0) {
                return;
            }
        }
        self.0.push(Origin {
            number,
            channel,
            confirm,
        });
    }

    /// The channel and publish of a message, if it awaits a confirm.
    pub(super) fn find(&self, number: u32) -> Option<(u16, PublishSeqNo)> {
        let behind = self.0.partition_point(|origin| origin.number <= number);
        let origin = self.0.get(behind.checked_sub(1)?)?;
        if origin.confirm.0 == 0 {
            return None;
        }
        let confirm = origin.confirm.0 + u64::from(number - origin.number);
        Some((origin.channel, PublishSeqNo(confirm)))
    }

    /// The next batch begins.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_message_is_found_however_channels_and_modes_are_mixed() {
        // Channel 3 awaits no confirms; a number is left out where a publish
        // reached no queue.
        let published = [
            (1, 5),
            (1, 6),
            (1, 8),
            (2, 1),
            (3, 0),
            (3, 0),
            (4, 0),
            (1, 9),
            (2, 2),
            (2, 3),
            (1, 10),
        ];
        let mut origins = Origins::default();
        for (number, (channel, confirm)) in published.into_iter().enumerate() {
            origins.add(number as u32, channel, PublishSeqNo(confirm));
        }
        for (number, (channel, confirm)) in published.into_iter().enumerate() {
            let awaits = (confirm != 0).then_some((channel, PublishSeqNo(confirm)));
            assert_eq!(origins.find(number as u32), awaits, "message {number}");
        }
        origins.clear();
        assert_eq!(origins.find(0), None);
    }

    #[test]
    fn consecutive_publishes_take_one_entry() {
        let mut origins = Origins::default();
        for number in 0..1_000 {
            origins.add(number, 1, PublishSeqNo(u64::from(number) + 7));
        }
        assert_eq!(origins.0.len(), 1);
        assert_eq!(origins.find(999), Some((1, PublishSeqNo(1_006))));
    }
}
