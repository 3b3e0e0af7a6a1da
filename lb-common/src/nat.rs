//! What a flow does to the addresses and ports of its packets. Pure.

use crate::addr::{Address, PortBe, Ports};
use crate::checksum::Delta;
use crate::flow::FlowKey;

/// How a flow's packets are changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// DNAT to the backend and SNAT to a VIP.
    Nat = 1,
    /// DNAT to the backend; the client's address stays.
    Dnat = 2,
    /// Only the frame's addresses; replies take another way.
    Dsr = 3,
}

impl Kind {
    /// `None`: of a version that knew more kinds.
    #[inline(always)]
    pub const fn from_u8(value: u8) -> Option<Self> {
        Some(match value {
            1 => Self::Nat,
            2 => Self::Dnat,
            3 => Self::Dsr,
            _ => return None,
        })
    }
}

/// How packets of one direction are changed: new addresses and ports, and what that does to checksums.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Translation<A> {
    pub src: A,
    pub dst: A,
    pub ports: Ports,
    /// Constant part of the IPv4 header's checksum update, hop count included.
    pub ip_delta: u16,
    /// Constant part of the TCP checksum's update.
    pub l4_delta: u16,
}

impl<A: Address> Translation<A> {
    /// Packets with `key` leave with `to`.
    #[inline(always)]
    pub fn new(key: &FlowKey<A>, to: &FlowKey<A>) -> Self {
        let addresses = Delta::default()
            .replace(key.src.checksum_words(), to.src.checksum_words())
            .replace(key.dst.checksum_words(), to.dst.checksum_words());
        let ports = addresses.replace(key.ports.checksum_words(), to.ports.checksum_words());
        Self {
            src: to.src,
            dst: to.dst,
            ports: to.ports,
            // The hop count is the high byte of its word: one less is 0x0100 less.
            ip_delta: addresses.replace(0x0100, 0).folded(),
            l4_delta: ports.folded(),
        }
    }

    /// The five-tuple that packets leave with.
    #[inline(always)]
    pub const fn key(&self) -> FlowKey<A> {
        FlowKey::new(self.src, self.dst, self.ports)
    }

    /// Key of the opposite half: what the peer's packets look like before they are translated.
    #[inline(always)]
    pub const fn peer_key(&self) -> FlowKey<A> {
        FlowKey::new(self.dst, self.src, self.ports.swapped())
    }

    /// Whether [`Self::peer_key`] is `key`.
    #[inline(always)]
    pub fn answers(&self, key: &FlowKey<A>) -> bool {
        let ports = (self.ports.swapped().word() ^ key.ports.word()) as u64;
        self.dst.difference(key.src) | self.src.difference(key.dst) | ports == 0
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
        (address(), address(), any::<u32>())
            .prop_map(|(src, dst, ports)| FlowKey::new(src, dst, Ports::from_word(ports)))
    }

    /// The words that the TCP checksum covers of addresses and ports.
    fn words(key: &FlowKey<Ipv4Be>) -> Vec<u8> {
        [
            &key.src.bytes()[..],
            &key.dst.bytes()[..],
            &key.ports.word().to_ne_bytes()[..],
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
            let request = Translation::new(&before, &after);
            let on_the_wire = request.key();
            prop_assert_eq!(on_the_wire, after);
            let received = on_the_wire.reversed();
            let reply = Translation::new(&received, &before.reversed());
            prop_assert_eq!(request.peer_key(), received);
            prop_assert_eq!(reply.key(), before.reversed());
            prop_assert_eq!(reply.peer_key(), before);
            prop_assert!(reply.answers(&before) && request.answers(&received));
            prop_assert_eq!(reply.answers(&after), before == after);

            let there = checksum::apply(sum(&before), request.l4_delta);
            prop_assert_eq!(there, sum(&on_the_wire));
            let back = checksum::apply(sum(&received), reply.l4_delta);
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
