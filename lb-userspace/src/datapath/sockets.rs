//! Puts the programs for local clients on a cgroup, by links that are pinned, and takes them off. I/O.
//!
//! The maps that only they use are pinned beside their links: a layout of flows that changes is none of
//! their business, and what is kept with sockets cannot be copied.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use anyhow::Context as _;
use aya::Ebpf;
use aya::maps::MapInfo;
use aya::programs::links::FdLink;
use aya::programs::{CgroupAttachMode, CgroupSockAddr, ProgramError};
use lb_common::{hook, map};

use super::pins::Pins;
use super::{Sizes, sys};

pub mod cgroup;
pub mod ender;
pub mod namespaces;

/// The programs, and the names that their links are pinned under.
const HOOKS: [(&str, &str); 4] = [
    (hook::GETPEERNAME4, "getpeername4"),
    (hook::GETPEERNAME6, "getpeername6"),
    // Last: whoever is led elsewhere is not told so.
    (hook::CONNECT4, "connect4"),
    (hook::CONNECT6, "connect6"),
];

/// The maps of these programs, which are pinned with them.
pub(super) const MAPS: [&str; 2] = [map::LOCAL_CONNECTIONS, map::REDIRECTS];

/// Makes a place for the maps, and lets go of those that have become too small or of another layout.
pub(super) fn prepare(directory: &Path, sizes: &Sizes) -> anyhow::Result<()> {
    fs::create_dir_all(directory).with_context(|| format!("creating {}", directory.display()))?;
    for name in MAPS {
        let path = directory.join(name);
        let Ok(found) = MapInfo::from_pin(&path) else { continue };
        let found = (found.key_size() as usize, found.value_size() as usize, found.max_entries());
        if found != sizes.layout(name) {
            log::info!("{name} is {found:?} instead of {:?}: made anew", sizes.layout(name));
            fs::remove_file(&path).with_context(|| format!("removing {}", path.display()))?;
        }
    }
    Ok(())
}

/// Puts the programs on `cgroup`: into the links that a predecessor pinned for it, or by new ones.
///
/// # Errors
/// The kernel refuses; the programs that are attached by then stay.
pub(super) fn attach(ebpf: &mut Ebpf, pins: &Pins, cgroup: &Path) -> anyhow::Result<()> {
    let directory = File::open(cgroup).with_context(|| format!("opening {}", cgroup.display()))?;
    let id = directory.metadata().context("asking for the cgroup's number")?.ino();
    for (name, pin) in HOOKS {
        let program: &mut CgroupSockAddr = ebpf
            .program_mut(name)
            .with_context(|| format!("the BPF object has no program {name}"))?
            .try_into()?;
        if program.fd().is_err() {
            program.load().with_context(|| format!("loading the program for {pin}"))?;
        }
        let path = pins.socket_hook(pin);
        if !adopt(program, &path, id)? {
            attach_new(program, &path, &directory)
                .with_context(|| format!("attaching {pin} to {}", cgroup.display()))?;
        }
    }
    Ok(())
}

/// Replaces the program of the link that a predecessor pinned. False: there is none on this cgroup.
fn adopt(program: &CgroupSockAddr, path: &Path, cgroup: u64) -> anyhow::Result<bool> {
    if !path.exists() {
        return Ok(false);
    }
    let link = sys::pinned_object(path).with_context(|| format!("opening {}", path.display()))?;
    if sys::cgroup_link_info(link.as_fd()).is_ok_and(|info| info.cgroup == cgroup) {
        sys::update_link(link.as_fd(), program.fd()?.as_fd())
            .with_context(|| format!("replacing the program of {}", path.display()))?;
        return Ok(true);
    }
    // On another cgroup, or one that is gone.
    let _ = sys::detach_link(link.as_fd());
    fs::remove_file(path).with_context(|| format!("removing {}", path.display()))?;
    Ok(false)
}

fn attach_new(program: &mut CgroupSockAddr, path: &Path, cgroup: &File) -> anyhow::Result<()> {
    // A link goes with every other program there is; older kernels want no flag that says so.
    let id = program.attach(cgroup, CgroupAttachMode::Single).map_err(explain)?;
    let link: FdLink = program.take_link(id)?.try_into().context("the kernel gave no link")?;
    drop(link.pin(path).with_context(|| format!("pinning {}", path.display()))?);
    Ok(())
}

/// The kernel's answers, in words.
fn explain(error: ProgramError) -> anyhow::Error {
    let code = if let ProgramError::SyscallError(error) = &error {
        error.io_error.raw_os_error()
    } else {
        None
    };
    let why = match code {
        Some(libc::EPERM) => {
            "not permitted: CAP_BPF and CAP_NET_ADMIN are needed, and no program may be there that \
             wants to be the only one"
        }
        Some(libc::EBADF) => "it is no cgroup of version 2",
        Some(libc::E2BIG) => "too many programs are attached to it",
        _ => "refused",
    };
    anyhow::Error::new(error).context(why)
}

/// Every program is on `cgroup`.
pub(super) fn are_attached(pins: &Pins, cgroup: &Path) -> bool {
    let Ok(id) = fs::metadata(cgroup).map(|found| found.ino()) else { return false };
    HOOKS.iter().all(|(_, pin)| {
        sys::pinned_object(&pins.socket_hook(pin))
            .and_then(|link| sys::cgroup_link_info(link.as_fd()))
            .is_ok_and(|info| info.cgroup == id)
    })
}

/// Takes the programs off, whoever put them there. True: there were some.
pub fn detach(pins: &Pins) -> anyhow::Result<bool> {
    let mut found = false;
    // What leads elsewhere goes first.
    for (_, pin) in HOOKS.iter().rev() {
        let path = pins.socket_hook(pin);
        match sys::pinned_object(&path).and_then(|link| sys::detach_link(link.as_fd())) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            // Its cgroup is gone; the program ends with its link at the latest.
            Err(error) => log::debug!("detaching {pin}: {error}"),
            Ok(()) => {}
        }
        found = true;
        fs::remove_file(&path).with_context(|| format!("removing {}", path.display()))?;
    }
    Ok(found)
}
