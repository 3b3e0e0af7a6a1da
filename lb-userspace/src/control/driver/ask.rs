//! Asks whether they are still there: clients of flows that a peer told of, or that were here before their VIP left, and
//! that have been silent since it came here, but for the first moments. Does what `control::unheard` decides.
//!
//! What ends at a node that dies is told to nobody, and neither end says anything more of it. An acknowledgement with
//! an old sequence number in the VIP's name is answered by who has the connection with where it is (RFC 9293 section
//! 3.10.7.4), which goes on to the backend as any segment does; who has it no more answers with a RST (section 3.10.7.1),
//! which ends the flow here.

use std::time::Instant;

use anyhow::Context as _;

use super::Controller;
use crate::datapath::flows;
use crate::sync::record::FlowId;

impl Controller {
    /// A pass of the sweep came by these.
    pub(super) fn find_unheard(&mut self, flows: Vec<FlowId>, now: Instant) {
        let first = self.unheard.note(flows, now);
        if first > 0 {
            log::info!("asking {first} clients that have been silent since their VIP came here");
        }
    }

    /// Asks those whose turn it is.
    pub fn ask_unheard(&mut self, now: Instant, now_ns: u64) -> anyhow::Result<()> {
        for id in self.unheard.take(now) {
            let maps = &self.datapath.maps;
            // It may have spoken meanwhile, or its VIP have left.
            let Some(flow) = flows::confirmed(maps, &id) else { continue };
            if !maps.may_forward(flow.vip(), now_ns)? {
                continue;
            }
            let message = flow.question(maps).context("reading a flow")?;
            let asked = match message {
                Some(message) => self.send(&message)?,
                None => false,
            };
            // The way to it is being looked for, since its neighbour may be news.
            if !asked {
                self.unheard.not_reached(&id, now);
            }
        }
        Ok(())
    }
}
