//! The frame, read by helpers: nothing that is read of it has to be followed by the verifier.

use core::mem::MaybeUninit;

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::helpers::generated::{
    bpf_probe_read_kernel, bpf_xdp_get_buff_len, bpf_xdp_load_bytes,
};
use aya_ebpf::programs::XdpContext;
use lb_common::trace::MAX_SNAP;

use crate::filter;
use crate::maps::{Bytes, opaque_long};

pub(crate) const ETHERTYPE_IPV4: [u8; 2] = [0x08, 0x00];
pub(crate) const ETHERTYPE_IPV6: [u8; 2] = [0x86, 0xdd];
const TPID_CUSTOMER: [u8; 2] = [0x81, 0x00];
const TPID_SERVICE: [u8; 2] = [0x88, 0xa8];

/// Offset of the EtherType, behind both addresses.
const ETHER_TYPE: u64 = 12;
/// Bytes of a tag (IEEE 802.1Q).
const TAG: u64 = 4;

/// A frame: all of its buffers where the kernel knows of several, else the only one.
pub(crate) struct Frame {
    ctx: *mut xdp_md,
    /// Where the first buffer is in the kernel's memory.
    start: u64,
    length: u64,
}

impl Frame {
    /// `memory` is some of this CPU's.
    #[inline(always)]
    pub(crate) fn of(ctx: &XdpContext, memory: &mut u64) -> Option<Self> {
        if filter::frags() {
            // SAFETY: the context is the program's own.
            let length = unsafe { bpf_xdp_get_buff_len(ctx.ctx) };
            return Some(Self { ctx: ctx.ctx, start: 0, length });
        }
        // Numbers from here on, not pointers into a packet.
        let start = opaque_long(memory, ctx.data() as u64);
        let end = opaque_long(memory, ctx.data_end() as u64);
        Some(Self { ctx: ctx.ctx, start, length: end.checked_sub(start)? })
    }

    #[inline(always)]
    pub(crate) const fn length(&self) -> u64 {
        self.length
    }

    /// The number of the interface that it came in by.
    #[inline(always)]
    pub(crate) fn ifindex(&self) -> u32 {
        // SAFETY: the context is the program's own.
        unsafe { (*self.ctx).ingress_ifindex }
    }

    /// What is `offset` bytes from the start of the frame; `None`: it is shorter. Every value of what is
    /// read here is valid.
    #[inline(always)]
    pub(crate) fn at<T: Copy>(&self, offset: u64) -> Option<T> {
        if offset + size_of::<T>() as u64 > self.length {
            return None;
        }
        let mut value = MaybeUninit::<T>::uninit();
        let (to, size) = (value.as_mut_ptr().cast(), size_of::<T>() as u32);
        // SAFETY: both write `size` bytes, or fail.
        unsafe {
            let result = if filter::frags() {
                bpf_xdp_load_bytes(self.ctx, offset as u32, to, size)
            } else {
                bpf_probe_read_kernel(to, size, (self.start + offset) as *const _)
            };
            (result == 0).then(|| value.assume_init())
        }
    }

    /// EtherType behind up to two tags, and where the network layer starts.
    #[inline(always)]
    pub(crate) fn network(&self) -> Option<([u8; 2], u64)> {
        let mut offset = ETHER_TYPE;
        let mut ether_type: [u8; 2] = self.at(offset)?;
        for _ in 0..2 {
            if ether_type == TPID_CUSTOMER || ether_type == TPID_SERVICE {
                offset += TAG;
                ether_type = self.at(offset)?;
            }
        }
        Some((ether_type, offset + 2))
    }

    /// Copies as much as is asked for behind the first `used` bytes, and says how much that is.
    #[inline(always)]
    pub(crate) fn copy(&self, bytes: &mut Bytes, used: u64) -> Option<u32> {
        let snap = filter::snap();
        let length = if self.length < snap { self.length } else { snap };
        if used > MAX_SNAP as u64 || length > MAX_SNAP as u64 {
            return None;
        }
        if length == 0 {
            return Some(0);
        }
        // SAFETY: behind the first half of the bytes at most, and no longer than a half.
        let result = unsafe {
            let to = bytes.as_mut_ptr().add(used as usize).cast();
            if filter::frags() {
                bpf_xdp_load_bytes(self.ctx, 0, to, length as u32)
            } else {
                bpf_probe_read_kernel(to, length as u32, self.start as *const _)
            }
        };
        (result == 0).then_some(length as u32)
    }
}
