//! Where a half is at home. Pure.
//!
//! Multilinear hashing with secret factors (Lemire and Kaser, "Strongly universal string hashing is fast",
//! 2014): of keys that were chosen without knowing the secret no more meet than by chance. Mixed, so that no more than
//! by chance are neighbours either.

use super::word;
use crate::addr::Address;
use crate::flow::FlowKey;

/// Factors: one for each word of an IPv6 key but the protocol, which is always the same, and one to begin with.
pub const FACTORS: usize = 10;

/// Of MurmurHash3's finalizer (public domain).
const MIXER: u64 = 0xff51_afd7_ed55_8ccd;

/// Which of all hash functions this table's is.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Secret([u64; FACTORS]);

impl Secret {
    /// Made of a seed that nobody can guess.
    #[must_use]
    pub fn new(seed: [u64; 2]) -> Self {
        let mut factors = [0; FACTORS];
        let mut state = seed[0];
        for factor in &mut factors {
            // SplitMix64 (Steele, Lea and Flood, 2014).
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let value = (state ^ seed[1]) ^ (state ^ seed[1]) >> 30;
            let value = value.wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let value = (value ^ value >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
            *factor = value ^ value >> 31;
        }
        Self(factors)
    }

    /// For the datapath's constants.
    #[must_use]
    pub const fn factors(&self) -> &[u64; FACTORS] {
        &self.0
    }

    /// See [`home`].
    pub fn home<A: Address>(&self, key: &FlowKey<A>, homes: u32) -> u32 {
        home(key, homes, |index| self.0[index])
    }
}

/// The home of a key by the factors of a secret: below `homes`, or 0.
#[inline(always)]
pub fn home<A: Address>(key: &FlowKey<A>, homes: u32, factor: impl Fn(usize) -> u64) -> u32 {
    let term = |index: usize, word: u32| factor(index).wrapping_mul(word as u64);
    let mut sum = factor(0).wrapping_add(term(1, key.ports.word()));
    for index in 0..A::PARTS {
        sum = sum.wrapping_add(term(2 + index, key.src.part(index)));
        sum = word::once(sum.wrapping_add(term(2 + A::PARTS + index, key.dst.part(index))));
    }
    // Clients' addresses and ports come in rows, which a sum of products would leave in rows.
    let mixed = (sum ^ sum >> 32).wrapping_mul(MIXER);
    (((mixed >> 32) * homes as u64) >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::{Ipv4Be, Ipv6Be, Ports};
    use std::collections::BTreeMap;
    use std::vec::Vec;

    const HOMES: u32 = 4096;

    fn most<A: Address>(secret: &Secret, keys: impl Iterator<Item = FlowKey<A>>) -> usize {
        let mut homes = BTreeMap::new();
        for key in keys {
            let home = secret.home(&key, HOMES);
            assert!(home < HOMES);
            *homes.entry(home).or_insert(0) += 1;
        }
        homes.into_values().max().unwrap_or(0)
    }

    /// 4,096 keys in 4,096 homes: more than 12 in one would be by chance once in ten million.
    #[test]
    fn keys_that_differ_little_are_at_home_everywhere() {
        let v4 = |n: u32| Ipv4Be::from_word(n);
        for seed in 0..32 {
            let secret = Secret::new([seed, 11]);
            let ports = |n| FlowKey::new(v4(1), v4(2), Ports::from_word(n));
            assert!(most(&secret, (0..4096).map(ports)) <= 12);
            assert!(most(&secret, (0..4096).map(|n| ports(n << 16))) <= 12);
            for shift in [0, 8, 20] {
                let clients = |n: u32| FlowKey::new(v4(n << shift), v4(2), Ports::from_word(3));
                assert!(most(&secret, (0..4096).map(clients)) <= 12);
            }
            for shift in [0, 16, 32, 52] {
                let of = |n: u64| {
                    let words = [Ipv6Be::from_words([1, n << shift]), Ipv6Be::from_words([2, 3])];
                    FlowKey::new(words[0], words[1], Ports::from_word(3))
                };
                assert!(most(&secret, (0..4096).map(of)) <= 12);
            }
        }
    }

    #[test]
    fn another_secret_is_another_function() {
        let key = |n| FlowKey::new(Ipv4Be::from_word(1), Ipv4Be::from_word(2), Ports::from_word(n));
        let homes = |seed| -> Vec<u32> {
            let secret = Secret::new(seed);
            (0..64).map(|n| secret.home(&key(n), 1 << 30)).collect()
        };
        assert_ne!(homes([1, 0]), homes([2, 0]));
        assert_ne!(homes([1, 0]), homes([1, 1]));
        // What a predecessor stored is found again.
        assert_eq!(Secret::new([1, 2]), Secret::new([1, 2]));
    }
}
