//! The flows of both families, a slice at a time.

use std::sync::Arc;

use lb_common::addr::{Address, Ipv4Be, Ipv6Be};
use lb_common::conntrack::FlowHalf;
use lb_common::flow::FlowKey;
use lb_common::time::Ticks;

use crate::control::flows::Facts;
use crate::datapath::now;
use crate::datapath::stale::Found;
use crate::datapath::sweep::Family;
use crate::datapath::sys::Progress;
use crate::datapath::table::{FlowTable, Walk};

/// The tables of both families, read in slices.
pub(in crate::datapath) struct Reader {
    pub(super) tables: [Arc<FlowTable>; 2],
    walk: Walk,
    second: bool,
}

/// A flow that a slice has.
pub(in crate::datapath) struct Seen<A> {
    pub(in crate::datapath) found: Found<A>,
    /// `None` in `dsr`, or if it is missing.
    pub(in crate::datapath) reply: Option<FlowHalf<A>>,
    now: Ticks,
}

impl<A: Address> Seen<A> {
    pub(super) fn facts(&self) -> Facts {
        let Self { found: Found { key, half }, reply, now } = self;
        Facts::of(key, half, reply.as_ref(), *now)
    }
}

/// What is done with the flows of a slice.
pub(in crate::datapath) trait Visit<A> {
    /// Whether to look for the other half of a flow whose original half this is, and then to see it.
    fn wants(&mut self, key: &FlowKey<A>, half: &FlowHalf<A>) -> bool;

    fn see(&mut self, seen: Seen<A>);
}

impl Reader {
    pub(in crate::datapath) fn new(tables: [Arc<FlowTable>; 2]) -> Self {
        Self { tables, walk: Walk::default(), second: false }
    }

    /// The next slice is the first one.
    pub(in crate::datapath) fn restart(&mut self) {
        self.walk.restart();
        self.second = false;
    }

    /// Visits the flows of the next slice. `true`: it was the last one.
    pub(in crate::datapath) fn slice(
        &mut self,
        visitor: &mut (impl Visit<Ipv4Be> + Visit<Ipv6Be>),
    ) -> bool {
        let progress = if self.second {
            self.slice_of::<Ipv6Be>(visitor)
        } else {
            self.slice_of::<Ipv4Be>(visitor)
        };
        if progress == Progress::More {
            return false;
        }
        self.second = !self.second;
        !self.second
    }

    fn slice_of<A: Family>(&mut self, visitor: &mut impl Visit<A>) -> Progress {
        let (table, now) = (&self.tables[A::INDEX], now::ticks());
        self.walk.slice(table, |key, half| {
            if half.is_original() && visitor.wants(key, half) {
                let reply = reply_of(table, key, half);
                visitor.see(Seen { found: Found { key: *key, half: *half }, reply, now });
            }
        })
    }
}

fn reply_of<A: Family>(
    table: &FlowTable,
    key: &FlowKey<A>,
    half: &FlowHalf<A>,
) -> Option<FlowHalf<A>> {
    if half.is_alone() {
        return None;
    }
    let reply = table.find(&half.translation.peer_key())?;
    reply.translation.answers(key).then_some(reply)
}
