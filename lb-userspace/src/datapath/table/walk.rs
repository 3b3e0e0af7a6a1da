//! A whole table, a slice at a time.

use std::collections::BTreeMap;

use lb_common::addr::Address;
use lb_common::conntrack::FlowHalf;
use lb_common::flow::FlowKey;
use lb_common::table::{Control, Place, REACH, Slots};

use super::FlowTable;
use crate::datapath::sys::Progress;

/// Halves of a slice, or a few more.
const HALVES: u32 = 4096;
/// Slots of a slice at most: a millisecond's work if they are empty.
const SLOTS: u32 = 65_536;
/// Slots that seem to be nobody's, of which is remembered at most.
const MOST: usize = 4096;

/// A walk through all halves of a table, in slices.
///
/// A process that is killed while it stores a half leaves a slot that is taken and has nothing: a walk that is
/// [told to](Self::reclaiming) gives back what it found like that twice, and unchanged.
#[derive(Debug, Default)]
pub struct Walk {
    next: u32,
    reclaims: bool,
    /// Which slots from `next` on hold halves whose homes were before, a bit each.
    covered: u64,
    suspects: BTreeMap<u32, Control>,
    found: BTreeMap<u32, Control>,
}

impl Walk {
    pub fn reclaiming() -> Self {
        Self { reclaims: true, ..Self::default() }
    }

    /// The next slice starts from the beginning.
    pub fn restart(&mut self) {
        *self = Self { reclaims: self.reclaims, ..Self::default() };
    }

    /// Hands the next halves to `each`, some thousands, or those of a good many slots. Those that come or go meanwhile may
    /// be missed.
    pub fn slice<A: Address>(
        &mut self,
        table: &FlowTable,
        mut each: impl FnMut(&FlowKey<A>, &FlowHalf<A>),
    ) -> Progress {
        let end = table.header.homes + REACH;
        let (mut slots, mut halves) = (0, 0);
        while slots < SLOTS && halves < HALVES {
            slots += 1;
            if self.next >= end {
                self.complete::<A>(table);
                return Progress::Complete;
            }
            let home = self.next;
            self.next += 1;
            let Some(control) = Slots::<A>::slot(table, home).map(Place::control) else { continue };
            self.note(home, control);
            halves += control.published().count_ones();
            let mut published = control.published();
            while published != 0 {
                let displacement = published.trailing_zeros();
                published &= published - 1;
                if let Some(place) = table.slot(home + displacement) {
                    each(&place.key(), &place.copied());
                }
            }
        }
        Progress::More
    }

    fn note(&mut self, home: u32, control: Control) {
        self.covered = self.covered >> 1 | control.published();
        if self.reclaims && control.is_taken() && self.covered & 1 == 0 && self.found.len() < MOST {
            self.found.insert(home, control);
        }
    }

    fn complete<A: Address>(&mut self, table: &FlowTable) {
        for (index, control) in &self.found {
            if self.suspects.get(index) == Some(control)
                && let Some(place) = Slots::<A>::slot(table, *index)
                && place.reclaim(*control)
            {
                log::info!("gave back a slot of the flow table that nobody had");
            }
        }
        let suspects = std::mem::take(&mut self.found);
        *self = Self { reclaims: self.reclaims, suspects, ..Self::default() };
    }
}
