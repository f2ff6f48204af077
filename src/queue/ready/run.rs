//! Messages in memory that follow each other in the log.
//!
//! They are consecutive, so that the place of the first tells all, unless they
//! come out of a restored queue: then each place may have to be listed.

use std::collections::VecDeque;
use std::collections::vec_deque::Drain;

use crate::model::{MEMORY_OVERHEAD_BYTES, Message, Sequence, SequenceRange};

/// A run of messages, oldest first.
#[derive(Clone, Debug, Default)]
pub(in crate::queue) struct Run {
    /// Of the first message; of the next one to come, where that is known, if
    /// there is none.
    first: Sequence,
    messages: VecDeque<Message>,
    /// Of each message; empty while they are consecutive.
    listed: VecDeque<Sequence>,
    memory_bytes: u64,
}

/// The places of messages that are taken out, ascending.
#[derive(Debug)]
pub(in crate::queue) enum Places<'a> {
    Range(SequenceRange),
    Listed(Drain<'a, Sequence>),
}

impl Iterator for Places<'_> {
    type Item = Sequence;

    #[inline]
    fn next(&mut self) -> Option<Sequence> {
        match self {
            Self::Range(range) => {
                let first = range.first;
                range.first.0 += 1;
                (first < range.end).then_some(first)
            }
            Self::Listed(places) => places.next(),
        }
    }
}

/// What messages come to, in octets.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::queue) struct Size {
    /// As stored.
    pub(in crate::queue) stored_bytes: u64,
    /// In memory.
    pub(super) memory_bytes: u64,
}

impl Size {
    pub(super) fn of(messages: &[Message]) -> Self {
        let mut size = Self {
            stored_bytes: 0,
            memory_bytes: 0,
        };
        for message in messages {
            size.stored_bytes += message.stored_bytes() as u64;
            size.memory_bytes += message.memory_bytes() as u64;
        }
        size
    }
}

impl Run {
    pub(super) fn len(&self) -> u64 {
        self.messages.len() as u64
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Place of the first message.
    pub(in crate::queue) fn first(&self) -> Sequence {
        self.first
    }

    #[inline]
    pub(in crate::queue) fn memory_bytes(&self) -> u64 {
        self.memory_bytes
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.messages.capacity()
    }

    /// Messages that were read at once, consecutive from `first` on.
    pub(super) fn consecutive(first: Sequence, messages: Vec<Message>, memory_bytes: u64) -> Self {
        Self {
            first,
            messages: messages.into(),
            listed: VecDeque::new(),
            memory_bytes,
        }
    }

    /// The messages, each with its place.
    pub(in crate::queue) fn iter(&self) -> impl Iterator<Item = (Sequence, &Message)> {
        self.messages.iter().enumerate().map(|(index, message)| {
            let listed = self.listed.get(index).copied();
            let place = listed.unwrap_or(Sequence(self.first.0 + index as u64));
            (place, message)
        })
    }

    /// Appends consecutive messages, leaving the vec empty; `memory_bytes` is
    /// what they come to.
    #[inline]
    pub(super) fn append(
        &mut self,
        place: Sequence,
        messages: &mut Vec<Message>,
        memory_bytes: u64,
    ) {
        if self.messages.is_empty() {
            self.first = place;
        } else if !self.goes_on_with(place) {
            let places = (place.0..).map(Sequence);
            for (place, message) in places.zip(messages.drain(..)) {
                self.push(place, message);
            }
            return;
        }
        self.memory_bytes += memory_bytes;
        self.messages.extend(messages.drain(..));
    }

    /// Appends a message, with or without a gap before it.
    pub(in crate::queue) fn push(&mut self, place: Sequence, message: Message) {
        if self.messages.is_empty() {
            self.first = place;
        } else if !self.goes_on_with(place) {
            self.list(place);
        }
        self.memory_bytes += message.memory_bytes() as u64;
        self.messages.push_back(message);
    }

    /// Takes out the first message.
    #[inline]
    pub(super) fn pop(&mut self) -> Option<(Sequence, Message)> {
        let message = self.messages.pop_front()?;
        let place = self.first;
        self.memory_bytes -= message.memory_bytes() as u64;
        if self.listed.is_empty() {
            self.first.0 += 1;
        } else {
            self.pop_listed();
        }
        Some((place, message))
    }

    /// How many of the oldest messages come to `bytes_max` octets as stored, the
    /// one that reaches them included, but no more than `count_max`.
    pub(super) fn measure(&self, count_max: usize, bytes_max: usize) -> (usize, Size) {
        let (mut count, mut stored_bytes) = (0, 0);
        for message in self.messages.iter().take(count_max) {
            count += 1;
            stored_bytes += message.stored_bytes();
            if stored_bytes >= bytes_max {
                break;
            }
        }
        let size = Size {
            stored_bytes: stored_bytes as u64,
            memory_bytes: (stored_bytes + count * MEMORY_OVERHEAD_BYTES) as u64,
        };
        (count, size)
    }

    /// Takes out the oldest messages, as many as were [measured](Self::measure).
    pub(super) fn take(&mut self, count: usize, size: Size) -> (Places<'_>, Drain<'_, Message>) {
        self.memory_bytes -= size.memory_bytes;
        let places = if self.listed.is_empty() {
            let first = self.first;
            self.first.0 += count as u64;
            Places::Range(SequenceRange::new(first, count as u64))
        } else {
            if let Some(next) = self.listed.get(count) {
                self.first = *next;
            }
            Places::Listed(self.listed.drain(..count))
        };
        (places, self.messages.drain(..count))
    }

    /// The first message.
    #[inline]
    pub(super) fn peek(&self) -> Option<&Message> {
        self.messages.front()
    }

    /// Takes out the message in that place, wherever it stands.
    pub(in crate::queue) fn remove(&mut self, place: Sequence) -> Option<Message> {
        if place == self.first {
            return self.pop().map(|(_, message)| message);
        }
        let index = if self.listed.is_empty() {
            usize::try_from(place.0.checked_sub(self.first.0)?).ok()?
        } else {
            self.listed.binary_search(&place).ok()?
        };
        if index + 1 < self.messages.len() && self.listed.is_empty() {
            let consecutive = self.first.0..self.first.0 + self.len();
            self.listed.extend(consecutive.map(Sequence));
        }
        let message = self.messages.remove(index)?;
        self.listed.remove(index);
        self.memory_bytes -= message.memory_bytes() as u64;
        Some(message)
    }

    /// Octets of the bodies, counted.
    pub(super) fn body_bytes(&self) -> u64 {
        self.messages.iter().map(Message::body_bytes).sum::<usize>() as u64
    }

    /// Drops all messages, but keeps the memory.
    pub(super) fn clear(&mut self) {
        self.messages.clear();
        self.listed = VecDeque::new();
        self.memory_bytes = 0;
    }

    /// Returns memory once most messages are gone. Acting at an eighth and
    /// leaving room for four times the rest costs each message a small
    /// constant, however the length swings.
    pub(super) fn shrink(&mut self) {
        let (waiting, capacity) = (self.messages.len(), self.messages.capacity());
        if capacity > CAPACITY_KEPT && waiting < capacity / 8 {
            self.messages.shrink_to(CAPACITY_KEPT.max(waiting * 4));
        }
    }

    fn goes_on_with(&self, place: Sequence) -> bool {
        self.listed.is_empty() && place.0 == self.first.0 + self.len()
    }

    #[cold]
    fn list(&mut self, place: Sequence) {
        if self.listed.is_empty() {
            let consecutive = self.first.0..self.first.0 + self.len();
            self.listed.extend(consecutive.map(Sequence));
        }
        debug_assert!(self.listed.back() < Some(&place), "places ascend");
        self.listed.push_back(place);
    }

    #[cold]
    fn pop_listed(&mut self) {
        self.listed.pop_front();
        if let Some(place) = self.listed.front() {
            self.first = *place;
        } else {
            self.first.0 += 1;
            self.listed = VecDeque::new();
        }
    }
}

/// Messages for which there stays room in an empty run (16 octets each).
const CAPACITY_KEPT: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_listed_only_while_there_are_gaps() {
        let mut run = Run::default();
        let message = || Message::single("", "q", b"", b"");
        for place in [3, 4, 8, 9] {
            run.push(Sequence(place), message());
        }
        run.append(Sequence(10), &mut vec![message(), message()], 0);
        let places: Vec<_> = run.iter().map(|(place, _)| place.0).collect();
        assert_eq!(places, [3, 4, 8, 9, 10, 11]);
        let places: Vec<_> = std::iter::from_fn(|| run.pop().map(|one| one.0.0)).collect();
        assert_eq!(places, [3, 4, 8, 9, 10, 11]);
        assert_eq!(run.memory_bytes(), 0);
        run.push(Sequence(20), message());
        assert_eq!(
            run.iter().next().map(|(place, _)| place),
            Some(Sequence(20))
        );
    }
}
