//! Sets of flows in short: which of 1,024 buckets differ between two nodes. Pure.
//!
//! Both nodes put a flow into the same bucket and give it the same digest, whatever their version: what is
//! hashed here is part of the protocol. Progress is not hashed, as it changes with every packet.

use std::net::{IpAddr, SocketAddr};

use super::record::{FlowId, FlowRecord};

/// How many buckets there are.
pub const COUNT: usize = 1024;
const WORDS: usize = COUNT / 64;

/// For each bucket the XOR of its flows' digests.
#[derive(Clone, PartialEq, Eq)]
pub struct Digest(pub [u64; COUNT]);

impl Default for Digest {
    fn default() -> Self {
        Self([0; COUNT])
    }
}

impl std::fmt::Debug for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let used = self.0.iter().filter(|bucket| **bucket != 0).count();
        write!(f, "Digest({used} buckets in use)")
    }
}

impl Digest {
    /// Adds a flow, or takes it away.
    pub fn toggle(&mut self, record: &FlowRecord) {
        self.0[bucket_of(&record.id)] ^= digest_of(record);
    }

    /// The buckets that are not equal.
    pub fn differing(&self, other: &Self) -> Buckets {
        let pairs = self.0.iter().zip(&other.0).enumerate();
        pairs.filter(|(_, (ours, theirs))| ours != theirs).map(|(bucket, _)| bucket).collect()
    }
}

/// A set of buckets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Buckets([u64; WORDS]);

impl Buckets {
    pub const fn contains(&self, bucket: usize) -> bool {
        bucket < COUNT && self.0[bucket / 64] & (1 << (bucket % 64)) != 0
    }

    pub fn insert(&mut self, bucket: usize) {
        if let Some(word) = self.0.get_mut(bucket / 64) {
            *word |= 1 << (bucket % 64);
        }
    }

    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    pub fn len(&self) -> usize {
        self.iter().count()
    }

    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        (0..COUNT).filter(|bucket| self.contains(*bucket))
    }

    /// At most `most` of them, from `start` on and around.
    pub fn some(&self, start: usize, most: usize) -> Self {
        let around = (0..COUNT).map(|offset| (start + offset) % COUNT);
        around.filter(|bucket| self.contains(*bucket)).take(most).collect()
    }

    /// A bit for each, the lowest of a byte first.
    pub fn to_bytes(self) -> [u8; COUNT / 8] {
        let mut bytes = [0; COUNT / 8];
        for (chunk, word) in bytes.chunks_exact_mut(8).zip(self.0) {
            chunk.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    pub fn from_bytes(bytes: &[u8; COUNT / 8]) -> Self {
        let mut words = [0; WORDS];
        for (word, chunk) in words.iter_mut().zip(bytes.as_chunks().0) {
            *word = u64::from_le_bytes(*chunk);
        }
        Self(words)
    }
}

impl FromIterator<usize> for Buckets {
    fn from_iter<I: IntoIterator<Item = usize>>(buckets: I) -> Self {
        let mut set = Self::default();
        buckets.into_iter().for_each(|bucket| set.insert(bucket));
        set
    }
}

/// Where a flow is.
pub fn bucket_of(id: &FlowId) -> usize {
    // The upper bits: the lower ones are what tables in memory are indexed by.
    usize::try_from(hash_of(id) >> 54).unwrap_or(0) % COUNT
}

/// A flow's name in 64 bits.
pub fn hash_of(id: &FlowId) -> u64 {
    Hash::default().endpoint(id.client).endpoint(id.vip).finish()
}

/// What tells a flow from one with the same name that goes another way.
fn digest_of(FlowRecord { id, kind, source, backend, .. }: &FlowRecord) -> u64 {
    let named = Hash::default().endpoint(id.client).endpoint(id.vip);
    named.endpoint(*source).endpoint(*backend).bytes(&[*kind as u8]).finish()
}

/// FNV-1a of 64 bits, and the finalizer of MurmurHash3.
struct Hash(u64);

impl Default for Hash {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hash {
    fn bytes(mut self, bytes: &[u8]) -> Self {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
        self
    }

    fn endpoint(self, endpoint: SocketAddr) -> Self {
        let hash = match endpoint.ip() {
            IpAddr::V4(v4) => self.bytes(&v4.octets()),
            IpAddr::V6(v6) => self.bytes(&v6.octets()),
        };
        hash.bytes(&endpoint.port().to_be_bytes())
    }

    const fn finish(self) -> u64 {
        let mut hash = self.0;
        hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        hash ^ (hash >> 33)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::testing::record;

    #[test]
    fn a_flow_that_goes_another_way_differs_in_its_bucket_only() {
        let (mut one, mut other) = (Digest::default(), Digest::default());
        for client in 0..500 {
            one.toggle(&record(client));
            other.toggle(&record(499 - client));
        }
        assert!(one.differing(&other).is_empty());
        let changed = FlowRecord { backend: "10.0.0.99:6443".parse().unwrap(), ..record(7) };
        other.toggle(&record(7));
        other.toggle(&changed);
        let differing = one.differing(&other);
        assert_eq!(differing.iter().collect::<Vec<_>>(), [bucket_of(&changed.id)]);
    }

    #[test]
    fn buckets_are_used_evenly() {
        let mut counts = vec![0; COUNT];
        for client in 0..100 * 1024 {
            counts[bucket_of(&record(client).id)] += 1;
        }
        assert!(counts.iter().all(|count| (50..160).contains(count)), "{counts:?}");
    }

    /// Part of the protocol: other versions have the same.
    #[test]
    fn hashes_stay_what_they_are() {
        let id = record(1).id;
        assert_eq!((bucket_of(&id), hash_of(&id)), (HASHED.0, HASHED.1));
        let mut digest = Digest::default();
        digest.toggle(&record(1));
        assert_eq!(digest.0[bucket_of(&id)], HASHED.2);
    }

    const HASHED: (usize, u64, u64) = (283, 0x46f2_113b_c4fc_c18a, 0xc5d1_f25e_27f8_b62f);

    #[test]
    fn a_set_is_written_and_read_as_it_was() {
        let set: Buckets = [0, 1, 63, 64, 1023].into_iter().collect();
        assert_eq!(Buckets::from_bytes(&set.to_bytes()), set);
        assert_eq!((set.len(), set.to_bytes()[0], set.to_bytes()[127]), (5, 3, 0x80));
        assert_eq!(set.some(64, 3).iter().collect::<Vec<_>>(), [0, 64, 1023]);
        assert!(!set.contains(4096) && Buckets::default().is_empty());
    }
}
