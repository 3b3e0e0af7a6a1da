//! Packets as the datapath meets them: before it and behind it. I/O.
//!
//! A small program takes the XDP program's place on every interface for as long as somebody reads, and
//! calls it; see `lb_common::trace`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use aya::maps::{Array, MapData, ProgramArray, RingBuf};
use aya::programs::{ProgramFd, Xdp};
use aya::{Ebpf, EbpfLoader, VerifierLogLevel};
use futures_util::future::BoxFuture;
use lb_common::map;
use lb_common::trace::{self, Filter, Record, Tally};
use tokio::io::unix::AsyncFd;

use super::object::{frags, pinned};
use super::sys;
use super::table::Design;

/// The program, as `build.rs` made it.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/fairlead-trace.o"));

/// Its constant that says whether frames may have several buffers.
const FRAGS: &str = "FRAGS";
/// What it is pinned as that the program calls the XDP program by.
const PIN: &str = "trace-datapath";
/// The XDP program's maps that it reads.
const SHARED: [&str; 3] = [map::FLOWS, map::FLOWS6, map::COUNTERS];
/// Records of one turn.
const MOST: usize = 256;

/// A packet with its bytes.
#[derive(Clone)]
pub struct Seen {
    pub record: Record,
    pub came: Vec<u8>,
    /// Empty: nothing left.
    pub left: Vec<u8>,
}

impl Seen {
    /// `None`: it is no record.
    pub fn of(bytes: &[u8]) -> Option<Self> {
        let record = sys::from_bytes::<Record>(bytes)?;
        let rest = bytes.get(size_of::<Record>()..)?;
        let (came, rest) = rest.split_at_checked(record.captured_in as usize)?;
        let left = rest.get(..record.captured_out as usize)?;
        Some(Self { record, came: came.to_vec(), left: left.to_vec() })
    }
}

/// Packets as they come. They are no longer looked at when it is dropped, within a second.
pub trait Packets: Send {
    /// Waits for packets. May be cancelled.
    fn next(&mut self) -> BoxFuture<'_, io::Result<Vec<Seen>>>;

    /// What was seen so far, and why less was told.
    ///
    /// # Errors
    /// The map cannot be read.
    fn tally(&self) -> anyhow::Result<Tally>;
}

/// The program, loaded. What it has pinned goes with it.
pub struct Tracer {
    ebpf: Ebpf,
    dir: PathBuf,
    /// The readers.
    read: Arc<()>,
}

impl Tracer {
    /// Loads it for an XDP program whose maps are pinned in `dir`.
    ///
    /// # Errors
    /// The kernel refuses it.
    pub fn load(datapath: &ProgramFd, dir: &Path, filter: &Filter) -> anyhow::Result<Self> {
        forget(dir)?;
        let with = load_object(OBJECT, true, datapath, dir, filter);
        let ebpf = with.or_else(|error| {
            log::debug!("following frames of several buffers: {error:#}");
            forget(dir)?;
            load_object(&frags::without(OBJECT), false, datapath, dir, filter)
        });
        let ebpf = ebpf.context(
            "loading the program that follows packets: the kernel refuses it; on arm64 it takes \
             Linux 6.0",
        )?;
        Ok(Self { ebpf, dir: dir.to_owned(), read: Arc::new(()) })
    }

    /// What takes the XDP program's place.
    ///
    /// # Errors
    /// None: it is there once it is loaded.
    pub fn program(&mut self) -> anyhow::Result<&mut Xdp> {
        let program = self.ebpf.program_mut(trace::PROGRAM).context("the object has no program")?;
        Ok(program.try_into()?)
    }

    /// Likewise, to run it without attaching it.
    ///
    /// # Errors
    /// As above.
    pub fn loaded(&self) -> anyhow::Result<&Xdp> {
        let program = self.ebpf.program(trace::PROGRAM).context("the object has no program")?;
        Ok(program.try_into()?)
    }

    /// The reader, once. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// There was one already.
    pub fn packets(&mut self) -> anyhow::Result<Box<dyn Packets>> {
        let mut take =
            |name: &str| self.ebpf.take_map(name).with_context(|| format!("no map {name}"));
        let ring = RingBuf::try_from(take(map::TRACE_RING)?)?;
        let ring = sys::watch_ring(ring).context("watching the ring of packets")?;
        let tally = Array::try_from(take(map::TRACE_TALLY)?)?;
        Ok(Box::new(Reader { ring, tally, _read: Arc::clone(&self.read) }))
    }

    /// Somebody reads.
    pub fn is_read(&self) -> bool {
        Arc::strong_count(&self.read) > 1
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        if let Err(error) = forget(&self.dir) {
            log::warn!("{error:#}");
        }
    }
}

/// Removes what one that was killed has left.
pub fn forget(dir: &Path) -> anyhow::Result<()> {
    let path = dir.join(PIN);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", path.display()))
        }
        _ => Ok(()),
    }
}

fn load_object(
    object: &[u8],
    frags: bool,
    datapath: &ProgramFd,
    dir: &Path,
    filter: &Filter,
) -> anyhow::Result<Ebpf> {
    let mut loader = EbpfLoader::new();
    let is_asked = log::log_enabled!(log::Level::Debug);
    let level = if is_asked { VerifierLogLevel::VERBOSE } else { VerifierLogLevel::DISABLE };
    loader.verifier_log_level(level);
    let frags = u8::from(frags);
    loader.override_global(FRAGS, &frags, true).override_global(trace::FILTER, filter, true);
    let counters = pinned(dir, map::COUNTERS)?.info()?.max_entries();
    let tables = Design::pinned(dir).context("reading the tables of flows")?;
    tables.apply(&mut loader);
    loader.map_max_entries(map::COUNTERS, counters);
    for name in SHARED {
        loader.map_pin_path(name, dir.join(name));
    }
    let mut ebpf = loader.load(object).context("creating its maps")?;
    let calls = ebpf.map_mut(map::TRACE_DATAPATH).context("no map of the XDP program")?;
    // Without a pin the kernel would empty it when this process ends.
    calls.pin(dir.join(PIN)).context("pinning what it calls")?;
    ProgramArray::try_from(calls)?.set(0, datapath, 0).context("naming the XDP program")?;
    let program: &mut Xdp =
        ebpf.program_mut(trace::PROGRAM).context("the object has no program")?.try_into()?;
    program.load()?;
    Ok(ebpf)
}

/// The end of the ring.
struct Reader {
    ring: AsyncFd<RingBuf<MapData>>,
    tally: Array<MapData, Tally>,
    _read: Arc<()>,
}

impl Reader {
    async fn read(&mut self) -> io::Result<Vec<Seen>> {
        let mut ready = self.ring.readable_mut().await?;
        let mut seen = Vec::new();
        while seen.len() < MOST {
            let Some(record) = ready.get_inner_mut().next() else {
                ready.clear_ready();
                break;
            };
            seen.extend(Seen::of(&record));
        }
        Ok(seen)
    }
}

impl Packets for Reader {
    fn next(&mut self) -> BoxFuture<'_, io::Result<Vec<Seen>>> {
        Box::pin(self.read())
    }

    fn tally(&self) -> anyhow::Result<Tally> {
        self.tally.get(&0, 0).context("reading how many packets were seen")
    }
}
