//! Ends flows of this node that the one which serves their VIP does not know: does what
//! `control::paced` decides.

use std::time::Instant;

use super::Controller;
use crate::datapath::flows;
use crate::flow_log::Why;
use crate::sync::record::FlowId;

impl Controller {
    /// Flows of VIPs that another node serves, which does not have them. Those whose segments came by here
    /// have clients that know no better: they are told.
    pub fn disown(&mut self, flows: impl IntoIterator<Item = FlowId>, now: Instant) {
        self.disowned.extend(flows, now);
    }

    /// Ends those whose turn it is.
    pub fn end_disowned(&mut self, now: Instant, now_ns: u64) -> anyhow::Result<()> {
        for id in self.disowned.take(now) {
            let maps = &self.datapath.maps;
            let Some(flow) = flows::confirmed(maps, &id) else { continue };
            // The VIP may have come here meanwhile.
            if maps.may_forward(flow.vip(), now_ns)? {
                continue;
            }
            if flow.is_own() && self.tell_end(&flow)? {
                self.status.idle_resets += 1;
            }
            flow.forget(maps, Why::Disowned);
        }
        Ok(())
    }
}
