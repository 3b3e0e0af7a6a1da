//! Which packets are asked for. A constant of the program: the verifier leaves out what is not asked.

use core::ptr::read_volatile;

use lb_common::addr::{Address, IpBe, PortBe};
use lb_common::conntrack::FlowHalf;
use lb_common::flow::FlowKey;
use lb_common::rate::RateLimit;
use lb_common::trace::{Filter, MAX_BACKENDS, side};

/// Set by the controller before loading.
#[unsafe(no_mangle)]
static FILTER: Filter = Filter::ALL;

macro_rules! asked {
    ($($field:tt)+) => {
        // SAFETY: a static of this program, which nobody writes after loading.
        unsafe { read_volatile(&raw const FILTER.$($field)+) }
    };
}

/// Whether a frame may have several buffers; likewise.
#[unsafe(no_mangle)]
static FRAGS: u8 = 0;

#[inline(always)]
pub(crate) fn frags() -> bool {
    // SAFETY: as above.
    unsafe { read_volatile(&raw const FRAGS) != 0 }
}

/// Whoever asked for packets may have been killed.
#[inline(always)]
pub(crate) fn is_wanted(now: u64) -> bool {
    now < asked!(until)
}

#[inline(always)]
pub(crate) fn snap() -> u64 {
    u64::from(asked!(snap))
}

#[inline(always)]
pub(crate) fn limit() -> RateLimit {
    RateLimit { interval: asked!(limit.interval), burst: asked!(limit.burst) }
}

#[inline(always)]
fn is_client(address: IpBe, port: PortBe) -> bool {
    let asked = asked!(client_port);
    (asked.word() == 0 || asked == port) && address.is_within(asked!(client), asked!(client_mask))
}

#[inline(always)]
fn is_vip(address: IpBe, port: PortBe) -> bool {
    let (asked, vip) = (asked!(vip_port), asked!(vip));
    (asked.word() == 0 || asked == port) && (vip.is_unspecified() || vip == address)
}

/// By the key of its original half.
#[inline(always)]
pub(crate) fn admits_flow<A: Address>(key: &FlowKey<A>) -> bool {
    is_client(key.src.ip(), key.ports.src()) && is_vip(key.dst.ip(), key.ports.dst())
}

/// Nobody knows which end of it is the client.
#[inline(always)]
pub(crate) fn admits_stranger<A: Address>(key: &FlowKey<A>) -> bool {
    admits_flow(key) || admits_flow(&key.reversed())
}

#[inline(always)]
pub(crate) fn admits_verdict(counter: u32) -> bool {
    asked!(counters) >> (counter & 63) & 1 != 0
}

/// Something is sent where this is the verdict.
#[inline(always)]
pub(crate) fn is_leaving(counter: u32) -> bool {
    asked!(leaving) >> (counter & 63) & 1 != 0
}

/// By backend and direction.
#[inline(always)]
pub(crate) fn admits_half<A: Address>(half: &FlowHalf<A>) -> bool {
    let direction = if half.is_original() { side::REQUEST } else { side::REPLY };
    if asked!(sides) & direction == 0 {
        return false;
    }
    if asked!(backends[0].id) == 0 {
        return true;
    }
    let mut index = 0;
    while index < MAX_BACKENDS {
        let id = asked!(backends[index].id);
        if id == 0 {
            return false;
        }
        if id == half.backend {
            return true;
        }
        index += 1;
    }
    false
}

/// Of no flow, from or to a backend.
#[inline(always)]
pub(crate) fn admits_backend_of_stranger<A: Address>(key: &FlowKey<A>) -> bool {
    if asked!(sides) & side::REQUEST == 0 {
        return false;
    }
    if asked!(backends[0].id) == 0 {
        return true;
    }
    let mut index = 0;
    while index < MAX_BACKENDS {
        if asked!(backends[index].id) == 0 {
            return false;
        }
        let (address, port) = (asked!(backends[index].address), asked!(backends[index].port));
        let is_it = |end: IpBe, at: PortBe| end == address && at == port;
        if is_it(key.src.ip(), key.ports.src()) || is_it(key.dst.ip(), key.ports.dst()) {
            return true;
        }
        index += 1;
    }
    false
}
