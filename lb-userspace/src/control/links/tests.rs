use std::collections::BTreeMap;

use lb_common::link::Mac;

use super::*;
use crate::netlink::snapshot::{Link as Interface, LinkKind};

const PEER: Mac = Mac([2, 0, 0, 0, 1, 1]);

#[test]
fn numbers_start_at_one_and_stay() {
    let mut links = Links::default();
    assign(&mut links, &["eth0", "eth1"], &snapshot(&[(5, "eth0"), (6, "eth1")]));
    assert_eq!((links.id(5), links.id(6), links.id(7)), (Some(1), Some(2), None));

    assign(&mut links, &["eth1"], &snapshot(&[(6, "eth1")]));
    assert_eq!((links.id(5), links.id(6)), (None, Some(2)));
    assign(&mut links, &["eth1", "eth0"], &snapshot(&[(6, "eth1"), (9, "eth0")]));
    assert_eq!((links.id(9), links.id(6)), (Some(1), Some(2)), "made again");
}

#[test]
fn an_interface_that_is_gone_keeps_its_number() {
    let mut links = Links::default();
    assign(&mut links, &["eth0"], &snapshot(&[(5, "eth0")]));
    assign(&mut links, &["eth0"], &snapshot(&[]));
    assert_eq!(links.wanted()[&1], Link::default());
    assign(&mut links, &["eth0", "eth1"], &snapshot(&[(5, "eth1"), (9, "eth0")]));
    assert_eq!((links.id(9), links.id(5)), (Some(1), Some(2)));
}

#[test]
fn a_successor_goes_by_names_and_else_by_the_kernel_s_numbers() {
    let installed = BTreeMap::from([(1, link(5)), (2, link(6)), (3, link(7))]);
    let names = BTreeMap::from([("eth0".to_owned(), 1)]);
    let mut links = Links::adopt(installed, &names);
    let now = snapshot(&[(9, "eth0"), (6, "eth1"), (8, "eth2")]);
    assign(&mut links, &["eth0", "eth1", "eth2"], &now);
    assert_eq!((links.id(9), links.id(6), links.id(8)), (Some(1), Some(2), Some(4)));
}

#[test]
fn more_interfaces_than_numbers_are_named() {
    let names: Vec<String> = (0..MAX_LINKS).map(|number| format!("eth{number}")).collect();
    let left = Links::default().assign(&names, &Snapshot::default(), &BTreeSet::new());
    assert_eq!(left, ["eth63"]);
}

#[test]
fn a_vlan_is_its_own_way_out_only_if_it_is_ours() {
    let mut links = Links::default();
    let now = snapshot(&[(5, "eth0"), (6, "eth0.7")]);
    let hop = Hop { through: 6, ifindex: 5, mac: PEER, vlan: 7, inner_vlan: 0 };
    assert_eq!(links.next_hop(&hop), None);
    assign(&mut links, &["eth0"], &now);
    let tags = Tags { outer: 7, inner: 0 };
    assert_eq!(links.next_hop(&hop), Some(NextHop { mac: PEER, link: 1, tags }));
    assign(&mut links, &["eth0.7"], &now);
    let tags = Tags::default();
    assert_eq!(links.next_hop(&hop), Some(NextHop { mac: PEER, link: 2, tags }));
}

#[test]
fn a_link_has_the_interface_s_own_addresses() {
    let mut now = snapshot(&[(5, "eth0")]);
    for (text, prefix_len) in
        [("10.0.0.100", 32), ("10.0.0.2", 24), ("fe80::2", 64), ("fd00::2", 64)]
    {
        now.addresses.push(crate::netlink::snapshot::Address {
            ifindex: 5,
            address: text.parse().unwrap(),
            prefix_len,
            deprecated: false,
            tentative: false,
        });
    }
    let vips = BTreeSet::from(["10.0.0.100".parse().unwrap()]);
    let mut links = Links::default();
    links.assign(&["eth0".to_owned()], &now, &vips);
    let link = links.wanted()[&1];
    assert_eq!((link.ifindex, link.mac), (5, mac(5)));
    assert_eq!(
        (link.ipv4.get().to_string(), link.ipv6.get().to_string()),
        ("10.0.0.2".into(), "fd00::2".into())
    );
}

fn assign(links: &mut Links, names: &[&str], snapshot: &Snapshot) {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    assert_eq!(links.assign(&names, snapshot, &BTreeSet::new()), Vec::<String>::new());
}

fn link(ifindex: u32) -> Link {
    Link { ifindex, mac: mac(ifindex), ..Link::default() }
}

fn mac(index: u32) -> Mac {
    Mac([2, 0, 0, 0, 0, u8::try_from(index).unwrap()])
}

fn snapshot(interfaces: &[(u32, &str)]) -> Snapshot {
    let links = interfaces.iter().map(|(index, name)| {
        let link = Interface {
            name: (*name).to_owned(),
            index: *index,
            mac: mac(*index),
            up: true,
            mtu: 1500,
            loopback: false,
            xdp: None,
            kind: LinkKind::Other(String::new()),
            master: None,
        };
        (*index, link)
    });
    Snapshot { links: links.collect(), ..Snapshot::default() }
}
