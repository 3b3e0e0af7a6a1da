//! Interfaces, and the ways out of them. Pure.

use crate::addr::{IpBe, Ipv4Be, Ipv6Be};

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

#[cfg(feature = "user")]
mod pod {
    use super::{Link, NextHop, Route};

    // SAFETY: integers and byte arrays only; the size assertion rules padding out.
    unsafe impl aya::Pod for NextHop {}
    // SAFETY: likewise.
    unsafe impl aya::Pod for Link {}
    // SAFETY: likewise.
    unsafe impl aya::Pod for Route {}
}
