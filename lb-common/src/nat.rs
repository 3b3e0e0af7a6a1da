//! What a flow does to the addresses and ports of its packets. Pure.

use crate::addr::{Address, PortBe};
use crate::checksum::Delta;
use crate::flow::FlowKey;

/// How a flow's packets are changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// DNAT to the backend and SNAT to a VIP.
    Nat = 1,
}

/// New addresses and ports of one direction.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Translation<A> {
    pub src: A,
    pub dst: A,
    pub src_port: PortBe,
    pub dst_port: PortBe,
}

impl<A: Address> Translation<A> {
    /// The five-tuple that packets with `key` leave with.
    #[inline(always)]
    pub const fn key(&self) -> FlowKey<A> {
        FlowKey::new(self.src, self.dst, self.src_port, self.dst_port)
    }

    /// The translation of the other direction: it makes of replies to [`Self::key`] replies to `key`.
    #[inline(always)]
    pub const fn reversed(key: &FlowKey<A>) -> Self {
        Self { src: key.dst, dst: key.src, src_port: key.dst_port, dst_port: key.src_port }
    }

    /// Key of the opposite half: what the peer's packets look like before they are translated.
    #[inline(always)]
    pub const fn peer_key(&self) -> FlowKey<A> {
        self.key().reversed()
    }

    /// Change of the IP header's checksum, hop count included.
    #[inline(always)]
    pub fn ip_delta(&self, key: &FlowKey<A>) -> u16 {
        // The hop count is the high byte of its word: one less is 0x0100 less.
        self.address_delta(key).replace(0x0100, 0).folded()
    }

    /// Change of the TCP checksum.
    #[inline(always)]
    pub fn l4_delta(&self, key: &FlowKey<A>) -> u16 {
        self.address_delta(key)
            .replace(key.src_port.get() as u32, self.src_port.get() as u32)
            .replace(key.dst_port.get() as u32, self.dst_port.get() as u32)
            .folded()
    }

    #[inline(always)]
    fn address_delta(&self, key: &FlowKey<A>) -> Delta {
        Delta::default()
            .replace(key.src.checksum_words(), self.src.checksum_words())
            .replace(key.dst.checksum_words(), self.dst.checksum_words())
    }
}

/// SNAT ports that are tried before the oldest in TIME_WAIT is taken.
pub const PORT_PROBES: u32 = 16;

/// The `attempt`th candidate in `[min, min + count)` for a client.
///
/// The step is odd and differs between clients, so that those with the same first choice part at the
/// second.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "parts of a hash, and a port within its range")]
pub const fn port_candidate(client_hash: u64, attempt: u32, min: u16, count: u32) -> PortBe {
    let step = ((client_hash >> 16) as u32 & 0x3fff) | 1;
    let offset = (client_hash as u32 & 0xffff).wrapping_add(attempt * step);
    let offset = if count == 0 { 0 } else { offset % count };
    PortBe::new((min as u32 + offset) as u16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::Ipv4Be;
    use crate::checksum;
    use core::net::Ipv4Addr;
    use proptest::prelude::*;
    use std::collections::BTreeSet;
    use std::vec::Vec;

    fn address() -> impl Strategy<Value = Ipv4Be> {
        any::<u32>().prop_map(|bits| Ipv4Be::new(Ipv4Addr::from_bits(bits)))
    }

    fn key() -> impl Strategy<Value = FlowKey<Ipv4Be>> {
        (address(), address(), any::<u16>(), any::<u16>())
            .prop_map(|(s, d, sp, dp)| FlowKey::new(s, d, PortBe::new(sp), PortBe::new(dp)))
    }

    /// The words that the TCP checksum covers of addresses and ports.
    fn words(key: &FlowKey<Ipv4Be>) -> Vec<u8> {
        [
            &key.src.bytes()[..],
            &key.dst.bytes()[..],
            &key.src_port.bytes()[..],
            &key.dst_port.bytes()[..],
            &[0x45, 0x06],
        ]
        .concat()
    }

    fn sum(key: &FlowKey<Ipv4Be>) -> u16 {
        !checksum::fold(checksum::add_bytes(0, &words(key)))
    }

    proptest! {
        #[test]
        fn translating_there_and_back_is_the_identity(before in key(), after in key()) {
            let request = Translation {
                src: after.src, dst: after.dst, src_port: after.src_port, dst_port: after.dst_port,
            };
            let reply = Translation::reversed(&before);
            let on_the_wire = request.key();
            prop_assert_eq!(request.peer_key(), on_the_wire.reversed());
            prop_assert_eq!(reply.key(), before.reversed());
            prop_assert_eq!(reply.peer_key(), before);

            let there = checksum::apply(sum(&before), request.l4_delta(&before));
            prop_assert_eq!(there, sum(&on_the_wire));
            let reversed = on_the_wire.reversed();
            let back = checksum::apply(sum(&reversed), reply.l4_delta(&reversed));
            prop_assert_eq!(back, sum(&before.reversed()));
        }

        #[test]
        fn candidates_stay_in_range_and_differ(hash in any::<u64>()) {
            let ports: BTreeSet<u16> = (0..PORT_PROBES)
                .map(|attempt| port_candidate(hash, attempt, 1024, 64_512).get())
                .collect();
            prop_assert_eq!(ports.len(), PORT_PROBES as usize);
            prop_assert!(ports.iter().all(|port| *port >= 1024));
        }
    }
}
