//! Publisher confirms of one channel that are still due (no I/O).
//!
//! Tags count publishes from 1. At most `window` are outstanding; the broker settles them
//! one by one or all up to a tag, in any order, each once. A settlement of a tag that is
//! not outstanding is a fault of the broker.

/// The outstanding publishes with their due times.
#[derive(Debug)]
pub struct Confirms {
    window: u64,
    /// Due time by `tag % len`, or [`SETTLED`]; the length is a power of two.
    slots: Vec<u64>,
    /// The lowest tag that may be outstanding.
    first: u64,
    /// The tag of the next publish.
    next: u64,
    outstanding: u64,
}

/// A settlement names a tag that is not outstanding.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct UnknownTag(pub u64);

impl Confirms {
    /// None outstanding.
    pub fn new(window: u32) -> Self {
        let window = u64::from(window.max(1));
        // Room for twice the window, so that one late tag does not stop the publisher.
        let slots = (2 * window).next_power_of_two() as usize;
        Self {
            window,
            slots: vec![SETTLED; slots],
            first: 1,
            next: 1,
            outstanding: 0,
        }
    }

    /// How many more may be published now.
    pub fn room(&self) -> u64 {
        let span = self.next - self.first;
        (self.window - self.outstanding).min(self.slots.len() as u64 - span)
    }

    /// Whether every publish was settled.
    pub fn is_empty(&self) -> bool {
        self.outstanding == 0
    }

    /// Takes note of a publish that was due at that time.
    #[inline]
    pub fn published(&mut self, due_ns: u64) {
        debug_assert!(self.room() > 0, "the caller asks for room first");
        if let Some(slot) = self.slot(self.next) {
            *slot = due_ns.min(SETTLED - 1);
        }
        self.next += 1;
        self.outstanding += 1;
    }

    /// Settles a tag, with `multiple` all up to it (0: all); `each` gets their due times.
    ///
    /// # Errors
    /// If there is nothing outstanding that the tag stands for.
    pub fn settle(
        &mut self,
        tag: u64,
        multiple: bool,
        mut each: impl FnMut(u64),
    ) -> Result<(), UnknownTag> {
        let last = if multiple && tag == 0 {
            self.next - 1
        } else {
            tag
        };
        if last >= self.next || last < self.first {
            return Err(UnknownTag(tag));
        }
        let before = self.outstanding;
        for tag in if multiple { self.first } else { last }..=last {
            let due_ns = self.slot(tag).map(|slot| std::mem::replace(slot, SETTLED));
            if let Some(due_ns) = due_ns.filter(|&due_ns| due_ns != SETTLED) {
                self.outstanding -= 1;
                each(due_ns);
            }
        }
        while self.first < self.next && self.slot(self.first).is_some_and(|slot| *slot == SETTLED) {
            self.first += 1;
        }
        if self.outstanding < before {
            Ok(())
        } else {
            Err(UnknownTag(tag))
        }
    }

    fn slot(&mut self, tag: u64) -> Option<&mut u64> {
        let mask = self.slots.len() as u64 - 1;
        self.slots.get_mut((tag & mask) as usize)
    }
}

const SETTLED: u64 = u64::MAX;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn settle(confirms: &mut Confirms, tag: u64, multiple: bool) -> Result<Vec<u64>, UnknownTag> {
        let mut settled = Vec::new();
        confirms
            .settle(tag, multiple, |due_ns| settled.push(due_ns))
            .map(|()| settled)
    }

    #[test]
    fn the_window_opens_with_each_settlement() {
        let mut confirms = Confirms::new(3);
        (10..13).for_each(|due_ns| confirms.published(due_ns));
        assert_eq!(confirms.room(), 0);
        assert_eq!(settle(&mut confirms, 2, true), Ok(vec![10, 11]));
        assert_eq!(confirms.room(), 2);
        assert_eq!(settle(&mut confirms, 3, false), Ok(vec![12]));
        assert!(confirms.is_empty());
    }

    #[test]
    fn one_late_tag_does_not_stop_the_others() {
        let mut confirms = Confirms::new(2);
        confirms.published(1);
        confirms.published(2);
        assert_eq!(settle(&mut confirms, 2, false), Ok(vec![2]));
        assert_eq!(confirms.room(), 1);
        confirms.published(3);
        assert_eq!(settle(&mut confirms, 3, true), Ok(vec![1, 3]));
    }

    #[test]
    fn a_tag_is_settled_once() {
        let mut confirms = Confirms::new(4);
        assert_eq!(settle(&mut confirms, 1, false), Err(UnknownTag(1)));
        confirms.published(7);
        assert_eq!(settle(&mut confirms, 2, true), Err(UnknownTag(2)));
        assert_eq!(settle(&mut confirms, 1, false), Ok(vec![7]));
        assert_eq!(settle(&mut confirms, 1, false), Err(UnknownTag(1)));
        assert_eq!(settle(&mut confirms, 1, true), Err(UnknownTag(1)));
        assert_eq!(settle(&mut confirms, 0, true), Err(UnknownTag(0)));
    }

    proptest! {
        #[test]
        fn settles_what_a_map_would(window in 1u32..20, steps in prop::collection::vec((0u64..30, any::<bool>(), any::<bool>()), 0..200)) {
            let mut confirms = Confirms::new(window);
            let mut model = BTreeMap::new();
            let mut next = 1u64;
            for (number, multiple, publish) in steps {
                if publish {
                    for _ in 0..number.min(confirms.room()) {
                        confirms.published(next * 3);
                        model.insert(next, next * 3);
                        next += 1;
                    }
                } else {
                    let tag = (next + 4).saturating_sub(number);
                    let expected: Vec<u64> = match (tag, multiple) {
                        (0, true) => std::mem::take(&mut model).into_values().collect(),
                        (tag, _) if tag >= next => Vec::new(),
                        (tag, true) => {
                            let rest = model.split_off(&(tag + 1));
                            std::mem::replace(&mut model, rest).into_values().collect()
                        }
                        (tag, false) => model.remove(&tag).into_iter().collect(),
                    };
                    let settled = settle(&mut confirms, tag, multiple);
                    prop_assert_eq!(settled.unwrap_or_default(), expected);
                }
                prop_assert!(model.len() <= window as usize);
                prop_assert_eq!(confirms.is_empty(), model.is_empty());
            }
        }
    }
}
