//! Connections that sockets of this node open to a VIP: where they go instead. Pure.

use crate::addr::Endpoint;
use crate::backend::BackendId;
use crate::service::Service;

/// What is kept with a socket that was led to a backend. Value of the socket storage.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Redirect {
    /// What the socket was to be connected to: a VIP and its port.
    pub service: Endpoint,
    /// What it is connected to.
    pub backend: Endpoint,
    /// When, nanoseconds of CLOCK_MONOTONIC.
    pub made_ns: u64,
    pub id: BackendId,
    pub _pad: u32,
}

const _: () = assert!(size_of::<Redirect>() == 64);

impl Redirect {
    /// Whom the socket believes to talk to when the kernel says that it is `peer`; `None`: to that one.
    #[inline(always)]
    pub fn believed(&self, peer: Endpoint) -> Option<Endpoint> {
        // A socket may be disconnected, and connected to something else.
        if peer == self.backend { Some(self.service) } else { None }
    }

    /// Its connection to `backend` was made before `before_ns`.
    pub fn is_lost(&self, backend: Endpoint, before_ns: u64) -> bool {
        self.backend == backend && self.made_ns < before_ns
    }
}

/// The backend that is looked at first, if any: the one on this node, where that is preferred.
#[inline(always)]
pub const fn preferred(service: &Service) -> Option<BackendId> {
    if service.own_backend == 0 { None } else { Some(service.own_backend) }
}

/// A hash for a slot of the service's table. There is no source port yet, so it is a random number; it is
/// the upper half that [`crate::selection::slot`] takes.
#[inline(always)]
pub const fn random_hash(random: u32) -> u64 {
    (random as u64) << 32
}

/// Why a hook answers what it does, in place of the kernel's EPERM.
pub const ECONNREFUSED: i32 = 111;

/// Index into the counters of local connections of those that no backend was there for; it is no
/// backend's.
pub const REFUSED: BackendId = 0;

#[cfg(feature = "user")]
// SAFETY: integers only; the size assertion rules padding out.
unsafe impl aya::Pod for Redirect {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::IPPROTO_TCP;
    use crate::addr::{IpBe, PortBe};
    use crate::selection::slot;
    use core::net::IpAddr;

    fn endpoint(text: &str, port: u16) -> Endpoint {
        let address: IpAddr = text.parse().unwrap();
        Endpoint::new(IpBe::new(address), PortBe::new(port), IPPROTO_TCP)
    }

    fn redirect() -> Redirect {
        Redirect {
            service: endpoint("10.0.0.100", 6443),
            backend: endpoint("10.0.0.11", 6444),
            made_ns: 1000,
            id: 7,
            _pad: 0,
        }
    }

    #[test]
    fn a_socket_believes_in_the_vip_while_it_is_connected_to_the_backend() {
        let redirect = redirect();
        assert_eq!(redirect.believed(redirect.backend), Some(redirect.service));
        assert_eq!(redirect.believed(endpoint("10.0.0.11", 6443)), None);
        assert_eq!(redirect.believed(endpoint("10.0.0.12", 6444)), None);
    }

    #[test]
    fn only_older_connections_to_the_backend_are_lost() {
        let redirect = redirect();
        assert!(redirect.is_lost(redirect.backend, 1001));
        assert!(!redirect.is_lost(redirect.backend, 1000));
        assert!(!redirect.is_lost(endpoint("10.0.0.12", 6444), 1001));
    }

    #[test]
    fn a_backend_is_preferred_where_the_service_names_one() {
        assert_eq!(preferred(&Service::default()), None);
        assert_eq!(preferred(&Service { own_backend: 3, ..Service::default() }), Some(3));
    }

    #[test]
    fn random_numbers_reach_every_slot_alike() {
        let mut counts = [0u32; 3];
        for random in (0..u32::MAX - 65_536).step_by(65_536) {
            counts[slot(random_hash(random), 3).unwrap() as usize] += 1;
        }
        assert!(counts.iter().all(|count| (21_800..21_900).contains(count)), "{counts:?}");
        assert_eq!(slot(random_hash(u32::MAX), 3), Some(2));
    }
}
