//! A small XDP program for the far end of a veth pair: all passes, but for most of what a flood leads to.
//!
//! A frame that XDP sends or redirects into a veth is silently lost unless its peer runs an XDP program
//! too. This goes through bpf(2) itself, so that the fixtures need neither a BPF toolchain nor a loader.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, Result};
use nix::net::if_::if_nametoindex;

use crate::bpf::Program;
use crate::packet::Mac;

const BPF_OBJ_PIN: libc::c_long = 6;
const BPF_LINK_CREATE: libc::c_long = 28;
const BPF_LINK_UPDATE: libc::c_long = 29;
const BPF_XDP: u32 = 37;
const BPF_TCX_EGRESS: u32 = 47;

/// Frames to it are dropped on arrival, as the world swallows answers to sources that do not exist.
/// Only the first four bytes are looked at.
pub const NOBODY: Mac = [0x02, 0xf1, 0x00, 0xd0, 0, 0];

/// Of packets with this type of service or traffic class one in eight passes. A flood has it, and what a load
/// balancer makes of a flood: backends share our CPUs, and would have their own anywhere else.
pub const THINNED: u8 = 0x0c;

/// See linux/bpf.h for the eight bytes of an instruction.
const PROGRAM: [u64; 23] = [
    0x0000_0000_0000_1261, // r2 = the frame's start
    0x0000_0000_0004_1361, // r3 = the frame's end
    0x0000_0000_0000_24bf, // r4 = r2
    0x0000_0010_0000_0407, // r4 += 16
    0x0000_0000_0010_342d, // if r4 > r3 goto pass
    0x0000_0000_0000_2461, // r4 = the destination's first four bytes
    0x0000_0001_0000_00b7, // r0 = XDP_DROP
    0xd000_f102_000e_0416, // if r4 == NOBODY goto end
    0x0000_0000_000f_2571, // r5 = the type of service, or the lower half of the traffic class and more
    0x0000_0000_000c_2469, // r4 = the EtherType
    0x0000_dd86_0003_0415, // if r4 == IPv6 goto ipv6
    0x0000_0008_0009_0455, // if r4 != IPv4 goto pass
    0x0000_000c_0008_0555, // if r5 != THINNED goto pass
    0x0000_0000_0002_0005, // goto thin
    0x0000_00f0_0000_0557, // ipv6: r5 &= 0xf0
    0x0000_00c0_0005_0555, // if r5 != THINNED << 4 goto pass
    0x0000_0007_0000_0085, // thin: call bpf_get_prandom_u32
    0x0000_0007_0000_0057, // r0 &= 7
    0x0000_0000_0002_0015, // if r0 == 0 goto pass
    0x0000_0001_0000_00b7, // r0 = XDP_DROP
    0x0000_0000_0001_0005, // goto end
    0x0000_0002_0000_00b7, // pass: r0 = XDP_PASS
    0x0000_0000_0000_0095, // end: exit
];

/// The first fields of `union bpf_attr` for BPF_LINK_CREATE; what is left out counts as zero.
#[repr(C)]
struct LinkCreate {
    prog_fd: u32,
    target_ifindex: u32,
    attach_type: u32,
    flags: u32,
}

/// … for BPF_LINK_UPDATE.
#[repr(C)]
struct LinkUpdate {
    link_fd: u32,
    new_prog_fd: u32,
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
    program: Program,
}

/// The program on an interface, for as long as this or a pin of it exists.
#[derive(Debug)]
pub struct Attached {
    link: OwnedFd,
}

impl XdpPass {
    pub fn load() -> Result<Self> {
        let program = Program::load(&PROGRAM).context("loading an XDP_PASS program")?;
        Ok(Self { program })
    }

    /// The same, for frames of several buffers too; needs Linux 5.18.
    pub fn load_for_frags() -> Result<Self> {
        let program = Program::load_for_frags(&PROGRAM).context("loading an XDP_PASS program")?;
        Ok(Self { program })
    }

    /// Attaches to an interface of the namespace that the calling thread is in.
    pub fn attach(&self, interface: &str) -> Result<Attached> {
        Attached::new(&self.program, interface)
    }
}

impl Attached {
    /// Any program, to an interface of the namespace that the calling thread is in.
    pub fn new(program: &Program, interface: &str) -> Result<Self> {
        Self::at(program, interface, BPF_XDP)
    }

    /// A classifier, likewise, behind all others at the interface's egress (tcx, Linux 6.6).
    pub fn at_egress(program: &Program, interface: &str) -> Result<Self> {
        Self::at(program, interface, BPF_TCX_EGRESS)
    }

    fn at(program: &Program, interface: &str, attach_type: u32) -> Result<Self> {
        let index = if_nametoindex(interface).with_context(|| format!("index of {interface}"))?;
        let attr = LinkCreate {
            prog_fd: raw(program.as_fd()),
            target_ifindex: index,
            attach_type,
            flags: 0,
        };
        let link = new_fd(BPF_LINK_CREATE, &attr)
            .with_context(|| format!("attaching a program to {interface}"))?;
        Ok(Self { link })
    }

    /// Another program takes its place, without a moment in between.
    pub fn replace(&self, program: &Program) -> Result<()> {
        let attr = LinkUpdate {
            link_fd: raw(self.link.as_fd()),
            new_prog_fd: raw(program.as_fd()),
            flags: 0,
        };
        bpf(BPF_LINK_UPDATE, &attr).context("replacing an XDP program").map(drop)
    }

    /// Keeps the program attached for as long as `path`, in a bpffs, exists.
    pub fn pin(&self, path: &Path) -> Result<()> {
        let c_path = CString::new(path.as_os_str().as_encoded_bytes())?;
        let attr = ObjPin {
            pathname: c_path.as_ptr() as u64,
            bpf_fd: raw(self.link.as_fd()),
            file_flags: 0,
        };
        bpf(BPF_OBJ_PIN, &attr).with_context(|| format!("pinning a link at {}", path.display()))?;
        Ok(())
    }
}

/// Descriptors are never negative.
fn raw(fd: BorrowedFd<'_>) -> u32 {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bpf;
    use crate::packet::{Frame, SYN};
    use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4};

    const SOMEBODY: Mac = [2, 0, 0, 0, 0, 1];

    #[test]
    #[ignore = "needs root: cargo xtask test netns"]
    fn all_passes_but_answers_to_nobody_and_seven_of_eight_thinned_packets() {
        let pass = XdpPass::load().unwrap();
        let passed = |frame: &Frame| {
            let ran = (0..1000).map(|_| bpf::run(pass.program.as_fd(), &frame.bytes(), &mut []));
            ran.filter(|ran| ran.as_ref().unwrap().action == 2).count()
        };
        let ends = [1, 2].map(|last| SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, last), 80));
        let frame = Frame::tcp(ends[0], ends[1]).macs(SOMEBODY, SOMEBODY).flags(SYN);
        assert_eq!(passed(&frame), 1000);
        assert_eq!(passed(&frame.clone().ether_type(0x86dd).tos(THINNED)), 1000);
        assert_eq!(passed(&frame.clone().macs(SOMEBODY, NOBODY)), 0);
        let ends6 = [1, 2].map(|last| (Ipv6Addr::from([0xfd, 0, 0, 0, 0, 0, 0, last]), 80));
        let frame6 = Frame::tcp(ends6[0], ends6[1]).macs(SOMEBODY, SOMEBODY).flags(SYN);
        assert_eq!(passed(&frame6), 1000);
        for frame in [frame, frame6] {
            let thinned = passed(&frame.tos(THINNED));
            assert!((60..200).contains(&thinned), "{thinned}");
        }
    }
}
