//! Deliveries of one channel (AMQP 0-9-1 §1.8.3.13).
//!
//! Owns the tags. Invariant: tags grow by one and are never reused; `entries`
//! are in the order of their tags, and its first one is not settled.

use std::collections::VecDeque;

use crate::model::DeliveryTag;

/// A delivered message that the client has not settled.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Held {
    /// Which queue it came from, in the gateway's numbering.
    pub queue: u32,
    /// Which of the queue's unsettled messages it is.
    pub slot: u32,
}

/// A channel's tag counter and its unsettled deliveries.
#[derive(Debug, Default)]
pub(super) struct Deliveries {
    last_tag: u64,
    entries: VecDeque<Entry>,
    settled_out_of_order: usize,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    tag: u64,
    /// `None` once settled, until the entries in front of it are, too.
    held: Option<Held>,
}

impl Deliveries {
    /// The tag of the next delivery; what is held is remembered until settled.
    #[inline]
    pub(super) fn next_tag(&mut self, held: Option<Held>) -> DeliveryTag {
        self.last_tag += 1;
        if held.is_some() {
            self.entries.push_back(Entry {
                tag: self.last_tag,
                held,
            });
        }
        DeliveryTag(self.last_tag)
    }

    /// Takes one delivery, or all up to the tag, out for settling. `false` if
    /// the tag names none: unknown, settled before, or never to be settled.
    pub(super) fn settle(
        &mut self,
        tag: DeliveryTag,
        multiple: bool,
        mut out: impl FnMut(Held),
    ) -> bool {
        if multiple {
            return self.settle_up_to(tag, out);
        }
        if let Some(first) = self.entries.front()
            && first.tag == tag.0
            && let Some(held) = first.held
        {
            self.entries.pop_front();
            self.trim();
            out(held);
            return true;
        }
        let position = self.entries.partition_point(|entry| entry.tag < tag.0);
        let Some(held) = self
            .entries
            .get_mut(position)
            .filter(|entry| entry.tag == tag.0)
            .and_then(|entry| entry.held.take())
        else {
            return false;
        };
        self.settled_out_of_order += 1;
        out(held);
        true
    }

    /// Puts back what [`Deliveries::settle`] took out, as a rollback does.
    pub(super) fn restore(&mut self, mut taken: Vec<(DeliveryTag, Held)>) {
        taken.sort_unstable_by_key(|(tag, _)| *tag);
        for (tag, held) in taken {
            let position = self.entries.partition_point(|entry| entry.tag < tag.0);
            match self.entries.get_mut(position) {
                Some(entry) if entry.tag == tag.0 => {
                    entry.held = Some(held);
                    self.settled_out_of_order -= 1;
                }
                _ => self.entries.insert(
                    position,
                    Entry {
                        tag: tag.0,
                        held: Some(held),
                    },
                ),
            }
        }
    }

    /// As [`Deliveries::settle`], with the tags.
    pub(super) fn take(
        &mut self,
        tag: DeliveryTag,
        multiple: bool,
    ) -> Option<Vec<(DeliveryTag, Held)>> {
        let tags: Vec<u64> = match (multiple, tag.0) {
            (false, tag) => vec![tag],
            (true, 0) => self.tags().collect(),
            (true, tag) => self.tags().take_while(|held| *held <= tag).collect(),
        };
        let mut held = Vec::with_capacity(tags.len());
        self.settle(tag, multiple, |one| held.push(one))
            .then(|| tags.into_iter().map(DeliveryTag).zip(held).collect())
    }

    /// Takes out all that is held, in order.
    pub(super) fn take_all(&mut self) -> Vec<Held> {
        self.settled_out_of_order = 0;
        std::mem::take(&mut self.entries)
            .into_iter()
            .filter_map(|entry| entry.held)
            .collect()
    }

    fn tags(&self) -> impl Iterator<Item = u64> {
        self.entries
            .iter()
            .filter(|entry| entry.held.is_some())
            .map(|entry| entry.tag)
    }

    /// Tag 0 is all, even of nothing; any other must be unsettled itself, as
    /// RabbitMQ has it.
    fn settle_up_to(&mut self, tag: DeliveryTag, mut out: impl FnMut(Held)) -> bool {
        if tag.0 != 0 && !self.is_held(tag) {
            return false;
        }
        let up_to = if tag.0 == 0 { u64::MAX } else { tag.0 };
        while let Some(first) = self.entries.front()
            && first.tag <= up_to
        {
            match first.held {
                Some(held) => out(held),
                None => self.settled_out_of_order -= 1,
            }
            self.entries.pop_front();
        }
        self.trim();
        true
    }

    fn is_held(&self, tag: DeliveryTag) -> bool {
        let position = self.entries.partition_point(|entry| entry.tag < tag.0);
        self.entries
            .get(position)
            .is_some_and(|entry| entry.tag == tag.0 && entry.held.is_some())
    }

    fn trim(&mut self) {
        while self.settled_out_of_order > 0
            && let Some(Entry { held: None, .. }) = self.entries.front()
        {
            self.entries.pop_front();
            self.settled_out_of_order -= 1;
        }
        if self.entries.is_empty() && self.entries.capacity() > KEPT_CAPACITY {
            self.entries = VecDeque::new();
        }
    }
}

/// Entries for which an emptied list keeps its memory.
const KEPT_CAPACITY: usize = 1_024;

#[cfg(test)]
mod tests {
    use super::*;

    fn three() -> Deliveries {
        let mut deliveries = Deliveries::default();
        for slot in 1..=3 {
            deliveries.next_tag(Some(Held { queue: 0, slot }));
        }
        deliveries
    }

    fn settle(deliveries: &mut Deliveries, tag: u64, multiple: bool) -> Option<Vec<u32>> {
        let mut slots = Vec::new();
        deliveries
            .settle(DeliveryTag(tag), multiple, |held| slots.push(held.slot))
            .then_some(slots)
    }

    #[test]
    fn a_tag_is_settled_once() {
        let mut deliveries = three();
        assert_eq!(settle(&mut deliveries, 2, false), Some(vec![2]));
        assert_eq!(settle(&mut deliveries, 2, false), None, "settled already");
        assert_eq!(settle(&mut deliveries, 4, false), None, "never given out");
        assert_eq!(
            settle(&mut deliveries, 0, false),
            None,
            "0 alone names nothing"
        );
        assert_eq!(settle(&mut deliveries, 3, true), Some(vec![1, 3]));
        assert_eq!(settle(&mut deliveries, 3, true), None);
        assert_eq!(
            settle(&mut deliveries, 0, true),
            Some(vec![]),
            "all of nothing is fine"
        );
    }

    #[test]
    fn tags_go_on_after_deliveries_without_ack() {
        let mut deliveries = Deliveries::default();
        assert_eq!(deliveries.next_tag(None), DeliveryTag(1));
        assert_eq!(
            deliveries.next_tag(Some(Held { queue: 0, slot: 9 })),
            DeliveryTag(2)
        );
        assert_eq!(settle(&mut deliveries, 1, false), None, "nothing to settle");
        assert_eq!(settle(&mut deliveries, 2, false), Some(vec![9]));
        assert!(deliveries.entries.is_empty());
    }

    #[test]
    fn what_a_rollback_restores_can_be_settled_again() {
        let mut deliveries = three();
        let mut taken = deliveries.take(DeliveryTag(2), false).unwrap();
        taken.extend(deliveries.take(DeliveryTag(1), false).unwrap());
        assert_eq!(deliveries.take(DeliveryTag(1), false), None);
        deliveries.restore(taken);
        assert_eq!(settle(&mut deliveries, 3, true), Some(vec![1, 2, 3]));
        assert_eq!(deliveries.settled_out_of_order, 0);
    }
}
