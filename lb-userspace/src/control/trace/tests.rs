use std::cell::Cell;
use std::convert::Infallible;
use std::net::SocketAddrV4;

use lb_common::addr::{Ipv4Be, PortBe, Ports};
use lb_common::rate::RateLimit;
use lb_common::service::SnatAddress;

use super::*;
use crate::admin::model::trace::Step;

const NOW: Moment = Moment { ns: 1 << 40 };

/// One service, 10.0.0.100:6443, with backends 1 to 3 at 10.0.0.11 and so on.
struct Small {
    service: Service,
    lease: Lease,
    allowed: Vec<IpBe>,
    due: u64,
    table: Vec<BackendId>,
    panic: bool,
    accepts: bool,
    /// For a flow.
    asked: Cell<u32>,
}

impl Small {
    fn new() -> Self {
        let snat = SnatAddress { address: ip("10.0.0.100"), ..SnatAddress::default() };
        let mut service = Service {
            id: 1,
            kind: Kind::Nat as u8,
            snat_count: 1,
            snat_port_min: 1024,
            snat_port_max: 65535,
            ..Service::default()
        };
        service.snat[0] = snat;
        Self {
            service,
            lease: Lease::FOREVER,
            allowed: vec![],
            due: 0,
            table: vec![1, 2, 3],
            panic: false,
            accepts: true,
            asked: Cell::default(),
        }
    }

    fn follow(&self, client: &str, vip: &str) -> Outcome {
        let ends: [SocketAddrV4; 2] = [client, vip].map(|end| end.parse().unwrap());
        let [src, dst] = ends.map(|end| Ipv4Be::new(*end.ip()));
        let [from, to] = ends.map(|end| PortBe::new(end.port()));
        let key = FlowKey::new(src, dst, Ports::new(from, to));
        trace(&key, true, self, NOW).unwrap()
    }

    fn fate(&self) -> (Fate, String) {
        let outcome = self.follow("10.0.0.2:40000", "10.0.0.100:6443");
        (outcome.fate, last(&outcome).step.clone())
    }
}

fn ip(text: &str) -> IpBe {
    IpBe::new(text.parse().unwrap())
}

fn last(outcome: &Outcome) -> &Step {
    outcome.steps.last().unwrap()
}

impl World<Ipv4Be> for Small {
    type Error = Infallible;

    fn half(&self, _: &FlowKey<Ipv4Be>) -> Result<Option<FlowHalf<Ipv4Be>>, Infallible> {
        self.asked.update(|asked| asked + 1);
        Ok(None)
    }

    fn service(&self, key: &ServiceKey) -> Result<Option<Service>, Infallible> {
        let ours = Endpoint::new(ip("10.0.0.100"), PortBe::new(6443), IPPROTO_TCP);
        Ok((*key == ours).then_some(self.service))
    }

    fn vip(&self, address: IpBe) -> Result<Option<Vip>, Infallible> {
        Ok((address == ip("10.0.0.100")).then_some(Vip::new(0, self.accepts)))
    }

    fn lease(&self, _: u32) -> Result<Lease, Infallible> {
        Ok(self.lease)
    }

    fn is_allowed(&self, _: u32, source: IpBe) -> Result<bool, Infallible> {
        Ok(self.allowed.contains(&source))
    }

    fn endpoint(&self, endpoint: &Endpoint) -> Result<Option<EndpointUse>, Infallible> {
        let host = Endpoint::host(ip("10.0.0.11"));
        let listens = Endpoint::new(ip("10.0.0.11"), PortBe::new(6443), IPPROTO_TCP);
        Ok((*endpoint == host || *endpoint == listens).then(EndpointUse::default))
    }

    fn source_due(&self, _: &SourceKey) -> Result<u64, Infallible> {
        Ok(self.due)
    }

    fn table(&self, _: u32) -> Result<Vec<BackendId>, Infallible> {
        Ok(self.table.clone())
    }

    fn backend(&self, id: BackendId) -> Result<Option<Backend>, Infallible> {
        let address = IpBe::new([10, 0, 0, 10 + id.to_le_bytes()[0]].into());
        let endpoint = Endpoint::new(address, PortBe::new(6443), IPPROTO_TCP);
        Ok(Some(Backend { endpoint, state: State::Up as u8, ..Backend::default() }))
    }

    fn backend_name(&self, id: BackendId) -> String {
        format!("cp{id}")
    }

    fn service_name(&self, _: u32) -> String {
        "api".to_owned()
    }

    fn is_failed_open(&self, _: u32) -> bool {
        self.panic
    }
}

#[test]
fn every_decision_is_a_step() {
    let outcome = Small::new().follow("10.0.0.2:40000", "10.0.0.100:6443");
    let steps: Vec<&str> = outcome.steps.iter().map(|step| step.step.as_str()).collect();
    let expected =
        ["flow", "service", "lease", "mode", "allow", "rate", "table", "backend", "source"];
    assert_eq!(steps, expected);
    assert!(outcome.steps.iter().all(|step| step.passed));
    let Fate::Forward(chosen) = outcome.fate else { panic!("{outcome:?}") };
    assert_eq!(chosen.endpoint.port(), 6443);
    assert_eq!(chosen.source.ip().to_string(), "10.0.0.100");
}

#[test]
fn the_first_refusal_ends_it() {
    let mut world = Small::new();
    world.lease = Lease::EXPIRED;
    assert_eq!(world.fate(), (Fate::Drop(Counter::DropLeaseExpired), "lease".into()));
    world.lease = Lease::FOREVER;
    world.service.flags = flag::RESTRICTED;
    assert_eq!(world.fate(), (Fate::Drop(Counter::DropNotAllowed), "allow".into()));
    world.allowed.push(ip("10.0.0.2"));
    world.service.rate = RateLimit::new(1, 1);
    world.due = NOW.ns + 2_000_000_000;
    assert_eq!(world.fate(), (Fate::Drop(Counter::DropRateLimited), "rate".into()));
    world.due = 0;
    world.table.clear();
    assert_eq!(world.fate(), (Fate::Reset(Counter::ResetNoBackend), "table".into()));
    world.table.push(2);
    assert!(matches!(world.fate(), (Fate::Forward(chosen), _) if chosen.backend == 2));
}

#[test]
fn what_is_no_services_passes() {
    let mut world = Small::new();
    let fate = |client, vip| world.follow(client, vip).fate;
    let pass = Fate::Pass(Counter::PassNotVip);
    assert_eq!(fate("10.0.0.2:40000", "10.0.0.9:6443"), pass);
    let pass = Fate::Pass(Counter::PassNotService);
    assert_eq!(fate("10.0.0.2:40000", "10.0.0.100:22"), pass);
    let stale = Fate::Drop(Counter::DropStaleReply);
    assert_eq!(fate("10.0.0.11:6443", "10.0.0.100:2000"), stale);

    world.accepts = false;
    let fate = |client, vip| world.follow(client, vip).fate;
    let closed = Fate::Drop(Counter::DropNotAccepted);
    assert_eq!(fate("10.0.0.2:40000", "10.0.0.100:22"), closed);
    assert_eq!(fate("10.0.0.11:6443", "10.0.0.100:2000"), stale);
    assert!(matches!(fate("10.0.0.2:40000", "10.0.0.100:6443"), Fate::Forward(_)));
}

#[test]
fn a_backend_as_a_client_gets_nat() {
    let mut world = Small::new();
    world.service.kind = Kind::Dnat as u8;
    let kind = |client| {
        let fate = world.follow(client, "10.0.0.100:6443").fate;
        let Fate::Forward(chosen) = fate else { panic!("{fate:?}") };
        chosen.kind
    };
    assert_eq!(kind("10.0.0.2:40000"), Some(Kind::Dnat));
    assert_eq!(kind("10.0.0.11:40000"), Some(Kind::Nat));
}

#[test]
fn panic_is_said() {
    let mut world = Small::new();
    world.panic = true;
    let outcome = world.follow("10.0.0.2:40000", "10.0.0.100:6443");
    assert!(outcome.steps.iter().any(|step| step.step == "panic"), "{outcome:?}");
}

#[test]
fn a_client_without_a_port_has_the_table() {
    let world = Small::new();
    let ports = Ports::new(PortBe::new(0), PortBe::new(6443));
    let [src, dst] = ["10.0.0.2", "10.0.0.100"].map(|it| Ipv4Be::new(it.parse().unwrap()));
    let outcome = trace(&FlowKey::new(src, dst, ports), false, &world, NOW).unwrap();
    assert_eq!((outcome.fate, outcome.table), (Fate::ByPort, vec![1, 2, 3]));
    // Which flow there is cannot be asked either.
    assert_eq!(world.asked.get(), 0);
}
