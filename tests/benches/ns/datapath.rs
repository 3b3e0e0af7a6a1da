//! The program of the controller, loaded, with maps of the size and contents that production has.

use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd as _, BorrowedFd};

use anyhow::{Context as _, Result};
use aya::maps::{Array, ArrayOfMaps, HashMap, Map, MapData};
use aya::programs::Xdp;
use aya::{Ebpf, EbpfLoader, Pod};
use fairlead::config::Limits;
use fairlead::control::maglev;
use lb_common::addr::{Endpoint, IpBe, Ipv4Be, PortBe};
use lb_common::backend::Backend;
use lb_common::filter::Filters;
use lb_common::lease::Lease;
use lb_common::link::{Link, Mac, NextHop};
use lb_common::service::{EndpointUse, SNAT_PORTS, Service, SnatAddress};
use lb_common::{IPPROTO_TCP, map};

use crate::scenario::{Scenario, backend, backend_mac};

/// The interface that test runs come in by.
const INGRESS: u32 = 1;
const BACKENDS: [u32; 3] = [1, 2, 3];
pub(crate) const LB_MAC: [u8; 6] = [2, 0, 0, 0, 0, 100];
pub(crate) const SERVICE: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 100), 6443);

pub(crate) struct Datapath {
    ebpf: Ebpf,
}

impl Datapath {
    /// A service with three resolved backends and room for 131,072 flows; no flow yet.
    pub(crate) fn load(scenario: Scenario) -> Result<Self> {
        let limits = Limits::default();
        let mut ebpf = EbpfLoader::new()
            .map_max_entries(map::ESTABLISHED, 2 * limits.flows)
            .map_max_entries(map::HALF_OPEN, 2 * limits.half_open)
            .load(fairlead::datapath::OBJECT)
            .context("creating the BPF maps")?;
        let program: &mut Xdp =
            ebpf.program_mut(lb_common::PROGRAM).context("finding the XDP program")?.try_into()?;
        program.load().context("loading the XDP program")?;
        let mut datapath = Self { ebpf };
        datapath.fill(scenario).context("filling the maps")?;
        Ok(datapath)
    }

    pub(crate) fn program(&self) -> Result<BorrowedFd<'_>> {
        let program: &Xdp =
            self.ebpf.program(lb_common::PROGRAM).context("finding the XDP program")?.try_into()?;
        Ok(program.fd()?.as_fd())
    }

    fn fill(&mut self, scenario: Scenario) -> Result<()> {
        let vip = IpBe::new(IpAddr::V4(*SERVICE.ip()));
        let mut filters = Filters::EMPTY;
        filters.vips.insert(Ipv4Be::new(*SERVICE.ip()));
        self.set(map::FILTERS, 0, filters)?;
        self.set(map::LINKS, 1, Link { ifindex: INGRESS, mac: Mac(LB_MAC), ..Link::default() })?;
        self.insert(map::LINK_IDS, &INGRESS, 1u32)?;
        self.insert(map::VIPS, &vip, 0u32)?;
        self.set(map::LEASES, 0, Lease::FOREVER)?;
        for id in BACKENDS {
            let next_hop = NextHop { mac: Mac(backend_mac(id)), link: 1, ..NextHop::default() };
            let endpoint = endpoint(backend(id));
            self.set(map::BACKENDS, id, Backend { endpoint, next_hop, ..Backend::default() })?;
            self.insert(
                map::ENDPOINTS,
                &endpoint,
                EndpointUse { services: 1, ..EndpointUse::default() },
            )?;
        }
        self.fill_table()?;
        let mut snat = [SnatAddress::default(); 4];
        snat[0] = SnatAddress { address: vip, ..SnatAddress::default() };
        let service = Service {
            snat,
            snat_count: 1,
            kind: scenario.mode as u8,
            snat_port_min: *SNAT_PORTS.start(),
            snat_port_max: *SNAT_PORTS.end(),
            ..Service::default()
        };
        self.insert(map::SERVICES, &endpoint(SERVICE), service)
    }

    fn fill_table(&mut self) -> Result<()> {
        const INNER_MAP: u32 = 0x1000;
        let entries =
            [("a", 1), ("b", 2), ("c", 3)].map(|(name, id)| maglev::Entry { name, id, weight: 1 });
        let slots = maglev::build(&entries);
        let length = u32::try_from(slots.len())?;
        let mut table = Array::<MapData, u32>::create(length + 1, INNER_MAP)?;
        table.set(0, length, 0)?;
        for (slot, id) in (1..).zip(slots) {
            table.set(slot, id, 0)?;
        }
        let mut tables: ArrayOfMaps<_, Array<MapData, u32>> = self.map(map::TABLES)?.try_into()?;
        Ok(tables.set(0, &table, 0)?)
    }

    fn map(&mut self, name: &str) -> Result<&mut Map> {
        self.ebpf.map_mut(name).with_context(|| format!("finding {name}"))
    }

    fn insert<K: Pod, V: Pod>(&mut self, name: &str, key: &K, value: V) -> Result<()> {
        let mut map: HashMap<_, K, V> = self.map(name)?.try_into()?;
        Ok(map.insert(key, value, 0)?)
    }

    fn set<V: Pod>(&mut self, name: &str, index: u32, value: V) -> Result<()> {
        let mut array: Array<_, V> = self.map(name)?.try_into()?;
        Ok(array.set(index, value, 0)?)
    }
}

fn endpoint(address: SocketAddrV4) -> Endpoint {
    Endpoint::new(IpBe::new(IpAddr::V4(*address.ip())), PortBe::new(address.port()), IPPROTO_TCP)
}
