//! What must be there before anything is changed: privileges, a kernel, and no other controller.

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};

use anyhow::{Context as _, bail};
use caps::{CapSet, Capability, CapsHashSet};

use crate::datapath::sys;

/// Capabilities, and what each is for.
const NEEDED: [(Capability, &str); 4] = [
    (Capability::CAP_BPF, "to load the XDP program and its maps"),
    (Capability::CAP_PERFMON, "for the verifier to accept the XDP program"),
    (Capability::CAP_NET_ADMIN, "to attach XDP and to add VIPs"),
    (Capability::CAP_NET_RAW, "to announce VIPs by gratuitous ARP"),
];

/// # Errors
/// Names every capability that is missing, and what it would be for.
pub fn check_capabilities() -> anyhow::Result<()> {
    let held =
        caps::read(None, CapSet::Effective).context("reading this process's capabilities")?;
    let missing: Vec<String> = missing(&held)
        .iter()
        .map(|(capability, purpose)| format!("{capability} ({purpose})"))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    bail!(
        "missing {}; run as root, or grant what is missing. Nothing was changed: what another \
         controller left goes on",
        missing.join(", ")
    )
}

/// Of those that a controller needs, those that are not among `held`; and what each is for.
pub fn missing(held: &CapsHashSet) -> Vec<(Capability, &'static str)> {
    let is_missing = |(capability, _): &&(Capability, &'static str)| {
        // Before Linux 5.8 CAP_SYS_ADMIN included these two, and it still implies them.
        let implied = matches!(capability, Capability::CAP_BPF | Capability::CAP_PERFMON)
            && held.contains(&Capability::CAP_SYS_ADMIN);
        !held.contains(capability) && !implied
    };
    NEEDED.iter().filter(is_missing).copied().collect()
}

/// The oldest kernel that has everything, as major and minor number.
pub const OLDEST: (u32, u32) = (5, 15);

/// Says so if the kernel is older than that. It is no error: distributions add to old kernels.
pub fn check_kernel() {
    let release = sys::kernel_release();
    if version(&release).is_some_and(|found| found < OLDEST) {
        log::warn!(
            "this is Linux {release}, and {}.{} is the oldest that has all that is needed: if \
             something is refused below, that is why",
            OLDEST.0,
            OLDEST.1
        );
    }
}

/// Of `6.1.0-17-amd64`: 6 and 1.
pub fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_of_kernels_are_compared_by_number() {
        assert_eq!(version("6.1.0-17-amd64"), Some((6, 1)));
        assert_eq!(version("5.15"), Some((5, 15)));
        assert!(version("5.4.0").unwrap() < OLDEST && version("10.0.1").unwrap() > OLDEST);
        assert_eq!(version("unknown"), None);
    }
}
