//! Who says to have an address: what ARP and neighbour advertisements say, and the filters by which the
//! kernel hands over only those about VIPs. Read by the thread for addresses. Pure.
//!
//! The offsets are those of RFC 826, and of RFC 4861 4.4 behind an IPv6 header without extensions.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use lb_common::link::Mac;

use super::packet::TTL;

/// Somebody says to have an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    pub address: IpAddr,
    pub owner: Mac,
}

/// Hardware and protocol types, and the lengths of their addresses: IPv4 over Ethernet.
const ARP_TYPES: [u8; 6] = [0, 1, 0x08, 0, 6, 4];
const ICMPV6: u8 = 58;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
const TARGET_LINK_LAYER_ADDRESS: [u8; 2] = [2, 1];

/// The claim of an ARP packet, question or answer alike: that its sender has its sender's address.
pub fn of_arp(packet: &[u8]) -> Option<Claim> {
    packet.starts_with(&ARP_TYPES).then_some(())?;
    let owner = Mac(<[u8; 6]>::try_from(packet.get(8..14)?).ok()?);
    let address = <[u8; 4]>::try_from(packet.get(14..18)?).ok()?;
    Some(Claim { address: address.into(), owner })
}

/// The claim of an IPv6 packet, if it is a neighbour advertisement; `sender`: who sent the frame.
pub fn of_ipv6(packet: &[u8], sender: Mac) -> Option<Claim> {
    let is_advertisement = packet.get(6..8) == Some(&[ICMPV6, TTL])
        && packet.get(40) == Some(&NEIGHBOUR_ADVERTISEMENT);
    is_advertisement.then_some(())?;
    let target = <[u8; 16]>::try_from(packet.get(48..64)?).ok()?;
    let option = packet.get(64..72).filter(|option| option.starts_with(&TARGET_LINK_LAYER_ADDRESS));
    let owner = option.and_then(|option| <[u8; 6]>::try_from(&option[2..]).ok()).map(Mac);
    Some(Claim { address: target.into(), owner: owner.unwrap_or(sender) })
}

/// An instruction of classic BPF.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    pub code: u16,
    /// How many instructions to skip: if it is so, and if it is not.
    pub jump_true: u8,
    pub jump_false: u8,
    pub operand: u32,
}

// BPF_LD | BPF_ABS with BPF_W, BPF_H, BPF_B; BPF_JMP | BPF_JEQ | BPF_K; BPF_RET | BPF_K.
const LOAD_WORD: u16 = 0x20;
const LOAD_HALF: u16 = 0x28;
const LOAD_BYTE: u16 = 0x30;
const IS: u16 = 0x15;
const RETURN: u16 = 0x06;

/// What is taken of a packet: all that is looked at.
const TAKE: u32 = 128;
/// IPv6 VIPs that fit into a filter of 4,096 instructions.
const MAX_V6: usize = 400;

/// Takes ARP of senders that say to have one of `vips`.
pub fn arp_filter(vips: &[Ipv4Addr]) -> Vec<Instruction> {
    let mut filter = Vec::new();
    require(&mut filter, LOAD_HALF, 0, 1);
    require(&mut filter, LOAD_HALF, 2, 0x0800);
    filter.push(load(LOAD_WORD, 14));
    for vip in vips {
        filter.extend([is(vip.to_bits(), 0, 1), give(TAKE)]);
    }
    filter.push(give(0));
    filter
}

/// Takes neighbour advertisements of one of `vips`: of the first 400, if there are more.
pub fn advertisement_filter(vips: &[Ipv6Addr]) -> Vec<Instruction> {
    let mut filter = Vec::new();
    require(&mut filter, LOAD_BYTE, 6, ICMPV6.into());
    require(&mut filter, LOAD_BYTE, 7, TTL.into());
    require(&mut filter, LOAD_BYTE, 40, NEIGHBOUR_ADVERTISEMENT.into());
    for vip in vips.iter().take(MAX_V6) {
        let bits = vip.to_bits();
        let word = |index: u32| u32::try_from(bits >> (96 - 32 * index) & 0xffff_ffff).unwrap_or(0);
        // Each skips what is left of this VIP's nine.
        for (index, left) in [(3, 7), (2, 5), (1, 3), (0, 1)] {
            filter.extend([load(LOAD_WORD, 48 + 4 * index), is(word(index), 0, left)]);
        }
        filter.push(give(TAKE));
    }
    filter.push(give(0));
    filter
}

/// Packets end here that have another value there.
fn require(filter: &mut Vec<Instruction>, width: u16, offset: u32, value: u32) {
    filter.extend([load(width, offset), is(value, 1, 0), give(0)]);
}

const fn load(code: u16, offset: u32) -> Instruction {
    Instruction { code, jump_true: 0, jump_false: 0, operand: offset }
}

const fn is(value: u32, jump_true: u8, jump_false: u8) -> Instruction {
    Instruction { code: IS, jump_true, jump_false, operand: value }
}

const fn give(length: u32) -> Instruction {
    Instruction { code: RETURN, jump_true: 0, jump_false: 0, operand: length }
}

#[cfg(test)]
mod tests;
