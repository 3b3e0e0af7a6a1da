//! Services as the datapath looks them up. Pure.

use crate::addr::{Endpoint, IpBe, PortBe};
use crate::backend::BackendId;
use crate::conntrack::Timeouts;
use crate::rate::RateLimit;

/// Key of the service map: what a client addresses.
pub type ServiceKey = Endpoint;

/// SNAT addresses a service can spread its flows over.
pub const MAX_SNAT_ADDRESSES: usize = 4;

/// An address that requests are sent from, with the VIP whose lease it is under.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SnatAddress {
    pub address: IpBe,
    pub vip: u32,
    pub _pad: u32,
}

/// Bits of [`Service::flags`].
pub mod flag {
    /// Only sources in the map of allowed prefixes may open connections.
    pub const RESTRICTED: u8 = 1 << 0;
}

/// One family's VIP and port of a service. Value of the service map.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Service {
    /// Index into the array of selection tables; shared by all VIPs of a service of one family.
    pub id: u32,
    /// Index of the addressed VIP's lease.
    pub vip: u32,
    pub snat: [SnatAddress; MAX_SNAT_ADDRESSES],
    /// How many of `snat` are in use; at least 1.
    pub snat_count: u8,
    /// [`crate::nat::Kind`] as a number.
    pub kind: u8,
    /// [`flag`] bits.
    pub flags: u8,
    pub _pad: u8,
    /// Range of SNAT ports, both ends included, host order.
    pub snat_port_min: u16,
    pub snat_port_max: u16,
    /// New connections of one owner.
    pub rate: RateLimit,
    pub timeouts: Timeouts,
    /// The backend on this node, while this node's own clients are to go there; 0: any. See
    /// [`crate::socket`].
    pub own_backend: BackendId,
}

const _: () = assert!(size_of::<Service>() == 144);

/// Ports that requests are sent from: all but the well-known ones.
pub const SNAT_PORTS: core::ops::RangeInclusive<u16> = 1024..=65535;

impl Service {
    #[inline(always)]
    pub const fn snat_port_count(&self) -> u32 {
        self.snat_port_max as u32 - self.snat_port_min as u32 + 1
    }

    #[inline(always)]
    pub const fn is_snat_port(port: PortBe) -> bool {
        port.get() >= *SNAT_PORTS.start()
    }
}

/// What is behind the `host` or the endpoint of a backend. Value of the endpoint map.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EndpointUse {
    /// How many services have it.
    pub services: u32,
    /// Not 0: replies without a flow leave as from `vip`.
    pub exclusive: u32,
    pub vip: Endpoint,
    /// Index of the lease of `vip`.
    pub lease: u32,
    pub _pad: u32,
}

const _: () = assert!(size_of::<EndpointUse>() == 40);

/// Data of a key in the trie of allowed sources; a prefix is at least the 32 bits of `service`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AllowKey {
    /// [`Service::id`], big-endian: its bits come first.
    pub service: u32,
    pub source: [u32; 4],
}

impl AllowKey {
    /// Bits of `service`, to be added to those of a prefix.
    pub const SERVICE_BITS: u32 = 32;
    pub const BITS: u32 = Self::SERVICE_BITS + 128;

    #[inline(always)]
    pub const fn new(service: u32, source: IpBe) -> Self {
        Self { service: service.to_be(), source: source.trie_data() }
    }
}

#[cfg(feature = "user")]
mod pod {
    use super::{AllowKey, EndpointUse, Service};

    // SAFETY: integers only; the size assertion rules padding out.
    unsafe impl aya::Pod for Service {}
    // SAFETY: likewise.
    unsafe impl aya::Pod for EndpointUse {}
    // SAFETY: five u32.
    unsafe impl aya::Pod for AllowKey {}
}
