//! How many half-open flows the kernel evicted for want of room. It does not say, so it is what is left of those
//! that were made. Pure.
//!
//! ```text
//!  made = confirmed + removed (by the program, the sweep, a purge) + present + evicted
//! ```
//! A pass takes its time, and counters go on meanwhile. So there is a least that must have been evicted, and a most
//! that can have been: the most, at first, is what a new controller does not count, and from then on the least
//! is told. It is too low by what comes and goes during one pass, and never too high.

use std::collections::BTreeMap;

use lb_common::backend::BackendId;

/// What was counted up to a moment. Flows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counted {
    made: u64,
    confirmed: u64,
    removed: u64,
}

/// What was found so far.
#[derive(Debug, Default)]
pub(super) struct Evicted {
    /// Made and confirmed, as each backend's counters were last read.
    last: BTreeMap<BackendId, (u64, u64)>,
    total: Counted,
    /// What may have been evicted before the first pass was complete.
    before: Option<u64>,
    /// Never falls.
    least: u64,
}

impl Evicted {
    /// A backend's counters. They begin anew when its identifier gets another meaning.
    pub(super) fn add(&mut self, id: BackendId, made: u64, confirmed: u64) {
        let last = self.last.insert(id, (made, confirmed)).unwrap_or_default();
        let more = |now: u64, last: u64| now.checked_sub(last).unwrap_or(now);
        self.total.made += more(made, last.0);
        self.total.confirmed += more(confirmed, last.1);
    }

    /// All backends', with what was removed so far.
    pub(super) const fn counted(&mut self, removed: u64) -> Counted {
        self.total.removed = removed;
        self.total
    }

    /// After a pass that met so many flows, counted before it and behind it. Returns all that was found.
    pub(super) fn note(&mut self, start: Counted, end: Counted, present: u64) -> u64 {
        let left =
            |made: u64, gone: Counted| made.saturating_sub(gone.confirmed + gone.removed + present);
        let Some(before) = self.before else {
            self.before = Some(left(end.made, start));
            return 0;
        };
        self.least = self.least.max(left(start.made, end).saturating_sub(before));
        self.least
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(made: u64, confirmed: u64, removed: u64) -> Counted {
        Counted { made, confirmed, removed }
    }

    /// One whose first pass found nothing.
    fn evicted() -> Evicted {
        let mut evicted = Evicted::default();
        assert_eq!(evicted.note(Counted::default(), Counted::default(), 0), 0);
        evicted
    }

    #[test]
    fn what_is_not_accounted_for_was_evicted() {
        let mut evicted = evicted();
        let at = counted(1000, 300, 100);
        assert_eq!(evicted.note(at, at, 500), 100);
        let later = counted(2000, 1000, 300);
        assert_eq!(evicted.note(later, later, 500), 200);
    }

    #[test]
    fn traffic_without_evictions_counts_nothing() {
        let mut evicted = evicted();
        // Made during the pass, and met or not; confirmed during it, before or after they were met.
        for (start, end, present) in [
            (counted(100, 90, 0), counted(200, 180, 0), 30),
            (counted(200, 180, 0), counted(300, 290, 5), 0),
            (counted(300, 290, 5), counted(300, 290, 10), 5),
        ] {
            assert_eq!(evicted.note(start, end, present), 0);
        }
    }

    #[test]
    fn what_a_predecessor_saw_go_is_not_counted() {
        let mut evicted = Evicted::default();
        assert_eq!(evicted.note(counted(5000, 100, 0), counted(5100, 120, 0), 400), 0);
        // At most 5,100 - 100 - 400 = 4,600 were gone by then.
        assert_eq!(evicted.note(counted(5200, 120, 0), counted(5200, 120, 0), 480), 0);
        assert_eq!(evicted.note(counted(5900, 120, 0), counted(5900, 120, 0), 480), 700);
    }

    #[test]
    fn it_never_falls() {
        let mut evicted = evicted();
        let at = counted(1000, 0, 0);
        assert_eq!(evicted.note(at, at, 900), 100);
        assert_eq!(evicted.note(at, counted(1000, 100, 0), 900), 100);
    }

    #[test]
    fn counters_that_begin_anew_are_added() {
        let mut evicted = Evicted::default();
        evicted.add(1, 100, 40);
        evicted.add(2, 10, 10);
        evicted.add(1, 150, 90);
        evicted.add(1, 5, 2);
        assert_eq!(evicted.counted(7), counted(165, 102, 7));
    }
}
