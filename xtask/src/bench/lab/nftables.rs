//! The kernel's own: DNAT to backends in turn, masquerade towards them.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use lb_tests::netns::Netns;

use super::Service;

/// Makes a namespace forward for its services.
pub(super) fn start(netns: &Netns, directory: &Path, services: &[Service]) -> Result<()> {
    for (key, value) in [
        ("ipv4/ip_forward", "1"),
        // Out by the interface that it came in by: no reason to tell the client a better way.
        ("ipv4/conf/all/send_redirects", "0"),
        ("ipv4/conf/eth0/send_redirects", "0"),
    ] {
        netns.sysctl(key, value)?;
    }
    load(netns, directory, services)
}

/// Replaces the rules as a whole.
pub(crate) fn load(netns: &Netns, directory: &Path, services: &[Service]) -> Result<()> {
    let file = directory.join(format!("{}.nft", netns.name()));
    fs::write(&file, text(services)?)?;
    netns.run("nft", ["-f", file.to_str().context("a path that is no text")?]).map(drop)
}

fn text(services: &[Service]) -> Result<String> {
    let mut text = "table ip lb\ndelete table ip lb\ntable ip lb {\n chain incoming {\n  \
        type nat hook prerouting priority dstnat;\n"
        .to_owned();
    for Service { vip, port, backends, .. } in services {
        write!(
            text,
            "  ip daddr {vip} tcp dport {port} dnat to numgen inc mod {} map {{ ",
            backends.len()
        )?;
        for (index, (_, address)) in backends.iter().enumerate() {
            write!(text, "{index} : {} . {}, ", address.ip(), address.port())?;
        }
        text += "}\n";
    }
    text += " }\n chain outgoing {\n  type nat hook postrouting priority srcnat;\n  \
        ct status dnat masquerade\n }\n}\n";
    Ok(text)
}
