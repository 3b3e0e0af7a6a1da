//! Answers where a client's connection would go: the maps as `control::trace` asks for them.

use std::net::{IpAddr, SocketAddr};

use anyhow::{bail, ensure};
use lb_common::addr::{Endpoint, IpBe, Ipv4Be, Ipv6Be, PortBe, Ports};
use lb_common::backend::{Backend, BackendId};
use lb_common::conntrack::FlowHalf;
use lb_common::counters::Counter;
use lb_common::flow::FlowKey;
use lb_common::lease::Lease;
use lb_common::nat::Kind;
use lb_common::rate::SourceKey;
use lb_common::service::{EndpointUse, Service, ServiceKey};
use lb_common::vip::Vip;

use super::Controller;
use crate::admin::model::flows::Flow;
use crate::admin::model::trace::{Question, Share, Trace, Traces, Verdict};
use crate::config::{self, Family};
use crate::control::flows::{self, BackendNames, Directory, Facts, InstalledBackend, Named};
use crate::control::trace::{Fate, Moment, Outcome, World, trace};
use crate::datapath::now::monotonic;
use crate::datapath::sweep;

/// Services of one answer.
const MOST: usize = 64;

impl Controller {
    pub(super) fn traces(&self, question: &Question) -> anyhow::Result<Traces> {
        let targets = self.targets(question)?;
        let traces = targets.into_iter().map(|vip| match (question.client, vip.ip()) {
            (IpAddr::V4(client), IpAddr::V4(address)) => {
                self.trace(question, vip, Ipv4Be::new(client), Ipv4Be::new(address))
            }
            (IpAddr::V6(client), IpAddr::V6(address)) => {
                self.trace(question, vip, Ipv6Be::new(client), Ipv6Be::new(address))
            }
            (client, address) => bail!("{client} cannot connect to {address}: the families differ"),
        });
        Ok(Traces { traces: traces.collect::<Result<_, _>>()? })
    }

    /// The VIPs and ports that a question is about.
    fn targets(&self, question: &Question) -> anyhow::Result<Vec<SocketAddr>> {
        if let (Some(vip), Some(port)) = (question.vip, question.port) {
            return Ok(vec![SocketAddr::new(vip, port)]);
        }
        let family = Family::of(&question.client);
        let keys = self.installed.services.keys();
        let targets: Vec<SocketAddr> = keys
            .map(|key| SocketAddr::new(key.address.get(), key.port.get()))
            .filter(|key| {
                question.vip.map_or_else(|| Family::of(&key.ip()) == family, |it| it == key.ip())
            })
            .filter(|key| question.port.is_none_or(|port| port == key.port()))
            .collect();
        ensure!(
            !targets.is_empty(),
            "no service has this VIP; give VIP and port for a trace of both"
        );
        let count = targets.len();
        ensure!(count <= MOST, "{count} services could be meant: give the VIP and its port");
        Ok(targets)
    }

    fn trace<A: sweep::Family>(
        &self,
        question: &Question,
        vip: SocketAddr,
        src: A,
        dst: A,
    ) -> anyhow::Result<Trace> {
        let port = PortBe::new(question.client_port.unwrap_or(0));
        let key = FlowKey::new(src, dst, Ports::new(port, PortBe::new(vip.port())));
        let moment = Moment { ns: monotonic() };
        let outcome = trace(&key, question.client_port.is_some(), &MapsNow(self), moment)?;
        Ok(self.told(question, vip, outcome))
    }

    fn told(&self, question: &Question, vip: SocketAddr, outcome: Outcome) -> Trace {
        let Outcome { fate, service, flow, table, steps } = outcome;
        let service = service.or_else(|| flow.map(|facts| facts.service));
        let (verdict, counter, chosen) = match fate {
            Fate::Forward(chosen) => (Verdict::Forward, Counter::ForwardRequest, Some(chosen)),
            Fate::ByPort => (Verdict::Forward, Counter::ForwardRequest, None),
            Fate::Reset(counter) => (Verdict::Reset, counter, None),
            Fate::Drop(counter) => (Verdict::Drop, counter, None),
            Fate::Pass(counter) => (Verdict::Pass, counter, None),
        };
        let backend = chosen.and_then(|chosen| self.names_of(chosen.backend));
        Trace {
            client: question.client,
            client_port: question.client_port,
            vip,
            service: service.and_then(|id| self.configured(id)).map(|it| it.name.clone()),
            verdict,
            counter: counter.name().to_owned(),
            backend: backend.map(|names| names.name),
            backend_address: chosen.map(|chosen| chosen.endpoint),
            source: chosen.map(|chosen| chosen.source),
            mode: chosen.and_then(|it| it.kind).map(|kind: Kind| flows::mode(kind).to_owned()),
            flow: flow.map(|facts| self.described(&facts)),
            shares: self.shares(&table),
            steps,
        }
    }

    fn described(&self, facts: &Facts) -> Flow {
        let mut directory = Directory::default();
        if let Some(service) = self.configured(facts.service) {
            let timeouts = self.timeouts().get(&facts.service).copied().unwrap_or_default();
            directory
                .services
                .insert(facts.service, Named { name: service.name.clone(), timeouts });
        }
        if let Some(names) = self.names_of(facts.backend) {
            directory.backends.insert(facts.backend, names);
        }
        if let Some(backend) = self.installed.backends.get(&facts.backend) {
            directory.installed.insert(facts.backend, InstalledBackend::from(backend));
        }
        directory.describe(facts)
    }

    fn shares(&self, table: &[BackendId]) -> Vec<Share> {
        let mut counts = std::collections::BTreeMap::<BackendId, u32>::new();
        for id in table {
            *counts.entry(*id).or_default() += 1;
        }
        let of = u32::try_from(table.len()).unwrap_or(u32::MAX);
        let share = |(id, slots)| Share { backend: MapsNow(self).name(id), slots, of };
        let mut shares: Vec<_> = counts.into_iter().map(share).collect();
        shares.sort_by(|a, b| a.backend.cmp(&b.backend));
        shares
    }

    /// The service with this identifier, if it is still configured.
    fn configured(&self, id: u32) -> Option<&config::Service> {
        let (key, _) = self.installed.services.iter().find(|(_, service)| service.id == id)?;
        let vip = key.address.get();
        let mut services = self.config.services.iter();
        services.find(|service| service.port == key.port.get() && service.vips.contains(&vip))
    }

    fn names_of(&self, id: BackendId) -> Option<BackendNames> {
        let backend = self.installed.backends.get(&id)?;
        let service = self.configured(backend.service)?;
        let at = InstalledBackend::from(backend).address;
        let name = service.backends.iter().find(|backend| backend.endpoint() == at)?;
        Some(BackendNames { service: service.name.clone(), name: name.name.clone() })
    }
}

/// What the controller has installed, and what the datapath has written since.
struct MapsNow<'a>(&'a Controller);

impl MapsNow<'_> {
    fn name(&self, id: BackendId) -> String {
        let address = || {
            let backend = self.0.installed.backends.get(&id);
            backend.map(|backend| InstalledBackend::from(backend).address.to_string())
        };
        let name = self.0.names_of(id).map(|names| names.name);
        name.or_else(address).unwrap_or_else(|| "a backend that is gone".to_owned())
    }
}

impl<A: sweep::Family> World<A> for MapsNow<'_> {
    type Error = anyhow::Error;

    fn half(&self, key: &FlowKey<A>) -> anyhow::Result<Option<FlowHalf<A>>> {
        Ok(self.0.datapath.maps.flows[A::INDEX].find(key))
    }

    fn service(&self, key: &ServiceKey) -> anyhow::Result<Option<Service>> {
        Ok(self.0.installed.services.get(key).copied())
    }

    fn vip(&self, address: IpBe) -> anyhow::Result<Option<Vip>> {
        let (installed, address) = (&self.0.installed, address.get());
        let accepts = !installed.closed.contains(&address);
        Ok(installed.vips.get(&address).map(|index| Vip::new(*index, accepts)))
    }

    fn lease(&self, index: u32) -> anyhow::Result<Lease> {
        self.0.datapath.maps.lease(index)
    }

    fn is_allowed(&self, service: u32, source: IpBe) -> anyhow::Result<bool> {
        let source = source.get();
        let mut allowed = self.0.installed.allowed.iter();
        Ok(allowed.any(|(of, range)| *of == service && range.contains(&source)))
    }

    fn endpoint(&self, endpoint: &Endpoint) -> anyhow::Result<Option<EndpointUse>> {
        Ok(self.0.installed.endpoints.get(endpoint).copied())
    }

    fn source_due(&self, key: &SourceKey) -> anyhow::Result<u64> {
        self.0.datapath.maps.source_due(key)
    }

    fn table(&self, service: u32) -> anyhow::Result<Vec<BackendId>> {
        Ok(self.0.installed.tables.get(&service).cloned().unwrap_or_default())
    }

    fn backend(&self, id: BackendId) -> anyhow::Result<Option<Backend>> {
        Ok(self.0.installed.backends.get(&id).copied())
    }

    fn backend_name(&self, id: BackendId) -> String {
        self.name(id)
    }

    fn service_name(&self, service: u32) -> String {
        let service = self.0.configured(service);
        service.map_or_else(|| "a service that is gone".to_owned(), |it| it.name.clone())
    }

    fn is_failed_open(&self, service: u32) -> bool {
        let Some(configured) = self.0.configured(service) else { return false };
        let mut vips = self.0.installed.services.iter().filter(|(_, it)| it.id == service);
        let family = vips.next().map(|(key, _)| Family::of(&key.address.get()));
        let mut desired = self.0.desired.services.iter();
        desired.any(|it| it.name == configured.name && Some(it.family) == family && it.panic)
    }
}
