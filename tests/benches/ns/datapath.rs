//! The program of the controller, loaded, with maps of the size and contents that production has.

use std::net::SocketAddr;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::Path;

use anyhow::{Context as _, Result};
use aya::maps::{Array, ArrayOfMaps, HashMap, Map, MapData};
use aya::programs::{ProgramFd, Xdp};
use aya::{Ebpf, EbpfLoader, Pod};
use fairlead::control::maglev;
use fairlead::datapath::clock::Clock;
use fairlead::datapath::counts::{Layout, cpus};
use fairlead::datapath::packets::Tracer;
use fairlead::datapath::table::{Design, homes};
use lb_common::addr::{Address as _, Endpoint, IpBe, Ipv4Be, Ipv6Be, PortBe};
use lb_common::backend::Backend;
use lb_common::filter::{AddressFilter, Filters};
use lb_common::lease::Lease;
use lb_common::link::{Link, Mac, NextHop};
use lb_common::nat::Kind;
use lb_common::service::{EndpointUse, SNAT_PORTS, Service, SnatAddress};
use lb_common::trace::Filter;
use lb_common::{IPPROTO_TCP, map};
use lb_tests::family::Family;

use crate::scenario::{LB_MAC, Scenario, backend_mac};

/// The identifiers that the program has room for.
const MOST_BACKENDS: u32 = 1024;
/// The interface that test runs come in by.
const INGRESS: u32 = 1;

/// Slots that halves can be at home in.
pub(crate) fn homes_of(scenario: &Scenario) -> u32 {
    homes(2 * scenario.room(), 2 * scenario.half_open_room())
}

pub(crate) struct Datapath {
    ebpf: Ebpf,
}

impl Datapath {
    /// A service with its backends resolved, and room for the scenario's flows; no flow yet.
    pub(crate) fn load(scenario: &Scenario) -> Result<Self> {
        Self::load_object(scenario, fairlead::datapath::OBJECT)
    }

    /// Likewise, with another build of the program.
    pub(crate) fn load_object(scenario: &Scenario, object: &[u8]) -> Result<Self> {
        let homes = homes_of(scenario);
        let tables = Design::new(scenario.family.pick([homes, 1], [1, homes]));
        let clock = Clock::measure();
        let mut loader = EbpfLoader::new();
        clock.apply(&mut loader);
        tables.apply(&mut loader);
        let counts = Layout { cpus: cpus()?, backends: MOST_BACKENDS };
        counts.apply(&mut loader);
        let mut ebpf = loader.load(object).context("creating the BPF maps")?;
        tables.begin(&ebpf).context("preparing the tables of flows")?;
        let program: &mut Xdp =
            ebpf.program_mut(lb_common::PROGRAM).context("finding the XDP program")?.try_into()?;
        program.load().context("loading the XDP program")?;
        let mut datapath = Self { ebpf };
        datapath.fill(scenario).context("filling the maps")?;
        Ok(datapath)
    }

    pub(crate) fn program(&self) -> Result<BorrowedFd<'_>> {
        Ok(self.program_fd()?.as_fd())
    }

    /// What follows its packets for as long as it is held, with its pins in an empty bpffs.
    pub(crate) fn followed(&self, pins: &Path, filter: &Filter) -> Result<Tracer> {
        for name in [map::FLOWS, map::FLOWS6, map::COUNTERS] {
            let map = self.ebpf.map(name).with_context(|| format!("finding {name}"))?;
            map.pin(pins.join(name)).with_context(|| format!("pinning {name}"))?;
        }
        Tracer::load(self.program_fd()?, pins, filter)
    }

    fn program_fd(&self) -> Result<&ProgramFd> {
        let program: &Xdp =
            self.ebpf.program(lb_common::PROGRAM).context("finding the XDP program")?.try_into()?;
        Ok(program.fd()?)
    }

    fn fill(&mut self, scenario: &Scenario) -> Result<()> {
        let vip = IpBe::new(scenario.service().ip());
        self.set(map::LINKS, 1, Link { ifindex: INGRESS, mac: Mac(LB_MAC), ..Link::default() })?;
        self.insert(map::LINK_IDS, &INGRESS, 1u32)?;
        self.insert(map::VIPS, &vip, 0u32)?;
        self.set(map::LEASES, 0, Lease::FOREVER)?;
        let mut filters = Filters::EMPTY;
        insert(&mut filters.vips, scenario.family, vip);
        for id in 1..=scenario.backends {
            let host = self.add_backend(scenario, id)?;
            if scenario.mode == Kind::Dnat {
                insert(&mut filters.sources, scenario.family, host);
                filters.any_source = 1;
            }
        }
        self.set(map::FILTERS, 0, filters)?;
        self.fill_table(scenario.backends)?;
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
        self.insert(map::SERVICES, &endpoint(scenario.service()), service)
    }

    /// Returns the backend's host.
    fn add_backend(&mut self, scenario: &Scenario, id: u32) -> Result<IpBe> {
        let next_hop = NextHop { mac: Mac(backend_mac(id)), link: 1, ..NextHop::default() };
        let endpoint = endpoint(scenario.backend(id));
        self.set(map::BACKENDS, id, Backend { endpoint, next_hop, ..Backend::default() })?;
        let known = EndpointUse { services: 1, ..EndpointUse::default() };
        self.insert(map::ENDPOINTS, &endpoint, known)?;
        self.insert(map::ENDPOINTS, &Endpoint::host(endpoint.address), known)?;
        Ok(endpoint.address)
    }

    fn fill_table(&mut self, backends: u32) -> Result<()> {
        const INNER_MAP: u32 = 0x1000;
        let names: Vec<String> = (1..=backends).map(|id| format!("backend {id}")).collect();
        let entries: Vec<maglev::Entry<'_>> =
            (1..).zip(&names).map(|(id, name)| maglev::Entry { name, id, weight: 1 }).collect();
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

fn endpoint(address: SocketAddr) -> Endpoint {
    Endpoint::new(IpBe::new(address.ip()), PortBe::new(address.port()), IPPROTO_TCP)
}

/// As the address of its own family.
fn insert(filter: &mut AddressFilter, family: Family, address: IpBe) {
    match family {
        Family::V4 => filter.insert(Ipv4Be::from_ip(address)),
        Family::V6 => filter.insert(Ipv6Be::from_ip(address)),
    }
}
