//! What an instance must know of its interface. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use lb_common::link::Mac;

use crate::netlink::snapshot::{Address, Link};

/// An interface at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// 0: there is no such interface.
    pub ifindex: u32,
    /// Switched on and with a carrier.
    pub up: bool,
    pub mac: Mac,
    /// What advertisements are sent from: the first IPv4 address that is no VIP (RFC 9568 5.1.1.1).
    pub own4: Option<Ipv4Addr>,
    /// Likewise the link-local address (RFC 9568 5.1.2.1).
    pub own6: Option<Ipv6Addr>,
    /// It forwards IPv6, which its neighbour advertisements have to say (RFC 4861 7.2.6).
    pub router: bool,
    /// Frames have arrived since it came up.
    pub receiving: bool,
}

/// What `links` and `addresses` say of an interface: all but the last two. `vips`: addresses that
/// are not the node's own.
pub fn of(interface: &str, links: &[Link], addresses: &[Address], vips: &[IpAddr]) -> Facts {
    let Some(link) = links.iter().find(|link| link.name == interface) else {
        return Facts::default();
    };
    let usable = |address: &&Address| {
        address.ifindex == link.index && !address.tentative && !vips.contains(&address.address)
    };
    let own4 = addresses.iter().filter(usable).find_map(|address| match address.address {
        IpAddr::V4(own) => Some(own),
        IpAddr::V6(_) => None,
    });
    let own6 = addresses.iter().filter(usable).find_map(|address| match address.address {
        IpAddr::V6(own) if own.is_unicast_link_local() => Some(own),
        IpAddr::V6(_) | IpAddr::V4(_) => None,
    });
    Facts {
        ifindex: link.index,
        up: link.up,
        mac: link.mac,
        own4,
        own6,
        router: false,
        receiving: false,
    }
}

/// Frames that an interface has received, as proc_net_dev(5) tells.
pub fn received(table: &str, interface: &str) -> Option<u64> {
    let mut lines = table.lines().filter_map(|line| line.split_once(':'));
    let (_, numbers) = lines.find(|(name, _)| name.trim() == interface)?;
    numbers.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_the_second_number_of_an_interface() {
        let table =
            "Inter-|   Receive\n face |bytes    packets\n    lo: 100 7 0\n  eth0:1284 12 0 0\n";
        assert_eq!((received(table, "eth0"), received(table, "lo")), (Some(12), Some(7)));
        assert_eq!(received(table, "eth1"), None);
    }
    use crate::netlink::snapshot::LinkKind;

    #[test]
    fn vips_and_tentative_addresses_are_no_own_ones() {
        let links = [link(3, "eth0"), link(4, "eth1")];
        let addresses = [
            address(4, "10.9.0.1"),
            address(3, "10.0.0.100"),
            address(3, "10.0.0.1"),
            address(3, "10.0.0.7"),
            address(3, "fd00::1"),
            address(3, "fe80::100"),
            Address { tentative: true, ..address(3, "fe80::8") },
            address(3, "fe80::1"),
        ];
        let vips = ["10.0.0.100", "fe80::100"].map(|vip| vip.parse().unwrap());
        let facts = of("eth0", &links, &addresses, &vips);
        assert_eq!((facts.ifindex, facts.up), (3, true));
        assert_eq!(facts.own4, Some(Ipv4Addr::new(10, 0, 0, 1)));
        assert_eq!(facts.own6, Some("fe80::1".parse().unwrap()));
    }

    #[test]
    fn an_interface_that_is_gone_has_nothing() {
        assert_eq!(
            of("eth9", &[link(3, "eth0")], &[address(3, "10.0.0.1")], &[]),
            Facts::default()
        );
    }

    fn link(index: u32, name: &str) -> Link {
        Link {
            name: name.to_owned(),
            index,
            mac: Mac::default(),
            up: true,
            mtu: 1500,
            loopback: false,
            xdp: None,
            kind: LinkKind::Other(String::new()),
            master: None,
        }
    }

    fn address(ifindex: u32, address: &str) -> Address {
        let address = address.parse().unwrap();
        Address { ifindex, address, prefix_len: 24, deprecated: false, tentative: false }
    }
}
