//! What the programs for local clients keep.

use aya_ebpf::programs::SockAddrContext;
use lb_common::backend::BackendId;
use lb_common::socket::Redirect;

use super::{LOCAL_CONNECTIONS, REDIRECTS};

/// Keeps with the socket where it goes. What does not fit into the kernel's memory is forgotten: the
/// connection is worth more than its name.
#[inline(always)]
pub(crate) fn remember(ctx: &SockAddrContext, redirect: &mut Redirect) {
    // SAFETY: the context is the program's own, and its socket is there while the program runs.
    let kept = unsafe { REDIRECTS.get_or_insert_ptr_mut(ctx, Some(redirect)) };
    if !kept.is_null() {
        // It may have been there before: of a socket that is connected a second time.
        // SAFETY: not null, so it is the socket's own element; a reader may see both halves mixed for a
        // moment, in which the socket is not connected.
        unsafe { *kept = *redirect };
    }
}

/// What was kept with the socket.
#[inline(always)]
pub(crate) fn redirect_of(ctx: &SockAddrContext) -> Option<&'static Redirect> {
    // SAFETY: as in `remember`.
    unsafe { REDIRECTS.get_ptr_mut(ctx).as_ref() }
}

/// Counts a connection of this node's own clients.
#[inline(always)]
pub(crate) fn count_local(backend: BackendId) {
    if let Some(count) = LOCAL_CONNECTIONS.get_ptr_mut(backend) {
        // SAFETY: an element of this CPU. A program that interrupts this one may cost a count.
        unsafe { *count += 1 };
    }
}
