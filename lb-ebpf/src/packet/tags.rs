//! Frames that leave with other tags than they came with.

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::helpers::generated::bpf_xdp_adjust_head;
use aya_ebpf::programs::XdpContext;
use lb_common::link::{Mac, NextHop};

use super::ethernet::{EthHdr, TPID_CUSTOMER, TPID_SERVICE, TagHdr};
use super::header_at;
use crate::verdict::{DropReason, Verdict};

/// Writes a new Ethernet header and the tags of `next_hop` in front of the IP packet at `l3_offset`.
/// Ends the life of whatever refers to the frame.
///
/// # Errors
/// There is no room in front of the packet.
#[inline(never)]
pub(crate) fn send_as(
    ctx: *mut xdp_md,
    l3_offset: u16,
    ether_type: [u8; 2],
    source: Mac,
    next_hop: &NextHop,
) -> Result<(), Verdict> {
    const FAILED: Verdict = Verdict::Drop(DropReason::Inconsistent);
    let tags = next_hop.tags;
    let wanted = EthHdr::LEN as i32 + 4 * tags.count() as i32;
    // SAFETY: the context is the program's own. No reference into the frame is used afterwards.
    if unsafe { bpf_xdp_adjust_head(ctx, i32::from(l3_offset) - wanted) } != 0 {
        return Err(FAILED);
    }
    let ctx = XdpContext::new(ctx);
    let eth: &mut EthHdr = header_at(&ctx, 0).ok_or(FAILED)?;
    eth.address(source, next_hop.mac);
    if tags.outer == 0 {
        eth.ether_type = ether_type;
        return Ok(());
    }
    let outer: &mut TagHdr = header_at(&ctx, EthHdr::LEN).ok_or(FAILED)?;
    outer.tci = tags.outer.to_be_bytes();
    if tags.inner == 0 {
        eth.ether_type = TPID_CUSTOMER;
        outer.ether_type = ether_type;
        return Ok(());
    }
    eth.ether_type = TPID_SERVICE;
    outer.ether_type = TPID_CUSTOMER;
    let inner: &mut TagHdr = header_at(&ctx, EthHdr::LEN + size_of::<TagHdr>()).ok_or(FAILED)?;
    inner.tci = tags.inner.to_be_bytes();
    inner.ether_type = ether_type;
    Ok(())
}
