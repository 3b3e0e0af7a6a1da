//! How large the maps are, which the configuration decides. Pure.
//!
//! Each has room for twice what is configured, so that a reload may add or replace; beyond that it is
//! refused. A family that no service has gets a table of flows that is as good as none.

use lb_common::addr::{Endpoint, IpBe, Ipv4Be, Ipv6Be};
use lb_common::backend::{Backend, BackendEvents, BackendTraffic, SIGNAL_RING};
use lb_common::connect::{ConnectTimes, MAX_MEASURED};
use lb_common::filter::Filters;
use lb_common::lease::Lease;
use lb_common::link::{Link, MAX_LINKS, NextHop, Route, WaysChanged};
use lb_common::rate::{MAX_SOURCES, SourceKey};
use lb_common::service::{AllowKey, EndpointUse, Service, ServiceKey};
use lb_common::socket::Redirect;
use lb_common::table::{Slot, elements};
use lb_common::vip::Vip;
use lb_common::{MAX_BACKENDS, MAX_SERVICES, MAX_VIPS, map};

use crate::config::{Config, Family, Limits};
use crate::datapath::counts;
use crate::datapath::maps::{MAX_NEIGHBOURS, MAX_ROUTES};
use crate::datapath::table;

/// Capacities of the maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Flows of the families that are in use.
    pub limits: Limits,
    pub v4: bool,
    pub v6: bool,
    /// Slots of the backend map; slot 0 is never used.
    pub backends: u32,
    /// (VIP, port) pairs, and services of one family; table 0 is never used.
    pub services: u32,
    pub vips: u32,
    /// Ranges of all `allow` lists.
    pub allowed: u32,
    /// Clients whose rate is remembered.
    pub sources: u32,
    /// Somebody reads the ring of flow events.
    pub sync: bool,
    /// CPUs that count.
    pub cpus: u32,
}

/// Fewest elements: room to grow by reloads where there is little yet.
const FEWEST: u32 = 256;
/// Homes of flows of a family without a service, and clients where no rate is limited.
const UNUSED: u32 = 64;

impl Sizes {
    /// On a machine with so many CPUs.
    pub fn new(config: &Config, cpus: u32) -> Self {
        let services = || config.services.iter();
        let backends: usize = services().map(|service| service.capacity()).sum();
        let pairs: usize = services().map(|service| service.vips.len()).sum();
        let allowed: usize = services().map(|service| service.allow.len()).sum();
        let has = |family| services().any(|service| service.families().any(|it| it == family));
        let is_limited = services().any(|service| service.rate_limit.is_some());
        Self {
            limits: config.limits,
            v4: has(Family::V4),
            v6: has(Family::V6),
            backends: twice(backends, MAX_BACKENDS),
            services: twice(pairs, MAX_SERVICES),
            vips: twice(config.vips().len(), MAX_VIPS),
            allowed: twice(allowed, u32::MAX >> 1),
            sources: if is_limited { MAX_SOURCES } else { UNUSED },
            sync: config.sync.is_some() || config.flow_log.is_some(),
            cpus,
        }
    }

    /// What `other` needs and these maps have no room for at all; `None`: nothing of the kind.
    pub fn lacks(&self, other: &Self) -> Option<&'static str> {
        if other.v4 && !self.v4 {
            Some("IPv4 flows")
        } else if other.v6 && !self.v6 {
            Some("IPv6 flows")
        } else if other.sources > self.sources {
            Some("clients' rates")
        } else {
            None
        }
    }

    /// Of each family's table.
    pub(super) fn homes(&self) -> [u32; 2] {
        let Limits { flows, half_open } = self.limits;
        let used = table::homes(flows * 2, half_open * 2);
        [self.v4, self.v6].map(|is_used| if is_used { used } else { UNUSED })
    }

    pub fn counts(&self) -> counts::Layout {
        counts::Layout { cpus: self.cpus, backends: self.backends }
    }

    /// Backends whose time to connect is measured.
    pub fn measured(&self) -> u32 {
        self.backends.min(MAX_MEASURED)
    }

    /// Key size, value size and capacity of a map, by its name.
    pub fn layout(&self, name: &str) -> (usize, usize, u32) {
        let [v4, v6] = self.homes().map(elements);
        match name {
            map::ALLOWED => (4 + size_of::<AllowKey>(), 1, self.allowed),
            map::BACKENDS => (4, size_of::<Backend>(), self.backends),
            map::BACKEND_EVENTS => (4, size_of::<BackendEvents>(), self.counts().of_backends()),
            map::BACKEND_TRAFFIC => (4, size_of::<BackendTraffic>(), self.counts().of_backends()),
            map::CONNECT_TIMES => (4, size_of::<ConnectTimes>(), self.measured()),
            map::COUNTERS => (4, 8, self.counts().counters()),
            // Endpoints, and their hosts.
            map::ENDPOINTS => (size_of::<Endpoint>(), size_of::<EndpointUse>(), self.backends * 2),
            map::FILTERS => (4, size_of::<Filters>(), 1),
            map::FLOWS => (4, size_of::<Slot<Ipv4Be>>(), v4),
            map::FLOWS6 => (4, size_of::<Slot<Ipv6Be>>(), v6),
            map::LEASES => (4, size_of::<Lease>(), self.vips),
            map::LINKS => (4, size_of::<Link>(), MAX_LINKS),
            map::LOCAL_CONNECTIONS => (4, 8, self.backends),
            map::NEIGHBOURS => (size_of::<IpBe>(), size_of::<NextHop>(), MAX_NEIGHBOURS),
            map::ROUTES => (4 + size_of::<IpBe>(), size_of::<Route>(), MAX_ROUTES),
            map::REDIRECTS => (4, size_of::<Redirect>(), 0),
            map::SERVICES => (size_of::<ServiceKey>(), size_of::<Service>(), self.services),
            map::SIGNALS => (0, 0, SIGNAL_RING),
            map::SOURCES => (size_of::<SourceKey>(), 8, self.sources),
            map::TABLES => (4, 4, self.services),
            map::VIPS => (size_of::<IpBe>(), size_of::<Vip>(), self.vips),
            map::WAYS_CHANGED => (4, size_of::<WaysChanged>(), 1),
            // Numbers of interfaces, ours and the kernel's.
            _ => (4, 4, MAX_LINKS),
        }
    }
}

/// A power of two with room for `wanted` more than there are.
fn twice(wanted: usize, limit: u32) -> u32 {
    let wanted = u32::try_from(wanted).unwrap_or(limit).min(limit);
    wanted.saturating_mul(2).clamp(FEWEST, limit).next_power_of_two().min(limit)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{EXAMPLE, file};

    #[test]
    fn maps_have_room_for_twice_what_is_configured() {
        let cases = [(0, FEWEST), (3, FEWEST), (128, 256), (129, 512), (1 << 18, MAX_BACKENDS)];
        for (wanted, expected) in cases {
            assert_eq!(twice(wanted, MAX_BACKENDS), expected, "{wanted}");
        }
        assert_eq!(twice(usize::MAX, MAX_VIPS), MAX_VIPS);
        let backends = 256 * 1024;
        assert!(twice(backends, MAX_BACKENDS) as usize > backends);
    }

    #[test]
    fn only_families_that_are_in_use_have_flows() {
        let config = file::parse(EXAMPLE, Path::new("f")).unwrap();
        let sizes = Sizes::new(&config, 4);
        assert_eq!(sizes.layout(map::BACKEND_TRAFFIC), (4, 64, 4 * sizes.backends));
        assert_eq!(sizes.layout(map::FLOWS), (4, size_of::<Slot<Ipv4Be>>(), 4 * 131_072 + 41));
        assert_eq!(sizes.layout(map::FLOWS6), (4, size_of::<Slot<Ipv6Be>>(), UNUSED + 41));
        assert_eq!(sizes.lacks(&sizes), None);
        assert_eq!(sizes.lacks(&Sizes { v6: true, ..sizes }), Some("IPv6 flows"));
        assert_eq!(Sizes { v6: true, ..sizes }.lacks(&sizes), None);
        assert_eq!(sizes.lacks(&Sizes { sources: MAX_SOURCES, ..sizes }), Some("clients' rates"));
    }

    #[test]
    fn half_open_flows_get_room_of_their_own_if_they_are_to_be_more() {
        let config = file::parse(EXAMPLE, Path::new("f")).unwrap();
        let sizes = Sizes::new(&config, 1);
        for (flows, half_open, homes) in
            [(1024, 1024, 4096), (1024, 16, 4096), (1024, 16_384, 2048 + 32_768)]
        {
            let limits = Limits { flows, half_open };
            assert_eq!(Sizes { limits, ..sizes }.homes(), [homes, UNUSED], "{limits:?}");
        }
        let limits = Limits { flows: 1 << 24, half_open: 1 << 24 };
        assert_eq!(Sizes { limits, ..sizes }.layout(map::FLOWS).2, (1 << 26) + 41);
    }
}
