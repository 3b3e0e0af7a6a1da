//! What VRRP elects an owner for. Pure.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::Config;

impl Config {
    /// The VIPs of VRRP instances, each with its interface.
    pub fn elected(&self) -> BTreeSet<(String, IpAddr)> {
        let of = |instance: &super::Vrrp| {
            let interface = instance.interface.clone();
            instance.vips.iter().map(move |vip| (interface.clone(), *vip)).collect::<Vec<_>>()
        };
        self.vrrp.iter().flat_map(of).collect()
    }
}
