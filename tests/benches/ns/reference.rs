//! What finding a flow costs on this machine at least: programs that do nothing else with a segment.
//!
//! No program that keeps flows is faster, and machines differ more in this than in anything else.

use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};

use anyhow::{Context as _, Result};
use fairlead::datapath::sys;
use lb_common::addr::Ipv4Be;
use lb_common::conntrack::FlowHalf;
use lb_common::table::Slot;
use lb_tests::bpf;

use crate::datapath::homes_of;
use crate::scenario::Scenario;
use crate::traffic::Frames;

/// Addresses, ports and four zeros.
const KEY: usize = 16;
const VALUE: usize = size_of::<FlowHalf<Ipv4Be>>();
/// Source address to destination port, in an IPv4 frame without tags and options.
const TUPLE: std::ops::Range<usize> = 26..38;

/// Sends the frames that it finds something for, drops all others.
pub(crate) struct Reference {
    program: bpf::Program,
    _map: OwnedFd,
}

impl Reference {
    /// Finds a five-tuple in a hash map of the kernel, as large as the scenario's, with those of all the frames given.
    pub(crate) fn lookup(scenario: &Scenario, known: &[&Frames]) -> Result<Self> {
        let entries = 2 * scenario.room();
        let map = bpf::hash_map(u32::try_from(KEY)?, u32::try_from(VALUE)?, entries)
            .context("creating a map")?;
        for frame in known.iter().flat_map(|frames| frames.iter()) {
            let mut key = [0; KEY];
            key[..TUPLE.len()].copy_from_slice(&frame[TUPLE]);
            sys::update(map.as_fd(), &key, &[0; VALUE], 0).context("filling a map")?;
        }
        let program = bpf::Program::load(&lookup(map.as_raw_fd()))
            .context("loading a program of one lookup")?;
        Ok(Self { program, _map: map })
    }

    /// Reads both ends of one of as many slots as the scenario's table has, or half as many, by its number, and compares nothing: what no
    /// table of flows can do without, however it finds them.
    pub(crate) fn slot(scenario: &Scenario) -> Result<Self> {
        let bits = homes_of(scenario).ilog2();
        let size = size_of::<Slot<Ipv4Be>>();
        let map = bpf::array(u32::try_from(size)?, 1 << bits).context("creating an array")?;
        let program = bpf::Program::load(&slot(map.as_raw_fd(), bits, i16::try_from(size - 8)?))
            .context("loading a program of one slot")?;
        Ok(Self { program, _map: map })
    }

    pub(crate) fn program(&self) -> BorrowedFd<'_> {
        self.program.as_fd()
    }
}

/// See linux/bpf.h for the eight bytes of an instruction.
fn lookup(map: i32) -> [u64; 22] {
    [
        0x0000_0000_0000_1261,                         // r2 = the frame's start
        0x0000_0000_0004_1361,                         // r3 = the frame's end
        0x0000_0000_0000_24bf,                         // r4 = r2
        0x0000_0026_0000_0407,                         // r4 += 38
        0x0000_0000_000f_342d,                         // if r4 > r3 goto drop
        0x0000_0000_001a_2561,                         // r5 = source address
        0x0000_0000_fff0_5a63,                         // *(u32 *)(r10 - 16) = r5
        0x0000_0000_001e_2561,                         // r5 = destination address
        0x0000_0000_fff4_5a63,                         // *(u32 *)(r10 - 12) = r5
        0x0000_0000_0022_2561,                         // r5 = ports
        0x0000_0000_fff8_5a63,                         // *(u32 *)(r10 - 8) = r5
        0x0000_0000_fffc_0a62,                         // *(u32 *)(r10 - 4) = 0
        0x0000_0000_0000_a2bf,                         // r2 = r10
        0xffff_fff0_0000_0207,                         // r2 -= 16
        0x1118 | u64::from(map.cast_unsigned()) << 32, // r1 = map
        0,                                             // … its upper half
        0x0000_0001_0000_0085,                         // call bpf_map_lookup_elem
        0x0000_0000_0002_0015,                         // if r0 == 0 goto drop
        0x0000_0003_0000_00b7,                         // r0 = XDP_TX
        0x0000_0000_0000_0095,                         // exit
        0x0000_0001_0000_00b7,                         // drop: r0 = XDP_DROP
        0x0000_0000_0000_0095,                         // exit
    ]
}

/// Likewise. Which slot: the tuple, multiplied; `last`: the offset of a slot's last eight bytes.
fn slot(map: i32, bits: u32, last: i16) -> [u64; 28] {
    [
        0x0000_0000_0000_1261,                              // r2 = the frame's start
        0x0000_0000_0004_1361,                              // r3 = the frame's end
        0x0000_0000_0000_24bf,                              // r4 = r2
        0x0000_0026_0000_0407,                              // r4 += 38
        0x0000_0000_0013_342d,                              // if r4 > r3 goto drop
        0x0000_0000_001a_2561,                              // r5 = source address
        0x0000_0000_001e_2661,                              // r6 = destination address
        0x0000_0000_0000_65ac,                              // w5 ^= w6
        0x9e37_79b1_0000_0524,                              // w5 *= 0x9e3779b1
        0x0000_0000_0022_2661,                              // r6 = ports
        0x0000_0000_0000_65ac,                              // w5 ^= w6
        0x85eb_ca77_0000_0524,                              // w5 *= 0x85ebca77
        0x0000_0000_0000_0574 | u64::from(32 - bits) << 32, // w5 >>= 32 - bits
        0x0000_0000_fffc_5a63,                              // *(u32 *)(r10 - 4) = r5
        0x0000_0000_0000_a2bf,                              // r2 = r10
        0xffff_fffc_0000_0207,                              // r2 -= 4
        0x1118 | u64::from(map.cast_unsigned()) << 32,      // r1 = map
        0,                                                  // … its upper half
        0x0000_0001_0000_0085,                              // call bpf_map_lookup_elem
        0x0000_0000_0004_0015,                              // if r0 == 0 goto drop
        0x0000_0000_0000_0179,                              // r1 = its first eight bytes
        0x0000_0000_0000_0279 | u64::from(last.cast_unsigned()) << 16, // r2 = its last eight
        0x0000_0000_0000_214f,                              // r1 |= r2
        0x0000_0000_0002_0115,                              // if r1 == 0 goto send
        0x0000_0001_0000_00b7,                              // drop: r0 = XDP_DROP
        0x0000_0000_0000_0095,                              // exit
        0x0000_0003_0000_00b7,                              // send: r0 = XDP_TX
        0x0000_0000_0000_0095,                              // exit
    ]
}
