//! What the program counts for each verdict and each backend: in this process's memory, where every CPU has its own
//! counters. I/O.

use std::borrow::Borrow;
use std::io;
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::Context as _;
use aya::EbpfLoader;
use aya::maps::MapData;
use lb_common::backend::{BackendEvents, BackendId, BackendTraffic, Way, place};
use lb_common::counters::{self, Counter};
use lb_common::flow::Direction;
use lb_common::map;

use super::sys::Shared;

/// The program's constant that says how many backends each CPU has counters of.
const BACKENDS: &str = "COUNTED_BACKENDS";
/// Numbers of CPUs that this kernel could have, in ranges.
const POSSIBLE: &str = "/sys/devices/system/cpu/possible";

/// How large the maps are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    pub cpus: u32,
    pub backends: u32,
}

impl Layout {
    /// Elements of each map of backends' counters.
    pub const fn of_backends(self) -> u32 {
        self.cpus.saturating_mul(self.backends)
    }

    /// Elements of the map of counters.
    pub const fn counters(self) -> u32 {
        self.cpus.saturating_add(1).saturating_mul(counters::OF_CPU)
    }

    /// Sets the program's constant, and the sizes of the maps.
    pub fn apply<'a>(&'a self, loader: &mut EbpfLoader<'a>) {
        loader.override_global(BACKENDS, &self.backends, true);
        loader.map_max_entries(map::BACKEND_EVENTS, self.of_backends());
        loader.map_max_entries(map::BACKEND_TRAFFIC, self.of_backends());
        loader.map_max_entries(map::COUNTERS, self.counters());
    }
}

/// One more than the highest number that a CPU of this machine can have.
///
/// # Errors
/// The kernel does not say.
pub fn cpus() -> io::Result<u32> {
    let text = std::fs::read_to_string(POSSIBLE)?;
    highest(&text).map(|cpu| cpu + 1).ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidData, format!("{POSSIBLE} says {text:?}"))
    })
}

/// Of ranges such as `0-3,8-11`.
fn highest(ranges: &str) -> Option<u32> {
    ranges
        .trim()
        .split([',', '-'])
        .map(|cpu| cpu.parse().ok())
        .collect::<Option<Vec<u32>>>()?
        .into_iter()
        .max()
}

/// The counters of all CPUs.
#[derive(Debug)]
pub struct Counts {
    counters: Shared,
    traffic: Shared,
    events: Shared,
    layout: Layout,
    /// Identifiers below have a meaning, or had one: there may be room for many more.
    used: AtomicU32,
}

impl Counts {
    /// Of the maps with these names.
    ///
    /// # Errors
    /// One of them is no such map.
    pub fn open<M: Borrow<MapData>>(
        map: impl Fn(&str) -> anyhow::Result<M>,
    ) -> anyhow::Result<Self> {
        let open = |name: &str| {
            let map = map(name)?;
            let map = map.borrow();
            let entries = map.info()?.max_entries();
            let bytes = entries as usize * map.info()?.value_size() as usize;
            let shared = Shared::map(map.fd().as_fd(), bytes);
            anyhow::Ok((entries, shared.with_context(|| format!("mapping {name}"))?))
        };
        let (all, counters) = open(map::COUNTERS)?;
        let (of_backends, traffic) = open(map::BACKEND_TRAFFIC)?;
        let (_, events) = open(map::BACKEND_EVENTS)?;
        let cpus = (all / counters::OF_CPU).saturating_sub(1);
        let backends = of_backends.checked_div(cpus).context("counters of no CPU")?;
        let layout = Layout { cpus, backends };
        let counts = Self { counters, traffic, events, layout, used: AtomicU32::new(1) };
        let counted = |id: &BackendId| counts.sum(*id) != BackendTraffic::default();
        counts.note_used((0..backends).rev().find(counted).unwrap_or(0));
        Ok(counts)
    }

    fn note_used(&self, id: BackendId) {
        let beyond = id.saturating_add(1).min(self.layout.backends);
        self.used.fetch_max(beyond, Ordering::Relaxed);
    }

    /// Sums over all CPUs of all counters, in the order of [`Counter::ALL`].
    pub fn all(&self) -> Vec<u64> {
        let mut all: Vec<u64> = Counter::ALL.iter().map(|counter| self.counted(*counter)).collect();
        let mut forwarded = BackendTraffic::default();
        for id in 0..self.used.load(Ordering::Relaxed) {
            forwarded += &self.sum(id);
        }
        for (counter, packets) in by_verdict(&forwarded) {
            all[counter as usize] += packets;
        }
        all
    }

    /// Not of what is kept by backend.
    fn counted(&self, counter: Counter) -> u64 {
        let value = |cpu| self.counters.get::<u64>(counter_at(cpu, counter)).unwrap_or(0);
        (0..=self.layout.cpus).map(value).sum()
    }

    /// Sum over all CPUs, of a backend that has a meaning; of one that there is no room for, nothing.
    pub fn traffic(&self, id: BackendId) -> BackendTraffic {
        self.note_used(id);
        self.sum(id)
    }

    fn sum(&self, id: BackendId) -> BackendTraffic {
        let mut sum = BackendTraffic::default();
        for place in self.places(id) {
            sum += &self.traffic.get(place * size_of::<BackendTraffic>()).unwrap_or_default();
        }
        sum
    }

    /// Likewise.
    pub fn events(&self, id: BackendId) -> BackendEvents {
        let mut sum = BackendEvents::default();
        for place in self.places(id) {
            sum += &self.events.get(place * size_of::<BackendEvents>()).unwrap_or_default();
        }
        sum
    }

    /// The identifier gets a meaning, or another one; verdicts stay counted. No CPU counts under it meanwhile.
    pub fn clear(&self, id: BackendId) {
        self.note_used(id);
        for place in self.places(id) {
            let (traffic, events) =
                (place * size_of::<BackendTraffic>(), place * size_of::<BackendEvents>());
            self.keep(&self.traffic.get(traffic).unwrap_or_default());
            let _ = self.traffic.set(traffic, BackendTraffic::default());
            let _ = self.events.set(events, BackendEvents::default());
        }
    }

    /// Among the controller's own counters.
    fn keep(&self, traffic: &BackendTraffic) {
        for (counter, packets) in by_verdict(traffic) {
            let place = counter_at(self.layout.cpus, counter);
            let before: u64 = self.counters.get(place).unwrap_or(0);
            let _ = self.counters.set(place, before + packets);
        }
    }

    fn places(&self, id: BackendId) -> impl Iterator<Item = usize> {
        let Layout { cpus, backends } = self.layout;
        (0..cpus).filter_map(move |cpu| place(cpu, id, backends)).map(|place| place as usize)
    }
}

const fn counter_at(cpu: u32, counter: Counter) -> usize {
    counters::place(cpu, counter as u32) as usize * size_of::<u64>()
}

/// What verdicts the packets of a backend's traffic had.
fn by_verdict(traffic: &BackendTraffic) -> impl Iterator<Item = (Counter, u64)> {
    let directions = [(Direction::Original, traffic.requests), (Direction::Reply, traffic.replies)];
    directions.into_iter().flat_map(|(direction, forwarded)| {
        let by_way = [Way::Back, Way::Across, Way::Local].into_iter().zip(forwarded.packets);
        by_way.map(move |(way, packets)| (Counter::of_forwarded(direction, way), packets))
    })
}

#[cfg(test)]
mod tests {
    use lb_common::backend::Forwarded;

    use super::*;

    #[test]
    fn the_highest_cpu_decides_even_where_some_are_missing() {
        for (ranges, expected) in [
            ("0\n", Some(0)),
            ("0-127\n", Some(127)),
            ("0-3,8-11\n", Some(11)),
            ("0,2\n", Some(2)),
            ("\n", None),
            ("0-x\n", None),
        ] {
            assert_eq!(highest(ranges), expected, "{ranges:?}");
        }
        assert!(cpus().unwrap() >= 1);
    }

    #[test]
    fn no_two_counters_share_a_place_nor_two_cpus_a_cache_line() {
        let layout = Layout { cpus: 3, backends: 5 };
        let mut places: Vec<_> = (0..layout.cpus)
            .flat_map(|cpu| (0..5).filter_map(move |id| place(cpu, id, 5)))
            .collect();
        places.sort_unstable();
        assert_eq!(places, (0..layout.of_backends()).collect::<Vec<_>>());
        assert_eq!(place(0, 5, 5), None);
        let second = counters::place(1, 0);
        assert!(second.is_multiple_of(8) && second >= counters::COUNTERS);
        assert!(counters::place(3, counters::COUNTERS - 1) < layout.counters());
    }

    #[test]
    fn each_way_of_each_direction_has_a_verdict_of_its_own() {
        let traffic = BackendTraffic {
            requests: Forwarded { bytes: 9, packets: [1, 2, 3] },
            replies: Forwarded { bytes: 9, packets: [4, 5, 6] },
        };
        let names: Vec<_> = by_verdict(&traffic).map(|(it, count)| (it.name(), count)).collect();
        let expected = [
            ("forward_request", 1),
            ("redirect_request", 2),
            ("forward_local_request", 3),
            ("forward_reply", 4),
            ("redirect_reply", 5),
            ("forward_local_reply", 6),
        ];
        assert_eq!(names, expected);
    }
}
