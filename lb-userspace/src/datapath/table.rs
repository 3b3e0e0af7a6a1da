//! The tables of flows as the controller reads and writes them: in its own memory, where the program reads and writes
//! them too. I/O.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use aya::maps::MapData;
use aya::{Ebpf, EbpfLoader};
use lb_common::addr::{Address, Ipv4Be, Ipv6Be};
use lb_common::conntrack::FlowHalf;
use lb_common::flow::FlowKey;
use lb_common::map;
use lb_common::table::{self, Control, FACTORS, Header, Place, Refusal, Secret, Slot, Slots};

use super::now;
use super::sys::{Progress, Shared};

mod walk;

pub use walk::Walk;

/// The program's constants.
const FACTORS_NAME: &str = "TABLE_FACTORS";
const HOMES_NAMES: [&str; 2] = ["TABLE_HOMES", "TABLE_HOMES6"];
/// By family, IPv4 first.
const NAMES: [&str; 2] = [map::FLOWS, map::FLOWS6];

/// Homes of a table for so many halves: two slots for each of established flows, since half-open ones take what is free
/// and give way. More only where more half-open ones are wanted.
pub const fn homes(established: u32, half_open: u32) -> u32 {
    established.saturating_add(if half_open > established { half_open } else { established })
}

/// What is decided of both families' tables before the program is loaded.
pub struct Design {
    seed: [u64; 2],
    factors: [u64; FACTORS],
    homes: [u32; 2],
}

impl Design {
    /// For tables with so many [`homes`].
    pub fn new(homes: [u32; 2]) -> Self {
        let random = || RandomState::new().build_hasher().finish();
        Self::of([random(), random()], homes)
    }

    /// For what is pinned in `dir`, if there is something.
    pub fn adopting(dir: &Path, homes: [u32; 2]) -> Self {
        let found = MapData::from_pin(dir.join(map::FLOWS)).ok();
        match found.and_then(|map| FlowTable::open(&map).ok()) {
            Some(table) => Self::of(table.header.seed, homes),
            None => Self::new(homes),
        }
    }

    /// Of those that are pinned in `dir`.
    ///
    /// # Errors
    /// There are none.
    pub fn pinned(dir: &Path) -> anyhow::Result<Self> {
        let open = |name: &str| anyhow::Ok(FlowTable::open(&MapData::from_pin(dir.join(name))?)?);
        let [v4, v6] = [open(NAMES[0])?, open(NAMES[1])?];
        Ok(Self::of(v4.header.seed, [v4.header.homes, v6.header.homes]))
    }

    fn of(seed: [u64; 2], homes: [u32; 2]) -> Self {
        Self { seed, factors: *Secret::new(seed).factors(), homes }
    }

    /// Sets the program's constants, and the sizes of the tables.
    pub fn apply<'a>(&'a self, loader: &mut EbpfLoader<'a>) {
        loader.override_global(FACTORS_NAME, &self.factors, true);
        for index in [0, 1] {
            loader.override_global(HOMES_NAMES[index], &self.homes[index], true);
            loader.map_max_entries(NAMES[index], table::elements(self.homes[index]));
        }
    }

    /// Writes what the tables are like into those that are new.
    pub fn begin(&self, ebpf: &Ebpf) -> io::Result<()> {
        self.begin_as::<Ipv4Be>(ebpf, 0)?;
        self.begin_as::<Ipv6Be>(ebpf, 1)
    }

    fn begin_as<A>(&self, ebpf: &Ebpf, index: usize) -> io::Result<()> {
        let Some(aya::maps::Map::Array(map)) = ebpf.map(NAMES[index]) else {
            return Err(invalid("the object has no table of flows"));
        };
        let (shared, last) = memory(map)?;
        let header = Header {
            seed: self.seed,
            homes: self.homes[index],
            key_size: u32::try_from(size_of::<FlowKey<A>>()).map_err(io::Error::other)?,
            half_size: u32::try_from(size_of::<FlowHalf<A>>()).map_err(io::Error::other)?,
            _pad: 0,
        };
        let place = last + HEADER_AT;
        if shared.get(place) == Some(Header::default()) {
            shared.set(place, header).ok_or_else(|| invalid("no room for the table's header"))?;
        }
        Ok(())
    }
}

/// Behind the control word, where a slot has its key.
const HEADER_AT: usize = size_of::<u64>();

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// A map's elements, and where its last one is.
fn memory(map: &MapData) -> io::Result<(Shared, usize)> {
    let info = map.info().map_err(io::Error::other)?;
    let (elements, size) = (info.max_entries() as usize, info.value_size() as usize);
    let shared = Shared::map(map.fd().as_fd(), elements * size)?;
    Ok((shared, (elements - 1) * size))
}

/// A family's table.
#[derive(Debug)]
pub struct FlowTable {
    shared: Shared,
    header: Header,
    secret: Secret,
    slot_size: usize,
    evicted: AtomicU64,
}

impl FlowTable {
    /// # Errors
    /// It is no such table.
    pub fn open(map: &MapData) -> io::Result<Self> {
        let (shared, last) = memory(map)?;
        let size = map.info().map_err(io::Error::other)?.value_size() as usize;
        let header = shared.get::<Header>(last + HEADER_AT);
        let header = header.filter(|header| {
            table::elements(header.homes) as usize == last / size + 1
                && HEADER_AT + (header.key_size + header.half_size) as usize == size
        });
        let header = header.ok_or_else(|| invalid("no table of flows"))?;
        Ok(Self {
            shared,
            header,
            secret: Secret::new(header.seed),
            slot_size: size,
            evicted: AtomicU64::new(0),
        })
    }

    /// Half-open flows that gave way to what was stored by way of this.
    pub fn evicted(&self) -> u64 {
        self.evicted.load(Ordering::Relaxed)
    }

    pub fn find<A: Address>(&self, key: &FlowKey<A>) -> Option<FlowHalf<A>> {
        table::find(self, key).map(Place::copied)
    }

    /// Stores a half, if `replace` in place of one that may be there.
    ///
    /// # Errors
    /// There is one, or there is no room.
    pub fn store<A: Address>(
        &self,
        key: &FlowKey<A>,
        half: &FlowHalf<A>,
        replace: bool,
    ) -> Result<(), Refusal> {
        let evicted = table::store_making_room(self, key, half, replace, now::ticks())?;
        if evicted.is_some_and(|evicted| evicted.original) {
            self.evicted.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Removes a half if `condition` holds for it. This thread may be stopped between looking and removing: what
    /// should have stayed is put back, unless another took its place. `false`: nothing was removed.
    pub fn remove_if<A: Address>(
        &self,
        key: &FlowKey<A>,
        condition: impl Fn(&FlowHalf<A>) -> bool,
    ) -> bool {
        if !self.find(key).is_some_and(|found| condition(&found)) {
            return false;
        }
        let Some(place) = table::withdraw(self, key) else { return false };
        let is_wanted = condition(&place.copied());
        if is_wanted {
            place.release();
        } else {
            table::put_back(self, place);
        }
        is_wanted
    }

    pub fn remove<A: Address>(&self, key: &FlowKey<A>) -> bool {
        table::remove(self, key)
    }

    /// Hands all keys and halves to `each`.
    pub fn all<A: Address>(&self, mut each: impl FnMut(&FlowKey<A>, &FlowHalf<A>)) {
        let mut walk = Walk::default();
        while walk.slice(self, &mut each) == Progress::More {}
    }

    /// Hands all keys and halves to `each`, as bytes: of a predecessor's table, whose halves may be of another layout.
    pub fn all_bytes(&self, mut each: impl FnMut(&[u8], &[u8])) {
        let mut contents = vec![0; self.slot_size - HEADER_AT];
        for home in 0..self.header.homes as usize {
            let word: u64 = self.shared.get(home * self.slot_size).unwrap_or_default();
            let mut published = Control::from_word(word).published();
            while published != 0 {
                let slot = home + published.trailing_zeros() as usize;
                published &= published - 1;
                if self.shared.read(slot * self.slot_size + HEADER_AT, &mut contents).is_some() {
                    let (key, half) = contents.split_at(self.header.key_size as usize);
                    each(key, half);
                }
            }
        }
    }
}

impl<A: Address> Slots<A> for &FlowTable {
    fn home(self, key: &FlowKey<A>) -> u32 {
        self.secret.home(key, self.header.homes)
    }

    fn slot(self, index: u32) -> Option<Place<A>> {
        // Of the same layout, and not the header.
        if size_of::<Slot<A>>() != self.slot_size || index >= self.header.homes + table::REACH {
            return None;
        }
        let slot = NonNull::new(self.shared.at(index as usize * self.slot_size)?)?;
        // SAFETY: within the map's memory, where nobody uses slots otherwise.
        Some(unsafe { Place::new(slot) })
    }
}
