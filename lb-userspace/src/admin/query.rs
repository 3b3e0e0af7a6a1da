//! What the API asks the controller and that changes nothing it decides on: flows, traces, the
//! configuration. Answered by `control::driver::query`. I/O: it carries open maps.

use std::collections::BTreeMap;
use std::fmt;

use tokio::sync::oneshot;

use super::model::EffectiveConfig;
use super::model::flows::Purged;
use super::model::packet::Wish;
use super::model::trace::{Question, Traces};
use crate::control::flows::Directory;
use crate::datapath::flows::FlowSource;
use crate::datapath::packets::Packets;
use crate::datapath::stale::Flow;

/// Where an answer goes, or why there is none. Who gave up waiting has dropped the receiver.
pub type Reply<T> = oneshot::Sender<Result<T, String>>;

/// A question.
#[derive(Debug)]
pub enum Query {
    /// What is needed to look at flows elsewhere than on the main loop.
    Flows { reply: Reply<FlowView> },
    /// Resets the clients of these flows now, and removes them; with `unused` only those that were not
    /// used since they were found. A few at a time: the caller sees to the pace.
    ResetFlows { flows: Vec<Flow>, unused: bool, reply: Reply<Purged> },
    /// The configuration that applies.
    Config { reply: Reply<EffectiveConfig> },
    /// Has packets followed, with so many bytes of each frame.
    Follow { wish: Wish, snap: u32, reply: Reply<PacketView> },
    /// Where a client's connection would go.
    Trace { question: Question, reply: Reply<Traces> },
}

/// The flows, and the names of what they refer to.
pub struct FlowView {
    pub directory: Directory,
    pub source: Box<dyn FlowSource>,
}

impl fmt::Debug for FlowView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FlowView").field("directory", &self.directory).finish_non_exhaustive()
    }
}

/// The datapath's packets, and the names of what they refer to.
pub struct PacketView {
    pub directory: Directory,
    /// Names of interfaces with our program, by the kernel's numbers.
    pub interfaces: BTreeMap<u32, String>,
    pub packets: Box<dyn Packets>,
}

impl fmt::Debug for PacketView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PacketView").field("directory", &self.directory).finish_non_exhaustive()
    }
}
