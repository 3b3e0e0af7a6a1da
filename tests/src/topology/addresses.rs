//! Who has which address. The last part of an IPv6 address reads as that of the IPv4 address. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Arms;
use crate::family::Family;

/// An address in both families.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dual {
    pub v4: Ipv4Addr,
    pub v6: Ipv6Addr,
}

impl Dual {
    #[must_use]
    pub fn of(self, family: Family) -> IpAddr {
        family.pick(self.v4.into(), self.v6.into())
    }

    #[must_use]
    pub fn both(self) -> [IpAddr; 2] {
        Family::ALL.map(|family| self.of(family))
    }
}

/// The subnets' prefix lengths.
pub(super) const fn prefix_len(family: Family) -> u8 {
    match family {
        Family::V4 => 24,
        Family::V6 => 64,
    }
}

pub(super) fn client_side(arms: Arms, last: u8) -> Dual {
    match arms {
        Arms::One => dual(0, last),
        Arms::Two => dual(1, last),
    }
}

pub(super) fn backend_side(arms: Arms, last: u8) -> Dual {
    match arms {
        Arms::One => dual(0, last),
        Arms::Two => dual(2, last),
    }
}

fn dual(subnet: u8, last: u8) -> Dual {
    // 100 is written ::100, whatever that is in decimal.
    let digits = u16::from(last / 100) << 8 | u16::from(last / 10 % 10) << 4 | u16::from(last % 10);
    Dual {
        v4: Ipv4Addr::new(10, 77, subnet, last),
        v6: Ipv6Addr::new(0xfd77, 0, 0, subnet.into(), 0, 0, 0, digits),
    }
}
