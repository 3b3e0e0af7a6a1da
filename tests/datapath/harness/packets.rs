//! Packets, followed through the program as `fairlead trace --follow` does it.

use std::time::Duration;

use aya::programs::Xdp;
use fairlead::datapath::packets::{Packets, Seen, Tracer};
use lb_common::map;
use lb_common::trace::{Filter, Tally};
use lb_tests::bpffs::Bpffs;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::time::timeout;

use super::Harness;

/// What a run tells is there when it returns.
const SOON: Duration = Duration::from_millis(20);

/// What the program's maps are found by. In the order in which it has to go.
pub(super) struct Traced {
    pub(super) tracer: Tracer,
    _pins: Bpffs,
    _directory: TempDir,
}

pub(crate) struct Followed {
    runtime: Runtime,
    packets: Box<dyn Packets>,
}

impl Harness {
    /// From here on frames take the way by the program that looks at them.
    pub(crate) fn follow(&mut self, filter: Filter) -> Followed {
        let directory = tempfile::tempdir().unwrap();
        let pins = Bpffs::mount(&directory.path().join("bpf")).unwrap();
        for name in [map::FLOWS, map::FLOWS6, map::COUNTERS] {
            self.map(name).pin(pins.path().join(name)).unwrap();
        }
        let program: &Xdp = self.ebpf().program(lb_common::PROGRAM).unwrap().try_into().unwrap();
        let mut tracer = Tracer::load(program.fd().unwrap(), pins.path(), &filter).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let packets = runtime.block_on(async { tracer.packets() }).unwrap();
        self.traced = Some(Traced { tracer, _pins: pins, _directory: directory });
        Followed { runtime, packets }
    }
}

impl Followed {
    /// What was told since the last time.
    pub(crate) fn take(&mut self) -> Vec<Seen> {
        let mut all = Vec::new();
        self.runtime.block_on(async {
            while let Ok(seen) = timeout(SOON, self.packets.next()).await {
                all.extend(seen.unwrap());
            }
        });
        all
    }

    /// The only one that was told.
    #[track_caller]
    pub(crate) fn one(&mut self) -> Seen {
        let mut all = self.take();
        assert_eq!(all.len(), 1);
        all.remove(0)
    }

    pub(crate) fn tally(&self) -> Tally {
        self.packets.tally().unwrap()
    }
}
