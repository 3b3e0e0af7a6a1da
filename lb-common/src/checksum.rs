//! The Internet checksum: RFC 1071 sums and RFC 1624 incremental updates. Pure.
//!
//! All words are 16-bit in host order, sums are ones' complement. An update follows equation 3 of
//! RFC 1624, `HC' = ~(~HC + ~m + m')`: unlike equation 2 of RFC 1141 it never turns a valid checksum
//! into the other zero.

/// The part `Σ(~m + m')` of an update. A flow changes the same fields in the same way in every
/// packet, so it is computed once and kept with the flow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delta(u32);

impl Delta {
    /// Replaces a field whose 16-bit words sum up to `old` by one whose words sum up to `new`.
    /// Both sums must be below 2^20, which sixteen words are.
    #[inline(always)]
    #[must_use]
    pub const fn replace(self, old: u32, new: u32) -> Self {
        // The complement of a sum is the sum of complements only after folding.
        Self(self.0 + (!fold(old) as u32 & 0xffff) + fold(new) as u32)
    }

    /// Both updates.
    #[inline(always)]
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }

    /// In 16 bits, as flows keep it.
    #[inline(always)]
    pub const fn folded(self) -> u16 {
        fold(self.0)
    }
}

/// Sum of a ones' complement addition, carries folded in.
#[inline(always)]
pub const fn fold(sum: u32) -> u16 {
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    (sum & 0xffff) as u16
}

/// As [`fold`], of the 32-bit sums that the kernel's helper returns.
#[inline(always)]
pub const fn fold_wide(sum: u32) -> u16 {
    fold((sum & 0xffff) + (sum >> 16))
}

/// The checksum after an update by `delta`.
#[inline(always)]
pub const fn apply(checksum: u16, delta: u16) -> u16 {
    !fold((!checksum) as u32 + delta as u32)
}

/// Adds the words of `bytes` to `sum`; an odd last byte is padded with zero (RFC 1071 section 4.1).
pub fn add_bytes(sum: u32, bytes: &[u8]) -> u32 {
    let mut sum = sum;
    for pair in bytes.chunks(2) {
        let word = u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]);
        sum = fold(sum) as u32 + word as u32;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn from_scratch(words: &[u16]) -> u16 {
        let mut sum: u64 = words.iter().map(|word| u64::from(*word)).sum();
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !u16::try_from(sum).unwrap()
    }

    #[test]
    fn update_of_rfc_1624_section_4() {
        let delta = Delta::default().replace(0x5555, 0x3285);
        assert_eq!(apply(0xdd2f, delta.folded()), 0x0000);
    }

    #[test]
    fn sum_of_rfc_1071_section_3() {
        assert_eq!(fold(add_bytes(0, &[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7])), 0xddf2);
        assert_eq!(fold(add_bytes(0, &[0x01])), 0x0100);
    }

    proptest! {
        #[test]
        fn an_update_equals_a_sum_from_scratch(
            mut words in proptest::collection::vec(any::<u16>(), 4..40),
            news in proptest::collection::vec(any::<u16>(), 1..4),
        ) {
            // A word that stays and is not zero, as the version field of every header is: ones'
            // complement has two zeros, and only an all-zero message has the other one.
            words[3] |= 0x4500;
            let before = from_scratch(&words);
            let mut delta = Delta::default();
            for (index, new) in news.iter().enumerate() {
                delta = delta.replace(u32::from(words[index]), u32::from(*new));
                words[index] = *new;
            }
            prop_assert_eq!(apply(before, delta.folded()), from_scratch(&words));
        }
    }
}
