//! Interfaces, and the ways out of them. Pure.

use crate::addr::{IpBe, Ipv4Be, Ipv6Be};
use crate::time::Ticks;

/// Index into the link map: an interface by a number of ours, which it keeps when the kernel gives it
/// another. 0 is no interface.
pub type LinkId = u16;

/// Interfaces at most, index 0 included.
pub const MAX_LINKS: u32 = 64;

/// An Ethernet address.
#[repr(C, align(2))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mac(pub [u8; 6]);

impl core::fmt::Display for Mac {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// 802.1Q tag control information of up to two tags, host order; 0: no tag.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tags {
    /// The only tag, or the outer one.
    pub outer: u16,
    pub inner: u16,
}

impl Tags {
    const VLAN_ID: u16 = 0x0fff;
    /// Stands for a tag without a VLAN, of which only the priority counts.
    const PRIORITY_ONLY: u16 = 1 << 12;

    /// A tag as it was received. Two are equal if the VLAN is.
    #[inline(always)]
    pub const fn seen(tci: u16) -> u16 {
        let id = tci & Self::VLAN_ID;
        if id == 0 { Self::PRIORITY_ONLY } else { id }
    }

    /// The tags of an answer: none for a tag that names no VLAN.
    #[inline(always)]
    #[must_use]
    pub const fn without_priority(self) -> Self {
        if self.outer == Self::PRIORITY_ONLY { Self { outer: 0, inner: 0 } } else { self }
    }

    #[inline(always)]
    pub const fn count(self) -> u32 {
        (self.outer != 0) as u32 + (self.inner != 0) as u32
    }
}

/// Where a frame goes on a link: the neighbour, the interface, the tags.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NextHop {
    /// The neighbour's address.
    pub mac: Mac,
    /// Interface to send from; 0: unknown.
    pub link: LinkId,
    pub tags: Tags,
}

const _: () = assert!(size_of::<NextHop>() == 12);

impl NextHop {
    pub const UNKNOWN: Self = Self { mac: Mac([0; 6]), link: 0, tags: Tags { outer: 0, inner: 0 } };

    #[inline(always)]
    pub const fn is_known(&self) -> bool {
        self.link != 0
    }
}

/// An interface that frames leave by. Value of the link map.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// The kernel's number; 0: the interface is gone.
    pub ifindex: u32,
    /// Its own address, the source of what we send.
    pub mac: Mac,
    pub _pad: u16,
    /// The node's own addresses there, no VIPs: the source of ICMP errors. Unspecified: send none.
    pub ipv4: Ipv4Be,
    pub ipv6: Ipv6Be,
}

const _: () = assert!(size_of::<Link>() == 32);

/// Destination of a route: its gateway and interface.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Route {
    /// Unspecified: the destination is on the link.
    pub gateway: IpBe,
    pub link: u32,
    pub _pad: u32,
}

const _: () = assert!(size_of::<Route>() == 24);

/// When routes or neighbours last changed. Value of the map of ways.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WaysChanged(pub Ticks);

impl WaysChanged {
    /// The program's clock stands still for a timer tick of the kernel, and the controller writes after
    /// it has read its own.
    const SLACK: u32 = Ticks::in_ns(1_000_000_000);

    /// A flow that was last looked after at `checked` may go the old way.
    #[inline(always)]
    pub const fn since(self, checked: Ticks, now: Ticks) -> bool {
        // Ages, both larger by the slack than they are: a change may seem to be yet to come.
        let age = now.0.wrapping_sub(self.0.0).wrapping_add(Self::SLACK);
        age <= now.since(checked).saturating_add(2 * Self::SLACK)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flows_look_for_another_way_until_a_second_after_a_change() {
        for base in [5_000, 1_000_000, u32::MAX - 500u32] {
            let at = |ticks: u32| Ticks(base.wrapping_add(ticks).wrapping_sub(5_000));
            let changed = WaysChanged(at(5_000));
            assert!(changed.since(at(3_000), at(5_000)), "just now");
            assert!(changed.since(at(3_000), at(4_997)), "by a clock that is late");
            assert!(changed.since(at(3_000), at(9_000)));
            assert!(changed.since(at(5_000), at(9_000)), "at the same time");
            assert!(changed.since(at(5_900), at(9_000)), "within the slack");
            assert!(!changed.since(at(6_000), at(9_000)));
            let weeks = 14 * 86_400 * 954;
            assert!(changed.since(at(3_000), at(5_000 + weeks)));
            assert!(!changed.since(at(5_000 + weeks), at(7_000 + weeks)));
        }
    }

    #[test]
    fn a_change_of_long_ago_is_none() {
        let now = Ticks(7);
        for days in [1, 13, 27, 40] {
            let changed = WaysChanged(now.minus(days * 86_400 * 954));
            assert!(!changed.since(now.minus(3_000), now), "{days} days");
        }
    }
}

#[cfg(feature = "user")]
mod pod {
    use super::{Link, NextHop, Route, WaysChanged};

    // SAFETY: integers and byte arrays only; the size assertion rules padding out.
    unsafe impl aya::Pod for NextHop {}
    // SAFETY: likewise.
    unsafe impl aya::Pod for Link {}
    // SAFETY: likewise.
    unsafe impl aya::Pod for Route {}
    // SAFETY: one u32.
    unsafe impl aya::Pod for WaysChanged {}
}
