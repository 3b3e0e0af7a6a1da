//! From the kernel's messages to the parts of a `Snapshot`. Called by `Netlink::snapshot`. No I/O.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use lb_common::link::Mac;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage};
use rtnetlink::packet_route::link::{
    InfoData, InfoKind, InfoVlan, LinkAttribute, LinkFlags, LinkInfo, LinkMessage, LinkXdp,
    XdpAttached,
};
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage,
    NeighbourState as KernelState,
};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteNextHop,
    RouteNextHopFlags, RouteType,
};

use super::snapshot::{
    Address, AttachMode, AttachedXdp, Link, LinkKind, Neighbour, NeighbourState, Route, RouteKind,
};

use crate::config::Cidr;

#[cfg(test)]
mod tests;

pub(super) fn link(message: &LinkMessage) -> Link {
    let flags = message.header.flags;
    let mut link = Link {
        name: String::new(),
        index: message.header.index,
        mac: Mac::default(),
        up: flags.contains(LinkFlags::Up | LinkFlags::LowerUp),
        mtu: 0,
        loopback: flags.contains(LinkFlags::Loopback),
        xdp: None,
        kind: LinkKind::Other(String::new()),
        master: None,
    };
    let (mut parent, mut foreign) = (0, false);
    for attribute in &message.attributes {
        if let LinkAttribute::IfName(name) = attribute {
            link.name.clone_from(name);
        } else if let LinkAttribute::Address(bytes) = attribute {
            link.mac = mac(bytes).unwrap_or_default();
        } else if let LinkAttribute::Mtu(mtu) = attribute {
            link.mtu = *mtu;
        } else if let LinkAttribute::Controller(index) = attribute {
            link.master = Some(*index);
        } else if let LinkAttribute::Link(index) = attribute {
            parent = *index;
        } else if let LinkAttribute::LinkNetNsId(_) = attribute {
            foreign = true;
        } else if let LinkAttribute::Xdp(attributes) = attribute {
            link.xdp = xdp(attributes);
        } else if let LinkAttribute::LinkInfo(infos) = attribute {
            link.kind = kind(infos);
        }
    }
    if let LinkKind::Vlan { id, .. } = link.kind {
        link.kind = LinkKind::Vlan { id, parent: if foreign { 0 } else { parent } };
    }
    link
}

fn kind(infos: &[LinkInfo]) -> LinkKind {
    let vlan_id = infos.iter().find_map(|info| {
        let LinkInfo::Data(InfoData::Vlan(data)) = info else { return None };
        data.iter().find_map(|item| if let InfoVlan::Id(id) = item { Some(*id) } else { None })
    });
    let kind = infos.iter().find_map(|i| if let LinkInfo::Kind(k) = i { Some(k) } else { None });
    match (kind, vlan_id) {
        (Some(InfoKind::Bond), _) => LinkKind::Bond,
        (Some(InfoKind::Vlan), Some(id)) => LinkKind::Vlan { id, parent: 0 },
        (Some(kind), _) => LinkKind::Other(kind.to_string()),
        (None, _) => LinkKind::Other(String::new()),
    }
}

fn xdp(attributes: &[LinkXdp]) -> Option<AttachedXdp> {
    let id = |a: &LinkXdp| if let LinkXdp::ProgId(id) = a { Some(*id) } else { None };
    let mode = attributes.iter().find_map(|attribute| {
        let LinkXdp::Attached(mode) = attribute else { return None };
        Some(*mode)
    });
    let mode = match mode? {
        XdpAttached::Driver => AttachMode::Native,
        XdpAttached::SocketBuffer => AttachMode::Generic,
        XdpAttached::Hardware => AttachMode::Hardware,
        XdpAttached::Multiple => AttachMode::Multiple,
        XdpAttached::None | XdpAttached::Other(_) | _ => return None,
    };
    Some(AttachedXdp { program_id: attributes.iter().find_map(id).unwrap_or(0), mode })
}

/// None: not an IP address.
pub(super) fn address(message: &AddressMessage) -> Option<Address> {
    // Local is our end; Address is the peer's on a point-to-point link, else the same.
    let find =
        |pick: fn(&AddressAttribute) -> Option<IpAddr>| message.attributes.iter().find_map(pick);
    let address = find(|a| if let AddressAttribute::Local(ip) = a { Some(*ip) } else { None })
        .or_else(|| find(|a| if let AddressAttribute::Address(ip) = a { Some(*ip) } else { None }))
        .filter(|address| kernel_family(address) == message.header.family)?;
    let no_time = |a: &AddressAttribute| matches!(a, AddressAttribute::CacheInfo(cache) if cache.ifa_preferred == 0);
    let flags = message.header.flags;
    Some(Address {
        ifindex: message.header.index,
        address,
        prefix_len: message.header.prefix_len,
        deprecated: flags.contains(AddressHeaderFlags::Deprecated)
            || message.attributes.iter().any(no_time),
        tentative: flags.intersects(AddressHeaderFlags::Tentative | AddressHeaderFlags::Dadfailed),
    })
}

fn kernel_family(address: &IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

/// None: not a route that lookups in the main table use.
pub(super) fn route(message: &RouteMessage) -> Option<Route> {
    let header = &message.header;
    // Cloned ones are what the kernel learned about single hosts (path MTU, redirects).
    let unused = header.flags.intersects(RouteFlags::Cloned | RouteFlags::Dead);
    let default = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)]
        .into_iter()
        .find(|address| kernel_family(address) == header.address_family)?;
    if header.tos != 0 || unused {
        return None;
    }
    let prefix_len = header.destination_prefix_length;
    let mut route = Route {
        dst: Cidr::containing(default, prefix_len),
        gateway: None,
        ifindex: 0,
        metric: 0,
        prefsrc: None,
        kind: route_kind(header.kind),
    };
    let mut table = u32::from(header.table);
    for attribute in &message.attributes {
        if let RouteAttribute::Table(id) = attribute {
            table = *id;
        } else if let RouteAttribute::Destination(dst) = attribute {
            route.dst = Cidr::containing(route_address(dst)?, prefix_len);
        } else if let RouteAttribute::Priority(metric) = attribute {
            route.metric = *metric;
        } else if let RouteAttribute::PrefSource(source) = attribute {
            route.prefsrc = route_address(source);
        } else if let RouteAttribute::MultiPath(paths) = attribute {
            let path = usable_path(paths)?;
            route.ifindex = path.interface_index;
            path.attributes.iter().for_each(|attribute| apply_path(&mut route, attribute));
        } else {
            apply_path(&mut route, attribute);
        }
    }
    (table == u32::from(RouteHeader::RT_TABLE_MAIN)).then_some(route)
}

/// The first path with a carrier, else the first that is not dead.
fn usable_path(paths: &[RouteNextHop]) -> Option<&RouteNextHop> {
    let alive = || paths.iter().filter(|path| !path.flags.contains(RouteNextHopFlags::Dead));
    let mut carried = alive().filter(|path| !path.flags.contains(RouteNextHopFlags::Linkdown));
    carried.next().or_else(|| alive().next())
}

fn apply_path(route: &mut Route, attribute: &RouteAttribute) {
    if let RouteAttribute::Gateway(gateway) = attribute {
        route.gateway = route_address(gateway);
    } else if let RouteAttribute::Oif(index) = attribute {
        route.ifindex = *index;
    } else if matches!(attribute, RouteAttribute::Via(_) | RouteAttribute::EncapType(_)) {
        route.kind = RouteKind::Blocked;
    }
}

/// None: not an IP address.
fn route_address(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(v4) => Some(IpAddr::V4(*v4)),
        RouteAddress::Inet6(v6) => Some(IpAddr::V6(*v6)),
        RouteAddress::Mpls(_) | RouteAddress::Other(_) | _ => None,
    }
}

fn route_kind(kind: RouteType) -> RouteKind {
    match kind {
        RouteType::Unicast => RouteKind::Unicast,
        RouteType::Local => RouteKind::Local,
        RouteType::Broadcast | RouteType::Anycast => RouteKind::Broadcast,
        RouteType::Multicast => RouteKind::Multicast,
        RouteType::Unspec
        | RouteType::BlackHole
        | RouteType::Unreachable
        | RouteType::Prohibit
        | RouteType::Throw
        | RouteType::Nat
        | RouteType::ExternalResolve
        | RouteType::Other(_)
        | _ => RouteKind::Blocked,
    }
}

/// Interface, address and entry. None: no neighbour that packets of ours could go to.
pub(super) fn neighbour(message: &NeighbourMessage) -> Option<(u32, IpAddr, Neighbour)> {
    let header = &message.header;
    if header.flags.contains(NeighbourFlags::Proxy) {
        return None;
    }
    let address = message.attributes.iter().find_map(|attribute| {
        let NeighbourAttribute::Destination(address) = attribute else { return None };
        neighbour_address(address)
    })?;
    if address.is_multicast() || kernel_family(&address) != header.family {
        return None;
    }
    let mac = message.attributes.iter().find_map(|attribute| {
        let NeighbourAttribute::LinkLayerAddress(bytes) = attribute else { return None };
        mac(bytes)
    });
    let state = match header.state {
        KernelState::Incomplete => NeighbourState::Incomplete,
        KernelState::Reachable => NeighbourState::Reachable,
        KernelState::Stale => NeighbourState::Stale,
        KernelState::Delay => NeighbourState::Delay,
        KernelState::Probe => NeighbourState::Probe,
        KernelState::Failed => NeighbourState::Failed,
        KernelState::Noarp => NeighbourState::NoArp,
        KernelState::Permanent => NeighbourState::Permanent,
        KernelState::None | KernelState::Other(_) | _ => NeighbourState::None,
    };
    Some((header.ifindex, address, Neighbour { mac, state }))
}

fn neighbour_address(address: &NeighbourAddress) -> Option<IpAddr> {
    match address {
        NeighbourAddress::Inet(v4) => Some(IpAddr::V4(*v4)),
        NeighbourAddress::Inet6(v6) => Some(IpAddr::V6(*v6)),
        NeighbourAddress::Other(_) | _ => None,
    }
}

/// None: not an Ethernet address.
fn mac(bytes: &[u8]) -> Option<Mac> {
    bytes.try_into().ok().map(Mac)
}
