//! Small XDP programs that are run by the controller, never attached.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use super::{BPF_PROG_LOAD, BPF_PROG_TEST_RUN, bpf, bpf_fd, fd};

const BPF_PROG_TYPE_XDP: u32 = 6;
const LICENSE: &[u8] = b"Dual MIT/GPL\0";

/// Up to the fields used here; what the kernel knows besides is zero.
#[repr(C)]
struct LoadAttr {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
}

#[repr(C)]
#[derive(Default)]
struct TestRunAttr {
    prog_fd: u32,
    retval: u32,
    data_size_in: u32,
    data_size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
}

/// An XDP program made of instructions as linux/bpf.h lays them out, eight bytes each.
#[derive(Debug)]
pub struct Program(OwnedFd);

impl Program {
    /// # Errors
    /// The verifier refuses it, or a capability is missing.
    pub fn load(instructions: &[u64]) -> io::Result<Self> {
        let mut attr = LoadAttr {
            prog_type: BPF_PROG_TYPE_XDP,
            insn_cnt: u32::try_from(instructions.len()).map_err(io::Error::other)?,
            insns: instructions.as_ptr() as u64,
            license: LICENSE.as_ptr() as u64,
        };
        // SAFETY: the kernel reads `insn_cnt` instructions and a string that ends with NUL.
        unsafe { bpf_fd(BPF_PROG_LOAD, &mut attr) }.map(Self)
    }

    /// Runs it once on `frame`, and copies back what it made of that, if it is no longer.
    pub fn run(&self, frame: &mut [u8]) -> io::Result<()> {
        let length = u32::try_from(frame.len()).map_err(io::Error::other)?;
        let mut attr = TestRunAttr {
            prog_fd: fd(self.0.as_fd()),
            data_size_in: length,
            data_size_out: length,
            data_in: frame.as_ptr() as u64,
            data_out: frame.as_mut_ptr() as u64,
            repeat: 1,
            ..TestRunAttr::default()
        };
        // SAFETY: the kernel reads `data_size_in` bytes, and then writes at most `data_size_out`.
        unsafe { bpf(BPF_PROG_TEST_RUN, &mut attr) }.map(drop)
    }
}
