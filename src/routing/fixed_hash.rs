//! Hashes that are the same in every process and on every machine, so that a
//! key stays with its queue over a restart. They shield from no one: whoever
//! chooses the keys may choose where they go.

/// The hash of some octets: FNV-1a, mixed.
pub fn hash_octets(octets: &[u8]) -> u64 {
    hash_parts(&[octets])
}

/// The hash of several pieces; where one ends and the next begins counts.
pub fn hash_parts(parts: &[&[u8]]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325;
    for part in parts {
        for octet in *part {
            hash = (hash ^ u64::from(*octet)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        hash = mix(hash ^ part.len() as u64);
    }
    hash
}

/// Spreads a number over all others, each bit depending on each (splitmix64).
pub fn mix(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// A place among `count` for a number of which all 64 bits are equally good.
pub fn place(number: u64, count: usize) -> usize {
    ((u128::from(number) * count as u128) >> 64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Another hash would move the keys of every exchange to other queues.
    #[test]
    fn hashes_stay_what_they_are() {
        assert_eq!(hash_octets(b""), HASH_OF_NOTHING);
        assert_eq!(hash_octets(b"order-1"), HASH_OF_A_KEY);
        assert_eq!(hash_parts(&[b"a", b"bc"]), HASH_OF_PARTS);
        assert_ne!(hash_parts(&[b"ab", b"c"]), HASH_OF_PARTS);
        assert_ne!(hash_parts(&[b"abc"]), HASH_OF_PARTS);
    }

    #[test]
    fn places_are_within_bounds() {
        for count in [1, 2, 3, 10_000] {
            assert_eq!(place(0, count), 0);
            assert_eq!(place(u64::MAX, count), count - 1);
        }
    }

    const HASH_OF_NOTHING: u64 = 0xc381_7c01_6ba4_ff30;
    const HASH_OF_A_KEY: u64 = 0x3b92_93ba_76b9_88af;
    const HASH_OF_PARTS: u64 = 0x3e3f_c1b2_9bf7_360d;
}
