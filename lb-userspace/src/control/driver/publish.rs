//! What the controller publishes of itself.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use super::{Controller, Name};
use crate::admin::model::{self, Status, rfc3339};
use crate::control::elections;
use crate::control::status::{self, Measured, Sources};
use crate::datapath::sockets::ender::Ender;
use crate::netlink::snapshot::Resolution;
use crate::vrrp::Nanos;

impl Controller {
    /// What `status` prints now.
    #[expect(clippy::disallowed_methods, reason = "a driver: stamps what status prints")]
    pub fn status(&mut self) -> anyhow::Result<Arc<Status>> {
        let measured = self.measure()?;
        let health = self.health_table.borrow();
        let sources = Sources {
            desired: &self.desired,
            health: &health,
            probes: &self.health.latencies().last(),
            standing: &self.standing,
            overrides: self.overrides.effective(),
            measured: &measured,
            since: &self.since,
        };
        let services = sources.services();
        drop(health);
        let owned: BTreeSet<_> =
            self.snapshot.addresses.iter().map(|address| address.address).collect();
        let (views, now, wall) = (self.elections.views(), Instant::now(), SystemTime::now());
        let (ns, dated) = (Nanos(self.anchor.to_ns(now)), self.calendar.date(now, wall));
        self.status.vips =
            status::vips(&self.desired, |vip| owned.contains(&vip), &self.elections.held(), ns);
        let draining = self.elections.draining();
        self.status.time = rfc3339(wall);
        self.status.vrrp = elections::statuses(&views, draining, ns, dated);
        self.status.xdp = self
            .datapath
            .attachments()
            .iter()
            .map(|(interface, attachment)| model::Xdp {
                interface: interface.clone(),
                mode: attachment.mode.as_str().to_owned(),
                reason: attachment.reason.clone(),
            })
            .collect();
        self.status.sync = self.sync_status(now, dated);
        self.status.overrides = self.overrides_listed();
        self.status.local_clients.refused =
            self.datapath.maps.local_connections(lb_common::socket::REFUSED)?;
        self.status.local_clients.ended = self.ender.as_ref().map_or(0, Ender::ended);
        self.status.local_clients.pods.ended = self.ender.as_ref().map_or(0, Ender::ended_in_pods);
        let counters = self.datapath.maps.counters();
        self.status.counters =
            counters.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        self.status.flows = model::Flows {
            established: self.census.established,
            half_open: self.census.half_open,
            half_open_evicted: self.datapath.maps.half_open_evicted()?,
            capacity: model::FlowCapacity {
                established: self.config.limits.flows.into(),
                half_open: self.config.limits.half_open.into(),
            },
        };
        // Backends may be many: there is one copy of what is said of them, the published one.
        Ok(Arc::new(Status { services, ..self.status.clone() }))
    }

    /// What the daemon knows of itself.
    pub fn note_daemon(
        &mut self,
        state_file: model::StateFile,
        notify: Vec<model::Notification>,
        listener: Option<model::Listener>,
    ) {
        (self.status.state_file, self.status.notify) = (state_file, notify);
        self.status.listener = listener;
    }

    fn overrides_listed(&self) -> Vec<model::Override> {
        if self.overrides.is_empty() {
            return Vec::new();
        }
        let backends = self.config.services.iter().flat_map(|service| {
            service.backends.iter().map(move |backend| (&*service.name, &*backend.name))
        });
        let configured: BTreeSet<(&str, &str)> = backends.collect();
        self.overrides.list(|name| configured.contains(&(&*name.0, &*name.1)))
    }

    fn measure(&self) -> anyhow::Result<BTreeMap<Name, Measured>> {
        let ids = self.backend_ids();
        let mut measured = BTreeMap::new();
        for service in &self.config.services {
            for backend in &service.backends {
                let Some(id) = ids.get(&service.name, backend.endpoint()) else { continue };
                let name = (service.name.clone(), backend.name.clone());
                let (traffic, events) = self.datapath.maps.counted(id);
                measured.insert(
                    name,
                    Measured {
                        id,
                        connections: self.census.connections.get(&id).copied().unwrap_or(0),
                        traffic,
                        events,
                        next_hop: self.next_hop(backend.address),
                        local_connections: self.datapath.maps.local_connections(id)?,
                    },
                );
            }
        }
        Ok(measured)
    }

    fn next_hop(&self, address: IpAddr) -> Option<model::NextHop> {
        let (state, ifindex, mac) = match self.snapshot.next_hop(address) {
            Resolution::Known(hop) => ("known", hop.ifindex, Some(hop.mac.to_string())),
            Resolution::Unresolved { ifindex, .. } => ("unresolved", ifindex, None),
            Resolution::Failed { ifindex, .. } => ("failed", ifindex, None),
            Resolution::NoRoute | Resolution::Local => return None,
        };
        let interface = self.snapshot.links.get(&ifindex).map(|link| link.name.clone());
        Some(model::NextHop { state: state.to_owned(), mac, interface: interface? })
    }
}
