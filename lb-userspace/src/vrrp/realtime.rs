//! What keeps the VRRP thread from being late: real-time scheduling, and memory that is not paged out. I/O.

use std::io;

use caps::{CapSet, Capability};
use nix::sys::mman::{MlockAllFlags, mlockall};

/// Of SCHED_FIFO, the lowest there are: before everything that is not real-time. Advertisements go before
/// addresses.
pub const ADVERTISEMENTS: libc::c_int = 2;
pub const ADDRESSES: libc::c_int = 1;

/// Gives the calling thread real-time scheduling; what it starts is scheduled as usual. Needs CAP_SYS_NICE.
pub fn schedule(priority: libc::c_int) -> io::Result<()> {
    let parameters = libc::sched_param { sched_priority: priority };
    let policy = libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK;
    // SAFETY: the kernel reads one structure; 0 is the calling thread.
    let result = unsafe { libc::sched_setscheduler(0, policy, &raw const parameters) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Keeps the process in memory. Without CAP_IPC_LOCK a limit would apply, at which later allocations fail.
pub fn lock_memory() -> io::Result<()> {
    let held = caps::has_cap(None, CapSet::Effective, Capability::CAP_IPC_LOCK);
    if !held.map_err(io::Error::other)? {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    // On fault: stacks and arenas are reserved larger than they are used.
    let on_fault = MlockAllFlags::from_bits_retain(libc::MCL_ONFAULT);
    mlockall(MlockAllFlags::MCL_CURRENT | MlockAllFlags::MCL_FUTURE | on_fault)?;
    Ok(())
}
