//! What a SYN meets of a flow that is there already. Pure.

use lb_common::addr::Address;
use lb_common::conntrack::{TcpState, flag};
use lb_common::counters::Counter;
use lb_common::nat::Kind;
use lb_common::time::Ticks;

use crate::control::flows::InstalledBackend;

use super::{Attempt, Chosen, End, Facts, Fate, Trace, World, socket};
use crate::admin::model::flows::FlowState;

/// As in the program: who has had no SYN-ACK for so long is sending its SYN again.
const SYN_RETRY: u32 = Ticks::in_ns(900_000_000);

/// No flow, or one that gives way.
const ANEW: Attempt = Attempt { number: 0, avoid: 0 };

impl<A: Address, W: World<A>> Trace<'_, A, W> {
    /// Looks the flow up, and judges it as `conntrack::on_syn` of the program. `Ok`: a new flow is made.
    pub(super) fn known_flow(&mut self) -> Result<Attempt, End<W::Error>> {
        let Some(half) = self.world.half(self.key)? else {
            self.passed("flow", "there is none yet");
            return Ok(ANEW);
        };
        if !half.is_original() {
            let detail = "these are the addresses and ports of a backend's replies";
            return Err(self.end("flow", Fate::Pass(Counter::ForwardReply), detail));
        }
        let peer_key = half.translation.peer_key();
        let reply = if half.is_alone() { None } else { self.world.half(&peer_key)? };
        let reply = reply.filter(|reply| reply.translation.answers(self.key));
        let facts = Facts::of(self.key, &half, reply.as_ref(), self.now.ticks());
        self.flow = Some(facts);
        let name = self.world.backend_name(half.backend);
        let shown = format!("{}, to {name}", FlowState::from(facts.state).as_str());
        if !self.world.lease(half.vip.into())?.may_forward(self.now.ns) {
            let detail = format!("{shown}; but the VIP is no longer this node's");
            return Err(self.end("lease", Fate::Drop(Counter::DropLeaseExpired), detail));
        }
        let backend = self.world.backend(half.backend)?;
        let Some(backend) = backend.filter(|backend| backend.epoch == half.epoch) else {
            self.passed("flow", format!("{shown}, which was given up since: a SYN starts anew"));
            return Ok(ANEW);
        };
        if reply.is_none() && !half.is_alone() {
            self.passed("flow", format!("{shown}, whose replies find no way: a SYN starts anew"));
            return Ok(ANEW);
        }
        if facts.state.gives_way_to_syn() {
            self.passed("flow", format!("{shown}: a SYN starts anew"));
            return Ok(ANEW);
        }
        let unheard = self.now.ticks().since(half.checked) >= SYN_RETRY;
        let refused = reply.is_some_and(|reply| reply.has(flag::REFUSED));
        if facts.state == TcpState::SynSent && (refused || unheard) && !half.is_alone() {
            let why = if refused { "which refused" } else { "which does not answer" };
            self.passed("flow", format!("{shown}, {why}: another is tried"));
            let number = half.attempts.wrapping_add(1);
            return Ok(Attempt { number, avoid: half.backend });
        }
        let to = half.translation.key();
        let chosen = Chosen {
            backend: half.backend,
            endpoint: InstalledBackend::from(&backend).address,
            kind: Kind::from_u8(half.kind),
            source: socket(to.src, to.ports.src()),
        };
        Err(self.end("flow", Fate::Forward(chosen), format!("{shown}: it stays there")))
    }
}
