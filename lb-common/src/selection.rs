//! From a flow to a slot of its service's Maglev table: the half that the datapath does. Pure.

use crate::addr::Address;
use crate::flow::FlowKey;

/// Entries of the largest table. Each table is an inner array: its length at index 0, then one
/// backend identifier per slot, so that one write swaps length and contents.
pub const MAX_SLOTS: u32 = 65_521;

/// Fixed for ever: every node of a pair must choose alike.
const SEED: u64 = 0x6661_6972_6c65_6164;

/// Finalizer of MurmurHash3 (public domain): every input bit changes every output bit.
#[inline(always)]
const fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let value = (value ^ (value >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    value ^ (value >> 33)
}

/// Hash of a request's addresses and ports, equal on every machine.
///
/// `attempt` counts how often this client had to be given another backend.
#[inline(always)]
pub fn flow_hash<A: Address>(key: &FlowKey<A>, attempt: u8) -> u64 {
    let [src_low, src_high] = key.src.words();
    let [dst_low, dst_high] = key.dst.words();
    let ports = (key.ports.src().get() as u64) << 32 | (key.ports.dst().get() as u64) << 16;
    let hash = mix(SEED ^ src_low ^ src_high.rotate_left(32));
    let hash = mix(hash ^ dst_low ^ dst_high.rotate_left(32));
    mix(hash ^ ports ^ (u32::from_be(key.protocol) as u64) << 8 ^ attempt as u64)
}

/// Hash of the client alone: its first choice of a SNAT port, which a successor without state finds
/// again.
#[inline(always)]
pub fn client_hash<A: Address>(key: &FlowKey<A>) -> u64 {
    let [low, high] = key.src.words();
    mix(mix(SEED ^ low ^ high.rotate_left(32)) ^ key.ports.src().get() as u64)
}

/// Slot of a table of `length` slots; `None` for an empty one.
#[inline(always)]
pub const fn slot(hash: u64, length: u32) -> Option<u32> {
    if length == 0 {
        return None;
    }
    // The high half, scaled: no division, and the low half stays for other choices.
    Some((((hash >> 32) * length as u64) >> 32) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::{Ipv4Be, PortBe, Ports};
    use core::net::Ipv4Addr;

    fn key(client: u32, port: u16) -> FlowKey<Ipv4Be> {
        FlowKey::new(
            Ipv4Be::new(Ipv4Addr::from_bits(client)),
            Ipv4Be::new(Ipv4Addr::new(10, 0, 0, 100)),
            Ports::new(PortBe::new(port), PortBe::new(6443)),
        )
    }

    #[test]
    fn an_empty_table_selects_nothing() {
        assert_eq!(slot(7, 0), None);
    }

    #[test]
    fn slots_stay_within_the_table() {
        assert_eq!(slot(u64::MAX, 4093), Some(4092));
        assert_eq!(slot(0, 4093), Some(0));
    }

    #[test]
    fn the_hash_is_the_same_for_ever() {
        assert_eq!(flow_hash(&key(0x0a00_0002, 40_000), 0), 0xb0f6_29c3_f2ba_c29a);
    }

    #[test]
    fn ports_of_one_client_spread_evenly() {
        let mut counts = [0u32; 3];
        for port in 1024..=65535 {
            counts[slot(flow_hash(&key(0x0a00_0002, port), 0), 3).unwrap() as usize] += 1;
        }
        for count in counts {
            assert!((21_000..22_000).contains(&count), "{counts:?}");
        }
    }
}
