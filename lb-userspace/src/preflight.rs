//! What must be there before anything is changed: privileges, and no other controller.

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};

use anyhow::{Context as _, bail};
use caps::{CapSet, Capability};

/// Capabilities, and what each is for.
const NEEDED: [(Capability, &str); 3] = [
    (Capability::CAP_BPF, "to load the XDP program and its maps"),
    (Capability::CAP_NET_ADMIN, "to attach XDP and to add VIPs"),
    (Capability::CAP_NET_RAW, "to announce VIPs by gratuitous ARP"),
];

/// # Errors
/// Names every capability that is missing, and what it would be for.
pub fn check_capabilities() -> anyhow::Result<()> {
    let held =
        caps::read(None, CapSet::Effective).context("reading this process's capabilities")?;
    let missing: Vec<String> = NEEDED
        .iter()
        .filter(|(capability, _)| {
            // Before Linux 5.8 CAP_SYS_ADMIN included CAP_BPF, and it still implies it.
            let implied =
                *capability == Capability::CAP_BPF && held.contains(&Capability::CAP_SYS_ADMIN);
            !held.contains(capability) && !implied
        })
        .map(|(capability, purpose)| format!("{capability} ({purpose})"))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    bail!("missing {}; run as root, or grant what is missing", missing.join(", "))
}

/// Held while a controller runs in this network namespace; the kernel lets go when the process ends.
pub struct Lock {
    _listener: UnixListener,
}

/// # Errors
/// Another controller runs here.
pub fn lock() -> anyhow::Result<Lock> {
    // Abstract names belong to a network namespace, as interfaces do.
    let address = SocketAddr::from_abstract_name(b"fairlead").context("naming the lock")?;
    match UnixListener::bind_addr(&address) {
        Ok(listener) => Ok(Lock { _listener: listener }),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => bail!(
            "another controller runs in this network namespace; stop it first (fairlead stop, or \
             fairlead stop --handover to keep its connections)"
        ),
        Err(error) => Err(error).context("taking the lock"),
    }
}
