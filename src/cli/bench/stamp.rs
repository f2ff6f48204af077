//! The first 16 octets of every body: whose message it is, which one, and when it was due.
//!
//! ```text
//! producer 2 │ sequence 6 │ due, ns since the run began 8      (big-endian)
//! ```
//! The sequence counts from 0 per producer and lane (see [`super::scenario`]), so that
//! every queue must see whole sequences.

/// Octets of a stamp; the smallest body.
pub const STAMP_BYTES: usize = 16;

/// What a message says about itself.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Stamp {
    /// Who published it.
    pub producer: u16,
    /// Its place among the producer's messages of that lane; below 2^48.
    pub sequence: u64,
    /// When it was due to be sent, in nanoseconds of the run's clock.
    pub due_ns: u64,
}

impl Stamp {
    /// The octets.
    #[inline]
    pub fn encode(&self) -> [u8; STAMP_BYTES] {
        let id = u64::from(self.producer) << SEQUENCE_BITS | self.sequence & SEQUENCE_MASK;
        (u128::from(id) << 64 | u128::from(self.due_ns)).to_be_bytes()
    }

    /// Reads the octets; any 16 octets are a stamp.
    #[inline]
    pub fn decode(octets: &[u8; STAMP_BYTES]) -> Self {
        let both = u128::from_be_bytes(*octets);
        let id = (both >> 64) as u64;
        Self {
            producer: (id >> SEQUENCE_BITS) as u16,
            sequence: id & SEQUENCE_MASK,
            due_ns: both as u64,
        }
    }
}

const SEQUENCE_BITS: u32 = 48;
const SEQUENCE_MASK: u64 = (1 << SEQUENCE_BITS) - 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_survives() {
        for (producer, sequence, due_ns) in
            [(0, 0, 0), (1, 2, 3), (u16::MAX, SEQUENCE_MASK, u64::MAX)]
        {
            let stamp = Stamp {
                producer,
                sequence,
                due_ns,
            };
            assert_eq!(Stamp::decode(&stamp.encode()), stamp);
        }
    }
}
