//! A slot's state and what is at home in it, in one word. Pure.

use super::REACH;

/// ```text
/// bits 0–39   which of the slots from here on hold halves whose home this is
/// bit  40     this slot is taken: by a half, or by one that is being stored
/// bits 41–47  how often it was taken, modulo 128
/// bits 48–63  how often anything was published here, modulo 2^16
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Control(u64);

const PUBLISHED: u64 = 0xff_ffff_ffff;
const TAKEN: u64 = 1 << 40;
const TAKE: u64 = 1 << 41;
const TAKES: u64 = 0x7f << 41;
const VERSION: u64 = 1 << 48;
const VERSIONS: u64 = 0xffff << 48;

const _: () = assert!(PUBLISHED.count_ones() == REACH);
const _: () = assert!(PUBLISHED | TAKEN | TAKES | VERSIONS == u64::MAX);

impl Control {
    #[inline(always)]
    #[must_use]
    pub const fn from_word(word: u64) -> Self {
        Self(word)
    }

    #[inline(always)]
    #[must_use]
    pub const fn word(self) -> u64 {
        self.0
    }

    /// There is a half at home here, so far from here.
    #[inline(always)]
    #[must_use]
    pub const fn is_published(self, displacement: u32) -> bool {
        self.0 >> displacement & 1 != 0
    }

    /// The slots of halves whose home this is, a bit each.
    #[inline(always)]
    #[must_use]
    pub const fn published(self) -> u64 {
        self.0 & PUBLISHED
    }

    /// There is one so far from here, or farther.
    #[inline(always)]
    #[must_use]
    pub const fn is_published_from(self, displacement: u32) -> bool {
        (self.0 & PUBLISHED) >> displacement != 0
    }

    #[inline(always)]
    #[must_use]
    pub const fn is_taken(self) -> bool {
        self.0 & TAKEN != 0
    }

    /// Nothing was published or withdrawn between the two.
    #[inline(always)]
    #[must_use]
    pub const fn is_like(self, other: Self) -> bool {
        (self.0 ^ other.0) & (PUBLISHED | VERSIONS) == 0
    }

    #[inline(always)]
    #[must_use]
    pub const fn taken(self) -> Self {
        Self(self.0 & !TAKES | self.0.wrapping_add(TAKE) & TAKES | TAKEN)
    }

    /// The bit that is cleared when the slot is given back.
    pub(super) const TAKEN: u64 = TAKEN;

    #[inline(always)]
    #[must_use]
    pub const fn given_back(self) -> Self {
        Self(self.0 & !TAKEN)
    }

    #[inline(always)]
    #[must_use]
    pub const fn with_published(self, displacement: u32) -> Self {
        Self((self.0 | 1 << displacement).wrapping_add(VERSION))
    }

    #[inline(always)]
    #[must_use]
    pub const fn withdrawn(self, displacement: u32) -> Self {
        Self(self.0 & !(1 << displacement))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_part_of_the_word_runs_into_another(word in any::<u64>(), at in 0..REACH) {
            let control = Control::from_word(word);
            let taken = control.taken();
            prop_assert!(taken.is_taken() && taken.is_like(control) && taken != control);
            let published = control.with_published(at);
            prop_assert!(published.is_published(at) && !published.is_like(control));
            prop_assert_eq!(published.is_taken(), control.is_taken());
            prop_assert_eq!(published.published(), control.published() | 1 << at);
            let withdrawn = published.withdrawn(at);
            prop_assert!(!withdrawn.is_published(at));
            // What was published and withdrawn since is not what it was.
            prop_assert!(!withdrawn.is_like(control));
            prop_assert_eq!(control.is_published_from(2), control.published() & !3 != 0);
        }
    }
}
