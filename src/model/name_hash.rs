//! What a queue remembers of a message's name.

use std::fmt;

/// A name's hash: SipHash-2-4 with 128 bits and a key of zeros, as it is stored.
///
/// With a hundred million of them the chance that any two are the same is 10⁻²³.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct NameHash(pub [u8; 16]);

impl NameHash {
    /// The hash of a name.
    #[must_use]
    pub fn of(name: &[u8]) -> Self {
        Self(sip_hash([0, 0], name))
    }
}

impl fmt::Debug for NameHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

/// SipHash-2-4 with 128 bits, as its authors' reference code has it.
fn sip_hash([k0, k1]: [u64; 2], octets: &[u8]) -> [u8; 16] {
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
    let mut last = [0; 8];
    for (place, octet) in last.iter_mut().zip(rest) {
        *place = *octet;
    }
    last[7] = octets.len() as u8;
    state.take(u64::from_le_bytes(last));
    state.0[2] ^= 0xee;
    let low = state.finish();
    state.0[1] ^= 0xdd;
    let high = state.finish();
    let mut hash = [0; 16];
    hash[..8].copy_from_slice(&low.to_le_bytes());
    hash[8..].copy_from_slice(&high.to_le_bytes());
    hash
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
            let hash = sip_hash(key, &input[..length]);
            assert_eq!(hash, expected.to_be_bytes(), "{length} octets");
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
