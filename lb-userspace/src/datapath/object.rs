//! The XDP program and its maps: adopted from a predecessor where they fit, migrated where they don't.

use std::path::Path;

use anyhow::Context as _;
use aya::maps::{MapData, MapInfo};
use aya::programs::{ProgramType, SchedClassifier, Xdp};
use aya::sys::{BpfHelper, is_helper_supported};
use aya::{Ebpf, EbpfLoader, VerifierLogLevel};
use lb_common::event::{FLOW_RING, FLOW_RING_UNUSED};
use lb_common::{EGRESS_PROGRAM, PROGRAM, map};

use super::clock::Clock;
use super::counts::Layout;
use super::pins::MapDir;
use super::table::Design;

pub use sizes::Sizes;

pub(super) mod frags;
mod sizes;

/// The program for XDP, as `build.rs` made it.
pub static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/fairlead-xdp.o"));

impl Sizes {
    /// The same, but no smaller than the maps of `dir`, whose identifiers stay in use.
    #[must_use]
    pub fn no_smaller_than(mut self, dir: &MapDir) -> Self {
        let found = |name: &str| {
            MapInfo::from_pin(dir.path.join(name)).map_or(0, |info| info.max_entries())
        };
        self.backends = self.backends.max(found(map::BACKENDS));
        self.services = self.services.max(found(map::TABLES));
        self.vips = self.vips.max(found(map::VIPS));
        self.allowed = self.allowed.max(found(map::ALLOWED));
        self
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

/// Loads the object with its maps in `dir`, and those of local clients in `sockets`: those pinned there,
/// or new ones pinned there.
pub fn load(dir: &Path, sockets: &Path, sizes: &Sizes) -> anyhow::Result<Ebpf> {
    let clock = Clock::measure();
    let tables = Design::adopting(dir, sizes.homes());
    let place = Place { dir, sockets, sizes, tables, counts: sizes.counts() };
    match load_object(OBJECT, true, &clock, &place) {
        Ok(ebpf) => {
            log::info!("loaded the XDP program, for frames of several buffers too");
            Ok(ebpf)
        }
        Err(error) => {
            log::debug!("frames of several buffers: {error:#}");
            let ebpf = load_object(&frags::without(OBJECT), false, &clock, &place)?;
            log::info!("loaded the XDP program, for frames of one buffer (jumbo: Linux 5.18)");
            Ok(ebpf)
        }
    }
}

/// Where the maps are, and how large.
struct Place<'a> {
    dir: &'a Path,
    sockets: &'a Path,
    sizes: &'a Sizes,
    tables: Design,
    counts: Layout,
}

fn load_object(
    object: &[u8],
    frags: bool,
    clock: &Clock,
    place: &Place<'_>,
) -> anyhow::Result<Ebpf> {
    let Place { dir, sockets, sizes, tables, counts } = place;
    let mut loader = EbpfLoader::new();
    loader.verifier_log_level(VerifierLogLevel::DISABLE);
    let frags = u8::from(frags);
    loader.override_global(FRAGS, &frags, true);
    let set_retval = u8::from(lets_programs_set_errors());
    loader.override_global(SET_RETVAL, &set_retval, true);
    clock.apply(&mut loader);
    for name in map::ALL {
        loader.map_max_entries(name, sizes.layout(name).2);
        loader.map_pin_path(name, dir.join(name));
    }
    tables.apply(&mut loader);
    counts.apply(&mut loader);
    loader.map_max_entries(map::LOCAL_CONNECTIONS, sizes.backends);
    loader.map_max_entries(SIGNALLED, sizes.backends);
    for name in super::sockets::MAPS {
        loader.map_pin_path(name, sockets.join(name));
    }
    let ring = if sizes.sync { FLOW_RING } else { FLOW_RING_UNUSED };
    loader.map_max_entries(map::FLOW_EVENTS, ring);
    loader.map_max_entries(map::CONNECT_TIMES, sizes.measured());
    let mut ebpf = loader.load(object).context("creating the BPF maps")?;
    tables.begin(&ebpf).context("preparing the tables of flows")?;
    program(&mut ebpf)?.load().context(
        "loading the XDP program: the kernel's verifier refused it; Linux 5.15 or newer is needed",
    )?;
    Ok(ebpf)
}

/// The program's constant that says whether it may ask for more than a frame's first buffer.
const FRAGS: &str = "FRAGS";

/// The program's own map of when it last told of a backend.
const SIGNALLED: &str = "SIGNALLED";

/// The constant of the programs for local clients that says whether they may say why a call fails.
const SET_RETVAL: &str = "SET_RETVAL";

/// Linux 6.0; before, a call that such a program refuses fails with EPERM.
pub(super) fn lets_programs_set_errors() -> bool {
    is_helper_supported(ProgramType::CgroupSockAddr, BpfHelper::BPF_FUNC_set_retval).unwrap_or_else(
        |error| {
            log::debug!("asking for bpf_set_retval: {error}");
            false
        },
    )
}

/// The XDP program of a loaded object.
pub fn program(ebpf: &mut Ebpf) -> anyhow::Result<&mut Xdp> {
    let program = ebpf.program_mut(PROGRAM).context("the BPF object has no XDP program")?;
    Ok(program.try_into()?)
}

/// The program for what leaves, likewise; it may be yet to be loaded.
pub fn egress(ebpf: &mut Ebpf) -> anyhow::Result<&mut SchedClassifier> {
    let program =
        ebpf.program_mut(EGRESS_PROGRAM).context("the BPF object has no program for egress")?;
    Ok(program.try_into()?)
}

/// Opens a pinned map without a type.
pub fn pinned(dir: &Path, name: &str) -> anyhow::Result<MapData> {
    let path = dir.join(name);
    let map = MapData::from_pin(&path).with_context(|| format!("opening {}", path.display()))?;
    Ok(map)
}
