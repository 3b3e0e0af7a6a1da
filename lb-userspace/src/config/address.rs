//! Families and ranges of addresses. Pure.

use std::fmt;
use std::net::IpAddr;

use serde::{Serialize, Serializer};

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    pub const BOTH: [Self; 2] = [Self::V4, Self::V6];

    pub const fn of(address: &IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    /// Length of an address, and so the longest prefix, in bits.
    pub const fn bits(self) -> u8 {
        match self {
            Self::V4 => 32,
            Self::V6 => 128,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// A range of addresses; its host bits are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cidr {
    pub network: IpAddr,
    /// Not longer than an address of the family.
    pub prefix_len: u8,
}

impl Cidr {
    /// The range of this length that `address` is in.
    pub fn containing(address: IpAddr, prefix_len: u8) -> Self {
        let prefix_len = prefix_len.min(Family::of(&address).bits());
        Self { network: masked(address, prefix_len), prefix_len }
    }

    pub fn contains(&self, address: &IpAddr) -> bool {
        Family::of(address) == Family::of(&self.network)
            && masked(*address, self.prefix_len) == self.network
    }
}

impl Serialize for Cidr {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.prefix_len)
    }
}

fn masked(address: IpAddr, prefix_len: u8) -> IpAddr {
    let host_bits = u32::from(Family::of(&address).bits().saturating_sub(prefix_len));
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(host_bits).unwrap_or(0);
            IpAddr::V4((v4.to_bits() & mask).into())
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(host_bits).unwrap_or(0);
            IpAddr::V6((v6.to_bits() & mask).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("10.1.2.3", 8, "10.0.0.0/8")]
    #[case("10.1.2.3", 32, "10.1.2.3/32")]
    #[case("10.1.2.3", 0, "0.0.0.0/0")]
    #[case("2001:db8:1:2::3", 48, "2001:db8:1::/48")]
    #[case("2001:db8::3", 128, "2001:db8::3/128")]
    #[case("2001:db8::3", 0, "::/0")]
    fn host_bits_are_cut_off(#[case] address: &str, #[case] length: u8, #[case] expected: &str) {
        let address = address.parse().unwrap();
        let range = Cidr::containing(address, length);
        assert_eq!(range.to_string(), expected);
        assert!(range.contains(&address));
    }

    #[test]
    fn a_range_holds_addresses_of_its_own_family_only() {
        let all_v6 = Cidr::containing("::1".parse().unwrap(), 0);
        assert!(all_v6.contains(&"2001:db8::1".parse().unwrap()));
        assert!(!all_v6.contains(&"10.0.0.1".parse().unwrap()));
        let ten = Cidr::containing("10.0.0.0".parse().unwrap(), 8);
        assert!(!ten.contains(&"11.0.0.1".parse().unwrap()));
    }
}
