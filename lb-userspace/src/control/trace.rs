//! Follows the datapath's decisions on a SYN, one after the other, without a packet. Pure.
//!
//! The order is that of the program (`open` in `lb-ebpf/src/main.rs`), the rules are those of
//! `lb_common`; `tests/datapath/trace.rs` holds the two against each other. `World` is what the maps
//! hold.

use lb_common::IPPROTO_TCP;
use lb_common::addr::{Address, Endpoint, IpBe};
use lb_common::backend::{Backend, BackendId, State};
use lb_common::conntrack::FlowHalf;
use lb_common::counters::Counter;
use lb_common::flow::FlowKey;
use lb_common::lease::Lease;
use lb_common::nat::Kind;
use lb_common::rate::SourceKey;
use lb_common::selection::{flow_hash, slot};
use lb_common::service::{EndpointUse, Service, ServiceKey, flag};
use lb_common::time::Ticks;
use lb_common::vip::Vip;

use super::flows::{Facts, socket};
use crate::admin::model::trace::Step;

mod known;
mod source;

/// What the maps hold, and the names of it. `Error`: one cannot be read.
pub trait World<A> {
    type Error;

    fn half(&self, key: &FlowKey<A>) -> Result<Option<FlowHalf<A>>, Self::Error>;
    fn service(&self, key: &ServiceKey) -> Result<Option<Service>, Self::Error>;
    /// What is known of a VIP.
    fn vip(&self, address: IpBe) -> Result<Option<Vip>, Self::Error>;
    fn lease(&self, index: u32) -> Result<Lease, Self::Error>;
    fn is_allowed(&self, service: u32, source: IpBe) -> Result<bool, Self::Error>;
    fn endpoint(&self, endpoint: &Endpoint) -> Result<Option<EndpointUse>, Self::Error>;
    /// When the next connection of a source is due; 0: nothing is remembered.
    fn source_due(&self, key: &SourceKey) -> Result<u64, Self::Error>;
    fn table(&self, service: u32) -> Result<Vec<BackendId>, Self::Error>;
    fn backend(&self, id: BackendId) -> Result<Option<Backend>, Self::Error>;
    fn backend_name(&self, id: BackendId) -> String;
    fn service_name(&self, service: u32) -> String;
    /// No backend is up, and the table holds those that last were.
    fn is_failed_open(&self, service: u32) -> bool;
}

/// A moment of CLOCK_MONOTONIC.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    pub ns: u64,
}

impl Moment {
    const fn ticks(self) -> Ticks {
        Ticks::from_ns(self.ns)
    }
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub fate: Fate,
    /// By its identifier.
    pub service: Option<u32>,
    /// What is there already of the client's flow.
    pub flow: Option<Facts>,
    /// Without the client's port: the table.
    pub table: Vec<BackendId>,
    pub steps: Vec<Step>,
}

/// What becomes of the SYN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Forward(Chosen),
    /// To one of the service's table: the client's port decides.
    ByPort,
    Reset(Counter),
    Drop(Counter),
    Pass(Counter),
}

/// A backend, and where its requests come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chosen {
    pub backend: BackendId,
    pub endpoint: std::net::SocketAddr,
    pub kind: Option<Kind>,
    pub source: std::net::SocketAddr,
}

/// Ends a trace, or reports a map that cannot be read.
enum End<E> {
    Fate(Fate),
    Failed(E),
}

impl<E> From<E> for End<E> {
    fn from(error: E) -> Self {
        Self::Failed(error)
    }
}

/// How often another backend than the one that did not answer is looked for, as in the program.
const OTHERS: u8 = 8;

/// A client's first segment that a service's flow may be made of.
struct Attempt {
    number: u8,
    /// 0: nobody.
    avoid: BackendId,
}

/// Follows a SYN with these addresses and ports; if not `is_one`, of any port of the client.
///
/// # Errors
/// A map cannot be read.
pub fn trace<A: Address, W: World<A>>(
    key: &FlowKey<A>,
    is_one: bool,
    world: &W,
    now: Moment,
) -> Result<Outcome, W::Error> {
    let mut trace =
        Trace { key, world, now, steps: vec![], service: None, flow: None, table: vec![] };
    let fate = match trace.follow(is_one) {
        Ok(fate) | Err(End::Fate(fate)) => fate,
        Err(End::Failed(error)) => return Err(error),
    };
    let Trace { steps, service, flow, table, .. } = trace;
    Ok(Outcome { fate, service, flow, table, steps })
}

struct Trace<'a, A, W> {
    key: &'a FlowKey<A>,
    world: &'a W,
    now: Moment,
    steps: Vec<Step>,
    service: Option<u32>,
    flow: Option<Facts>,
    table: Vec<BackendId>,
}

impl<A: Address, W: World<A>> Trace<'_, A, W> {
    fn passed(&mut self, step: &str, detail: impl Into<String>) {
        self.step(step, true, detail.into());
    }

    fn step(&mut self, step: &str, passed: bool, detail: String) {
        self.steps.push(Step { step: step.to_owned(), passed, detail });
    }

    fn end(&mut self, step: &str, fate: Fate, detail: impl Into<String>) -> End<W::Error> {
        self.step(step, matches!(fate, Fate::Forward(_)), detail.into());
        End::Fate(fate)
    }

    fn follow(&mut self, is_one: bool) -> Result<Fate, End<W::Error>> {
        let attempt = if is_one { self.known_flow()? } else { Attempt { number: 0, avoid: 0 } };
        let service = self.owner()?;
        self.service = Some(service.id);
        self.lease(service.vip)?;
        let kind = self.kind(&service)?;
        self.admit(&service)?;
        let table = self.filled_table(&service)?;
        if !is_one {
            self.table = table;
            return Ok(Fate::ByPort);
        }
        let (id, backend) = self.select(&table, &attempt)?;
        let kind = if backend.is_local() {
            self.passed("local", "the backend is on this node, and sees the client's address");
            Kind::Dnat
        } else {
            kind
        };
        self.claim(&service, id, &backend, kind)
    }

    /// Whose matter the segment is, as `service::of` of the program.
    fn owner(&mut self) -> Result<Service, End<W::Error>> {
        let vip = socket(self.key.dst, self.key.ports.dst());
        let destination = self.key.dst.ip();
        let key = ServiceKey::new(destination, self.key.ports.dst(), IPPROTO_TCP);
        if let Some(service) = self.world.service(&key)? {
            self.passed("service", format!("{vip} is {}", self.world.service_name(service.id)));
            return Ok(service);
        }
        let Some(known) = self.world.vip(destination)? else {
            let detail = format!("{} is no VIP of this node's", vip.ip());
            return Err(self.end("service", Fate::Pass(Counter::PassNotVip), detail));
        };
        if !self.world.lease(known.lease())?.may_forward(self.now.ns) {
            let detail = format!("{} is no longer this node's", vip.ip());
            return Err(self.end("lease", Fate::Drop(Counter::DropLeaseExpired), detail));
        }
        let source = Endpoint::new(self.key.src.ip(), self.key.ports.src(), IPPROTO_TCP);
        if self.world.endpoint(&source)?.is_some() && Service::is_snat_port(self.key.ports.dst()) {
            let detail = "a backend's port to a SNAT port without a flow: a stale reply";
            return Err(self.end("service", Fate::Drop(Counter::DropStaleReply), detail));
        }
        let detail = format!("no service has port {} of this VIP", vip.port());
        if !known.accepts() {
            let detail = format!("{detail}, and it accepts nothing else (`accept: false`)");
            return Err(self.end("service", Fate::Drop(Counter::DropNotAccepted), detail));
        }
        Err(self.end("service", Fate::Pass(Counter::PassNotService), detail))
    }

    fn lease(&mut self, index: u32) -> Result<(), End<W::Error>> {
        let lease = self.world.lease(index)?;
        if !lease.may_answer(self.now.ns) {
            let detail = "this node may make no new flows for the VIP: another one has it";
            return Err(self.end("lease", Fate::Drop(Counter::DropLeaseExpired), detail));
        }
        let detail = if lease.answer_until == u64::MAX {
            "the VIP is this node's, for ever".to_owned()
        } else {
            let left = (lease.answer_until - self.now.ns) / 1_000_000;
            format!("the VIP is this node's for another {left} ms")
        };
        self.passed("lease", detail);
        Ok(())
    }

    /// How it would be translated, as `admission::kind` of the program.
    fn kind(&mut self, service: &Service) -> Result<Kind, End<W::Error>> {
        let wanted = Kind::from_u8(service.kind).unwrap_or(Kind::Nat);
        let is_backend = self.world.endpoint(&Endpoint::host(self.key.src.ip()))?.is_some();
        let kind = if is_backend { Kind::Nat } else { wanted };
        let detail = match kind {
            Kind::Nat if wanted == Kind::Nat => "nat: the backend sees an address of ours",
            Kind::Nat => "nat, since the client is itself a backend",
            Kind::Dnat => "dnat: the backend sees the client's address",
            Kind::Dsr => "dsr: the backend answers the client itself",
        };
        self.passed("mode", detail);
        Ok(kind)
    }

    /// As `admission::admit` of the program; takes note of nothing.
    fn admit(&mut self, service: &Service) -> Result<(), End<W::Error>> {
        let source = self.key.src.ip();
        let shown = source.get();
        if service.flags & flag::RESTRICTED == 0 {
            self.passed("allow", "everybody may connect");
        } else if self.world.is_allowed(service.id, source)? {
            self.passed("allow", format!("{shown} is in a range of `allow`"));
        } else {
            let detail = format!("{shown} is in no range of `allow`");
            return Err(self.end("allow", Fate::Drop(Counter::DropNotAllowed), detail));
        }
        if service.rate.is_none() {
            self.passed("rate", "there is no limit");
            return Ok(());
        }
        let due = self.world.source_due(&SourceKey::new(source, service.id))?;
        let owner = source.owner().get();
        if service.rate.next(due, self.now.ns).is_none() {
            let detail = format!("{owner} has made too many connections of late");
            return Err(self.end("rate", Fate::Drop(Counter::DropRateLimited), detail));
        }
        self.passed("rate", format!("{owner} may make another connection"));
        Ok(())
    }

    fn filled_table(&mut self, service: &Service) -> Result<Vec<BackendId>, End<W::Error>> {
        let table = self.world.table(service.id)?;
        if table.is_empty() {
            let detail = "the table is empty: no backend takes connections";
            return Err(self.end("table", Fate::Reset(Counter::ResetNoBackend), detail));
        }
        if self.world.is_failed_open(service.id) {
            self.passed("panic", "no backend is up; the table has those that last were");
        }
        Ok(table)
    }

    /// As `selection::select` of the program.
    fn select(
        &mut self,
        table: &[BackendId],
        attempt: &Attempt,
    ) -> Result<(BackendId, Backend), End<W::Error>> {
        let mut number = attempt.number;
        let mut entry = self.entry(table, number);
        for _ in 0..OTHERS {
            if attempt.number == 0 || entry.1 != attempt.avoid {
                break;
            }
            number = number.wrapping_add(1);
            entry = self.entry(table, number);
        }
        let (slot, id) = entry;
        let name = self.world.backend_name(id);
        let Some(backend) = self.world.backend(id)? else {
            let detail = format!("slot {slot} has a backend that is not there");
            return Err(self.end("table", Fate::Reset(Counter::ResetNoBackend), detail));
        };
        self.passed("table", format!("slot {slot} of {} is {name}", table.len()));
        self.passed("backend", format!("{name} is {}", state(backend.state)));
        Ok((id, backend))
    }

    fn entry(&self, table: &[BackendId], attempt: u8) -> (u32, BackendId) {
        let length = u32::try_from(table.len()).unwrap_or(u32::MAX);
        let slot = slot(flow_hash(self.key, attempt), length).unwrap_or(0);
        (slot, table.get(slot as usize).copied().unwrap_or(0))
    }
}

const fn state(number: u8) -> &'static str {
    match State::from_u8(number) {
        Some(State::Free) => "not there",
        Some(State::Unknown) => "unknown",
        Some(State::Up) => "up",
        Some(State::Degraded) => "degraded",
        Some(State::Draining) => "draining",
        Some(State::Down) => "down",
        Some(State::Disabled) => "disabled",
        Some(State::Removed) => "no longer configured",
        None => "in a state of a later version",
    }
}

#[cfg(test)]
mod tests;
