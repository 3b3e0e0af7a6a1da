//! What the datapath and the controller must agree on: layouts of map keys and values, and the rules
//! that both sides apply to them. Compiles for the kernel and for the host. Pure.
//!
//! Addresses and ports stay in network byte order inside newtypes; sequence numbers, times and
//! identifiers are in host order. No layout has implicit padding: hash maps compare bytes.

#![cfg_attr(not(test), no_std)]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]

pub mod addr;
pub mod backend;
pub mod checksum;
pub mod connect;
pub mod conntrack;
pub mod counters;
pub mod event;
pub mod filter;
pub mod flow;
pub mod lease;
pub mod link;
pub mod nat;
pub mod rate;
pub mod selection;
pub mod service;
pub mod socket;
pub mod table;
pub mod time;
pub mod trace;
pub mod vip;

/// Names of the maps, as the object declares them and as they are pinned.
pub mod map {
    pub const ALLOWED: &str = "ALLOWED";
    pub const BACKENDS: &str = "BACKENDS";
    pub const BACKEND_EVENTS: &str = "BACKEND_EVENTS";
    pub const BACKEND_TRAFFIC: &str = "BACKEND_TRAFFIC";
    pub const COUNTERS: &str = "COUNTERS";
    pub const DEVICES: &str = "DEVICES";
    pub const ENDPOINTS: &str = "ENDPOINTS";
    pub const FILTERS: &str = "FILTERS";
    pub const FLOWS: &str = "FLOWS";
    pub const FLOWS6: &str = "FLOWS6";
    pub const LEASES: &str = "LEASES";
    pub const LINKS: &str = "LINKS";
    pub const LINK_IDS: &str = "LINK_IDS";
    pub const NEIGHBOURS: &str = "NEIGHBOURS";
    pub const ROUTES: &str = "ROUTES";
    pub const SERVICES: &str = "SERVICES";
    pub const SIGNALS: &str = "SIGNALS";
    pub const SOURCES: &str = "SOURCES";
    pub const TABLES: &str = "TABLES";
    pub const VIPS: &str = "VIPS";
    pub const WAYS_CHANGED: &str = "WAYS_CHANGED";

    /// How long backends take to answer a SYN, what the program tells of flows, whether it is to, and how many
    /// half-open flows it evicted: each program has its own, which nobody adopts.
    pub const CONNECT_TIMES: &str = "CONNECT_TIMES";
    pub const FLOW_EVENTS: &str = "FLOW_EVENTS";
    pub const FLOW_REPORT: &str = "FLOW_REPORT";
    pub const HALF_OPEN_EVICTED: &str = "HALF_OPEN_EVICTED";

    /// Of the programs for local clients, pinned beside their links.
    pub const LOCAL_CONNECTIONS: &str = "LOCAL_CONNECTIONS";
    pub const REDIRECTS: &str = "REDIRECTS";
    /// Ports of backends on this node, for the program that meets their replies: likewise.
    pub const LOCAL_PORTS: &str = "LOCAL_PORTS";

    /// Of the program that follows packets: each has its own.
    pub const TRACE_DATAPATH: &str = "TRACE_DATAPATH";
    pub const TRACE_PENDING: &str = "TRACE_PENDING";
    pub const TRACE_RING: &str = "TRACE_RING";
    pub const TRACE_TALLY: &str = "TRACE_TALLY";

    /// All others. The controller pins each under its name.
    pub const ALL: [&str; 21] = [
        ALLOWED,
        BACKENDS,
        BACKEND_EVENTS,
        BACKEND_TRAFFIC,
        COUNTERS,
        DEVICES,
        ENDPOINTS,
        FILTERS,
        FLOWS,
        FLOWS6,
        LEASES,
        LINKS,
        LINK_IDS,
        NEIGHBOURS,
        ROUTES,
        SERVICES,
        SIGNALS,
        SOURCES,
        TABLES,
        VIPS,
        WAYS_CHANGED,
    ];
}

/// Version of all layouts together; part of the path that maps are pinned under.
///
/// A layout grows at its end only and zero means "unknown" in what was added, so that flows can be
/// copied from one version to another, in both directions.
#[cfg(not(feature = "second-layout"))]
pub const LAYOUT_VERSION: u32 = 6;
#[cfg(feature = "second-layout")]
pub const LAYOUT_VERSION: u32 = 7;

/// Name of the XDP program in the object.
pub const PROGRAM: &str = "fairlead";
/// Name of the program that meets what backends on this node send to clients.
pub const EGRESS_PROGRAM: &str = "fairlead_egress";

/// Names of the programs for local clients, in the object.
pub mod hook {
    pub const CONNECT4: &str = "fairlead_conn4";
    pub const CONNECT6: &str = "fairlead_conn6";
    pub const GETPEERNAME4: &str = "fairlead_peer4";
    pub const GETPEERNAME6: &str = "fairlead_peer6";
}

/// VIPs, those for SNAT included; flows keep their index in 16 bits.
pub const MAX_VIPS: u32 = 1024;
/// (VIP, port) pairs, and services of one family.
pub const MAX_SERVICES: u32 = 4096;
/// Backends of all services together, 256 × 1,024 and room for a reload.
pub const MAX_BACKENDS: u32 = 1 << 19;
/// IPv4 protocol number and next header of TCP.
pub const IPPROTO_TCP: u8 = 6;
