//! Frames of more than one buffer (`xdp.frags`, Linux 5.18).

use aya_ebpf::helpers::generated::bpf_xdp_get_buff_len;
use aya_ebpf::programs::XdpContext;

/// Set by the controller before loading, where the kernel knows such frames. The verifier then sees a
/// constant, and on an older kernel not the helper.
#[unsafe(no_mangle)]
static FRAGS: u8 = 0;

/// Length of the whole frame.
#[inline(always)]
pub(crate) fn frame_len(ctx: &XdpContext) -> u64 {
    // SAFETY: a static of this program, which nobody writes after loading.
    if unsafe { core::ptr::read_volatile(&raw const FRAGS) } == 0 {
        return (ctx.data_end() - ctx.data()) as u64;
    }
    // SAFETY: the context is the program's own.
    unsafe { bpf_xdp_get_buff_len(ctx.ctx) }
}
