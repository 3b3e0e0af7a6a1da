//! The programs for clients on this node: a TCP socket that is to be connected to a VIP is connected to
//! a backend instead, whoever holds the VIP, and `getpeername` goes on to say the VIP.
//!
//! What they send never is a packet to the VIP, so neither XDP nor the lease has to do with it. UDP is
//! not balanced, so there is no `sendmsg`. They are programs of their own: XDP's stack and time are not
//! theirs.

use aya_ebpf::helpers::generated::{bpf_get_prandom_u32, bpf_ktime_get_ns, bpf_set_retval};
use aya_ebpf::macros::cgroup_sock_addr;
use aya_ebpf::programs::SockAddrContext;
use lb_common::IPPROTO_TCP;
use lb_common::addr::{Address, Endpoint, Ipv4Be, Ipv6Be, PortBe};
use lb_common::backend::{Backend, BackendId};
use lb_common::service::Service;
use lb_common::socket::{ECONNREFUSED, REFUSED, Redirect, preferred, random_hash};

use crate::maps;

/// `SOCK_STREAM` of socket(2).
const SOCK_STREAM: u32 = 1;
/// The kernel goes on with the call, or ends it with EPERM or what was set.
const PROCEED: i32 = 1;
const REJECT: i32 = 0;

/// Set by the controller before loading, where the kernel lets these programs say with which error a call
/// ends. The verifier then sees a constant, and on an older kernel not the helper.
#[unsafe(no_mangle)]
static SET_RETVAL: u8 = 0;

#[cgroup_sock_addr(connect4)]
fn fairlead_conn4(ctx: SockAddrContext) -> i32 {
    connect::<Ipv4Be>(&ctx)
}

/// IPv4-mapped destinations come here too, and are kept as such in every map.
#[cgroup_sock_addr(connect6)]
fn fairlead_conn6(ctx: SockAddrContext) -> i32 {
    connect::<Ipv6Be>(&ctx)
}

#[cgroup_sock_addr(getpeername4)]
fn fairlead_peer4(ctx: SockAddrContext) -> i32 {
    getpeername::<Ipv4Be>(&ctx)
}

#[cgroup_sock_addr(getpeername6)]
fn fairlead_peer6(ctx: SockAddrContext) -> i32 {
    getpeername::<Ipv6Be>(&ctx)
}

#[inline(always)]
fn connect<A: UserAddress>(ctx: &SockAddrContext) -> i32 {
    if !is_tcp(ctx) {
        return PROCEED;
    }
    let asked = addressed::<A>(ctx);
    let Some(service) = maps::service(&asked) else { return PROCEED };
    let Some((id, backend)) = select(service) else { return refuse() };
    let mut redirect = Redirect {
        service: asked,
        backend: backend.endpoint,
        // SAFETY: a helper without arguments.
        made_ns: unsafe { bpf_ktime_get_ns() },
        id,
        _pad: 0,
    };
    maps::remember(ctx, &mut redirect);
    maps::count_local(id);
    set_addressed::<A>(ctx, &redirect.backend);
    PROCEED
}

/// The backend on this node if that is preferred, else one of the service's table.
#[inline(always)]
fn select(service: &Service) -> Option<(BackendId, &'static Backend)> {
    let id = match preferred(service) {
        Some(id) => id,
        None => {
            // SAFETY: a helper without arguments.
            let random = unsafe { bpf_get_prandom_u32() };
            maps::table_entry(service.id, random_hash(random))?
        }
    };
    Some((id, maps::backend(id)?))
}

/// Nobody is there to be connected to. Where the error cannot be said the connection goes to the VIP,
/// where it is refused.
#[inline(always)]
fn refuse() -> i32 {
    maps::count_local(REFUSED);
    // SAFETY: a static of this program, which nobody writes after loading.
    if unsafe { core::ptr::read_volatile(&raw const SET_RETVAL) } == 0 {
        return PROCEED;
    }
    // SAFETY: a helper that takes a number.
    unsafe { bpf_set_retval(-ECONNREFUSED) };
    REJECT
}

#[inline(always)]
fn getpeername<A: UserAddress>(ctx: &SockAddrContext) -> i32 {
    if let Some(redirect) = maps::redirect_of(ctx)
        && let Some(believed) = redirect.believed(addressed::<A>(ctx))
    {
        set_addressed::<A>(ctx, &believed);
    }
    PROCEED
}

#[inline(always)]
fn is_tcp(ctx: &SockAddrContext) -> bool {
    // SAFETY: the context is the program's own.
    let (kind, protocol) = unsafe { ((*ctx.sock_addr).type_, (*ctx.sock_addr).protocol) };
    kind == SOCK_STREAM && protocol == u32::from(IPPROTO_TCP)
}

/// An address as the context has it. Each field is read and written by itself and as a whole, which is
/// what the verifier takes.
trait UserAddress: Address {
    /// # Safety
    /// The context is the running program's.
    unsafe fn read(ctx: &SockAddrContext) -> Self;
    /// # Safety
    /// Likewise.
    unsafe fn write(self, ctx: &SockAddrContext);
}

impl UserAddress for Ipv4Be {
    #[inline(always)]
    unsafe fn read(ctx: &SockAddrContext) -> Self {
        // SAFETY: the caller vouches for the context.
        Self::from_word(unsafe { (&raw const (*ctx.sock_addr).user_ip4).read_volatile() })
    }

    #[inline(always)]
    unsafe fn write(self, ctx: &SockAddrContext) {
        // SAFETY: likewise.
        unsafe { (&raw mut (*ctx.sock_addr).user_ip4).write_volatile(self.word()) };
    }
}

impl UserAddress for Ipv6Be {
    #[inline(always)]
    unsafe fn read(ctx: &SockAddrContext) -> Self {
        // SAFETY: likewise; the field is at a multiple of eight bytes.
        let words = unsafe { &raw const (*ctx.sock_addr).user_ip6 }.cast::<u64>();
        // SAFETY: likewise.
        Self::from_words(unsafe { [words.read_volatile(), words.add(1).read_volatile()] })
    }

    #[inline(always)]
    unsafe fn write(self, ctx: &SockAddrContext) {
        // SAFETY: likewise.
        let words = unsafe { &raw mut (*ctx.sock_addr).user_ip6 }.cast::<u64>();
        let [first, second] = self.in_words();
        // SAFETY: likewise.
        unsafe {
            words.write_volatile(first);
            words.add(1).write_volatile(second);
        }
    }
}

/// The address and port of the call.
#[inline(always)]
fn addressed<A: UserAddress>(ctx: &SockAddrContext) -> Endpoint {
    // SAFETY: the context is the program's own.
    let (address, port) =
        unsafe { (A::read(ctx), (&raw const (*ctx.sock_addr).user_port).read_volatile() as u16) };
    Endpoint::new(address.ip(), PortBe::from_word(port), IPPROTO_TCP)
}

#[inline(always)]
fn set_addressed<A: UserAddress>(ctx: &SockAddrContext, endpoint: &Endpoint) {
    // SAFETY: the context is the program's own.
    unsafe {
        A::from_ip(endpoint.address).write(ctx);
        (&raw mut (*ctx.sock_addr).user_port).write_volatile(u32::from(endpoint.port.word()));
    }
}
