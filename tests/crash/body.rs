//! Bodies that say who they are and show when they are damaged.
//!
//! ```text
//! producer u16 | 0 u16 | sequence u64 | crc32c of all the rest u32 | filler
//! ```

use super::random::Random;

/// A message: whose, and the how-manieth of that producer. Grows over restarts.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct MessageId {
    pub producer: u16,
    pub sequence: u64,
}

/// The least that a body takes.
pub const BODY_BYTES_MIN: usize = 16;

impl MessageId {
    /// This message's body with that many octets.
    pub fn body(self, bytes: usize) -> Vec<u8> {
        let mut body = Vec::with_capacity(bytes.next_multiple_of(8));
        body.extend(self.producer.to_be_bytes());
        body.extend([0; 2]);
        body.extend(self.sequence.to_be_bytes());
        body.extend([0; 4]);
        let mut filler = Random::new(&[self.producer.into(), self.sequence]);
        while body.len() < bytes {
            body.extend(filler.next().to_be_bytes());
        }
        body.truncate(bytes.max(BODY_BYTES_MIN));
        let checksum = checksum(&body);
        body[12..16].copy_from_slice(&checksum.to_be_bytes());
        body
    }

    /// Whose body this is, if it is whole.
    pub fn of(body: &[u8]) -> Option<Self> {
        let number = |range| {
            body.get(range)
                .and_then(|octets: &[u8]| octets.try_into().ok())
        };
        let stored = u32::from_be_bytes(body.get(12..16)?.try_into().ok()?);
        (stored == checksum(body)).then_some(Self {
            producer: u16::from_be_bytes(body.get(..2)?.try_into().ok()?),
            sequence: u64::from_be_bytes(number(4..12)?),
        })
    }
}

/// Over everything but the checksum.
fn checksum(body: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&body[..12]), &body[16..])
}

/// A size: mostly 16 octets to 4 KiB, some 20 KiB, a few 140 KiB and 1 MiB, the
/// last two longer than a frame. `heavy` has more of the large ones.
pub fn random_bytes(random: &mut Random, heavy: bool) -> usize {
    match random.below(if heavy { 150 } else { 1_000 }) {
        0 => 1024 * 1024,
        1..5 => 140 * 1024,
        5..25 => 20 * 1024,
        25..60 => BODY_BYTES_MIN,
        at => BODY_BYTES_MIN + random.below(if at % 4 == 0 { 4_080 } else { 500 }),
    }
}

#[test]
fn a_changed_octet_is_seen() {
    let id = MessageId {
        producer: 7,
        sequence: 1 << 40,
    };
    for bytes in [BODY_BYTES_MIN, 17, 5_000] {
        let body = id.body(bytes);
        assert_eq!(body.len(), bytes);
        assert_eq!(MessageId::of(&body), Some(id));
        assert_eq!(MessageId::of(&body[..bytes - 1]), None, "cut");
        for at in 0..bytes {
            let mut damaged = body.clone();
            damaged[at] ^= 0x10;
            assert_eq!(MessageId::of(&damaged), None, "octet {at} of {bytes}");
        }
    }
}
