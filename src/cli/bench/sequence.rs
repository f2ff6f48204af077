//! Was every message delivered once and in order? (no I/O)
//!
//! A *stream* is what one queue gets of one producer: sequences 0, 1, 2 … without a gap.
//! Each consumer checks what it sees of a stream ([`StreamCheck`]): that sequences grow
//! and come once. With several consumers on a queue each sees a part; at the end the parts
//! are put together ([`StreamVerdict`]), which shows what none or more than one of them saw.
//! Deliveries flagged `redelivered` are counted, but neither out of order nor doubled.

use std::collections::HashMap;

use foldhash::fast::FixedState;

/// What one consumer saw of one stream.
#[derive(Clone, Debug, Default)]
pub struct StreamCheck {
    seen: SequenceSet,
    seen_redelivered: SequenceSet,
    /// One above the highest sequence seen so far.
    beyond: u64,
    duplicated: u64,
    redelivered: u64,
    reordered: u64,
}

impl StreamCheck {
    /// Takes note of a delivery; whether this consumer sees that message for the first time.
    #[inline]
    pub fn record(&mut self, sequence: u64, redelivered: bool) -> bool {
        if redelivered {
            self.redelivered += 1;
            return self.seen_redelivered.insert(sequence) && !self.seen.contains(sequence);
        }
        if !self.seen.insert(sequence) {
            self.duplicated += 1;
            return false;
        }
        if sequence < self.beyond {
            self.reordered += 1;
        } else {
            self.beyond = sequence + 1;
        }
        !self.seen_redelivered.contains(sequence)
    }
}

/// What all consumers of a queue together saw of one stream.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct StreamVerdict {
    /// Different messages that arrived.
    pub arrived: u64,
    /// Messages that did not, though a later one did.
    pub missing: u64,
    /// Deliveries of a message that was delivered before, without the flag.
    pub duplicated: u64,
    /// Deliveries with the flag.
    pub redelivered: u64,
    /// Deliveries that came after a later message, at the same consumer.
    pub reordered: u64,
}

impl StreamVerdict {
    /// Puts the consumers' parts together.
    pub fn of(parts: impl IntoIterator<Item = StreamCheck>) -> Self {
        let mut verdict = Self::default();
        let mut seen = SequenceSet::default();
        let mut seen_redelivered = SequenceSet::default();
        for part in parts {
            verdict.redelivered += part.redelivered;
            verdict.reordered += part.reordered;
            verdict.duplicated += part.duplicated + seen.merge(part.seen);
            seen_redelivered.merge(part.seen_redelivered);
        }
        seen.merge(seen_redelivered);
        verdict.arrived = seen.len();
        verdict.missing = seen.end() - verdict.arrived;
        verdict
    }
}

/// A set of sequences that costs next to nothing while they come without gaps, and one bit
/// per sequence where they do not.
#[derive(Clone, Debug, Default)]
struct SequenceSet {
    /// All sequences below this are in the set.
    contiguous: u64,
    /// The others, by `sequence / CHUNK_BITS`. Bits below `contiguous` mean nothing; a
    /// chunk that lies wholly below it is dropped.
    chunks: HashMap<u64, Box<Chunk>, FixedState>,
}

type Chunk = [u64; CHUNK_WORDS];

impl SequenceSet {
    /// Adds a sequence; whether it was new.
    #[inline]
    fn insert(&mut self, sequence: u64) -> bool {
        if sequence == self.contiguous && self.chunks.is_empty() {
            self.contiguous += 1;
            return true;
        }
        self.insert_apart(sequence)
    }

    fn insert_apart(&mut self, sequence: u64) -> bool {
        if sequence < self.contiguous {
            return false;
        }
        let (chunk, word, bit) = place(sequence);
        let chunk = self
            .chunks
            .entry(chunk)
            .or_insert_with(|| Box::new([0; CHUNK_WORDS]));
        let Some(word) = chunk.get_mut(word) else {
            return false;
        };
        let new = *word & bit == 0;
        *word |= bit;
        if sequence == self.contiguous {
            self.advance();
        }
        new
    }

    fn contains(&self, sequence: u64) -> bool {
        let (chunk, word, bit) = place(sequence);
        sequence < self.contiguous
            || self
                .chunks
                .get(&chunk)
                .and_then(|chunk| chunk.get(word))
                .is_some_and(|word| word & bit != 0)
    }

    /// Moves `contiguous` up over the bits that are set.
    fn advance(&mut self) {
        loop {
            let (index, word, _) = place(self.contiguous);
            let Some(chunk) = self.chunks.get(&index) else {
                return;
            };
            let shift = self.contiguous % 64;
            let ones = chunk
                .get(word)
                .map_or(0, |word| u64::from((word >> shift).trailing_ones()));
            self.contiguous += ones;
            if place(self.contiguous).0 != index {
                self.chunks.remove(&index);
            }
            if shift + ones < 64 {
                return;
            }
        }
    }

    /// Adds all of another set; how many sequences were in both.
    fn merge(&mut self, mut other: Self) -> u64 {
        let lens = self.len() + other.len();
        // The bits below `contiguous` may be missing in the other set's chunks.
        self.contiguous = self.contiguous.max(other.contiguous);
        for (index, theirs) in other.chunks.drain() {
            let ours = self
                .chunks
                .entry(index)
                .or_insert_with(|| Box::new([0; CHUNK_WORDS]));
            ours.iter_mut()
                .zip(theirs.iter())
                .for_each(|(ours, theirs)| *ours |= theirs);
        }
        let first = place(self.contiguous).0;
        self.chunks.retain(|&index, _| index >= first);
        self.advance();
        lens - self.len()
    }

    /// One above the highest sequence.
    fn end(&self) -> u64 {
        let Some((index, chunk)) = self.chunks.iter().max_by_key(|(index, _)| **index) else {
            return self.contiguous;
        };
        let end = (index * CHUNK_BITS..)
            .step_by(64)
            .zip(chunk.iter())
            .filter(|(_, word)| **word != 0)
            .map(|(first, word)| first + 64 - u64::from(word.leading_zeros()))
            .last();
        end.unwrap_or(0).max(self.contiguous)
    }

    /// How many sequences there are.
    fn len(&self) -> u64 {
        let above = |index: u64, chunk: &Chunk| -> u64 {
            let base = index * CHUNK_BITS;
            chunk
                .iter()
                .zip((base..).step_by(64))
                .map(|(&word, first)| {
                    let below = self.contiguous.saturating_sub(first).min(64) as u32;
                    let kept = word.checked_shr(below).unwrap_or(0);
                    u64::from(kept.count_ones())
                })
                .sum()
        };
        let apart: u64 = self
            .chunks
            .iter()
            .map(|(&index, chunk)| above(index, chunk))
            .sum();
        self.contiguous + apart
    }
}

/// Chunk, word in the chunk and bit in the word of a sequence.
#[inline]
fn place(sequence: u64) -> (u64, usize, u64) {
    let word = (sequence % CHUNK_BITS / 64) as usize;
    (sequence / CHUNK_BITS, word, 1 << (sequence % 64))
}

const CHUNK_WORDS: usize = 64;
const CHUNK_BITS: u64 = CHUNK_WORDS as u64 * 64;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn check(deliveries: &[(u64, bool)]) -> StreamCheck {
        let mut stream = StreamCheck::default();
        for &(sequence, redelivered) in deliveries {
            stream.record(sequence, redelivered);
        }
        stream
    }

    #[test]
    fn verdicts_name_what_went_wrong() {
        let fresh = |sequences: &[u64]| -> StreamCheck {
            check(&sequences.iter().map(|&s| (s, false)).collect::<Vec<_>>())
        };
        for (shows, parts, arrived, missing, duplicated, redelivered, reordered) in [
            ("a whole stream", vec![fresh(&[0, 1, 2])], 3, 0, 0, 0, 0),
            ("a gap is lost", vec![fresh(&[0, 2])], 2, 1, 0, 0, 0),
            (
                "doubled at one consumer",
                vec![fresh(&[0, 1, 1])],
                2,
                0,
                1,
                0,
                0,
            ),
            ("swapped", vec![fresh(&[1, 0, 2])], 3, 0, 0, 0, 1),
            (
                "shared by two consumers",
                vec![fresh(&[0, 3]), fresh(&[1, 2])],
                4,
                0,
                0,
                0,
                0,
            ),
            (
                "doubled at two consumers",
                vec![fresh(&[0, 1]), fresh(&[1, 2])],
                3,
                0,
                1,
                0,
                0,
            ),
            (
                "redelivered",
                vec![check(&[(0, false), (1, false), (0, true)])],
                2,
                0,
                0,
                1,
                0,
            ),
            (
                "seen only as redelivered",
                vec![check(&[(0, true), (1, false)])],
                2,
                0,
                0,
                1,
                0,
            ),
            (
                "redelivered elsewhere",
                vec![fresh(&[0]), check(&[(0, true)])],
                1,
                0,
                0,
                1,
                0,
            ),
        ] {
            let expected = StreamVerdict {
                arrived,
                missing,
                duplicated,
                redelivered,
                reordered,
            };
            assert_eq!(StreamVerdict::of(parts), expected, "{shows}");
        }
    }

    #[test]
    fn a_stream_in_order_keeps_no_chunks() {
        let mut set = SequenceSet::default();
        for sequence in (0..3 * CHUNK_BITS)
            .rev()
            .chain(3 * CHUNK_BITS..4 * CHUNK_BITS)
        {
            assert!(set.insert(sequence));
        }
        assert_eq!((set.contiguous, set.chunks.len()), (4 * CHUNK_BITS, 0));
    }

    #[test]
    fn a_wild_sequence_costs_one_chunk() {
        let mut set = SequenceSet::default();
        assert!(set.insert(u64::MAX - 1));
        assert_eq!((set.len(), set.chunks.len()), (1, 1));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100))]

        #[test]
        fn a_set_is_a_set(left in runs(), right in runs()) {
            let (mut one, mut two) = (SequenceSet::default(), SequenceSet::default());
            let (mut model, mut other) = (BTreeSet::new(), BTreeSet::new());
            for sequence in left {
                prop_assert_eq!(one.insert(sequence), model.insert(sequence));
            }
            for sequence in right {
                prop_assert_eq!(two.insert(sequence), other.insert(sequence));
            }
            prop_assert_eq!(one.len(), model.len() as u64);
            prop_assert_eq!(one.merge(two), model.intersection(&other).count() as u64);
            model.append(&mut other);
            prop_assert_eq!(one.len(), model.len() as u64);
            prop_assert_eq!(one.end(), model.last().map_or(0, |last| last + 1));
            for sequence in 0..3 * CHUNK_BITS {
                prop_assert_eq!(one.contains(sequence), model.contains(&sequence));
            }
        }

        #[test]
        fn consumers_that_share_a_stream_see_it_whole(shares in prop::collection::vec(0usize..4, 0..10_000)) {
            let mut parts = vec![StreamCheck::default(); 4];
            for (sequence, &consumer) in shares.iter().enumerate() {
                prop_assert!(parts[consumer].record(sequence as u64, false));
            }
            let arrived = shares.len() as u64;
            prop_assert_eq!(StreamVerdict::of(parts), StreamVerdict { arrived, ..StreamVerdict::default() });
        }
    }

    /// Runs of sequences around the edges of words and chunks.
    fn runs() -> impl Strategy<Value = Vec<u64>> {
        let run = (0..2 * CHUNK_BITS + 200, 0u64..150, any::<bool>());
        prop::collection::vec(run, 0..12).prop_map(|runs| {
            runs.into_iter()
                .flat_map(|(first, length, from_zero)| {
                    let first = if from_zero { 0 } else { first };
                    first..first + length
                })
                .collect()
        })
    }
}
