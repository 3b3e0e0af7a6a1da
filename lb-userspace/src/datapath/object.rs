//! The XDP program and its maps: adopted from a predecessor where they fit, migrated where they don't.

use std::path::Path;

use anyhow::Context as _;
use aya::maps::{MapData, MapInfo};
use aya::programs::Xdp;
use aya::{Ebpf, EbpfLoader, VerifierLogLevel};
use lb_common::addr::{Endpoint, Ipv4Be, NextHop, Route};
use lb_common::backend::{Backend, BackendCounters};
use lb_common::conntrack::FlowHalf;
use lb_common::counters::COUNTERS;
use lb_common::flow::FlowKey;
use lb_common::lease::Lease;
use lb_common::service::{Service, ServiceKey, VipFilter};
use lb_common::{MAX_SERVICES, MAX_VIPS, PROGRAM, map};

use super::pins::MapDir;
use crate::config::Limits;

/// The program for XDP, as `build.rs` made it.
pub static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/fairlead-xdp.o"));

/// Capacities of the maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    pub flows: u32,
    pub half_open: u32,
    /// Slots of the backend map; slot 0 is never used.
    pub backends: u32,
}

/// Fewest slots: room to grow by reloads.
const MIN_BACKENDS: u32 = 1024;

impl Sizes {
    /// For a configuration with `backends` backends: twice as many slots, for those that are gone but
    /// still have flows.
    pub fn new(limits: &Limits, backends: usize) -> Self {
        let wanted = u32::try_from(backends).unwrap_or(u32::MAX).saturating_mul(2);
        Self {
            flows: limits.flows,
            half_open: limits.half_open,
            backends: wanted.max(MIN_BACKENDS).next_power_of_two(),
        }
    }

    /// Key size, value size and capacity of a map, by its name.
    fn layout(&self, name: &str) -> (usize, usize, u32) {
        let (key, value, entries) = match name {
            map::ESTABLISHED => {
                (size_of::<FlowKey<Ipv4Be>>(), size_of::<FlowHalf<Ipv4Be>>(), self.flows * 2)
            }
            map::HALF_OPEN => {
                (size_of::<FlowKey<Ipv4Be>>(), size_of::<FlowHalf<Ipv4Be>>(), self.half_open * 2)
            }
            map::BACKENDS => (4, size_of::<Backend<Ipv4Be>>(), self.backends),
            map::BACKEND_COUNTERS => (4, size_of::<BackendCounters>(), self.backends),
            map::ENDPOINTS => (size_of::<Endpoint<Ipv4Be>>(), 4, self.backends),
            map::COUNTERS => (4, 8, COUNTERS),
            map::SERVICES => {
                (size_of::<ServiceKey<Ipv4Be>>(), size_of::<Service<Ipv4Be>>(), MAX_SERVICES)
            }
            map::TABLES => (4, 4, MAX_SERVICES),
            map::VIPS => (4, 4, MAX_VIPS),
            map::LEASES => (4, size_of::<Lease>(), MAX_VIPS),
            map::VIP_FILTER => (4, size_of::<VipFilter>(), 1),
            map::ROUTES => {
                (4 + size_of::<Ipv4Be>(), size_of::<Route<Ipv4Be>>(), super::maps::MAX_ROUTES)
            }
            map::NEIGHBOURS => (4, size_of::<NextHop>(), super::maps::MAX_NEIGHBOURS),
            _ => (4, 4, super::maps::MAX_DEVICES),
        };
        (key, value, entries)
    }

    /// Maps whose capacity the configuration decides.
    fn overrides(&self) -> impl Iterator<Item = (&'static str, u32)> + '_ {
        [map::ESTABLISHED, map::HALF_OPEN, map::BACKENDS, map::BACKEND_COUNTERS, map::ENDPOINTS]
            .into_iter()
            .map(|name| (name, self.layout(name).2))
    }

    /// What keeps the maps of `dir` from being used as they are; `None`: nothing.
    pub fn mismatch(&self, dir: &MapDir) -> Option<String> {
        if dir.layout != lb_common::LAYOUT_VERSION {
            return Some(format!("layout {} instead of {}", dir.layout, lb_common::LAYOUT_VERSION));
        }
        map::ALL.iter().find_map(|name| {
            let (key, value, entries) = self.layout(name);
            let Ok(info) = MapInfo::from_pin(dir.path.join(name)) else {
                return Some(format!("{name} is missing"));
            };
            // A devmap's values are what the kernel makes of them.
            let value_size = if *name == map::DEVICES { value } else { info.value_size() as usize };
            let found = (info.key_size() as usize, value_size, info.max_entries());
            (found != (key, value, entries))
                .then(|| format!("{name} is {found:?} instead of {:?}", (key, value, entries)))
        })
    }
}

/// Loads the object with its maps in `dir`: those pinned there, or new ones pinned there.
pub fn load(dir: &Path, sizes: &Sizes) -> anyhow::Result<Ebpf> {
    let mut loader = EbpfLoader::new();
    loader.verifier_log_level(VerifierLogLevel::DISABLE);
    for (name, entries) in sizes.overrides() {
        loader.map_max_entries(name, entries);
    }
    for name in map::ALL {
        loader.map_pin_path(name, dir.join(name));
    }
    let mut ebpf = loader.load(OBJECT).context("creating the BPF maps")?;
    program(&mut ebpf)?.load().context(
        "loading the XDP program: the kernel's verifier refused it; Linux 5.15 or newer is needed",
    )?;
    Ok(ebpf)
}

/// The XDP program of a loaded object.
pub fn program(ebpf: &mut Ebpf) -> anyhow::Result<&mut Xdp> {
    let program = ebpf.program_mut(PROGRAM).context("the BPF object has no XDP program")?;
    Ok(program.try_into()?)
}

/// Opens a pinned map without a type.
pub fn pinned(dir: &Path, name: &str) -> anyhow::Result<MapData> {
    let path = dir.join(name);
    let map = MapData::from_pin(&path).with_context(|| format!("opening {}", path.display()))?;
    Ok(map)
}
