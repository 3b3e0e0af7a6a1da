//! The Ethernet header and up to two tags (IEEE 802.1Q).

use lb_common::link::{Mac, Tags};

use super::bytes::{get_u16, get_u32, set_u16, set_u32};
use super::{Memory, header_at};
use crate::maps;

pub(crate) const ETHERTYPE_IPV4: [u8; 2] = [0x08, 0x00];
pub(crate) const ETHERTYPE_IPV6: [u8; 2] = [0x86, 0xdd];
pub(super) const TPID_CUSTOMER: [u8; 2] = [0x81, 0x00];
pub(super) const TPID_SERVICE: [u8; 2] = [0x88, 0xa8];

/// Ethernet header. That of `network-types` has a 16-bit field, and nothing promises that a frame
/// starts at an even address.
#[repr(C)]
pub(crate) struct EthHdr {
    dst_addr: [u8; 6],
    src_addr: [u8; 6],
    pub(super) ether_type: [u8; 2],
}

/// What follows the addresses of a tagged frame, from the first tag on.
#[repr(C)]
pub(super) struct TagHdr {
    pub(super) tci: [u8; 2],
    pub(super) ether_type: [u8; 2],
}

impl EthHdr {
    pub(crate) const LEN: usize = size_of::<Self>();

    #[inline(always)]
    pub(crate) fn address(&mut self, source: Mac, destination: Mac) {
        set(&mut self.src_addr, source);
        set(&mut self.dst_addr, destination);
    }

    #[inline(always)]
    pub(crate) fn source(&self) -> Mac {
        Mac(self.src_addr)
    }

    #[inline(always)]
    pub(crate) fn is_to(&self, mac: Mac) -> bool {
        is(&self.dst_addr, mac)
    }

    #[inline(always)]
    pub(crate) fn is_from(&self, mac: Mac) -> bool {
        is(&self.src_addr, mac)
    }

    #[inline(always)]
    pub(crate) fn turn_round(&mut self) {
        core::mem::swap(&mut self.src_addr, &mut self.dst_addr);
    }
}

#[inline(always)]
fn is(bytes: &[u8; 6], mac: Mac) -> bool {
    let [a, b, c, d, e, f] = mac.0;
    // SAFETY: four and two bytes are six.
    let (high, low) = unsafe {
        let start = bytes.as_ptr();
        (&*start.cast::<[u8; 4]>(), &*start.add(4).cast::<[u8; 2]>())
    };
    get_u32(high) == u32::from_ne_bytes([a, b, c, d]) && get_u16(low) == u16::from_ne_bytes([e, f])
}

#[inline(always)]
fn set(bytes: &mut [u8; 6], mac: Mac) {
    let [a, b, c, d, e, f] = mac.0;
    // SAFETY: four and two bytes are six.
    let (high, low) = unsafe {
        let start = bytes.as_mut_ptr();
        (&mut *start.cast::<[u8; 4]>(), &mut *start.add(4).cast::<[u8; 2]>())
    };
    set_u32(high, u32::from_ne_bytes([a, b, c, d]));
    set_u16(low, u16::from_ne_bytes([e, f]));
}

/// What is in front of the network layer.
pub(crate) struct Frame {
    pub(crate) eth: *mut EthHdr,
    pub(crate) ether_type: [u8; 2],
    pub(crate) l3_offset: usize,
    pub(crate) tags: Tags,
    /// The verifier is to know no offset, and so to follow once what comes next.
    pub(crate) opaque: bool,
}

impl Frame {
    /// A mask for where the network layer starts: it leaves 14, 18 and 22 as they are.
    const MAX_L3_OFFSET: usize = 0x1f;

    /// `None`: an element of an array is missing, which none is.
    #[inline(always)]
    pub(crate) fn make_opaque(&mut self) -> Option<()> {
        self.l3_offset = maps::forget(self.l3_offset)? & Self::MAX_L3_OFFSET;
        let tags = usize::from(self.tags.outer) << 16 | usize::from(self.tags.inner);
        let tags = maps::forget(tags)?;
        self.tags = Tags { outer: (tags >> 16) as u16, inner: tags as u16 };
        self.opaque = true;
        Some(())
    }
}

/// `None`: too short for an Ethernet header.
#[inline(always)]
pub(crate) fn frame(ctx: &impl Memory) -> Option<Frame> {
    let eth: &mut EthHdr = header_at(ctx, 0)?;
    let mut frame = Frame {
        ether_type: eth.ether_type,
        eth,
        l3_offset: EthHdr::LEN,
        tags: Tags::default(),
        opaque: false,
    };
    if !is_tag(frame.ether_type) {
        return Some(frame);
    }
    look_behind_tags(ctx, &mut frame)?;
    Some(frame)
}

#[inline(always)]
fn look_behind_tags(ctx: &impl Memory, frame: &mut Frame) -> Option<()> {
    let outer: &mut TagHdr = header_at(ctx, EthHdr::LEN)?;
    frame.tags.outer = Tags::seen(u16::from_be_bytes(outer.tci));
    frame.ether_type = outer.ether_type;
    frame.l3_offset += size_of::<TagHdr>();
    if is_tag(frame.ether_type) {
        let inner: &mut TagHdr = header_at(ctx, EthHdr::LEN + size_of::<TagHdr>())?;
        frame.tags.inner = Tags::seen(u16::from_be_bytes(inner.tci));
        frame.ether_type = inner.ether_type;
        frame.l3_offset += size_of::<TagHdr>();
    }
    frame.l3_offset = maps::forget(frame.l3_offset)? & Frame::MAX_L3_OFFSET;
    Some(())
}

#[inline(always)]
fn is_tag(ether_type: [u8; 2]) -> bool {
    ether_type == TPID_CUSTOMER || ether_type == TPID_SERVICE
}
