//! What the datapath and the controller must agree on: layouts of map keys and values, and the rules
//! that both sides apply to them. Compiles for the kernel and for the host. Pure.
//!
//! Addresses and ports stay in network byte order inside newtypes; sequence numbers, times and
//! identifiers are in host order. No layout has implicit padding: hash maps compare bytes.

#![cfg_attr(not(test), no_std)]

pub mod addr;
pub mod backend;
pub mod checksum;
pub mod conntrack;
pub mod counters;
pub mod flow;
pub mod lease;
pub mod nat;
pub mod selection;
pub mod service;

/// Names of the maps, as the object declares them and as they are pinned.
pub mod map {
    pub const BACKENDS: &str = "BACKENDS";
    pub const BACKEND_COUNTERS: &str = "BACKEND_COUNTERS";
    pub const COUNTERS: &str = "COUNTERS";
    pub const DEVICES: &str = "DEVICES";
    pub const ENDPOINTS: &str = "ENDPOINTS";
    pub const ESTABLISHED: &str = "ESTABLISHED";
    pub const HALF_OPEN: &str = "HALF_OPEN";
    pub const LEASES: &str = "LEASES";
    pub const NEIGHBOURS: &str = "NEIGHBOURS";
    pub const ROUTES: &str = "ROUTES";
    pub const SERVICES: &str = "SERVICES";
    pub const TABLES: &str = "TABLES";
    pub const VIPS: &str = "VIPS";
    pub const VIP_FILTER: &str = "VIP_FILTER";

    /// All of them. The controller pins each under its name.
    pub const ALL: [&str; 14] = [
        BACKENDS,
        BACKEND_COUNTERS,
        COUNTERS,
        DEVICES,
        ENDPOINTS,
        ESTABLISHED,
        HALF_OPEN,
        LEASES,
        NEIGHBOURS,
        ROUTES,
        SERVICES,
        TABLES,
        VIPS,
        VIP_FILTER,
    ];
}

/// Version of all layouts together; part of the path that maps are pinned under.
///
/// A layout grows at its end only and zero means "unknown" in what was added, so that flows can be
/// copied from one version to another, in both directions.
#[cfg(not(feature = "second-layout"))]
pub const LAYOUT_VERSION: u32 = 1;
#[cfg(feature = "second-layout")]
pub const LAYOUT_VERSION: u32 = 2;

/// Name of the XDP program in the object.
pub const PROGRAM: &str = "fairlead";

/// VIPs, those for SNAT included.
pub const MAX_VIPS: u32 = 1024;
/// (VIP, port) pairs, and services.
pub const MAX_SERVICES: u32 = 1024;
/// IPv4 protocol number and next header of TCP.
pub const IPPROTO_TCP: u8 = 6;
