//! Where the backend would see a connection come from, as `snat` of the program. Pure.

use lb_common::addr::{Address, Ports};
use lb_common::backend::{Backend, BackendId};
use lb_common::conntrack::{PortHold, flag};
use lb_common::counters::Counter;
use lb_common::flow::FlowKey;
use lb_common::nat::{Kind, PORT_PROBES, port_candidate};
use lb_common::selection::client_hash;
use lb_common::service::{MAX_SNAT_ADDRESSES, Service};

use crate::control::flows::InstalledBackend;

use super::{Chosen, End, Fate, Trace, World, socket};

/// A candidate has no flow.
const EMPTY: u64 = 0;
/// What a candidate has is of no more use to anyone.
const FREE: u64 = 1;
/// A candidate has a live flow. Smaller values are of flows in TIME_WAIT, more for younger ones.
const LIVE: u64 = u64::MAX;
/// A candidate has a flow that no reply has confirmed; less the longer it has been silent.
const UNCONFIRMED: u64 = LIVE - 1;
/// The longest TIME_WAIT can be, and more than any other that is confirmed.
const TIME_WAIT: u64 = 1 << 32;

impl<A: Address, W: World<A>> Trace<'_, A, W> {
    pub(super) fn claim(
        &mut self,
        service: &Service,
        id: BackendId,
        backend: &Backend,
        kind: Kind,
    ) -> Result<Fate, End<W::Error>> {
        let endpoint = InstalledBackend::from(backend).address;
        if kind == Kind::Dsr {
            let source = socket(self.key.src, self.key.ports.src());
            return Ok(Fate::Forward(Chosen { backend: id, endpoint, kind: Some(kind), source }));
        }
        let (mut best, mut occupied) = (0, LIVE);
        for attempt in 0..PORT_PROBES {
            let occupancy = self.occupancy(service, backend, kind, attempt)?;
            if occupancy < occupied {
                (best, occupied) = (attempt, occupancy);
            }
            if occupancy <= FREE {
                break;
            }
        }
        if occupied == LIVE {
            let detail = format!("all {PORT_PROBES} candidates have live flows");
            return Err(self.end("source", Fate::Drop(Counter::DropSnatExhausted), detail));
        }
        let first = self.candidate(service, backend, kind, 0);
        let taken = self.candidate(service, backend, kind, best);
        let [first, source] = [first, taken].map(|key| socket(key.dst, key.ports.dst()));
        let how = match occupied {
            EMPTY => "free",
            FREE => "free again",
            2..=TIME_WAIT => "taken from the flow that was longest in TIME-WAIT",
            _ => "taken from the flow that has waited longest for a reply to confirm it",
        };
        let detail = if best == 0 {
            format!("{source}, the client's first choice, is {how}")
        } else {
            format!("{source}, choice {} after {first}, is {how}", best + 1)
        };
        self.passed("source", detail);
        let kind = Some(if best == 0 || backend.is_local() { kind } else { Kind::Nat });
        Ok(Fate::Forward(Chosen { backend: id, endpoint, kind, source }))
    }

    /// Key of the replies to the client's `attempt`th choice.
    fn candidate(
        &self,
        service: &Service,
        backend: &Backend,
        kind: Kind,
        attempt: u32,
    ) -> FlowKey<A> {
        let from = A::from_ip(backend.endpoint.address);
        if kind == Kind::Dnat && (attempt == 0 || backend.is_local()) {
            let ports = Ports::new(backend.endpoint.port, self.key.ports.src());
            return FlowKey::new(from, self.key.src, ports);
        }
        let hash = client_hash(self.key);
        let count = u32::from(service.snat_count.max(1));
        // As the program: the high bits, so that address and port are chosen apart.
        let high = u32::try_from(hash >> 48).unwrap_or(0);
        let index = (high.wrapping_add(attempt) % count) as usize;
        let snat = &service.snat[index & (MAX_SNAT_ADDRESSES - 1)];
        let port = port_candidate(hash, attempt, service.snat_port_min, service.snat_port_count());
        FlowKey::new(from, A::from_ip(snat.address), Ports::new(backend.endpoint.port, port))
    }

    fn occupancy(
        &self,
        service: &Service,
        backend: &Backend,
        kind: Kind,
        attempt: u32,
    ) -> Result<u64, W::Error> {
        let key = self.candidate(service, backend, kind, attempt);
        let now = self.now.ticks();
        let Some(occupant) = self.world.half(&key)? else { return Ok(EMPTY) };
        if occupant.translation.answers(self.key) {
            return Ok(FREE);
        }
        let idle = now.since(occupant.last_seen);
        if !occupant.is_confirmed() {
            let is_free = idle >= service.timeouts.half_open || occupant.has(flag::RST);
            return Ok(if is_free { FREE } else { UNCONFIRMED - u64::from(idle) });
        }
        Ok(match occupant.port_hold(&service.timeouts, now) {
            PortHold::Free => FREE,
            PortHold::TimeWait => TIME_WAIT - u64::from(idle),
            PortHold::Live => LIVE,
        })
    }
}
