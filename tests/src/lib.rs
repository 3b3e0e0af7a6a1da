//! Fixtures for the tests that need privileges, and for the lab.
//!
//! A test builds a [`topology::Topology`], starts [`apiserver`]s and a [`controller::Controller`] in it,
//! drives [`load`] and looks at [`capture`]s. Everything a fixture makes goes away when it is dropped.

#![expect(clippy::disallowed_methods, reason = "fixtures are drivers: they read the clock")]

pub mod advert;
pub mod apiserver;
pub mod bpf;
pub mod bpffs;
pub mod browser;
pub mod bulk;
pub mod capture;
pub mod cgroup;
pub mod checksums;
pub mod command;
pub mod connects;
pub mod controller;
pub mod echo;
pub mod eventually;
pub mod family;
pub mod flood;
pub mod http;
pub mod keepalived;
pub mod link;
pub mod live;
pub mod load;
pub mod netns;
pub mod old_kernel;
pub mod paced;
pub mod packet;
pub mod pki;
pub mod plain;
pub mod recorder;
pub mod scrape;
pub mod server_thread;
pub mod standstill;
pub mod steady;
pub mod topology;
pub mod transfer;
pub mod used;
pub mod watch;
pub mod wire;
pub mod xdp_pass;
