//! From backends to a selection table: Maglev hashing (Eisenbud et al., NSDI 2016, section 3.4), the
//! half that the controller does; `lb_common::selection` has the other. Pure.
//!
//! A backend's preferences depend on its name alone, and backends take turns in the order of their
//! names: nodes that agree on names, weights and who is up have equal tables.

use lb_common::backend::BackendId;
use lb_common::selection::MAX_SLOTS;

/// One backend of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    pub name: &'a str,
    pub id: BackendId,
    /// Share of the slots; 0: none. It still counts for the table's size, which thus stays as it is
    /// when a backend goes down.
    pub weight: u16,
}

/// The largest primes below powers of two. A table's length must be prime for each step to visit
/// every slot.
const LENGTHS: [u32; 5] = [4093, 8191, 16_381, 32_749, MAX_SLOTS];

/// Slots per backend that keep shares within 1 % of each other.
const SLOTS_PER_BACKEND: usize = 100;

/// Fixed for ever: every node of a pair must choose alike.
const OFFSET_SEED: u64 = 0x6661_6972_6c65_6164;
const STEP_SEED: u64 = 0x6d61_676c_6576_2031;

/// A backend while the table is being filled.
struct Turn {
    id: BackendId,
    weight: u64,
    /// Slots are paid for with the largest weight; each round earns one's own.
    credit: u64,
    /// The slot it wants next.
    position: u32,
    step: u32,
}

/// The table of a service; empty if no backend has a weight.
///
/// Every backend that has a weight gets a slot, as long as there are enough.
pub fn build(entries: &[Entry<'_>]) -> Vec<BackendId> {
    let length = length(entries.len());
    let mut ordered: Vec<&Entry<'_>> = entries.iter().filter(|entry| entry.weight > 0).collect();
    ordered.sort_by_key(|entry| (entry.name, entry.id));
    let Some(price) = ordered.iter().map(|entry| u64::from(entry.weight)).max() else {
        return Vec::new();
    };
    let mut turns: Vec<Turn> =
        ordered.iter().map(|entry| Turn::new(entry, price, length)).collect();
    fill(&mut turns, price, length)
}

/// Rounds, until all slots are taken.
fn fill(turns: &mut [Turn], price: u64, length: u32) -> Vec<BackendId> {
    // 0 is never a backend, and thus marks the slots that are free.
    let mut slots = vec![0; length as usize];
    let mut free = length;
    loop {
        for turn in &mut *turns {
            turn.credit += turn.weight;
            if turn.credit < price {
                continue;
            }
            turn.credit -= price;
            while slots[turn.position as usize] != 0 {
                turn.advance(length);
            }
            slots[turn.position as usize] = turn.id;
            turn.advance(length);
            free -= 1;
            if free == 0 {
                return slots;
            }
        }
    }
}

impl Turn {
    fn new(entry: &Entry<'_>, price: u64, length: u32) -> Self {
        let weight = u64::from(entry.weight);
        Self {
            id: entry.id,
            weight,
            // Enough for a slot in the first round.
            credit: price - weight,
            position: remainder(hash(OFFSET_SEED, entry.name), length),
            step: remainder(hash(STEP_SEED, entry.name), length - 1) + 1,
        }
    }

    fn advance(&mut self, length: u32) {
        self.position = (self.position + self.step) % length;
    }
}

fn length(backends: usize) -> u32 {
    let wanted = backends.saturating_mul(SLOTS_PER_BACKEND);
    LENGTHS.into_iter().find(|length| *length as usize >= wanted).unwrap_or(MAX_SLOTS)
}

#[expect(clippy::cast_possible_truncation, reason = "the remainder is less than a u32")]
fn remainder(hash: u64, divisor: u32) -> u32 {
    (hash % u64::from(divisor)) as u32
}

/// FNV-1a, and the finalizer of MurmurHash3 (both public domain) so that names which differ in their
/// last letter part.
fn hash(seed: u64, name: &str) -> u64 {
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325 ^ seed, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests;
