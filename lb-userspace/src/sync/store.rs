//! The flows of this node, as the thread that speaks with peers reads and writes them. The daemon makes one of
//! the datapath's maps. Pure.

use std::collections::BTreeMap;

use super::record::{Change, FlowId, FlowRecord};

/// Where flows are.
pub trait Store: Send {
    /// A look at all confirmed flows.
    fn walk(&self) -> anyhow::Result<Box<dyn Walk>>;

    /// Appends what changed since the last time.
    fn read(&mut self, changes: &mut Vec<Change>) -> anyhow::Result<Turn>;

    /// Carries out what a peer says of flows that it serves, or served a moment ago. What this node has seen of a
    /// flow itself it keeps.
    fn apply(&mut self, changes: &[Change]) -> anyhow::Result<()>;

    /// Flows of peers that were not kept, by reason.
    fn refused(&self) -> BTreeMap<&'static str, u64>;
}

/// What a turn brought besides changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Turn {
    /// Changes that were lost.
    pub lost: u64,
    /// There is more to read.
    pub more: bool,
}

/// A look at all confirmed flows, in slices of some thousands.
pub trait Walk: Send {
    /// Appends the flows of the next slice that are wanted, with or without their progress. `true`: it was the
    /// last.
    fn slice(
        &mut self,
        detail: Detail,
        wanted: &dyn Fn(&FlowId) -> bool,
        records: &mut Vec<FlowRecord>,
    ) -> anyhow::Result<bool>;
}

/// How much of each flow is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// What a digest is made of.
    Outline,
    Whole,
}
