//! The smallest XDP program, `return XDP_PASS`, for the far end of a veth pair.
//!
//! A frame that XDP sends or redirects into a veth is silently lost unless its peer runs an XDP program
//! too. This goes through bpf(2) itself, so that the fixtures need neither a BPF toolchain nor a loader.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, Result};
use nix::net::if_::if_nametoindex;

const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_OBJ_PIN: libc::c_long = 6;
const BPF_LINK_CREATE: libc::c_long = 28;
const BPF_PROG_TYPE_XDP: u32 = 6;
const BPF_XDP: u32 = 37;

/// `r0 = 2` (XDP_PASS), `exit`; see linux/bpf.h for the eight bytes of an instruction.
const PROGRAM: [u64; 2] = [0x0000_0002_0000_00b7, 0x0000_0000_0000_0095];

/// The first fields of `union bpf_attr` for BPF_PROG_LOAD; what is left out counts as zero.
#[repr(C)]
struct ProgLoad {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
}

/// … for BPF_LINK_CREATE.
#[repr(C)]
struct LinkCreate {
    prog_fd: u32,
    target_ifindex: u32,
    attach_type: u32,
    flags: u32,
}

/// … for BPF_OBJ_PIN.
#[repr(C)]
struct ObjPin {
    pathname: u64,
    bpf_fd: u32,
    file_flags: u32,
}

/// The loaded program.
#[derive(Debug)]
pub struct XdpPass {
    program: OwnedFd,
}

/// The program on an interface, for as long as this or a pin of it exists.
#[derive(Debug)]
pub struct Attached {
    link: OwnedFd,
}

impl XdpPass {
    pub fn load() -> Result<Self> {
        let attr = ProgLoad {
            prog_type: BPF_PROG_TYPE_XDP,
            insn_cnt: 2,
            insns: PROGRAM.as_ptr() as u64,
            license: c"GPL".as_ptr() as u64,
        };
        let program = new_fd(BPF_PROG_LOAD, &attr).context("loading an XDP_PASS program")?;
        Ok(Self { program })
    }

    /// Attaches to an interface of the namespace that the calling thread is in.
    pub fn attach(&self, interface: &str) -> Result<Attached> {
        let index = if_nametoindex(interface).with_context(|| format!("index of {interface}"))?;
        let attr = LinkCreate {
            prog_fd: raw(&self.program),
            target_ifindex: index,
            attach_type: BPF_XDP,
            flags: 0,
        };
        let link = new_fd(BPF_LINK_CREATE, &attr)
            .with_context(|| format!("attaching XDP_PASS to {interface}"))?;
        Ok(Attached { link })
    }
}

impl Attached {
    /// Keeps the program attached for as long as `path`, in a bpffs, exists.
    pub fn pin(&self, path: &Path) -> Result<()> {
        let c_path = CString::new(path.as_os_str().as_encoded_bytes())?;
        let attr =
            ObjPin { pathname: c_path.as_ptr() as u64, bpf_fd: raw(&self.link), file_flags: 0 };
        bpf(BPF_OBJ_PIN, &attr).with_context(|| format!("pinning a link at {}", path.display()))?;
        Ok(())
    }
}

/// Descriptors are never negative.
fn raw(fd: &OwnedFd) -> u32 {
    fd.as_raw_fd().cast_unsigned()
}

fn new_fd<T>(command: libc::c_long, attr: &T) -> io::Result<OwnedFd> {
    let fd = bpf(command, attr)?;
    // SAFETY: these commands return a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn bpf<T>(command: libc::c_long, attr: &T) -> io::Result<i32> {
    // SAFETY: `attr` is a prefix of `union bpf_attr` of the size given, without padding; the kernel
    // only reads it and what its pointers name, and both outlive the call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, &raw const *attr, size_of::<T>()) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    i32::try_from(result).map_err(io::Error::other)
}
