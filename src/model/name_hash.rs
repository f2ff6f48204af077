//! What a queue remembers of a message's name.

use std::fmt;

/// A name's hash: SipHash-2-4 with 128 bits and a key of zeros, as it is stored.
///
/// With a hundred million of them the chance that any two are the same is 10⁻²³.
///
/// Two numbers, little-endian one behind the other: they stay in registers where
/// sixteen octets would be written in halves and waited for to be read as a whole.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct NameHash(u64, u64);

impl NameHash {
    /// The hash of a name.
    #[must_use]
    pub fn of(name: &[u8]) -> Self {
        let [low, high] = sip_hash([0, 0], name);
        Self(low, high)
    }

    /// The same, from its octets.
    #[must_use]
    pub fn from_octets(octets: [u8; 16]) -> Self {
        let whole = u128::from_le_bytes(octets);
        Self(whole as u64, (whole >> 64) as u64)
    }

    /// Its octets.
    #[must_use]
    pub fn octets(self) -> [u8; 16] {
        (u128::from(self.1) << 64 | u128::from(self.0)).to_le_bytes()
    }
}

impl fmt::Debug for NameHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.octets()))
    }
}

/// SipHash-2-4 with 128 bits, as its authors' reference code has it.
fn sip_hash([k0, k1]: [u64; 2], octets: &[u8]) -> [u64; 2] {
    let mut state = State([
        k0 ^ 0x736f_6d65_7073_6575,
        k1 ^ 0x646f_7261_6e64_6f6d ^ 0xee,
        k0 ^ 0x6c79_6765_6e65_7261,
        k1 ^ 0x7465_6462_7974_6573,
    ]);
    let (words, rest) = octets.as_chunks::<8>();
    for word in words {
        state.take(u64::from_le_bytes(*word));
    }
    // Put together in a register: octets that were just written one by one are
    // slow to be read as one word.
    let last = match octets.last_chunk::<8>() {
        Some(_) if rest.is_empty() => 0,
        Some(word) => u64::from_le_bytes(*word) >> (8 * (8 - rest.len())),
        None => rest
            .iter()
            .rev()
            .fold(0, |last, octet| last << 8 | u64::from(*octet)),
    };
    state.take(last | (octets.len() as u64) << 56);
    state.0[2] ^= 0xee;
    let low = state.finish();
    state.0[1] ^= 0xdd;
    [low, state.finish()]
}

struct State([u64; 4]);

impl State {
    #[inline]
    fn take(&mut self, word: u64) {
        self.0[3] ^= word;
        self.round();
        self.round();
        self.0[0] ^= word;
    }

    #[inline]
    fn finish(&mut self) -> u64 {
        (0..4).for_each(|_| self.round());
        self.0.iter().fold(0, |all, word| all ^ word)
    }

    #[inline]
    fn round(&mut self) {
        let [v0, v1, v2, v3] = &mut self.0;
        *v0 = v0.wrapping_add(*v1);
        *v1 = v1.rotate_left(13) ^ *v0;
        *v0 = v0.rotate_left(32);
        *v2 = v2.wrapping_add(*v3);
        *v3 = v3.rotate_left(16) ^ *v2;
        *v0 = v0.wrapping_add(*v3);
        *v3 = v3.rotate_left(21) ^ *v0;
        *v2 = v2.wrapping_add(*v1);
        *v1 = v1.rotate_left(17) ^ *v2;
        *v2 = v2.rotate_left(32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `vectors_sip128` of the reference code: the key is 00 01 … 0f, the
    /// input 00 01 … of that length.
    #[test]
    fn it_is_the_hash_of_the_reference_code() {
        let key = [0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908];
        let input: Vec<u8> = (0..64).collect();
        for (length, expected) in [
            (0, 0xa381_7f04_ba25_a8e6_6df6_7214_c755_0293_u128),
            (1, 0xda87_c1d8_6b99_af44_3476_5911_9b22_fc45),
            (2, 0x8177_228d_a4a4_5dc7_fca3_8bde_f60a_ffe4),
        ] {
            let [low, high] = sip_hash(key, &input[..length]);
            let hash = NameHash(low, high);
            assert_eq!(hash.octets(), expected.to_be_bytes(), "{length} octets");
            assert_eq!(NameHash::from_octets(hash.octets()), hash);
        }
    }

    #[test]
    fn every_octet_and_the_length_count() {
        let name = [7; 21];
        let whole = NameHash::of(&name);
        for place in 0..name.len() {
            let mut other = name;
            other[place] ^= 1;
            assert_ne!(NameHash::of(&other), whole, "octet {place}");
            assert_ne!(NameHash::of(&name[..place]), whole, "{place} octets");
        }
    }
}
