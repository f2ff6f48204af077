//! Whose turn it is: the consumers that can take a message, in one ring per
//! priority.
//!
//! ```text
//! levels  -1: ○ turn      7: ○ turn          the last level is served first
//!             │              │
//!             a ⇄ b ⇄ c      d               the ring closes: c ⇄ a
//! ```
//!
//! A level exists while somebody on it can take, so the next consumer is found
//! in one step whatever the number of consumers and priorities. Only blocking
//! and unblocking looks for a level, by binary search.

use super::ConsumerSlot;

/// The rings. Which slots are in one is known to the caller, who enters and
/// leaves each slot in turn.
#[derive(Debug, Default)]
pub(super) struct Rotation {
    /// Neighbours in the ring, by consumer slot.
    links: Vec<Link>,
    /// By rising priority; none is empty.
    levels: Vec<Level>,
}

#[derive(Clone, Copy, Debug)]
struct Link {
    previous: u32,
    next: u32,
}

#[derive(Debug)]
struct Level {
    priority: i32,
    /// Whose turn it is.
    turn: u32,
}

impl Rotation {
    /// Whether nobody can take.
    pub(super) fn is_empty(&self) -> bool {
        self.levels.is_empty()
    }

    /// Whose turn it is.
    #[inline]
    pub(super) fn turn(&self) -> Option<ConsumerSlot> {
        self.levels.last().map(|level| ConsumerSlot(level.turn))
    }

    /// Whose turn it is, if it would be again after.
    #[inline]
    pub(super) fn only(&self) -> Option<ConsumerSlot> {
        let turn = self.levels.last()?.turn;
        let link = self.links.get(turn as usize)?;
        (link.next == turn).then_some(ConsumerSlot(turn))
    }

    /// Passes the turn on within the highest level.
    #[inline]
    pub(super) fn advance(&mut self) {
        if let Some(level) = self.levels.last_mut() {
            level.turn = self.links[level.turn as usize].next;
        }
    }

    /// Puts a consumer at the end of its ring.
    pub(super) fn enter(&mut self, ConsumerSlot(slot): ConsumerSlot, priority: i32) {
        if self.links.len() <= slot as usize {
            self.links.resize(slot as usize + 1, Link::to(slot));
        }
        match self.find(priority) {
            Ok(level) => {
                let turn = self.levels[level].turn;
                let last = self.links[turn as usize].previous;
                self.links[slot as usize] = Link {
                    previous: last,
                    next: turn,
                };
                self.links[last as usize].next = slot;
                self.links[turn as usize].previous = slot;
            }
            Err(level) => {
                self.links[slot as usize] = Link::to(slot);
                let turn = slot;
                self.levels.insert(level, Level { priority, turn });
            }
        }
    }

    /// Takes a consumer out of its ring; if it had the turn, that passes on.
    pub(super) fn leave(&mut self, ConsumerSlot(slot): ConsumerSlot, priority: i32) {
        let Ok(level) = self.find(priority) else {
            debug_assert!(false, "a consumer left that had not entered");
            return;
        };
        let Link { previous, next } = self.links[slot as usize];
        if next == slot {
            self.levels.remove(level);
            return;
        }
        self.links[previous as usize].next = next;
        self.links[next as usize].previous = previous;
        let level = &mut self.levels[level];
        if level.turn == slot {
            level.turn = next;
        }
    }

    fn find(&self, priority: i32) -> Result<usize, usize> {
        self.levels
            .binary_search_by_key(&priority, |level| level.priority)
    }
}

impl Link {
    /// A ring of one.
    fn to(slot: u32) -> Self {
        Self {
            previous: slot,
            next: slot,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turns(rotation: &mut Rotation, count: usize) -> Vec<u32> {
        let mut turns = Vec::new();
        for _ in 0..count {
            turns.extend(rotation.turn().map(|slot| slot.0));
            rotation.advance();
        }
        turns
    }

    #[test]
    fn the_turn_goes_round() {
        let mut rotation = Rotation::default();
        for slot in [3, 0, 2] {
            rotation.enter(ConsumerSlot(slot), 0);
        }
        assert_eq!(turns(&mut rotation, 5), [3, 0, 2, 3, 0]);
    }

    #[test]
    fn who_leaves_passes_the_turn_on_and_comes_back_last() {
        let mut rotation = Rotation::default();
        for slot in [0, 1, 2] {
            rotation.enter(ConsumerSlot(slot), 0);
        }
        rotation.leave(ConsumerSlot(0), 0);
        assert_eq!(rotation.turn(), Some(ConsumerSlot(1)));
        rotation.enter(ConsumerSlot(0), 0);
        assert_eq!(turns(&mut rotation, 3), [1, 2, 0]);
    }

    #[test]
    fn the_highest_priority_with_anybody_is_served() {
        let mut rotation = Rotation::default();
        rotation.enter(ConsumerSlot(0), -1);
        rotation.enter(ConsumerSlot(1), 7);
        rotation.enter(ConsumerSlot(2), 0);
        assert_eq!(turns(&mut rotation, 2), [1, 1]);
        rotation.leave(ConsumerSlot(1), 7);
        assert_eq!(rotation.turn(), Some(ConsumerSlot(2)));
        rotation.leave(ConsumerSlot(2), 0);
        assert_eq!(rotation.turn(), Some(ConsumerSlot(0)));
        rotation.leave(ConsumerSlot(0), -1);
        assert!(rotation.is_empty());
        assert_eq!(rotation.turn(), None);
    }
}
