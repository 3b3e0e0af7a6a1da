//! What the controller writes.

use std::net::{Ipv4Addr, SocketAddrV4};

use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::xdp::DevMap;
use aya::maps::{Array, ArrayOfMaps, MapData};
use fairlead::datapath::now::ticks;
use lb_common::addr::{Address as _, Endpoint, IpBe, Ipv4Be, Ipv6Be, PortBe};
use lb_common::backend::Backend;
use lb_common::filter::{AddressFilter, Filters};
use lb_common::lease::Lease;
use lb_common::link::{Link, LinkId, Mac, NextHop, Route, WaysChanged};
use lb_common::nat::Kind;
use lb_common::service::{AllowKey, EndpointUse, Service, ServiceKey};
use lb_common::vip::Vip;
use lb_common::{IPPROTO_TCP, map};
use lb_tests::family::Family;

use super::names::{local, local_ip, prefix_bits};
use super::{Harness, SERVICE};

impl Harness {
    /// The address that a name stands for.
    pub(crate) fn ip(&self, name: Ipv4Addr) -> IpBe {
        IpBe::new(local_ip(self.family, name))
    }

    pub(crate) fn endpoint(&self, name: SocketAddrV4) -> Endpoint {
        let address = local(self.family, name);
        Endpoint::new(IpBe::new(address.ip()), PortBe::new(address.port()), IPPROTO_TCP)
    }

    pub(crate) fn add_vip(&mut self, name: Ipv4Addr, lease: u32) {
        let address = self.ip(name);
        self.insert(map::VIPS, &address, Vip::new(lease, true));
        let family = self.family;
        self.change_filters(|filters| insert(&mut filters.vips, family, address));
    }

    /// The service's VIP takes nothing that is of no service.
    pub(crate) fn close_vip(&mut self) {
        let address = self.ip(*SERVICE.ip());
        self.insert(map::VIPS, &address, Vip::new(0, false));
    }

    pub(crate) fn change_filters(&mut self, change: impl FnOnce(&mut Filters)) {
        let mut filters: Filters = self.get(map::FILTERS, 0);
        change(&mut filters);
        self.set(map::FILTERS, 0, filters);
    }

    pub(crate) fn set_lease(&mut self, index: u32, lease: Lease) {
        self.set(map::LEASES, index, lease);
    }

    pub(crate) fn change_service(&mut self, change: impl FnOnce(&mut Service)) {
        change(&mut self.service);
        let service = self.service;
        let key: ServiceKey = self.endpoint(SERVICE);
        self.insert(map::SERVICES, &key, service);
    }

    pub(crate) fn backend(&self, id: u32) -> Backend {
        self.get(map::BACKENDS, id)
    }

    pub(crate) fn change_backend(&mut self, id: u32, change: impl FnOnce(&mut Backend)) {
        let mut backend = self.backend(id);
        change(&mut backend);
        self.set(map::BACKENDS, id, backend);
    }

    /// A backend's endpoint and host, and in `dnat` that its packets may be replies.
    pub(crate) fn add_endpoint(&mut self, name: SocketAddrV4, exclusive: bool) {
        let vip = self.endpoint(SERVICE);
        let exclusive = exclusive.into();
        let known = EndpointUse { services: 1, exclusive, vip, ..EndpointUse::default() };
        let endpoint = self.endpoint(name);
        self.insert(map::ENDPOINTS, &endpoint, known);
        self.insert(map::ENDPOINTS, &Endpoint::host(endpoint.address), known);
        if self.service.kind == Kind::Dnat as u8 {
            let family = self.family;
            self.change_filters(|filters| {
                insert(&mut filters.sources, family, endpoint.address);
                filters.any_source = 1;
            });
        }
    }

    /// The identifiers take the slots in turn.
    pub(crate) fn set_table(&mut self, ids: &[u32]) {
        const INNER_MAP: u32 = 0x1000;
        let length = u32::try_from(ids.len()).unwrap();
        let mut table = Array::<MapData, u32>::create(length + 1, INNER_MAP).unwrap();
        table.set(0, length, 0).unwrap();
        for (slot, id) in (1..).zip(ids) {
            table.set(slot, id, 0).unwrap();
        }
        let mut tables: ArrayOfMaps<_, Array<MapData, u32>> =
            self.map_mut(map::TABLES).try_into().unwrap();
        tables.set(0, &table, 0).unwrap();
    }

    /// An interface with our program, with this address of its own, and the node's.
    pub(crate) fn add_link(&mut self, id: LinkId, ifindex: u32, mac: [u8; 6], name: Ipv4Addr) {
        let mut link = Link { ifindex, mac: Mac(mac), ..Link::default() };
        match self.family {
            Family::V4 => link.ipv4 = Ipv4Be::from_ip(self.ip(name)),
            Family::V6 => link.ipv6 = Ipv6Be::from_ip(self.ip(name)),
        }
        self.set(map::LINKS, id.into(), link);
        self.insert(map::LINK_IDS, &ifindex, u32::from(id));
    }

    /// Makes redirecting to a link possible; the loopback device is the only one that is sure to exist.
    pub(crate) fn add_device(&mut self, id: LinkId) {
        let mut devices: DevMap<_> = self.map_mut(map::DEVICES).try_into().unwrap();
        devices.set(id.into(), 1, None, 0).unwrap();
    }

    /// Unspecified: on the link.
    pub(crate) fn add_route(
        &mut self,
        prefix: Ipv4Addr,
        length: u8,
        gateway: Ipv4Addr,
        link: LinkId,
    ) {
        let bits = prefix_bits(self.family, length);
        let gateway = if gateway.is_unspecified() { IpBe::UNSPECIFIED } else { self.ip(gateway) };
        let route = Route { gateway, link: link.into(), ..Route::default() };
        let key = Key::new(bits, self.ip(prefix).trie_data());
        let mut routes: LpmTrie<_, [u32; 4], Route> = self.map_mut(map::ROUTES).try_into().unwrap();
        routes.insert(&key, route, 0).unwrap();
        self.change_ways();
    }

    pub(crate) fn add_neighbour(&mut self, name: Ipv4Addr, next_hop: NextHop) {
        let address = self.ip(name);
        self.insert(map::NEIGHBOURS, &address, next_hop);
        self.change_ways();
    }

    fn change_ways(&mut self) {
        self.set(map::WAYS_CHANGED, 0, WaysChanged(ticks()));
    }

    /// Sources of a prefix may open connections to the service.
    pub(crate) fn allow(&mut self, prefix: Ipv4Addr, length: u8) {
        let bits = AllowKey::SERVICE_BITS + prefix_bits(self.family, length);
        let key = Key::new(bits, AllowKey::new(self.service.id, self.ip(prefix)));
        let mut allowed: LpmTrie<_, AllowKey, u8> = self.map_mut(map::ALLOWED).try_into().unwrap();
        allowed.insert(&key, 1, 0).unwrap();
    }
}

/// As the address of its own family.
pub(crate) fn insert(filter: &mut AddressFilter, family: Family, address: IpBe) {
    match family {
        Family::V4 => filter.insert(Ipv4Be::from_ip(address)),
        Family::V6 => filter.insert(Ipv6Be::from_ip(address)),
    }
}
