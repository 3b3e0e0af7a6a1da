//! Settings of the kernel's network. I/O.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Those that matter, as the kernel applies them.
#[derive(Clone, Debug, Default)]
pub struct Sysctls {
    /// By interface.
    pub interfaces: BTreeMap<String, PerInterface>,
    /// `net.ipv4.ip_forward`.
    pub ip_forward: Option<u32>,
    /// `net.ipv4.ip_local_port_range`, both included.
    pub local_ports: Option<(u16, u16)>,
    /// `net.ipv4.conf.all.arp_ignore`.
    pub arp_ignore_all: Option<u32>,
}

/// Of `net.ipv4.conf` the larger of `all` and the interface, which is what applies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PerInterface {
    /// 1: strict, 2: loose.
    pub rp_filter: Option<u32>,
    pub arp_ignore: Option<u32>,
    pub promote_secondaries: Option<u32>,
    /// `net.ipv6.conf`, of the interface alone.
    pub disable_ipv6: Option<u32>,
}

impl Sysctls {
    pub(super) fn read(interfaces: &[String]) -> Self {
        let root = Path::new("/proc/sys/net");
        let of = |name: &String| (name.clone(), PerInterface::read(root, name));
        Self {
            interfaces: interfaces.iter().map(of).collect(),
            ip_forward: super::number(root.join("ipv4/ip_forward")),
            local_ports: fs::read_to_string(root.join("ipv4/ip_local_port_range"))
                .ok()
                .and_then(|text| range(&text)),
            arp_ignore_all: super::number(root.join("ipv4/conf/all/arp_ignore")),
        }
    }
}

impl PerInterface {
    fn read(root: &Path, name: &str) -> Self {
        let ipv4 = |key: &str| {
            let of = |whose: &str| super::number(root.join("ipv4/conf").join(whose).join(key));
            of("all").max(of(name))
        };
        Self {
            rp_filter: ipv4("rp_filter"),
            arp_ignore: ipv4("arp_ignore"),
            promote_secondaries: ipv4("promote_secondaries"),
            disable_ipv6: super::number(root.join("ipv6/conf").join(name).join("disable_ipv6")),
        }
    }
}

fn range(text: &str) -> Option<(u16, u16)> {
    let mut words = text.split_whitespace();
    Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_larger_of_all_and_the_interface_applies() {
        let root = tempfile::tempdir().unwrap();
        for (path, value) in [
            ("ipv4/conf/all/rp_filter", "1\n"),
            ("ipv4/conf/eth0/rp_filter", "2\n"),
            ("ipv4/conf/all/arp_ignore", "0\n"),
            ("ipv4/conf/eth0/arp_ignore", "x"),
            ("ipv6/conf/eth0/disable_ipv6", "1"),
        ] {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, value).unwrap();
        }
        let found = PerInterface::read(root.path(), "eth0");
        let expected = PerInterface {
            rp_filter: Some(2),
            arp_ignore: Some(0),
            promote_secondaries: None,
            disable_ipv6: Some(1),
        };
        assert_eq!(found, expected);
        assert_eq!(range("32768\t60999\n"), Some((32_768, 60_999)));
        assert_eq!(range("1"), None);
    }
}
